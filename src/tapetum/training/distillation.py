"""One network that has learnt to answer as several do together, and costs no more than one.

Hinton et al. 2015, "Distilling the knowledge in a neural network". The teachers answer for the very pictures of each step, cut,
turned and mixed as the pupil sees them (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent"),
and their probabilities take the place of the labels, of which they say more: what a picture resembles besides.
"""

import torch
from torch import nn

from tapetum.training import turning


def as_teacher(network: nn.Module) -> nn.Module:
    """The network as it answers in training, for every turn, but without chance: no dropout, BatchNorm's averages."""
    network.requires_grad_(False).eval()
    turning.answer_turned(network)
    return network


@torch.no_grad()
def targets(teacher: nn.Module, images_BCHW: torch.Tensor) -> torch.Tensor:
    """The teacher's probabilities (B, K), of turned pictures (B, 4 K), float32; each row sums to 1."""
    return teacher(images_BCHW).float().softmax(1)
