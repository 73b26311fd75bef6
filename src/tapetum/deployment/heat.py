"""Where in a picture the network saw what it answered: Grad-CAM, drawn over the picture."""

import importlib.util
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from tapetum.inference.answers import Answering

Heat = Callable[[np.ndarray, int], bytes]
"""From a square and the number of a class to a PNG file."""


def heat_of(answerer: Answering) -> Heat | None:
    """What draws heat maps of this classifier; None where it cannot: an ONNX file has no gradients, or captum is missing."""
    if importlib.util.find_spec("captum") is None or not hasattr(answerer, "network"):
        return None
    import torch

    found = [each for each in answerer.network.modules() if isinstance(each, torch.nn.Conv2d)]
    return (lambda square_SSC, k: overlay(square_SSC, grad_cam(answerer, square_SSC, k))) if found else None


def grad_cam(answerer: Answering, square_SSC: np.ndarray, k: int) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of class k on the last convolution: (h, w) from 0 to 1, mean of an ensemble's members.

    The network sees the middle of the square, as it does in its first view.
    """
    import torch
    from captum.attr import LayerGradCam

    from tapetum.data.prepare import to_input
    from tapetum.inference.familiarity import members_of

    input_1CHW = to_input(torch.from_numpy(np.array(square_SSC))[None].to(answerer.device), answerer.preprocessing)  # type: ignore[attr-defined]
    maps = []
    for network in members_of(answerer.network):  # type: ignore[attr-defined]
        last = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        with torch.enable_grad():
            found_11HW = LayerGradCam(network, last).attribute(input_1CHW, target=k, relu_attributions=True)
        heat_HW = found_11HW[0, 0].detach().cpu()
        maps.append(heat_HW / heat_HW.max().clamp(min=1e-12))
    return torch.stack(maps).mean(0).numpy()


def overlay(square_SSC: np.ndarray, heat_HW: np.ndarray) -> bytes:
    """The square as a PNG, its warm places coloured as matplotlib's "turbo" does; at least 224 pixels a side."""
    from matplotlib import colormaps

    side = max(224, len(square_SSC))
    picture = Image.fromarray(square_SSC).resize((side, side), Image.Resampling.BICUBIC)
    heat = Image.fromarray(np.asarray(heat_HW, np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    heat_SS = np.asarray(heat).clip(0, 1)
    colours_SSC = colormaps["turbo"](heat_SS)[:, :, :3] * 255
    share_SS1 = 0.65 * heat_SS[:, :, None] ** 0.7
    mixed_SSC = np.asarray(picture) * (1 - share_SS1) + colours_SSC * share_SS1
    buffer = io.BytesIO()
    Image.fromarray(mixed_SSC.round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
