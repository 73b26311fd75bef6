"""Time and memory that a training will take, measured and counted before it starts."""

import copy
import time

import torch

from tapetum import models
from tapetum.config import Recipe, Settings
from tapetum.faster import keep_freed_memory, rewritten
from tapetum.memory import as_memory_allows
from tapetum.models.summary import summarize
from tapetum.training import recipes
from tapetum.training.optim import loss, make_optimizer, mean_area
from tapetum.training.portions import HINT, least

# Python, torch and the libraries, before any picture.
_BASE_BYTES = 450 * 1024**2


def seconds_per_step(
    network: torch.nn.Module, recipe: Recipe, device: torch.device, mixed: bool = False, fast: bool = True, times: int = 3
) -> float:
    """Seconds that a training step takes here on average, measured on a copy of `network` with batches of noise.

    A few steps of the full size (`times`, or one if it takes more than a second) are a good guess, not a promise; the progress
    bar corrects it as the training runs. Smaller pictures at the beginning are reckoned by their area.
    """
    if fast:
        keep_freed_memory()  # as the training will
    trial = copy.deepcopy(network).train()
    optimizer = make_optimizer(trial, recipe, fast)
    channels = models.entry(recipe.model).channels
    generator = torch.Generator().manual_seed(0)

    def some(at_once: int) -> float:
        """Seconds for a batch in portions of so many pictures."""
        step(2)  # the first step also sets the optimizer up
        first = step(at_once)  # and the first of its size the kernels and the memory
        return min(step(at_once) for _ in range(1 if first > 1 else times)) * recipe.batch / at_once

    def step(count: int) -> float:
        images_BCHW = torch.rand(count, channels, recipe.size, recipe.size, generator=generator).to(device)
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        start = time.perf_counter()
        with torch.autocast(device.type, enabled=mixed):
            outputs_BK = trial(images_BCHW).float()
            even_BK = torch.full_like(outputs_BK, 1 / outputs_BK.shape[1])
            value = loss(outputs_BK, even_BK)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        value.item()
        return time.perf_counter() - start

    with rewritten(trial, fast):
        at_once = min(recipe.batch, recipe.micro_batch)
        full, _ = as_memory_allows(some, at_once, HINT, least(trial), optimizer.zero_grad)
    return full * mean_area(recipe)


def seconds_per_answer(per_step: float, recipe: Recipe) -> float:
    """Seconds to answer for one picture, from those of a training step: of this the forward pass is a third."""
    views = {"one": 1, "mirror": 2, "ten": 10}[recipe.views]
    return views * per_step / mean_area(recipe) / recipe.batch / 3


def pictures_per_second(device: torch.device, mixed: bool) -> float:
    """Training pictures a second of `compact` at 96 pixels, the unit in which recipes reckon work."""
    network = models.build("compact", 2, 96).to(device).to(memory_format=torch.channels_last)
    asked = Settings(model="compact", size=96, start_size=96, batch=32)
    recipe, _ = recipes.choose(asked, recipes.Facts(count=1000, num_classes=2, short_side=96, grey=False))
    return recipe.batch / seconds_per_step(network, recipe, device, mixed)


def memory_bytes(network: torch.nn.Module, recipe: Recipe) -> int:
    """Peak memory of the training, counted: weights, gradients, optimizer, copies, and the activations computed at once."""
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    copies = 2 + (1 if recipe.optimizer == "sgd" else 2) + 1 + (1 if recipe.ema > 0 else 0)
    channels = models.entry(recipe.model).channels
    activations = summarize(network, channels, recipe.size).forward_backward_mb * 1024**2
    return int(_BASE_BYTES + copies * parameters + activations * min(recipe.batch, recipe.micro_batch))
