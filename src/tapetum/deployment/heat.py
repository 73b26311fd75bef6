"""Where in a picture the network saw what it answered, for the page: `looking.heat` on the square that was sent in."""

import importlib.util
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tapetum.inference.answers import Answering

if TYPE_CHECKING:
    from tapetum.inference.classifier import Classifier

Heat = Callable[[np.ndarray, int], bytes]
"""From a square and the number of a class to a PNG file."""

# An answer has at least so many pixels a side.
_SHOWN = 224


def heat_of(answerer: Answering) -> Heat | None:
    """What draws heat maps of this classifier. None where nothing can: an ONNX file has no gradients, a network may have no
    convolution, captum may be missing.
    """
    if importlib.util.find_spec("captum") is None or not hasattr(answerer, "network"):
        return None
    from tapetum.inference.familiarity import members_of
    from tapetum.models.summary import last_convolution

    classifier: Classifier = answerer  # type: ignore[assignment]
    seen = classifier.preprocessing
    if not all(last_convolution(network, seen.channels, seen.size) for network in members_of(classifier.network)):
        return None
    return lambda square_SSC, k: heat_map(classifier, square_SSC, k)


def heat_map(classifier: "Classifier", square_SSC: np.ndarray, k: int) -> bytes:
    """A PNG of the part of a prepared square that the network sees, under the Grad-CAM heat of class k; 224 pixels or more."""
    import torch

    from tapetum.data.prepare import to_input
    from tapetum.looking.heat import gradcam, painted

    size = classifier.preprocessing.size
    start = round((len(square_SSC) - size) / 2)  # of several views the middle one
    middle_SSC = np.array(square_SSC[start : start + size, start : start + size])
    input_1CHW = to_input(torch.from_numpy(middle_SSC)[None].to(classifier.device), classifier.preprocessing)
    heat_SS = gradcam(classifier.network, input_1CHW, [k])[0]
    shown = Image.fromarray(middle_SSC).resize((max(_SHOWN, size),) * 2, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    Image.fromarray(painted(np.asarray(shown), heat_SS)).save(buffer, "PNG")
    return buffer.getvalue()
