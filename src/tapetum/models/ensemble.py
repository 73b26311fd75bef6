"""Several networks that answer as one."""

import math

import torch
from torch import nn


class Ensemble(nn.Module):
    """Networks of one kind whose probabilities are averaged (Lakshminarayanan et al. 2017, deep ensembles).

    The output is the logarithm of the mean probability, so that its softmax is that mean: whoever takes logits takes this.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, K)."""
        logs_MBK = torch.stack([torch.log_softmax(member(images_BCHW).float(), 1) for member in self.members])
        return torch.logsumexp(logs_MBK, 0) - math.log(len(self.members))
