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
        "The study notes' training: random crops of at least half the area, mirrored half of the time, SGD 0.001 with momentum "
        "0.9 in batches of 32, and the best epoch kept."
    )


def _auto(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    tiny = facts.short_side <= _SMALL_SIDE
    drawn = tiny and facts.grey
    model = settings.model
    if model == "auto":
        model = "lenet-table" if drawn else "compact"
    own = _OF_NETWORK.get(model, {})
    # Few pictures are shown more often, but not so often that the work stays the same: it grows as the fourth root.
    epochs = round(own.get("epochs", 150) * (400 / facts.count) ** 0.75)
    choices: dict[str, Any] = dict(  # noqa: C408 - reads as the settings do
        model=model, size=models.entry(model).size, fit="crop", crop_area=0.35, flip="on", jitter=0.3, rotate=10.0, erase=0.25,
        mixup=0.2, batch=16 if facts.count < 1000 else 32, optimizer="adamw", lr=0.002, schedule="cosine", weight_decay=0.05,
        label_smoothing=0.0, ema=0.99, keep="last",
    )  # fmt: skip
    choices |= own
    choices["epochs"] = min(300, max(12, epochs))
    if settings.minutes != "auto":
        choices["epochs"] *= 2  # time is the limit then, and more of it is worth using
    if tiny:
        small = max(32, facts.short_side)
        choices |= {"crop_area": 0.6, "erase": 0.0, "mixup": 0.0}
        choices["size"] = small if models.fits(model, small) else choices["size"]
    if drawn:
        # Mirrored writing is other writing, and ink has no colours.
        choices |= {"flip": "off", "crop_area": 0.7, "jitter": 0.1}
    told = decide(settings, choices)
    kind = "small grey drawings" if drawn else "small pictures" if tiny else "photos"
    parts = [
        f"{facts.count:,} training pictures ({kind}): {told.model} at {told.size} px, ",
        f"{told.epochs} epochs in batches of {told.batch}",
        ", since few pictures must be shown often" if facts.count < 5000 else "",
        "; each time cut, turned and coloured a little differently",
        ", never mirrored" if told.flip == "off" else "",
        f". {_OPTIMIZERS[told.optimizer]} with a learning rate up to {told.lr:g}",
        ", falling to zero" if told.schedule == "cosine" else "",
        f"; the {told.keep} epoch's weights are kept",
        ", averaged over the last steps" if told.ema else "",
        ".",
    ]
    return choices, "".join(parts)


_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}

# What the experiments found best for single networks, where it differs from what suits compact (benchmarks/LOG.md).
_LENET = {"size": 64, "epochs": 85, "lr": 0.001, "batch": 32, "mixup": 0.0}
_ALEXNET = {"size": 128, "epochs": 60, "lr": 0.0003, "batch": 32}
_OF_NETWORK: dict[str, dict[str, Any]] = {"lenet": _LENET, "alexnet": _ALEXNET}
