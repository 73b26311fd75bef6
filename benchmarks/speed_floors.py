"""How fast this machine could be: F1 by its arithmetic and memory, F2 by the best kernels that PyTorch has for each layer.

F1: for every convolution and linear layer, forward, gradient of the input and gradient of the weights, the larger of
operations / P and compulsory bytes / BW. P is the best of MKL's, OpenBLAS's and oneDNN's products, BW STREAM's triad.
F2: the same calls, each alone and warm, best of both memory layouts, on operands that were not used last. Neither counts
pools, activations or the update; of the update the floor is stated apart (20 bytes a parameter). Direct convolution is
assumed, and linear layers as they stand: two without an activation between are one, and that can be faster than either floor.
"""

import time
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

import plain_loop

# Operands of one call come round again after so many bytes, more than caches hold.
_BEYOND_CACHE = 128 * 1024**2


def measure(net: str, size: int, batch: int, repeats: int) -> dict[str, Any]:
    """The floors of a training step of the notes' network, in seconds, and what they rest on."""
    from tapetum.faster import keep_freed_memory

    keep_freed_memory()
    network = plain_loop.LeNet() if net == "lenet" else plain_loop.AlexNet()
    operations, bandwidth = peak_operations(repeats), triad(repeats)
    f1 = f2 = 0.0
    kernels = {}
    for place, (name, layer, inputs, outputs) in enumerate(shapes(network, size, batch)):
        passes = ("forward", "weights", "input") if place else ("forward", "weights")  # nobody asks for the pictures' gradient
        parts = [prod(inputs), prod(outputs), layer.weight.numel()]
        work = 2 * prod(outputs) * prod(layer.weight.shape[1:])
        f1 += len(passes) * max(work / operations, 4 * sum(parts) / bandwidth)
        for kind in passes:
            kernels[f"{name} {kind}"] = min(fastest(layer, kind, inputs, layout, repeats) for layout in layouts(layer))
            f2 += kernels[f"{name} {kind}"]
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "f1": f1,
        "f2": f2,
        "update": 20 * parameters / bandwidth,
        "gflops": operations / 1e9,
        "gigabytes_a_second": bandwidth / 1e9,
        "kernels": kernels,
    }


def shapes(network: nn.Module, size: int, batch: int) -> list[tuple[str, nn.Module, torch.Size, torch.Size]]:
    """Name, layer, shapes of input and output of the layers with weights, in the order in which they are called."""
    found: list[tuple[str, nn.Module, torch.Size, torch.Size]] = []

    def note(name: str, layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        found.append((name, layer, torch.Size([batch, *inputs.shape[1:]]), torch.Size([batch, *outputs.shape[1:]])))

    hooks = [
        layer.register_forward_hook(lambda layer, inputs, outputs, name=name: note(name, layer, inputs[0], outputs))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:  # each layer is called alone next
        hook.remove()
    return found


def layouts(layer: nn.Module) -> list[torch.memory_format]:
    return [torch.contiguous_format, torch.channels_last] if isinstance(layer, nn.Conv2d) else [torch.contiguous_format]


@torch.no_grad()
def fastest(layer: nn.Module, kind: str, inputs: Any, layout: torch.memory_format, repeats: int) -> float:
    """Least seconds of one call."""
    weight, bias = layer.weight.contiguous(memory_format=layout), layer.bias
    x = torch.rand(inputs).contiguous(memory_format=layout)
    y = torch.rand_like(layer(x)).contiguous(memory_format=layout)
    count = min(20, 1 + _BEYOND_CACHE // (4 * (x.numel() + y.numel())))
    xs, ys = ([tensor.clone() for _ in range(count)] for tensor in (x, y))
    if isinstance(layer, nn.Conv2d):
        where = (layer.stride, layer.padding, layer.dilation)

        def call(x: torch.Tensor, y: torch.Tensor) -> None:
            if kind == "forward":
                torch.conv2d(x, weight, bias, *where)
            else:
                mask = [kind == "input", kind == "weights", kind == "weights"]
                torch.ops.aten.convolution_backward(y, x, weight, [len(bias)], *where, False, [0, 0], 1, mask)
    else:
        out = {"forward": ys[0], "input": xs[0], "weights": torch.empty_like(weight)}[kind].clone()

        def call(x: torch.Tensor, y: torch.Tensor) -> None:
            if kind == "forward":
                torch.addmm(bias, x, weight.T, out=out)
            else:
                torch.mm(*((y, weight) if kind == "input" else (y.T, x)), out=out)

    return least([lambda x=x, y=y: call(x, y) for x, y in zip(xs, ys, strict=True)], repeats)


def peak_operations(repeats: int, side: int = 1536) -> float:
    """Floating-point operations a second in the best product of matrices, or convolution, that is here."""
    a, b, c = (torch.rand(side, side) for _ in range(3))
    x = torch.rand(4, 256, 56, 56).contiguous(memory_format=torch.channels_last)
    w = torch.rand(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    an, bn = a.numpy(), b.numpy()
    with torch.no_grad():
        products = min(least([lambda: torch.mm(a, b, out=c)], repeats), least([lambda: np.matmul(an, bn)], repeats))
        convolution = least([lambda: torch.conv2d(x, w, padding=1)], repeats)
    return max(2 * side**3 / products, 2 * x.numel() * 256 * 9 / convolution)


def triad(repeats: int, count: int = 32 * 1024**2) -> float:
    """Bytes a second of a = b + s c on arrays beyond every cache, counted as STREAM does."""
    a, b, c = (torch.ones(count) for _ in range(3))
    return 12 * count / least([lambda: torch.add(b, c, alpha=2, out=a)], repeats)


def least(calls: list[Callable[[], object]], repeats: int) -> float:
    """Least seconds of one of the calls, each made `repeats` times, in turn, after one round to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        for call in calls:
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
    return min(seconds[len(calls) :])
