"""Our own small network, the default for photos: seven 3 x 3 convolutions with BatchNorm, then an average."""

import torch
from torch import nn

from tapetum.models.layers import kaiming
from tapetum.models.registry import register

# Maps of each convolution; "pool" halves the sides.
_LAYOUT = (16, "pool", 32, "pool", 64, 64, "pool", 128, 128, "pool", 128)
_DROPOUT = 0.2


@register(
    "compact",
    size=96,
    channels=3,
    title="our own small net: seven 3x3 convolutions with BatchNorm, average pooling",
    paper="after Simonyan & Zisserman 2015, Ioffe & Szegedy 2015, Lin et al. 2014",
)
class Compact(nn.Module):
    """3 x 3 convolutions (VGG), BatchNorm and ReLU after each, a global average (Network in Network), dropout, linear.

    Parameters at 2 classes: convolutions 432 + 4,608 + 18,432 + 36,864 + 73,728 + 147,456 + 147,456, BatchNorm 2 * 560, linear
    258, in all 430,354.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _LAYOUT:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
                continue
            # No bias: BatchNorm subtracts the mean and adds its own.
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(_DROPOUT)
        self.fc = nn.Linear(channels, num_classes)
        kaiming(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.average(self.features(images_BCHW))
        return self.fc(self.dropout(x.flatten(1)))
