"""What the file of a classifier says of itself, looked at with suspicion: it may come from anybody.

A model file carries it as JSON in its header, an ONNX file in its metadata.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tapetum.config import Fit, Views
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.files import near

MODEL_FILE = "model.safetensors"
FORMAT = 2
# No file may ask for more networks than this.
_MOST_MEMBERS = 100
# Far below all that calibration finds; with still less, probabilities would not be numbers.
_LEAST_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class Description:
    """What stands in a classifier's file besides its tensors and what is only told of them."""

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    members: int
    """How many networks answer as one."""


def model_file(path: Path) -> Path:
    """The model file of a run folder, or the file itself where one is named.

    Raises:
        UserError: there is none.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.exists():
        what = f"{path} holds no {MODEL_FILE}." if path.is_dir() else f"{path} does not exist.{near(path)}"
        raise UserError(f"{what} Expected a run folder or a model file that `tapetum train` wrote.")
    return file


def described(about: Mapping[str, Any]) -> Description:
    """The description in a file's JSON object `about`.

    Raises:
        KeyError, TypeError, ValueError: it is none, or no classifier can be like that.
    """
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, expected {FORMAT}")
    classes = about["classes"]
    texts = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not texts or not 2 <= len(set(classes)) == len(classes):
        raise ValueError("class names that are not two or more different texts")
    preprocessing = _preprocessing(about["preprocessing"])
    temperature = about.get("temperature", 1.0)
    if not _finite(temperature) or temperature < _LEAST_TEMPERATURE:
        raise ValueError(f"temperature {temperature!r}")
    members = about.get("members", 1)
    if type(members) is not int or not 1 <= members <= _MOST_MEMBERS:
        raise ValueError(f"{members!r} members")
    return Description(tuple(classes), preprocessing, float(temperature), members)


def _preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    found = Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
    sides = (found.size, found.resize, found.reduce)
    if not all(type(side) is int and 1 <= side <= 65_535 for side in sides) or found.resize < found.size:
        raise ValueError(f"picture sides {sides}")
    if found.fit not in get_args(Fit) or found.views not in get_args(Views) or repr(found.channels) not in ("1", "3"):
        raise ValueError(f"fit {found.fit!r}, views {found.views!r}, {found.channels!r} channels")
    numbers = (*found.mean, *found.std)
    if len(found.mean) < found.channels or len(found.std) < found.channels or not all(map(_finite, numbers)):
        raise ValueError("mean or std")
    if min(found.std) <= 0:
        raise ValueError("a std that is not positive")
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
