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
from tapetum.models.summary import summarize
from tapetum.talk import counted
from tapetum.training.optim import mean_area

# Pictures up to this size (digits, icons) are shown in their own size; photos are reduced.
_SMALL_SIDE = 40
# With less work (see `_work`) a network has not the time to learn how pictures are turned, and more, smaller steps help.
_TURNING_FROM = 40_000
# Photos: up to how much work which network, at which size, is worth it (benchmarks/LOG.md).
_BY_WORK = (
    (_TURNING_FROM, "compact", 80),
    (200_000, "compact", 112),
    (800_000, "compact-wide", 112),
    (math.inf, "compact-large", 128),
)
# Crops of a smaller share of the area may be enlarged, by a fifth at most: pictures twice as large would cost more.
_SHARP_AREA = 0.35
# Pictures smaller than this show too little to begin with.
_LEAST_START = 48
# From so many pictures on batches are larger, and what makes few pictures many may go.
_MANY = 10_000
# From so many grey drawings on a larger network than LeNet's has enough to learn from.
_MANY_DRAWINGS = 5000
# Largest class against smallest, from which on the small ones are shown more often.
_UNEVEN = 2.0
# Small pictures from this size on are shown pixel by pixel if they fit; still smaller ones are enlarged.
_OWN_SIZE = 20
# An input larger than so many times the picture would show more border than picture.
_SPACIOUS = 1.5


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
    imbalance: float = 1.0
    """Pictures of the largest class for one of the smallest."""
    speed: float | None = None
    """Training pictures a second of `compact` at 96 pixels on this machine; measured where a time budget is asked for."""
    drawn: bool = False
    """They are drawings: grey, and mostly of one shade."""


