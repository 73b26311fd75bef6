"""All that makes the networks faster than the plain loop without changing what they compute, each with its reason.

    keep_freed_memory      freed memory stays with the process: no page faults            equal to the bit
    relu_after_pool        max(relu(x)) = relu(max(x)): a quarter of the ReLU             equal to the bit, gradients too
    collapse_linear        two linear layers without an activation between are one        equal but for rounding
    for_inference          the same with products computed once, BatchNorm among them     equal but for rounding
    watch_strides          fused optimizers walk raw memory: layouts must agree           computes nothing

Memory in channels-last order and fused optimizers belong to them; they stand where networks and optimizers are made. The
setting `fast` switches all but the order off for comparison. `benchmarks/speed.py` measures the whole, benchmarks/LOG.md tells
of each.

A layer that is rewritten keeps its name and its weights, only its class changes: files, checkpoints, optimizers and deep copies
do not notice. Networks are followed when a training begins or a model is loaded, which must not happen while another thread
computes: torch.fx puts itself in every module's way meanwhile.
"""

import copy
import ctypes
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# From glibc's malloc.h: blocks that may be mapped apart from the heap; free heap that is kept; heap that is added at once.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2
_KEEP_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep what is freed, for this whole process, until it ends; whether that was done.

    torch frees and allocates every large tensor anew in each step. glibc gives blocks of more than 32 MB back to the kernel at
    once and gets them again page by page, each page filled with zeros: on the notes' LeNet that is half of the training time.

    Costs about a tenth more memory at the peak, and the process holds its peak. Nothing is done on other C libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES), mallopt(_M_TOP_PAD, 64 * 1024**2)))


@contextmanager
def rewritten(network: nn.Module, on: bool = True) -> Iterator[None]:
    """`network` in its faster form, until the end of the `with`; it stays the same object."""
    layers = list(network.modules())
    before = [type(layer) for layer in layers]
    if on:
        relu_after_pool(network)
        collapse_linear(network)
    try:
        yield
    finally:
        for layer, kind in zip(layers, before, strict=True):
            _become(layer, kind)


def for_inference(network: nn.Module) -> nn.Module:
    """A faster network for prediction, in evaluation mode, which shares the weights of `network`.

    Two linear layers are folded into one: at batch 1 the notes' LeNet then reads 0.7 MB of weights in place of 184. BatchNorm
    goes into the weights of the convolution before it, so that its maps are not read and written again.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    faster = copy.deepcopy(network, shared).eval()
    relu_after_pool(faster)
    for first, second in _linear_pairs(faster):
        with torch.no_grad():
            folded = second.weight @ first.weight, _both_biases(first, second)
        _become(first, nn.Identity)
        _become(second, _Folded)
        # No weights of the network, and so no attributes of which torch would make some.
        object.__setattr__(second, "folded", folded)
        object.__setattr__(second, "before", (first.weight, first.bias))
    for layer, norm in _neighbours(faster):
        if type(layer) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
            continue
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:  # it reckons with each batch's own
            continue
        with torch.no_grad():
            fused = nn.utils.fuse_conv_bn_weights(
                layer.weight, layer.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )  # fmt: skip
        _become(layer, _ConvolutionAndNorm)
        _become(norm, nn.Identity)
        object.__setattr__(layer, "folded", fused)
    return faster


def own_input(layer: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """What `layer` would be given in the network as it is written, if it is `given` this in the one `for_inference`."""
    return nn.functional.linear(given, *layer.before) if isinstance(layer, _Folded) else given


def relu_after_pool(network: nn.Module) -> None:
    """Where a ReLU feeds a max-pool, let the pool come first: to the bit the same, on a quarter of the numbers.

    A pool takes the same number whether negative ones are already zero or not, unless all are negative; then the answer is zero
    and nothing flows back, either way.
    """
    for first, second in _neighbours(network):
        if type(first) is nn.ReLU and type(second) is nn.MaxPool2d and second.dilation == 1 and not second.return_indices:
            _become(first, nn.Identity)
            _become(second, _PoolAndReLU)


def collapse_linear(network: nn.Module) -> None:
    """Where a linear layer feeds another, multiply their weights first, in batches of more pictures than there are classes.

    For the notes' LeNet (89,888 to 512 to 2) and 32 pictures that is a sixteenth of the multiplications. Both layers get the
    gradients that they would have got.
    """
    for first, second in _linear_pairs(network):
        _become(first, _Handed)
        _become(second, _Collapsed)


def _become(layer: nn.Module, kind: type[nn.Module]) -> None:
    layer.__class__ = kind


class _PoolAndReLU(nn.MaxPool2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.relu_(super().forward(input))


class _Handed(nn.Linear):
    """The first of two linear layers: it hands its weights on, unused."""

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, "_Handed"]:  # type: ignore[override]
        return input, self


class _Collapsed(nn.Linear):
    """The second of two linear layers, which computes both."""

    def forward(self, handed: tuple[torch.Tensor, _Handed]) -> torch.Tensor:  # type: ignore[override]
        input, first = handed
        if len(input) <= self.out_features:
            return super().forward(nn.functional.linear(input, first.weight, first.bias))
        return nn.functional.linear(input, self.weight @ first.weight, _both_biases(first, self))


class _ConvolutionAndNorm(nn.Conv2d):
    """A convolution with the BatchNorm after it in its weights; for prediction, where both stand still."""

    folded: tuple[torch.Tensor, torch.Tensor | None]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(input, *self.folded)


class _Folded(nn.Linear):
    """The second of two linear layers, which computes both by their product; for prediction, where weights stand still."""

    folded: tuple[torch.Tensor, torch.Tensor | None]
    before: tuple[torch.Tensor, torch.Tensor | None]
    """Weights and biases of the first."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(input, *self.folded)


