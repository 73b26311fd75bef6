"""A classifier in an ONNX file: the same words and answers, computed by onnxruntime, without torch in memory.

    load_onnx("photos.onnx").predict(["a.jpg"])

The graph, which `tapetum.deployment.graph` makes, holds everything from squares to probabilities: normalisation (if the squares
go in as they are), the views, all networks of an ensemble, the temperature, and how familiar a picture is. What a picture file
needs before that stands in the metadata, with all else that the model file says of itself, under the key `tapetum`.

A file may come from anybody, and ONNX may name other files to read, and run for ever. So before the runtime sees it: its size
is judged, its seal checked (see `tapetum.seal`), and it is looked through for what no file of ours holds.

Letters in names: B pictures of a batch, N all pictures, C channels, H height, W width, K classes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapetum.data.prepare import LUMA, Preprocessing
from tapetum.errors import UserError, reason_of
from tapetum.inference.answers import BATCH, Answering, batched
from tapetum.inference.description import described
from tapetum.processes import num_cores
from tapetum.seal import NO_SEAL, seal

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

# Where the graph begins, by what goes in, and where it ends.
SQUARES, IMAGES = "squares", "images"
PROBABILITIES, FAMILIARITY = "probabilities", "familiarity"
# What a protobuf file can hold.
MOST_BYTES = 2**31 - 1
_METADATA = "tapetum"
_BEFORE_SEAL = b'{"seal": "'


@dataclass
class OnnxClassifier(Answering):
    """A trained image classifier in ONNX, with the words of `tapetum.inference.classifier.Classifier`. Threads may share it."""

    session: "InferenceSession"
    classes_: tuple[str, ...]
    preprocessing: Preprocessing
    about: dict[str, Any]

    @property
    def calibrating(self) -> int:
        """How many pictures tell the known kind from strangers; 0: nothing can be told."""
        return self.about["onnx"]["calibrating"]

    def why_no_strangers(self) -> str:
        """Why nothing can be told of strangers, and what to do, where `calibrating` is 0."""
        if self.about["onnx"]["int8"]:
            return (
                "in int8 strangers cannot be told, since it changes the features that tell them. Use the run or its float form"
            )
        return super().why_no_strangers()

    def get_ready(self) -> None:
        """Nothing is left to do."""

    def from_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K) of prepared squares (side, side, 3), uint8."""
        return self._probabilities(self._run([PROBABILITIES], each) for each in batched(squares, batch))

    def familiar_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) of prepared squares and familiarity (N,), above 0 and up to 1; ask `refuse_reject` first."""
        found = [self._run([PROBABILITIES, FAMILIARITY], each) for each in batched(squares, batch)]
        familiar = [np.zeros(0), *(familiarity_B for _, familiarity_B in found)]
        return self._probabilities(found), np.concatenate(familiar).astype(np.float64)

    def _probabilities(self, found: Iterable[list[np.ndarray]]) -> np.ndarray:
        rows_NK = np.concatenate([np.zeros((0, len(self.classes_))), *(p_BK for p_BK, *_ in found)])
        return rows_NK / rows_NK.sum(1, keepdims=True)  # in float64 they sum to 1

    def _run(self, names: list[str], squares_BHWC: np.ndarray) -> list[np.ndarray]:
        (wanted,) = self.session.get_inputs()
        given = squares_BHWC if wanted.name == SQUARES else to_input(squares_BHWC, self.preprocessing)
        return self.session.run(names, {wanted.name: given})


def to_input(squares_BHWC: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """`tapetum.data.prepare.to_input` in numpy: normalised float32 (B, C, H, W) of uint8 RGB squares."""
    images_BCHW = squares_BHWC.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    if preprocessing.channels == 1:
        images_BCHW = np.einsum("bchw,c->bhw", images_BCHW, np.array(LUMA, np.float32))[:, None]
    mean, std = (
        np.array(values[: preprocessing.channels], np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images_BCHW - mean) / std


def input_shape(preprocessing: Preprocessing, name: str) -> tuple[int, int, int]:
    """The shape of one picture at the input called `name`."""
    side = preprocessing.side
    return (side, side, 3) if name == SQUARES else (preprocessing.channels, side, side)


def load_onnx(path: str | Path, on: str = "auto") -> OnnxClassifier:
    """The classifier in an ONNX file that `tapetum export` wrote. No other file is read, whatever it says.

    Raises:
        UserError: there is no such file, it is damaged or not ours, refers to other files, or onnxruntime is not installed.
    """
    path = Path(path)
    if on not in ("auto", "cpu"):
        raise UserError(f"device {on} with {path}: an ONNX file is computed on the CPU. Expected auto or cpu.")
    if not path.is_file():
        raise UserError(f"{path} {'is no file' if path.exists() else 'does not exist'}: expected what `tapetum export` wrote.")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: expected at most {MOST_BYTES:,}, all that ONNX can hold.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"could not read {path}: {error.strerror or error}.") from error
    return from_bytes(content, str(path))


def from_bytes(content: bytes, name: str) -> OnnxClassifier:
    """The classifier in the bytes of an ONNX file, which is called `name` in errors; as `load_onnx`."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise UserError(f"{name} is computed with onnxruntime, which is not installed: pip install 'tapetum[onnx]'.") from None
    start = content.find(_BEFORE_SEAL) + len(_BEFORE_SEAL)
    place = slice(start, start + len(NO_SEAL))
    if start < len(_BEFORE_SEAL):
        raise UserError(f"{name} is not an ONNX file of `tapetum export` (no seal in it). Expected one.")
    if seal(content, place).encode() != content[place]:
        raise UserError(
            f"{name} was damaged or changed: its SHA-256 does not fit its content. Use another copy, or export again."
        )
    try:
        model = onnx.load_model_from_string(content)  # this reads no external data
        strange = next(_strange(model), None)
        if strange is not None:
            raise ValueError(strange)
        about = json.loads({each.key: each.value for each in model.metadata_props}[_METADATA])
        onnx.checker.check_model(content)
        return _from_parts(onnxruntime, content, about)
    except Exception as error:  # what the file says of itself may be anything, and so may be what comes of it
        raise UserError(
            f"{name} is not an ONNX file that this version of tapetum can use ({reason_of(error)}). Export again."
        ) from error


