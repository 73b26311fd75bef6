"""What every training begins with: the facts that its recipe is chosen by, a fresh network, and the precision to compute in."""

from collections.abc import Callable

import torch

from tapetum import device, models, processes
from tapetum.config import Recipe, Settings
from tapetum.data.reading import glance
from tapetum.data.samples import Samples
from tapetum.errors import UserError
from tapetum.talk import say_nothing
from tapetum.training import estimate, turning
from tapetum.training.portions import least
from tapetum.training.recipes import Facts


def facts(samples: Samples, count: int, settings: Settings, where: torch.device | None) -> Facts:
    """What a recipe for `count` training pictures like these is chosen by: their size and colour, from a glance at some.

    `where`: the device whose speed is measured too; None: it does not matter.
    """
    side, grey, drawn = glance(samples)
    counts = [number for number in samples.counts().values() if number]
    speed = None
    if where is not None:
        speed = processes.count() * estimate.pictures_per_second(where, mixed(settings, where))
    return Facts(count, len(samples.classes), side, grey, max(counts) / min(counts), speed, drawn)


def network(
    settings: Settings, recipe: Recipe, num_classes: int, devices: list[torch.device], say: Callable[[str], None] = say_nothing
) -> torch.nn.Module:
    """An untrained network on its device, a function of the seed; with given weights, if they are asked for.

    Raises:
        UserError: the network does not train with this recipe, or takes no such weights or devices.
    """
    torch.manual_seed(settings.seed)
    fresh = models.build(recipe.model, num_classes, recipe.size)
    if recipe.micro_batch < (fewest := least(fresh)):
        asked = "batch" if recipe.batch < fewest else "micro_batch"
        raise UserError(f"{asked} 1 with {recipe.model}: its BatchNorm compares the pictures of a batch. Expected 2 or more.")
    if settings.weights:
        say(models.take_weights(fresh, recipe.model, settings.weights))
    if recipe.turn > 0:
        turning.widen(fresh, recipe.model)
    return models.place(fresh.to(memory_format=torch.channels_last), recipe.model, devices)


def mixed(settings: Settings, where: torch.device) -> bool:
    """Whether to compute in half precision; the notes' and the papers' trainings do so only if it is asked for."""
    faithful = settings.recipe != "auto" and settings.precision == "auto"
    return device.mixed_precision(where, "float32" if faithful else settings.precision)
