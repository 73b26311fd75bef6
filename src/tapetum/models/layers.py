"""What several networks share: the arithmetic of sizes, and initialisation."""

from torch import nn


class Misfit(Exception):
    """A layer whose kernel is larger than its padded input; the message names it."""


def window(layer: nn.Module, axis: int = 1) -> tuple[int, int, int]:
    """(F, S, 2P): what a convolution's or pool's kernel covers, its stride, and the padding of both borders together.

    `axis` 0 asks for the height, 1 for the width.

    A dilated kernel covers the gaps between its weights too; "same" padding keeps the side.

    >>> window(nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2))
    (11, 4, 4)
    >>> window(nn.Conv2d(3, 8, kernel_size=3, dilation=4, padding="same"))
    (9, 1, 8)
    """
    kernel, stride, dilation = (_along(getattr(layer, part, 1), axis) for part in ("kernel_size", "stride", "dilation"))
    kernel = dilation * (kernel - 1) + 1
    padding = getattr(layer, "padding", 0)
    if isinstance(padding, str):
        return kernel, stride, kernel - 1 if padding == "same" else 0
    return kernel, stride, 2 * _along(padding, axis)


def side_after(layers: list[nn.Module], names: list[str], side: int) -> int:
    """The side of the feature map that comes out of convolutions and pools: (W - F + 2P) / S + 1 each, rounded down.

    Args:
        layers: Conv2d and MaxPool2d layers with square kernels, in order.
        names: what to call each in an error.
        side: the side of the input, in pixels.

    Raises:
        Misfit: a layer is larger than its input.
    """
    for layer, name in zip(layers, names, strict=True):
        kernel, stride, paddings = window(layer)
        if side + paddings < kernel:
            raise Misfit(f"{name} (kernel {kernel}x{kernel}) does not fit its {side}x{side} input")
        side = (side - kernel + paddings) // stride + 1
    return side


def convolution(maps_in: int, maps: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the side (or divides it by `stride`), BatchNorm and ReLU.

    There is no bias: BatchNorm subtracts the mean and adds its own.
    """
    return nn.Sequential(
        nn.Conv2d(maps_in, maps, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(maps),
        nn.ReLU(inplace=True),
    )


def averaged(layers: list[nn.Module], maps: int, num_classes: int) -> nn.Sequential:
    """Layers that end in `maps` maps, then the average over each map (Lin et al. 2014), dropout, and one linear layer.

    Initialised by `kaiming`.
    """
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(maps, num_classes))
    kaiming(network)
    return network


def kaiming(network: nn.Module) -> None:
    """Initialise a ReLU network so that neither signals nor gradients shrink from layer to layer (He et al. 2015, eq. 10).

    Weights are normal with variance 2 / fan-in, biases zero. The last linear layer starts small (deviation 0.01, as in
    Krizhevsky et al. 2012, section 5), so that a fresh network prefers no class much: its first loss is near the logarithm of
    the number of classes. AlexNet's overlapping max-pools enlarge the signal, which lifts its first loss above that.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if layers[0].weight.is_meta:
        return  # there is nothing to fill, and torch would load its compiler for it
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=0.01)


def _along(value: int | tuple[int, ...], axis: int) -> int:
    return value[axis] if isinstance(value, tuple) else value