def sealed(model: "ModelProto", about: Mapping[str, Any]) -> bytes:
    """The bytes of an ONNX file: `model` with the JSON object `about` in its metadata, and the seal in that; changes `model`.

    The class names stand under a key of their own too, `classes`, for other programs.
    """
    model.ClearField("metadata_props")
    told = {_METADATA: {"seal": NO_SEAL.decode(), **about}, "classes": about["classes"]}
    for key, value in told.items():
        model.metadata_props.add(key=key, value=json.dumps(value, allow_nan=False))
    content = bytearray(model.SerializeToString(deterministic=True))
    start = content.index(_BEFORE_SEAL) + len(_BEFORE_SEAL)
    place = slice(start, start + len(NO_SEAL))
    content[place] = seal(content, place).encode()
    return bytes(content)


def _from_parts(onnxruntime: Any, content: bytes, about: dict[str, Any]) -> OnnxClassifier:
    said, more = described(about), about["onnx"]
    calibrating = more["calibrating"]
    if (
        isinstance(calibrating, bool)
        or not isinstance(calibrating, int)
        or calibrating < 0
        or not isinstance(more["int8"], bool)
    ):
        raise ValueError(f"calibrating {calibrating!r}, int8 {more['int8']!r}")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    options.log_severity_level = 4  # what fails is told by an exception
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = OnnxClassifier(session, said.classes, said.preprocessing, about)
    ends = [PROBABILITIES, *([FAMILIARITY] if calibrating else [])]
    names = [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]
    if names not in (([SQUARES], ends), ([IMAGES], ends)):
        raise ValueError(f"inputs and outputs {names}")
    wanted = session.get_inputs()[0]
    expected = (
        "tensor(uint8)" if wanted.name == SQUARES else "tensor(float)",
        ["N", *input_shape(said.preprocessing, wanted.name)],
    )
    if (wanted.type, wanted.shape) != expected:
        raise ValueError(f"an input of {wanted.type} {wanted.shape}")
    # One grey picture tells the rest of it.
    square = np.full((1, *input_shape(said.preprocessing, SQUARES)), 128, np.uint8)
    shapes = [(each.shape, each.dtype.name, bool(np.isfinite(each).all())) for each in found._run(ends, square)]
    if shapes != [((1, len(said.classes)), "float32", True), *([((1,), "float32", True)] if calibrating else [])]:
        raise ValueError(f"outputs {shapes}")
    return found


def _strange(message: Any) -> Iterator[str]:
    """What in a parsed file no file of ours holds: tensors elsewhere, graphs in graphs, functions, foreign operators."""
    kind = message.DESCRIPTOR.name
    if kind == "TensorProto":
        if message.external_data or message.data_location:
            yield f"tensor '{message.name[:80]}' lies in another file"
        return  # its numbers need not be copied
    if kind == "NodeProto" and message.domain not in ("", "ai.onnx"):
        yield f"operator {message.op_type[:80]} of {message.domain[:80]}"
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if kind == "AttributeProto" and field.message_type.name == "GraphProto":
            yield "a graph inside the graph"
        if field.message_type.name in ("FunctionProto", "TrainingInfoProto"):
            yield f"{field.name} in it"
        for each in [value] if hasattr(value, "ListFields") else value:
            yield from _strange(each)
