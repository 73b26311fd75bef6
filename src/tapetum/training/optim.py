"""The optimizer, how its learning rate falls, and the average of the weights: plain functions of the progress."""

import copy
import math
from typing import Any

import torch

from tapetum.config import Recipe
from tapetum.training.muon import Muon

# Share of a training in which a cosine schedule first rises; early steps with a full rate upset a fresh network.
_WARM_UP = 0.05
# Krizhevsky et al. 2012 divided the rate by ten three times, each time that the validation error stopped falling. When, they do
# not say; fixed places keep the rate a function of the progress.
_DROPS = (0.5, 0.75, 0.9)
# Linear layers of up to so many inputs take the whole learning rate.
_FULL_RATE = 256
# When in a training pictures grow, to the middle size and to the full one.
_GROWTH = (0.5, 0.85)


def make_optimizer(network: torch.nn.Module, recipe: Recipe, fused: bool = True) -> torch.optim.Optimizer:
    """SGD with momentum 0.9, AdamW (Loshchilov & Hutter 2019), or Muon for convolutions with AdamW for the rest.

    Weight decay spares biases and BatchNorm's scales, except in the plain SGD of the study notes, which has none at all.
    `fused` changes the speed only (Muon is always fused). A group's "rate" is its share of the learning rate.
    """
    convolutions = [p for p in network.parameters() if p.ndim == 4]
    decayed = [p for p in network.parameters() if 1 < p.ndim != 4]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": convolutions, "weight_decay": recipe.weight_decay},
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    # One pass over parameter, gradient and state in place of three; half the step's memory traffic for wide linear layers.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=fused)
    if recipe.optimizer == "muon":
        groups[0]["orthogonal"] = True
        return Muon(groups if _has_batchnorm(network) else _calmed(groups), lr=recipe.lr)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)


def _has_batchnorm(network: torch.nn.Module) -> bool:
    return any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in network.modules())


def _calmed(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups for a network in which no BatchNorm mends what long steps do: else most of its ReLUs soon give zero.

    What a ReLU gives is never negative, so weights that sink together bring all maps of the next layer below zero; centred,
    they cannot. A linear layer of many inputs is moved by all of them at once, so its steps are the shorter, the more it has
    (Yang & Hu 2021, "Tensor programs IV: feature learning in infinite-width neural networks").
    """
    convolutions, linear, spared = groups
    # Pixels may be negative: what sees as many channels as the first convolution does (each column's first) stays as it is.
    pixels = {weight.shape[1] for weight in convolutions["params"][:1]}
    first = [weight for weight in convolutions["params"] if weight.shape[1] in pixels]
    others = [weight for weight in convolutions["params"] if weight.shape[1] not in pixels]
    layers = [{**linear, "params": [weight], "rate": min(1.0, _FULL_RATE / weight.shape[1])} for weight in linear["params"]]
    return [{**convolutions, "params": first}, {**convolutions, "params": others, "centred": True}, *layers, spared]


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate when a share `progress` (0 to 1) of the training is done."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "steps":
        return recipe.lr * 0.1 ** sum(progress >= drop for drop in _DROPS)
    if progress < _WARM_UP:
        # From a tenth, not from nothing: the first step is to count too.
        return recipe.lr * (0.1 + 0.9 * progress / _WARM_UP)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - _WARM_UP) / (1 - _WARM_UP))))


def picture_size(recipe: Recipe, progress: float) -> int:
    """Side of the training pictures when a share `progress` (0 to 1) of the training is done: `start_size`, between, `size`.

    Small pictures cost little and show shapes first; the network sees far more of them in the same time (progressive resizing,
    Howard 2018; Tan & Le 2021, EfficientNetV2, section 4).
    """
    between = -(-(recipe.start_size + recipe.size) // 32) * 16  # whole steps of 16 pixels, as pools like them
    return (recipe.start_size, min(between, recipe.size), recipe.size)[sum(progress >= share for share in _GROWTH)]


def mean_area(recipe: Recipe) -> float:
    """Area of the training pictures over all of a training, as a share of that of the full size: what growth saves."""
    return sum((picture_size(recipe, i / 100) / recipe.size) ** 2 for i in range(100)) / 100


def loss(
    outputs_BK: torch.Tensor,
    targets_BK: torch.Tensor,
    rubbish: float | None = None,
    whole: int | None = None,
) -> torch.Tensor:
    """Mean cross-entropy between the softmax of the outputs and the targets.

    `whole`: how many pictures the mean is over, where others have some of them; then it is these pictures' part of it.

    With `rubbish` = -j, and outputs that are minus the distances y of RBF units, it is the criterion of LeNet-5 (LeCun et al.
    1998, equation 9): y of the right class + log(exp(-j) + the sum of exp(-y) over all classes). That is cross-entropy with one
    more class, "none of these", which is never the target: distances beyond j are left alone.
    """
    if rubbish is not None:
        outputs_BK = torch.nn.functional.pad(outputs_BK, (0, 1), value=rubbish)
        targets_BK = torch.nn.functional.pad(targets_BK, (0, 1))
    losses_B = torch.nn.functional.cross_entropy(outputs_BK, targets_BK, reduction="none")
    return losses_B.sum() / (len(losses_B) if whole is None else whole)


class Average:
    """An exponential moving average of a network's weights and BatchNorm statistics (Polyak & Juditsky 1992).

    `network` is the averaged network. With decay 0 it is the trained network itself, and no second copy is kept.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network) if decay > 0 else network

    @torch.no_grad()
    def update(self, network: torch.nn.Module, step: int) -> None:
        """Take the weights after training step `step` (counted from 0) into the average."""
        if self.decay == 0:
            return
        # Young averages forget faster, so that the first weights do not linger.
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = list(self.network.state_dict().values()), list(network.state_dict().values())
        floats = [i for i, tensor in enumerate(averaged) if tensor.is_floating_point()]
        torch._foreach_lerp_([averaged[i] for i in floats], [current[i] for i in floats], 1 - decay)
        for i in set(range(len(averaged))) - set(floats):
            averaged[i].copy_(current[i])
