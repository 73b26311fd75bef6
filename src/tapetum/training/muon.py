"""Muon: each convolution's step turned into the nearest matrix that stretches nothing.

A convolution's gradient, as a matrix of maps by inputs, is nearly of low rank: Adam and SGD follow its few strong directions
and learn the rare ones late. Muon gives all of them the same length. On few pictures this is worth more than all else that we
tried (benchmarks/LOG.md).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

# Jordan's quintic: five rounds bring singular values from 0.002 to 1 near 1 (0.7 to 1.2), which is as good as exactly 1 here.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_MOMENTUM = 0.95
# A convolution's rate is so many times that of the rest; scaled to AdamW's steps (Liu et al. 2025) they lose a point or two.
_FASTER = 30


class Muon(torch.optim.AdamW):
    """Muon for convolutions, AdamW for all else.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    torch.optim.Muon takes matrices only, and all parameters of a network or none.

    Args:
        groups: parameter groups as AdamW takes them; "orthogonal": True marks those of convolution weights (ndim 4), which
            get Muon's steps: Nesterov momentum 0.95, orthogonalised, and the group's decoupled weight decay. "centred": True
            keeps the weights of each map at mean zero.
        lr: learning rate of every group; convolutions take 30 times as much.

    Example:
        >>> layer = torch.nn.Conv2d(3, 8, 3, bias=False)
        >>> optimizer = Muon([{"params": [layer.weight], "orthogonal": True}], lr=0.1)
        >>> before = layer.weight.detach().clone()
        >>> layer(torch.ones(1, 3, 8, 8)).sum().backward()
        >>> _ = optimizer.step()
        >>> bool((layer.weight != before).any())
        True
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__([{"orthogonal": False, "centred": False, **group} for group in groups], lr=lr, fused=True)
        # A fused AdamW unscales gradients in its own kernel, which Muon's steps do not pass: GradScaler is to do it before.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; the gradients of convolutions are used up."""
        for group in self.param_groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    self._turn(parameter, group["lr"], group["weight_decay"])
                    if group["centred"]:
                        parameter.sub_(parameter.mean((1, 2, 3), keepdim=True))
                    parameter.grad = None  # AdamW's step leaves it alone then
        return super().step(closure)

    def _turn(self, parameter: torch.Tensor, lr: float, weight_decay: float) -> None:
        if parameter.grad is None:
            return
        if not self.state[parameter]:  # AdamW looks for a step in every state that it loads
            self.state[parameter].update(step=torch.zeros(()), momentum=torch.zeros_like(parameter))
        momentum = self.state[parameter]["momentum"]
        momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
        direction = orthogonal(parameter.grad.lerp(momentum, _MOMENTUM).flatten(1))
        rate = _FASTER * lr
        scale = math.sqrt(max(1.0, direction.shape[0] / direction.shape[1]))
        parameter.mul_(1 - rate * weight_decay).sub_(direction.view_as(parameter), alpha=rate * scale)


def orthogonal(matrix_MN: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with all singular values 1, by Newton-Schulz iteration (Bernstein & Newhouse 2024).

    All end between 0.6 and 1.3, those below a five-hundredth of the matrix's norm excepted.

    >>> bool((torch.linalg.svdvals(orthogonal(torch.randn(20, 50))) - 1).abs().max() < 0.4)
    True
    """
    a, b, c = _QUINTIC
    wide_MN = matrix_MN if matrix_MN.shape[0] <= matrix_MN.shape[1] else matrix_MN.T
    wide_MN = wide_MN / (wide_MN.norm() + 1e-7)
    # Each round multiplies by a polynomial of wide @ wide.T. They are collected in M x M, which is several times less work
    # than to carry the wide matrix along.
    gram_MM = wide_MN @ wide_MN.T
    turn_MM = torch.eye(len(wide_MN), device=wide_MN.device)
    for _ in range(_ROUNDS):
        round_MM = torch.addmm(b * gram_MM, gram_MM, gram_MM, alpha=c)
        round_MM.diagonal().add_(a)
        turn_MM = round_MM @ turn_MM
        gram_MM = round_MM @ gram_MM @ round_MM
    result_MN = turn_MM @ wide_MN
    return result_MN if matrix_MN.shape[0] <= matrix_MN.shape[1] else result_MN.T
