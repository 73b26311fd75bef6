"""What the layers of a network make of pictures: feature maps, and the pictures that excite one unit most.

Letters in names: B and N pictures, M maps or units of a layer, H height, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
import torch
from PIL import Image

from tapetum.errors import UserError, did_you_mean
from tapetum.models.summary import Call, follow

# Maps in a row and in all of a drawing, the least side of a map and of a unit in it in pixels, and the gap between them.
_ROW, _MOST, _SIDE, _UNIT, _GAP = 8, 64, 72, 14, 2
_COLOURS = "viridis"
_BATCH = 32


def drawn_maps(output: torch.Tensor) -> np.ndarray | None:
    """What a layer made of one picture, as a picture (uint8 RGB): the first 64 of its maps (1, M, H, W), or its units (1, M).

    All of a layer have one scale, from its least number (dark) to its largest (bright). None for what is neither.
    """
    values = output[0].float().cpu().numpy()
    if values.ndim not in (1, 2, 3) or not values.size:
        return None
    spread = max(float(values.max() - values.min()), 1e-12)
    scaled = (values - values.min()) / spread
    if scaled.ndim == 3 and scaled.shape[1:] != (1, 1):
        return _grid(scaled[:_MOST])
    if scaled.ndim != 2:  # units in rows, as long as a row of maps is wide
        units = scaled.ravel()
        columns = min(len(units), _ROW * (_SIDE + _GAP) // _UNIT)
        padded = np.full(-(-len(units) // columns) * columns, np.nan)
        padded[: len(units)] = units
        scaled = padded.reshape(-1, columns)
        return _large(_coloured(scaled), _UNIT)
    return _coloured(scaled)


def _grid(maps_MHW: np.ndarray) -> np.ndarray:
    times = max(1, -(-_SIDE // max(maps_MHW.shape[1:])))
    cells = [_large(_coloured(each), times) for each in maps_MHW]
    height, width = cells[0].shape[0] + _GAP, cells[0].shape[1] + _GAP
    columns = min(_ROW, len(cells))
    page = np.full((-(-len(cells) // columns) * height - _GAP, columns * width - _GAP, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * height, i % columns * width
        page[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return page


def _coloured(values_HW: np.ndarray) -> np.ndarray:
    colours = matplotlib.colormaps[_COLOURS](np.nan_to_num(values_HW))[:, :, :3] * 255
    return np.where(np.isnan(values_HW)[:, :, None], 255, colours).round().astype(np.uint8)


def _large(picture_HWC: np.ndarray, times: int) -> np.ndarray:
    size = picture_HWC.shape[1] * times, picture_HWC.shape[0] * times
    return np.asarray(Image.fromarray(picture_HWC).resize(size, Image.Resampling.NEAREST))


def find_unit(network: torch.nn.Module, input_CHW: torch.Tensor, text: str) -> tuple[Call, int]:
    """The layer at work on a picture, and the number, of a unit called "Conv2d-5:17" (counted from 0) or "conv2:17".

    Raises:
        UserError: there is no such layer, or it has no unit of that number.
    """
    name, _, number = text.rpartition(":")
    calls = [call for call in follow(network, input_CHW[None]) if call.output.ndim in (2, 4)]
    call = next((call for call in calls if name in (call.name, call.layer)), None)
    if call is None:
        known = [call.name for call in calls]
        raise UserError(
            f"unit '{text}': expected LAYER:NUMBER with a layer of this network, such as {known[0]}:0."
            f"{did_you_mean(name or number, known)} tapetum summary lists the layers."
        )
    count = call.output.shape[1]
    if not number.isdecimal() or int(number) >= count:
        raise UserError(f"unit '{text}': {call.name} has {count:,} units, expected a number from 0 to {count - 1}.")
    return call, int(number)


@torch.no_grad()
def excitements(network: torch.nn.Module, inputs_NCHW: torch.Tensor, layer: str, before: int = 0) -> np.ndarray:
    """How much each picture excites each unit of a layer (N, M): the largest number in its map, or the unit's own number.

    Of a layer that is at work several times, that after `before` times.
    """
    found = []
    with _heard(network, layer) as heard:
        for batch_BCHW in inputs_NCHW.split(_BATCH):
            network(batch_BCHW)
            output = heard[before]
            heard.clear()
            found.append(output.flatten(2).amax(2) if output.ndim > 2 else output)
    return torch.cat(found).cpu().numpy()


@torch.no_grad()
def unit_heat(
    network: torch.nn.Module, inputs_BCHW: torch.Tensor, layer: str, number: int, before: int = 0
) -> np.ndarray | None:
    """Where pictures excite a unit (B, H, W), 0 to 1 of each picture's largest number; None for a unit that has no places."""
    with _heard(network, layer) as heard:
        network(inputs_BCHW)
        output = heard[before]
    if output.ndim != 4:
        return None
    maps_BHW = output[:, number].clamp(min=0)
    return (maps_BHW / maps_BHW.amax((1, 2), keepdim=True).clamp(min=1e-12)).cpu().numpy()


@contextmanager
def _heard(network: torch.nn.Module, layer: str) -> Iterator[list[torch.Tensor]]:
    """While it is open, each output of the layer is put into the list."""
    heard: list[torch.Tensor] = []
    # A copy: the next layer may work in place.
    handle = network.get_submodule(layer).register_forward_hook(lambda layer, inputs, output: heard.append(output.clone()))
    try:
        yield heard
    finally:
        handle.remove()