def _linear_pairs(network: nn.Module) -> list[tuple[nn.Linear, nn.Linear]]:
    """Linear layers that feed another and are fewer numbers as one, which a narrow one between two wide ones is not.

    Of three in a row the first two are a pair.
    """
    found: list[tuple[nn.Linear, nn.Linear]] = []
    for first, second in _neighbours(network):
        if type(first) is not nn.Linear or type(second) is not nn.Linear or (found and found[-1][1] is first):
            continue
        if second.out_features * first.in_features <= first.weight.numel() + second.weight.numel():
            found.append((first, second))
    return found


def _both_biases(first: nn.Linear, second: nn.Linear) -> torch.Tensor | None:
    return second.bias if first.bias is None else nn.functional.linear(first.bias, second.weight, second.bias)


def _neighbours(network: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of layers of which the first feeds the second and nothing else; each is called once.

    Found by following the forward pass without numbers (torch.fx). Of a network that cannot be followed so, none are known.
    """
    try:
        graph = torch.fx.Tracer().trace(network)
    except Exception:  # a network of one's own may do anything on its way
        return []
    layers = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(id(network.get_submodule(str(node.target))) for node in layers)
    found = []
    for node in layers:
        user = next(iter(node.users)) if len(node.users) == 1 else node
        if user.op != "call_module" or user is node or user.args != (node,) or user.kwargs:
            continue
        pair = network.get_submodule(str(node.target)), network.get_submodule(str(user.target))
        # A hook sees what comes in and out of its layer: that must stay as it is.
        if all(calls[id(layer)] == 1 and not _watched(layer) for layer in pair):
            found.append(pair)
    return found


def _watched(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def check_strides(optimizer: torch.optim.Optimizer) -> None:
    """Refuse gradients and optimizer state that lie in memory in another order than their parameter.

    torch's fused CPU optimizers walk the raw memory of all three side by side and check only their lengths: where the orders
    differ, every number would be updated by another's gradient, without a word.
    """
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        state = optimizer.state[parameter].items() if parameter in optimizer.state else ()
        for name, beside in [("gradient", parameter.grad), *state]:
            if isinstance(beside, torch.Tensor) and beside.shape == parameter.shape and _order(beside) != _order(parameter):
                raise RuntimeError(
                    f"{name} of a parameter of shape {tuple(parameter.shape)} has strides {beside.stride()}, the parameter "
                    f"{parameter.stride()}"
                )


def watch_strides(optimizer: torch.optim.Optimizer) -> None:
    """Check strides at the next two steps: gradients and loaded state at the first, state that it makes at the second."""
    steps = iter(range(2))
    optimizer.register_step_pre_hook(lambda optimizer, *_: check_strides(optimizer) if next(steps, None) is not None else None)


def _order(tensor: torch.Tensor) -> list[int]:
    """The strides that count: a side of 1 is never stepped along."""
    return [stride for stride, side in zip(tensor.stride(), tensor.shape, strict=True) if side > 1]