def choose(settings: Settings, facts: Facts) -> tuple[Recipe, str]:
    """The recipe for these pictures, and one paragraph that says what was chosen and why.

    Raises:
        UserError: an unknown network, or one whose paper's recipe we do not have.
    """
    choices, why = {"auto": _auto, "notes": _notes, "paper": _paper}[settings.recipe](settings, facts)
    recipe = decide(settings, choices)
    if not recipe.start_size:  # no growth, unless somebody chose some
        recipe = dataclasses.replace(recipe, start_size=recipe.size)
    if not recipe.micro_batch or recipe.micro_batch > recipe.batch:
        recipe = dataclasses.replace(recipe, micro_batch=recipe.batch)
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
    # A crop of the flattest proportions (3/4) still has `size` pixels on its shorter side; only the smallest are enlarged.
    crop = math.ceil(recipe.size / math.sqrt(max(recipe.crop_area, _SHARP_AREA) * 3 / 4))
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
    "warp": 0.0, "pca": 0.0, "turn": 0.0, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0, "balance": "off", "weight_decay": 0.0,
    "micro_batch": 0,
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
    small = facts.short_side <= _SMALL_SIDE
    digits = small and facts.grey
    drawn = digits or facts.drawn
    work = _work(settings, facts)
    if digits:
        tiny = facts.short_side < _OWN_SIZE
        model, size = ("lenet-table" if tiny else "lenet-now" if facts.count < _MANY_DRAWINGS else "compact"), 32
    else:
        model, size = next((name, size) for most, name, size in _BY_WORK if work < most)
    if settings.model != "auto":
        model, size = settings.model, models.entry(settings.model).size
    many = facts.count >= _MANY
    own = _OF_NETWORK.get(model, {}) | (_OF_MANY.get(model, {}) if many and not small else {})
    choices = _PLAIN | dict(  # noqa: C408 - reads as the settings do
        model=model, size=size, crop_area=0.35, flip="on", jitter=0.3, rotate=10.0, erase=0.25, mixup=0.2,
        batch=64 if many else 32, optimizer="adamw", lr=0.002 if small else 0.001, schedule="cosine",
        weight_decay=0.05, ema=0.99, rescue="on", balance="on" if facts.imbalance >= _UNEVEN else "off", epochs=1,
    )  # fmt: skip
    if model in _BY_MUON:
        hurried = {"batch": 16} if work < _TURNING_FROM else {"turn": 0.5}
        choices |= {"optimizer": "muon", "lr": 0.001, **hurried}
    choices |= own
    if small:
        side = max(32, facts.short_side)
        choices |= {"crop_area": 0.6, "erase": 0.0, "mixup": 0.0}
        choices["size"] = side if models.fits(model, side) else choices["size"]
    if drawn:
        # Mirrored writing is other writing, and so is turned; ink has no colours.
        choices |= {"flip": "off", "turn": 0.0, "crop_area": 0.7, "jitter": 0.1}
    if digits and _OWN_SIZE <= facts.short_side <= decide(settings, choices).size <= _SPACIOUS * facts.short_side:
        # Drawings about as large as the input keep their pixels, and are distorted in place of being cut.
        choices |= {"fit": "center", "crop_area": 1.0, "jitter": 0.0, "warp": 0.1, "batch": 64}
    told = decide(settings, choices)
    choices["views"] = "mirror" if told.flip == "on" else "one"
    half = -(-told.size // 32) * 16
    grows = half >= _LEAST_START and not small and models.takes(told.model, told.size, half)
    choices["start_size"] = half if grows else told.size
    if small or "epochs" in own:
        # Few pictures are shown more often, but not so often that the work stays the same: it grows as the fourth root.
        fewer = max((400 / facts.count) ** 0.75, min(1.0, (_SLOW.get(model, 400) / facts.count) ** 0.75))
        epochs = own.get("epochs", 150) * fewer
        choices["epochs"] = round(min(600, max(30 if small else 16, epochs)))
        if settings.minutes != "auto":
            choices["epochs"] *= 2  # time is the limit then, and more of it is worth using
    else:
        told = decide(settings, choices)
        choices["epochs"] = round(min(1000, max(4, work / (_cost(told) * facts.count))))
        if settings.minutes != "auto":
            choices["epochs"] = math.ceil(1.3 * choices["epochs"])  # so that the clock decides, not our guess of the speed
    return choices, _reasons(decide(settings, choices), settings, facts, small, drawn)


def _work(settings: Settings, facts: Facts) -> float:
    """How much computing a training may take, in pictures of `compact` at 96 pixels, forward and back.

    With a budget, what this machine does in that time. Else it grows more slowly than the pictures: fifty times as many get
    thirteen times the work, and are each shown a quarter as often.
    """
    if settings.minutes != "auto" and facts.speed:
        return 0.65 * facts.speed * settings.minutes * 60 / settings.trainings  # the rest goes into pictures and averages
    return 95_000 * (facts.count / 400) ** 0.65


def _cost(recipe: Recipe) -> float:
    """What one picture of this recipe costs in pictures of `compact` at 96 pixels: by multiply-adds, growth included."""
    adds, unit = (
        summarize(models.build_on_meta(name, 2, size), models.entry(name).channels, size).multiply_adds
        for name, size in ((recipe.model, recipe.size), ("compact", 96))
    )
    return adds / unit * mean_area(recipe)


def _reasons(recipe: Recipe, settings: Settings, facts: Facts, small: bool, drawn: bool) -> str:
    """One paragraph for the person who waits: what was chosen and why."""
    kind = "small grey drawings" if small and drawn else "drawings" if drawn else "small pictures" if small else "photos"
    ways = {"distorted": recipe.warp, "cut": recipe.crop_area < 1, "turned": recipe.rotate, "coloured": recipe.jitter}
    changes = [word for word, strength in ways.items() if strength]
    changed = " and ".join(filter(None, [", ".join(changes[:-1]), *changes[-1:]]))
    parts = [
        f"about {facts.count:,} training pictures ({kind}): {recipe.model} at {recipe.size} px",
        f", growing from {recipe.start_size} px, which saves time" if recipe.start_size < recipe.size else "",
        ", up to " if settings.minutes != "auto" else ", ",
        f"{counted(recipe.epochs, 'epoch')} in batches of {recipe.batch}",
        ", since few pictures must be shown often" if facts.count < 5000 and settings.epochs == "auto" else "",
        f"; each time {changed} a little differently" if changed else "",
        ", some blended into others" if recipe.mixup or recipe.cutmix else "",
        ", never mirrored" if recipe.flip == "off" else ", half of them mirrored (--flip off where left and right differ)",
        f", {recipe.turn:.0%} of them turned, which has to be noticed too" if recipe.turn else "",
        f"; small classes shown as often as large ones ({facts.imbalance:.0f} to 1)" if recipe.balance == "on" else "",
        f". {_OPTIMIZERS[recipe.optimizer]} with a learning rate up to {recipe.lr:g}",
        ", falling to zero" if recipe.schedule == "cosine" else "",
        f"; the {recipe.keep} epoch's weights are kept",
        ", averaged over the last steps" if recipe.ema else "",
        ".",
    ]
    return "".join(parts)


_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW", "muon": "Muon"}

# Networks with BatchNorm after every convolution bear Muon's long steps; AlexNets shorter ones, LeNet none.
_ALEXNETS = ("alexnet", "alexnet-2012", "alexnet-table", "alexnet-2014", "alexnet-textbook")
_BY_MUON = ("compact", "compact-wide", "compact-large", "lenet-now", "alexnet-now", *_ALEXNETS)
# What the experiments found best for single networks, where it differs (benchmarks/LOG.md). Kin that was not searched for gets
# the same at its own size.
_LENET = {"epochs": 300, "lr": 0.001, "mixup": 0.0}
_ALEXNET = {"epochs": 100, "lr": 0.0003}
_OF_NETWORK: dict[str, dict[str, Any]] = {
    **{name: {**_LENET, "epochs": 60} for name in models.names() if name.startswith("lenet-textbook")},
    "lenet": {**_LENET, "size": 64},
    "lenet-now": {"size": 112},
    **dict.fromkeys(_ALEXNETS, _ALEXNET),
    "alexnet": {**_ALEXNET, "size": 128},
}
# And where it differs for very many photos: AlexNet then learns from whole, upright ones, by longer steps, and LeNet, which is
# small, from ones that are changed less.
_ALEXNET_OF_MANY = {"lr": 0.001, "turn": 0.0, "mixup": 0.0, "erase": 0.0}
_LENET_OF_MANY = {"crop_area": 0.5, "erase": 0.0, "jitter": 0.1, "rotate": 0.0}
_OF_MANY: dict[str, dict[str, Any]] = {**dict.fromkeys(_ALEXNETS, _ALEXNET_OF_MANY), "lenet": _LENET_OF_MANY}
# Up to so many pictures these still need all of their epochs: at 2,000 photos `lenet` reaches 77 % in 90 and 81 % in 300. What
# AlexNet's number does there: 40 epochs, not 30.
_SLOW = {"lenet": 2000, "alexnet": 590}

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
