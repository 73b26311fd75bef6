"""What the processes of one training do together in each step, so that their number changes nothing but rounding.

Each has its part of every batch. The loss is divided by the pictures of the whole batch, so gradients only have to be added up;
BatchNorm takes mean and variance over the whole batch; dropout draws for the whole batch and each process keeps its pictures'
part. All then take the same optimizer step on the same numbers: nobody sends weights.

Gradients are laid side by side into one piece of memory as backward makes them, and that is added up in one go (`exchange`).
Sending parts of it while backward still runs (DistributedDataParallel) would spare time only where somebody else than the
computing cores moves the bytes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from tapetum import processes
from tapetum.training.exchange import Exchange
from tapetum.training.portions import least


class Team:
    """The training step's side of `processes` and `portions`. With one process that computes all at once it does nothing."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.fewest = least(network)
        """The fewest pictures that can be computed together."""
        self._part, self._whole = slice(0, 0), 0
        self._views: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._laid: set[nn.Parameter] = set()
        if processes.count() == 1:
            return
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._exchange = Exchange(sum(p.numel() for p in trained), trained[0])
        begin = 0
        for parameter in trained:
            # In the parameter's own order in memory, as fused optimizers want it.
            view = self._exchange.flat.as_strided(parameter.shape, parameter.stride(), begin)
            self._views.append((parameter, view))
            begin += parameter.numel()

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Layers that look beyond a single picture work on the whole batch, and gradients are laid where they are added up.

        Until the end of the `with`.
        """
        hooks = [each.register_post_accumulate_grad_hook(partial(self._lay, view)) for each, view in self._views]
        before = [(layer, type(layer)) for layer in self._network.modules()]
        for layer, kind in before:
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and processes.count() > 1:
                layer.__class__ = _WholeBatchNorm
            elif kind is nn.Dropout:
                layer.__class__ = _WholeDropout
                object.__setattr__(layer, "team", self)  # no part of the network
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer, kind in before:
                layer.__class__ = kind
                layer.__dict__.pop("team", None)

    def begin(self, part: slice, whole: int) -> None:
        """What is computed next: the pictures `part` of a batch of `whole`, whose gradients are added to those before."""
        self._part, self._whole = part, whole

    def _lay(self, view: torch.Tensor, parameter: nn.Parameter) -> None:
        """Copy a gradient to its place as soon as it is there: to let backward add to zeros there moves more bytes."""
        assert parameter.grad is not None
        if parameter in self._laid:
            view.add_(parameter.grad)
        else:
            view.copy_(parameter.grad)
        parameter.grad = None
        self._laid.add(parameter)

    def add_gradients(self) -> None:
        """Give every parameter the gradient of the whole batch."""
        if not self._views:
            return
        for parameter, view in self._views:
            if parameter not in self._laid:  # this process has no picture, or no use for it
                view.zero_()
            parameter.grad = view
        self._laid.clear()
        self._exchange.add_up()

    def has_all(self, input: torch.Tensor) -> bool:
        """Whether these are the maps of the whole batch."""
        return len(input) == self._whole

    def drop(self, input: torch.Tensor, share: float) -> torch.Tensor:
        """Dropout of these pictures, with the numbers that would be drawn for all of them at once."""
        whole = input.new_empty((self._whole, *input.shape[1:]))
        if input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last):
            whole = whole.contiguous(memory_format=torch.channels_last)
        return input * whole.bernoulli_(1 - share).div_(1 - share)[self._part]


def seconds_to_add_gradients(network: nn.Module) -> float:
    """What each step waits for the gradients of the others, measured once; 0 with one process."""
    if processes.count() == 1:
        return 0.0
    team = Team(network)
    team.add_gradients()  # the first time connects, and touches the memory
    begun = time.perf_counter()
    team.add_gradients()
    team._exchange.flat[0].item()  # a GPU answers when it is done
    return time.perf_counter() - begun


class _WholeDropout(nn.Dropout):
    team: Team

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        partly = self.training and 0 < self.p < 1 and not self.team.has_all(input)
        return self.team.drop(input, self.p) if partly else super().forward(input)


class _WholeBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the pictures of all processes; torch's own SyncBatchNorm is for GPUs only."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        output, mean, variance, number = _Normalised.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean), share)
            self.running_var.lerp_((variance * (number / (number - 1))).to(self.running_var), share)
        return output


class _Normalised(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias with the mean and deviation of all processes' x; they come back too.

    The passes over the maps are torch's own kernels; what lies between is a few numbers a map.
    """

    @staticmethod
    def forward(ctx, input, weight, bias, eps):
        mean, variance, number = _statistics(input, eps)
        output = nn.functional.batch_norm(input, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(input, weight, mean, variance)
        ctx.number, ctx.eps = number, eps
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance, number

    @staticmethod
    def backward(ctx, gradient, *_):
        input, weight, mean, variance = ctx.saved_tensors
        deviation = (variance + ctx.eps).sqrt()
        weight = torch.ones_like(mean) if weight is None else weight
        if input.numel():
            # As if the statistics were constants; the sums over the maps are in it already.
            plain, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, input, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        else:
            plain, to_weight, to_bias = torch.zeros_like(input), torch.zeros_like(mean), torch.zeros_like(mean)
        sums = torch.stack([to_weight, to_bias])
        processes.add_up(sums)
        # That they are none takes the mean of the gradient from it, and its part along the normalised x.
        along, level = weight / deviation * sums / ctx.number
        slope = along / deviation
        shape = (1, -1, *[1] * (input.ndim - 2))
        offset = (level - slope * mean).view(shape)
        exact = plain.float().sub_(offset).addcmul_(input.float(), slope.view(shape), value=-1)
        return exact.to(gradient.dtype), to_weight, to_bias, None


def _statistics(input: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mean and variance of each map over all processes, and over how many numbers (Chan, Golub & LeVeque 1979)."""
    maps, number = input.shape[1], input.numel() // input.shape[1]
    if number:
        # With weights of float32 its statistics are of float32 too, whatever the maps are.
        one, zero = torch.ones(maps, device=input.device), torch.zeros(maps, device=input.device)
        _, mean, inverse = torch.native_batch_norm(input, one, zero, None, None, True, 0.0, eps)
        spread = (inverse.double() ** -2 - eps).clamp_min(0) * number
    else:
        mean = spread = torch.zeros(maps, device=input.device)
    mine = torch.stack([torch.full((maps,), float(number), device=input.device).double(), mean.double(), spread.double()])
    numbers_PC, means_PC, spreads_PC = processes.of_each(mine).unbind(1)
    whole = numbers_PC.sum(0)
    mean = (numbers_PC * means_PC).sum(0) / whole
    spread = (spreads_PC + numbers_PC * (means_PC - mean) ** 2).sum(0)
    return mean.float(), (spread / whole).float(), whole[0].item()
