"""How to train, decided from the data: every "auto" of the settings gets a value, and a reason that is told.

Two recipes. `notes` is the study notes' training. `auto` suits the number of pictures; its numbers come from the
experiments recorded in benchmarks/LOG.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapetum import models
from tapetum.config import Recipe, Settings, decide
from tapetum.data.prepare import Preprocessing

# Pictures up to this size (digits, icons) are shown in their own size; photos are reduced.
_SMALL_SIDE = 40


@dataclass(frozen=True)
class Facts:
    """What is known of the training pictures when a recipe is chosen."""

    count: int
    """Training pictures."""
    num_classes: int
    short_side: int
    """Median of the pictures' shorter sides, in pixels."""
    grey: bool
    """All pictures that were looked at are grey."""


def choose(settings: Settings, facts: Facts) -> tuple[Recipe, str]:
    """The recipe for these pictures, and one paragraph that says what was chosen and why."""
    choices, why = (_notes if settings.recipe == "notes" else _auto)(settings, facts)
    recipe = decide(settings, choices)
    models.entry(recipe.model)
    return recipe, why


def preprocessing(recipe: Recipe) -> Preprocessing:
    """How pictures are prepared under `recipe`.

    The notes' shorter side before the middle is cut out is 256 for 224, and so 8/7 of the size for others. A picture is kept
    as large as the smallest training crop needs, so that no crop has to be blown up; the notes' photos keep their size.
    """
    resize = max(recipe.size, round(recipe.size * 8 / 7))
    # The smallest crop of the flattest proportions (3/4) still has `size` pixels on its shorter side.
    crop = math.ceil(recipe.size / math.sqrt(recipe.crop_area * 3 / 4))
    return Preprocessing(
        size=recipe.size,
        fit=recipe.fit,
        resize=resize,
        reduce=max(resize, crop),
        channels=models.entry(recipe.model).channels,
    )


def _notes(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    model = "lenet-textbook" if settings.model == "auto" else settings.model
    choices: dict[str, Any] = dict(  # noqa: C408 - reads as the settings do
        model=model, size=models.entry(model).size, fit="crop", crop_area=0.5, flip="on", jitter=0.0, rotate=0.0, erase=0.0,
        mixup=0.0, epochs=10, batch=32, optimizer="sgd", lr=0.001, schedule="constant", weight_decay=0.0, label_smoothing=0.0,
        ema=0.0, keep="best",
    )  # fmt: skip
    return choices, (
        f"The study notes' training: {choices['size']} px, random crops of at least half the area, mirrored half of the time, "
        "10 epochs of SGD (0.001, momentum 0.9) in batches of 32, the best of the ten epochs kept."
    )


def _auto(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    tiny = facts.short_side <= _SMALL_SIDE
    model = settings.model
    if model == "auto":
        model = "lenet-table" if tiny and facts.grey else "compact"
    size = _size(model, facts, tiny)
    # Few pictures are seen more often: the steps fall more slowly than the pictures.
    epochs = int(min(300, max(12, round(60 * (1600 / facts.count) ** 0.75))))
    choices: dict[str, Any] = dict(  # noqa: C408 - reads as the settings do
        model=model, size=size, fit="crop", crop_area=0.35, flip="on", jitter=0.3, rotate=10.0, erase=0.25,
        mixup=0.2, epochs=epochs, batch=32 if facts.count >= 1000 else 16, optimizer="adamw", lr=0.002, schedule="cosine",
        weight_decay=0.05, label_smoothing=0.0, ema=0.99, keep="last",
    )  # fmt: skip
    return choices, ""


def _size(model: str, facts: Facts, tiny: bool) -> int:
    if tiny:
        return max(32, facts.short_side)
    return 96
