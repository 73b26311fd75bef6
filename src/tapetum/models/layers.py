"""What several networks share: the arithmetic of sizes, and initialisation."""

from torch import nn


class Misfit(Exception):
    """A layer whose kernel is larger than its padded input; the message names it."""


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
        kernel, stride, padding = (_side(getattr(layer, part)) for part in ("kernel_size", "stride", "padding"))
        if side + 2 * padding < kernel:
            raise Misfit(f"{name} (kernel {kernel}x{kernel}) does not fit its {side}x{side} input")
        side = (side - kernel + 2 * padding) // stride + 1
    return side


def kaiming(network: nn.Module) -> None:
    """Initialise a ReLU network so that neither signals nor gradients shrink from layer to layer (He et al. 2015, eq. 10).

    Weights are normal with variance 2 / fan-in, biases zero; the last linear layer starts near zero, so that a fresh network
    says "any class", and its first loss is the logarithm of the number of classes.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=0.01)


def _side(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value
