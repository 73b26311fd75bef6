"""tapetum: image classifiers that see well in little light, from few pictures, on small machines.

    import tapetum

    run = tapetum.train("photos", minutes=5)      # Run: .classifier, .metrics, .folder
    clf = tapetum.load("runs/photos")             # Classifier
    clf.classes_                                  # ('cat', 'dog')
    clf.predict(["a.jpg", image, array])          # labels
    clf.predict_proba(paths)                      # (N, K) float64, rows sum to 1
    tapetum.predict("runs/photos", ["new"])       # a DataFrame, one row a picture

What needs torch is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tapetum.errors import UserError

if TYPE_CHECKING:
    from tapetum.inference.classifier import Classifier
    from tapetum.inference.loading import load
    from tapetum.inference.predict import predict
    from tapetum.run import Run, train

__version__ = "0.1.0"
__all__ = ["Classifier", "Run", "UserError", "__version__", "load", "predict", "train"]

_HOMES = {
    "Classifier": "tapetum.inference.classifier",
    "load": "tapetum.inference.loading",
    "predict": "tapetum.inference.predict",
    "Run": "tapetum.run",
    "train": "tapetum.run",
}


def __getattr__(name: str) -> Any:
    """The public names that need torch, at their first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tapetum' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
