"""Networks that were tried for photos and not kept, for `accuracy.py --networks` (benchmarks/LOG.md has what came of them)."""

import torch
from torch import nn

from tapetum.models import build, register
from tapetum.models.layers import averaged, convolution


class Residual(nn.Module):
    """Two convolutions around which the input goes by (He et al. 2016); averages halve the sides where the maps grow."""

    def __init__(self, maps_in: int, maps: int, halve: bool) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.first = convolution(maps_in, maps, 3)
        self.second = nn.Sequential(nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps))
        same = maps_in == maps
        self.by = nn.Identity() if same else nn.Sequential(nn.Conv2d(maps_in, maps, 1, bias=False), nn.BatchNorm2d(maps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(x)
        return torch.relu(self.by(x) + self.second(self.first(x)))


def ended(layers: list[nn.Module], maps: int, num_classes: int) -> nn.Module:
    network = averaged(layers, maps, num_classes)
    for layer in network.modules():
        if isinstance(layer, Residual):
            nn.init.zeros_(layer.second[1].weight)
    return network


TRIED = {"size": 128, "channels": 3, "title": "tried and not kept", "paper": "benchmarks/LOG.md"}


@register("tried-averages", **TRIED)
def averages(num_classes: int, size: int) -> nn.Module:
    """compact with average pools in place of max-pools."""
    network = build("compact", num_classes, size)
    return nn.Sequential(*(nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer for layer in network))


@register("tried-narrow", **TRIED)
def narrow(num_classes: int, size: int) -> nn.Module:
    """Seven convolutions with average pools and 158,000 parameters."""
    layers: list[nn.Module] = []
    for maps_in, maps in ((3, 16), (16, 32), (32, 48)):
        layers += [convolution(maps_in, maps, 3), nn.AvgPool2d(2)]
    layers += [convolution(48, 64, 3), convolution(64, 64, 3), nn.AvgPool2d(2), convolution(64, 64, 3), convolution(64, 64, 3)]
    return averaged(layers, 64, num_classes)


@register("tried-residual", **TRIED)
def residual(num_classes: int, size: int) -> nn.Module:
    """A first convolution of stride 2 and three residual blocks, 1.2 million parameters."""
    layers = [convolution(3, 32, 3, 2), Residual(32, 64, True), Residual(64, 128, True), Residual(128, 256, True)]
    return ended(layers, 256, num_classes)


@register("tried-residual-pools", **TRIED)
def residual_pools(num_classes: int, size: int) -> nn.Module:
    """compact's beginning and max-pools, residual blocks in its later stages, 763,000 parameters."""
    layers = [
        *(convolution(3, 16, 3), nn.MaxPool2d(2), convolution(16, 32, 3), nn.MaxPool2d(2)),
        *(convolution(32, 64, 3), Residual(64, 64, False), nn.MaxPool2d(2)),
        *(convolution(64, 128, 3), Residual(128, 128, False), nn.MaxPool2d(2), Residual(128, 128, False)),
    ]
    return ended(layers, 128, num_classes)
