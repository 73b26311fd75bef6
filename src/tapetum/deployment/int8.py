"""A graph in whole numbers of 8 bits: a quarter of the size, and what it costs and brings, measured.

The convolutions and linear layers are quantised statically by onnxruntime, in the QDQ form that other runtimes read too:
weights by each channel, activations by the range that training pictures give them. All else (normalisation, mean over views,
softmax) stays as it is.
"""

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapetum.inference.answers import Answering
from tapetum.inference.onnx import SQUARES, to_input

if TYPE_CHECKING:
    from onnx import ModelProto

    from tapetum.data.prepare import Preprocessing

# So many training pictures tell the ranges of activations.
CALIBRATING = 128
# What is quantised, and what lies between such layers and is computed on whole numbers for nothing.
_LAYERS, _BETWEEN = ["Conv", "Gemm"], ["Relu", "MaxPool", "Reshape", "Flatten", "Transpose"]
# A speed is that of the fastest of so many tries, which others on the machine disturb least.
_TRIES = 7


@dataclass(frozen=True)
class Speeds:
    """Milliseconds a picture, of the graph alone, here and now."""

    float_alone: float
    """In float32, one picture at a time."""
    int8_alone: float
    float_batch: float
    """In float32, 32 pictures at once."""
    int8_batch: float


def quantized(model: "ModelProto", squares: Sequence[np.ndarray], preprocessing: "Preprocessing") -> "ModelProto":
    """The model with convolutions and linear layers in int8, calibrated by the squares (side, side, 3) of some pictures."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = model.graph.input[0].name
    inputs = (each[None] if name == SQUARES else to_input(each[None], preprocessing) for each in squares)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, plain, small = (Path(place) / name for name in ("whole.onnx", "plain.onnx", "int8.onnx"))
        whole.write_bytes(model.SerializeToString())
        # BatchNorm goes into the convolution before it: on whole numbers it could not.
        quant_pre_process(whole, plain, skip_symbolic_shape=True)
        quantization.quantize_static(
            plain,
            small,
            _reader({name: each} for each in inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        found = onnx.load_model_from_string(small.read_bytes())
    for name in ("producer_name", "producer_version", "doc_string"):
        setattr(found, name, getattr(model, name))
    return found


def _reader(inputs: Iterator[dict[str, np.ndarray]]) -> Any:
    """What onnxruntime takes its calibration data from."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(inputs, None)

    return Reader()


def speeds(float_form: Answering, int8_form: Answering, squares: Sequence[np.ndarray]) -> Speeds:
    """How long both forms take for the squares of some pictures, turn by turn."""
    best: dict[tuple[int, int], float] = {}
    for _ in range(_TRIES):
        for form, classifier in enumerate((float_form, int8_form)):
            for count in (1, 32):
                some = [squares[i % len(squares)] for i in range(count)]
                begun = time.perf_counter()
                classifier.from_squares(some, count)
                spent = (time.perf_counter() - begun) / count * 1000
                best[form, count] = min(spent, best.get((form, count), spent))
    return Speeds(best[0, 1], best[1, 1], best[0, 32], best[1, 32])
