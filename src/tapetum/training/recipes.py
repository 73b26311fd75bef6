"""How to train, decided from the data: every "auto" of the settings gets a value, and a reason that is told.

Three recipes. `notes` is the study notes' training, `paper` that of the network's own paper. `auto` suits the number of
pictures; its numbers come from the experiments recorded in benchmarks/LOG.md.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapetum import models
from tapetum.config import Recipe, Settings, decide
from tapetum.data.prepare import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tapetum.errors import UserError

# Pictures up to this size (digits, icons) are shown in their own size; photos are reduced.
_SMALL_SIDE = 40
# Small pictures from this size on are shown pixel by pixel if they fit; still smaller ones are enlarged.
_OWN_SIZE = 20


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
    """The recipe for these pictures, and one paragraph that says what was chosen and why.

    Raises:
        UserError: an unknown network, or one whose paper's recipe we do not have.
    """
    choices, why = {"auto": _auto, "notes": _notes, "paper": _paper}[settings.recipe](settings, facts)
    recipe = decide(settings, choices)
    if not recipe.start_size:  # no growth, unless somebody chose some
        recipe = dataclasses.replace(recipe, start_size=recipe.size)
    models.entry(recipe.model)
    if recipe.start_size > recipe.size:
        raise UserError(f"start_size {recipe.start_size} with size {recipe.size}: expected one that is not larger than size.")
    if recipe.start_size < recipe.size and not models.takes(recipe.model, recipe.size, recipe.start_size):
        raise UserError(
            f"start_size {recipe.start_size}: {recipe.model} at size {recipe.size} takes no pictures of that size. "
            "Use a larger start_size, or a network that ends in an average."
        )
    return recipe, why


def preprocessing(recipe: Recipe) -> Preprocessing:
    """How pictures are prepared under `recipe`.

    The notes' shorter side before the middle is cut out is 256 for 224, and so 8/7 of the size for others. A picture is kept
    as large as the smallest training crop needs, so that no crop has to be blown up; the notes' photos keep their size.
    """
    network = models.entry(recipe.model)
    larger = network.resize / network.size if network.resize else 8 / 7
    resize = max(recipe.size, round(recipe.size * larger))
    # The smallest crop of the flattest proportions (3/4) still has `size` pixels on its shorter side.
    crop = math.ceil(recipe.size / math.sqrt(recipe.crop_area * 3 / 4))
    return Preprocessing(
        size=recipe.size,
        fit=recipe.fit,
        resize=resize,
        reduce=resize if recipe.crops == "shifted" else max(resize, crop),
        channels=network.channels,
        mean=network.mean or IMAGENET_MEAN,
        std=network.std or IMAGENET_STD,
        views=recipe.views,
    )


# Nothing random, nothing averaged: what a recipe does not name.
_PLAIN: dict[str, Any] = {
    "start_size": 0, "fit": "crop", "crop_area": 1.0, "crops": "resized", "flip": "off", "jitter": 0.0, "rotate": 0.0,
    "warp": 0.0, "pca": 0.0, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0, "balance": "off", "weight_decay": 0.0,
    "label_smoothing": 0.0, "ema": 0.0, "rescue": "off", "keep": "last", "views": "one",
}  # fmt: skip


def _notes(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    model = "lenet-textbook" if settings.model == "auto" else settings.model
    choices = _PLAIN | dict(  # noqa: C408 - reads as the settings do
        model=model, size=models.entry(model).size, crop_area=0.5, flip="on", epochs=10, batch=32, optimizer="sgd", lr=0.001,
        schedule="constant", keep="best",
    )  # fmt: skip
    return choices, (
        "The study notes' training: random crops of at least half the area, mirrored half of the time, SGD 0.001 with momentum "
        "0.9 in batches of 32, and the best epoch kept."
    )


def _paper(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    if settings.model not in _OF_PAPER:
        raise UserError(
            f"recipe paper with model '{settings.model}': expected one of {', '.join(_OF_PAPER)}, whose papers we follow. "
            "Choose one of them or another recipe."
        )
    choices, why = _OF_PAPER[settings.model]
    return _PLAIN | {"model": settings.model, "size": models.entry(settings.model).size} | choices, why


def _auto(settings: Settings, facts: Facts) -> tuple[Mapping[str, Any], str]:
    tiny = facts.short_side <= _SMALL_SIDE
    drawn = tiny and facts.grey
    model = settings.model
    if model == "auto":
        model = "lenet-table" if drawn else "compact"
    own = _OF_NETWORK.get(model, {})
    # Few pictures are shown more often, but not so often that the work stays the same: it grows as the fourth root.
    epochs = round(own.get("epochs", 150) * (400 / facts.count) ** 0.75)
    choices = _PLAIN | dict(  # noqa: C408 - reads as the settings do
        model=model, size=models.entry(model).size, crop_area=0.35, flip="on", jitter=0.3, rotate=10.0, erase=0.25, mixup=0.2,
        batch=16 if facts.count < 1000 else 32, optimizer="adamw", lr=0.002, schedule="cosine", weight_decay=0.05, ema=0.99,
    )  # fmt: skip
    choices |= own
    choices["epochs"] = min(300, max(30 if tiny else 12, epochs))
    if settings.minutes != "auto":
        choices["epochs"] *= 2  # time is the limit then, and more of it is worth using
    if tiny:
        small = max(32, facts.short_side)
        choices |= {"crop_area": 0.6, "erase": 0.0, "mixup": 0.0}
        choices["size"] = small if models.fits(model, small) else choices["size"]
    if drawn:
        # Mirrored writing is other writing, and ink has no colours.
        choices |= {"flip": "off", "crop_area": 0.7, "jitter": 0.1}
    if drawn and _OWN_SIZE <= facts.short_side <= choices["size"]:
        # Drawings about as large as the input keep their pixels, and are distorted in place of being cut.
        choices |= {"fit": "center", "crop_area": 1.0, "jitter": 0.0, "warp": 0.1, "batch": 64}
    choices["views"] = "mirror" if decide(settings, choices).flip == "on" else "one"
    told = decide(settings, choices)
    kind = "small grey drawings" if drawn else "small pictures" if tiny else "photos"
    parts = [
        f"{facts.count:,} training pictures ({kind}): {told.model} at {told.size} px, ",
        f"{told.epochs} epochs in batches of {told.batch}",
        ", since few pictures must be shown often" if facts.count < 5000 else "",
        f"; each time {'distorted' if told.warp else 'cut, turned and coloured'} a little differently",
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
_OF_NETWORK: dict[str, dict[str, Any]] = {
    "lenet": _LENET,
    "alexnet": _ALEXNET,
    # Their kin was not searched for; it gets alexnet's rate at its own size.
    **{name: {**_ALEXNET, "size": models.entry(name).size} for name in ("alexnet-2012", "alexnet-table", "alexnet-2014")},
}

# The papers' trainings.
_OF_PAPER: dict[str, tuple[dict[str, Any], str]] = {
    "lenet5-1998": (
        {"fit": "center", "epochs": 20, "batch": 32, "optimizer": "adamw", "lr": 0.002, "schedule": "cosine",
         "weight_decay": 0.05, "ema": 0.99},
        "LeNet-5's training of 1998: 20 passes over undistorted digits (--warp 0.1 distorts them, as the paper's second result "
        "does), RBF outputs and their loss. AdamW and a cosine stand for the paper's second-order steps of one picture each.",
    ),
    "alexnet-2012": (
        {"crops": "shifted", "flip": "on", "pca": 0.1, "epochs": 90, "batch": 128, "optimizer": "sgd", "lr": 0.01,
         "schedule": "steps", "weight_decay": 0.0005, "views": "ten"},
        "AlexNet's training of 2012: 90 passes, shifted and mirrored 227 px squares of the 256 px middle, colours shifted "
        "along their principal components, SGD 0.01 with momentum 0.9 and weight decay 0.0005 in batches of 128, the rate "
        "divided by ten three times, prediction averaged over ten views.",
    ),
}  # fmt: skip
