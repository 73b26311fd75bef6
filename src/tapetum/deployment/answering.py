"""What answers: a run folder or model file through torch, or an ONNX file without it. The server asks no more than this."""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

Prepare = Callable[[np.ndarray], np.ndarray]
NEITHER = "neither"  # as in inference.classifier, which imports torch


class Answerer(Protocol):
    """The words that `Classifier` and its ONNX form share."""

    classes_: tuple[str, ...]
    about: dict[str, Any]

    @property
    def preprocessing(self) -> Any:
        """How pictures are prepared."""

    def prepare(self, picture_HWC: np.ndarray, /) -> np.ndarray:
        """The uint8 square of a decoded picture; asks nothing of the classifier but its `preprocessing`."""

    def answers(
        self, squares: Iterable[np.ndarray], batch: int = ..., reject: float = ...
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities (N, K) and, if something is to be rejected, familiarity (N,)."""

    def refuse_reject(self, reject: float) -> None:
        """Raise a UserError if strangers cannot be told from such a share of the known kind."""


def load_any(run: Path) -> Answerer:
    """The classifier of a run folder, a model file, or an ONNX file.

    Raises:
        UserError: there is no such thing, or it is damaged.
    """
    if run.suffix == ".onnx":
        return import_module("tapetum.inference.onnx").load_onnx(run)
    from tapetum.inference.classifier import load

    return load(run)


def fingerprint(run: Path) -> str:
    """SHA-256 of the model's file, 64 hexadecimal digits: `sha256sum` says the same."""
    file = run / "model.safetensors" if run.is_dir() else run
    return hashlib.sha256(file.read_bytes()).hexdigest()


def preparation(answerer: Answerer) -> Prepare:
    """`answerer.prepare` without its network, so that another process can have it for a few bytes."""
    return partial(type(answerer).prepare, SimpleNamespace(preprocessing=answerer.preprocessing))
