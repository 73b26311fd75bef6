"""Where in a picture the answer comes from: Grad-CAM and occlusion, both computed by captum, and their way back to the picture.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization", section 3)
weighs the maps of the last convolution by how much each raises the output of a class, and keeps what speaks for it. Occlusion
(Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2) covers one part of the picture after
the other and looks how much of the probability goes. Neither says whether the answer is right.

Letters in names: B pictures, C channels, H height, W width, S side of the square.
"""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib
import numpy as np
import torch
from PIL import Image

from tapetum.data.prepare import Preprocessing, fit, reduce, to_input
from tapetum.errors import UserError
from tapetum.inference.familiarity import members_of
from tapetum.models.summary import last_convolution

# Sides of a window that covers a part, in a picture; steps in a window; pictures that are computed at once.
_WINDOWS, _STEPS, _AT_ONCE = 6, 2, 32
# Heat is painted in these colours, over a picture that is paled so that they show; the hottest place hides this much of it.
_COLOURS, _MOST_OPAQUE = "inferno", 0.75
# Pictures are shown with at least so many pixels a side.
_SHOWN = 224


def refuse_without_captum() -> None:
    """Raise a UserError if captum is not installed."""
    try:
        import captum  # noqa: F401
    except ImportError:
        raise UserError("heat maps are computed with captum, which is not installed: pip install 'tapetum[explain]'.") from None


def inputs(pictures: Sequence[np.ndarray], preprocessing: Preprocessing, on: torch.device) -> torch.Tensor:
    """What the network sees of decoded pictures (B, C, S, S): of several views the middle one, not mirrored."""
    one = replace(preprocessing, views="one")
    squares_BHWC = np.stack([fit(reduce(picture, one.reduce), one) for picture in pictures])
    return to_input(torch.from_numpy(squares_BHWC).to(on), one)


def shown(picture_HWC: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The same part of a decoded picture as `inputs` takes, uint8 RGB, large enough to look at."""
    one = replace(preprocessing, views="one")
    side = max(_SHOWN, one.size)
    if one.fit != "center":  # its pictures have a size of their own in the square
        return fit(picture_HWC, one.at(side))
    square = fit(reduce(picture_HWC, one.reduce), one)
    return np.array(Image.fromarray(square).resize((side, side), Image.Resampling.NEAREST))


def gradcam(network: torch.nn.Module, inputs_BCHW: torch.Tensor, classes: Sequence[int]) -> np.ndarray:
    """Grad-CAM heat (B, S, S), float32, 0 to 1, of one class for each picture; all zero where nothing speaks for the class.

    Of an ensemble it is the mean of its members' heat, each scaled to 1 first, so that no member counts more than another.

    Args:
        network: in evaluation mode; it is left as it is.
        inputs_BCHW: what it sees, as `inputs` gives it.
        classes: (B,) class numbers.

    Raises:
        UserError: captum is not installed, or the network has no convolution with more than one place.
    """
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(inputs_BCHW), _AT_ONCE)]
    members = [
        np.concatenate([_gradcam_of(member, inputs_BCHW[part], classes[part]) for part in parts])
        for member in members_of(network)
    ]
    return np.mean([each / np.maximum(each.max((1, 2), keepdims=True), np.finfo(np.float32).tiny) for each in members], axis=0)


def _gradcam_of(network: torch.nn.Module, inputs_BCHW: torch.Tensor, classes: Sequence[int]) -> np.ndarray:
    refuse_without_captum()
    from captum.attr import LayerAttribution, LayerGradCam

    channels, side = inputs_BCHW.shape[1], inputs_BCHW.shape[-1]
    layers = last_convolution(network, channels, side)
    if not layers:
        raise UserError("a heat map needs a convolution with more than one place, and this network has none.")
    # The graph begins at the pictures, whether the weights take part in it or not.
    inputs_BCHW = inputs_BCHW.clone().requires_grad_()
    target = torch.tensor(list(classes), device=inputs_BCHW.device)
    with torch.enable_grad():
        # Columns hold half of the maps each: the sum over all maps is the sum of their sums.
        heats = [LayerGradCam(network, network.get_submodule(layer)).attribute(inputs_BCHW, target) for layer in layers]
    heat_B1HW = torch.stack([heat.detach().to(inputs_BCHW.device) for heat in heats]).sum(0).relu()
    return LayerAttribution.interpolate(heat_B1HW, (side, side), "bilinear")[:, 0].float().cpu().numpy()


@torch.no_grad()
def occlusion(network: torch.nn.Module, input_CHW: torch.Tensor, number: int) -> np.ndarray:
    """How much of a class's probability goes when a place is covered (S, S), -1 to 1, mean over the windows that cover it.

    The window moves by half of itself, and covers with the mean colour of the training (zero in the network's input).

    Raises:
        UserError: captum is not installed.
    """
    refuse_without_captum()
    from captum.attr import Occlusion

    channels, side = input_CHW.shape[0], input_CHW.shape[-1]
    covered, step = window(side), max(1, window(side) // _STEPS)
    lost_1CHW = Occlusion(lambda images_BCHW: torch.softmax(network(images_BCHW).float(), 1)).attribute(
        input_CHW[None],
        sliding_window_shapes=(channels, covered, covered),
        strides=(channels, step, step),
        target=int(number),
        baselines=0,
        perturbations_per_eval=_AT_ONCE,
    )
    return lost_1CHW[0].mean(0).cpu().numpy()


def window(side: int) -> int:
    """Side of the window that covers a part of a picture in `occlusion`, in pixels: a sixth of the picture's.

    >>> window(224), window(4)
    (37, 1)
    """
    return max(1, round(side / _WINDOWS))


def painted(picture_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """A picture (uint8 RGB) under its heat, 0 to 1, of whatever size: dark violet to yellow where it is hot, pale where not."""
    height, width = picture_HWC.shape[:2]
    heat = Image.fromarray(heat_HW.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    heat_HW1 = np.asarray(heat).clip(0, 1)[:, :, None]
    grey_HW1 = np.asarray(Image.fromarray(picture_HWC).convert("L"), np.float32)[:, :, None]
    colour_HWC = matplotlib.colormaps[_COLOURS](heat_HW1[:, :, 0])[:, :, :3] * 255
    opaque_HW1 = _MOST_OPAQUE * heat_HW1
    return (grey_HW1 * (1 - opaque_HW1) + colour_HWC * opaque_HW1).round().astype(np.uint8)
