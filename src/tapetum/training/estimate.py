"""Time and memory that a training will take, measured and counted before it starts."""

import copy
import time

import torch

from tapetum import models
from tapetum.config import Recipe
from tapetum.models.summary import summarize
from tapetum.training.optim import loss, make_optimizer

# Python, torch and the libraries, before any picture.
_BASE_BYTES = 450 * 1024**2
# Pictures in the measured step: enough to keep the cores busy, few enough to cost little.
_PROBE = 8


def seconds_per_step(network: torch.nn.Module, recipe: Recipe, num_classes: int, device: torch.device) -> float:
    """Seconds that one training step takes here, measured on a copy of `network` with pictures of noise.

    A step of a few pictures is timed and scaled to the whole batch, so the answer is a good guess, not a promise; the
    progress bar corrects it as the training runs.
    """
    trial = copy.deepcopy(network).train()
    optimizer = make_optimizer(trial, recipe)
    count = min(_PROBE, recipe.batch)
    generator = torch.Generator().manual_seed(0)
    channels = models.entry(recipe.model).channels
    images_BCHW = torch.rand(count, channels, recipe.size, recipe.size, generator=generator).to(device)
    images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    targets_BK = torch.full((count, num_classes), 1 / num_classes, device=device)

    def once() -> tuple[float, float]:
        start = time.perf_counter()
        value = loss(trial(images_BCHW), targets_BK, torch.ones(count, device=device))
        value.backward()
        value.item()
        between = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        return between - start, time.perf_counter() - between

    once()
    computing, updating = once()
    return computing * recipe.batch / count + updating


def memory_bytes(network: torch.nn.Module, recipe: Recipe) -> int:
    """Peak memory of the training, counted: weights, gradients, optimizer, copies, and the activations of one batch."""
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    copies = 2 + (1 if recipe.optimizer == "sgd" else 2) + 1 + (1 if recipe.ema > 0 else 0)
    channels = models.entry(recipe.model).channels
    activations = summarize(network, channels, recipe.size).forward_backward_mb * 1024**2 * recipe.batch
    return int(_BASE_BYTES + copies * parameters + activations)
