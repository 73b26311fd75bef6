"""What a training cost and what predictions will: seconds, pictures a second, memory. Kept in the run folder as cost.json.

It is no part of the model file, which is the same to the bit for the same seed; times never are.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum import device
from tapetum.data.samples import Samples
from tapetum.files import write_text
from tapetum.inference.answers import BATCH
from tapetum.inference.classifier import Classifier
from tapetum.inference.predict import predict_samples

COST_FILE = "cost.json"
# Pictures that warm up and tell how many more to time, and the seconds that these may take.
_FIRST, _SECONDS = 8, 0.6


def write_cost(folder: Path, classifier: Classifier, samples: Samples, training: float, so_far: float) -> dict[str, Any]:
    """Measure how fast the classifier predicts and how much memory was used, and write `folder/cost.json`; what it says.

    Args:
        folder: the run folder.
        classifier: the trained classifier.
        samples: pictures to predict.
        training: seconds that the training took, summed over resumed sittings.
        so_far: seconds since this program began to work.
    """
    speed, count = pictures_per_second(classifier, samples)
    told = {
        "training_seconds": round(training, 1),
        "seconds_so_far": round(so_far, 1),
        "device": device.describe(classifier.device),
        "peak_memory_bytes": peak_memory(),
        "pictures_per_second": round(speed, 1),
        "pictures_timed": count,
    }
    write_text(folder / COST_FILE, json.dumps(told, indent=2) + "\n")
    return told


def read_cost(folder: Path) -> dict[str, Any]:
    """What `write_cost` wrote; empty where there is no such file, as in older runs, or it cannot be read."""
    try:
        found = json.loads((folder / COST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def pictures_per_second(classifier: Classifier, samples: Samples) -> tuple[float, int]:
    """How many pictures a second `predict` does, from file to probabilities, and how many were timed; takes about a second."""
    order = np.random.default_rng(0).permutation(len(samples))
    first = samples.select(order[:_FIRST])
    predict_samples(classifier, first)
    seconds = _timed(classifier, first)
    count = int(min(len(samples), max(len(first), BATCH * round(_SECONDS / seconds * len(first) / BATCH))))
    if count > len(first):
        seconds = _timed(classifier, samples.select(order[:count]))
    return count / seconds, count


def peak_memory() -> int | None:
    """The most memory (bytes) that this process has held so far, an accelerator's not counted; None where nobody knows."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used) * (1 if sys.platform == "darwin" else 1024)


def _timed(classifier: Classifier, samples: Samples) -> float:
    begun = time.perf_counter()
    predict_samples(classifier, samples)
    if classifier.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begun
