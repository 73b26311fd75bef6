"""Our own small networks, the default for photos: seven 3 x 3 convolutions with BatchNorm and max-pools, then an average."""

from torch import nn

from tapetum.models.layers import averaged, convolution
from tapetum.models.registry import register

# Maps of each convolution; "pool" halves the sides. Max-pools early, where averages would blur: on 400 photos they are worth
# seven points (benchmarks/LOG.md).
_LAYOUT = (16, "pool", 32, "pool", 64, 64, "pool", 128, 128, "pool", 128)


def _compact(num_classes: int, width: float) -> nn.Module:
    layers: list[nn.Module] = []
    maps_in = 3
    for maps in _LAYOUT:
        if isinstance(maps, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(convolution(maps_in, int(maps * width), 3))
        maps_in = int(maps * width)
    return averaged(layers, maps_in, num_classes)


@register(
    "compact",
    size=112,
    smallest=16,
    channels=3,
    title="our own small net: seven 3x3 convolutions with BatchNorm, max-pools, average at the end",
    paper="after Simonyan & Zisserman 2015, Ioffe & Szegedy 2015, Lin et al. 2014",
)
def compact(num_classes: int, size: int) -> nn.Module:
    """3 x 3 convolutions (VGG), BatchNorm and ReLU after each, a global average (Network in Network), dropout, linear.

    Parameters at 2 classes: convolutions 432 + 4,608 + 18,432 + 36,864 + 73,728 + 147,456 + 147,456, BatchNorm 2 * 560, linear
    258, in all 430,354.
    """
    return _compact(num_classes, 1)


@register(
    "compact-wide",
    size=112,
    smallest=16,
    channels=3,
    title="compact with half as many maps again, for more minutes",
    paper="after Simonyan & Zisserman 2015, Ioffe & Szegedy 2015, Lin et al. 2014",
)
def compact_wide(num_classes: int, size: int) -> nn.Module:
    """`compact` with 1.5 times the maps in every convolution: 24, 48, 96, 96, 192, 192, 192.

    Parameters at 2 classes: convolutions 648 + 10,368 + 41,472 + 82,944 + 165,888 + 331,776 + 331,776, BatchNorm 2 * 840,
    linear 386, in all 966,938.
    """
    return _compact(num_classes, 1.5)


@register(
    "compact-large",
    size=128,
    smallest=16,
    channels=3,
    title="compact with twice as many maps, for thousands of pictures",
    paper="after Simonyan & Zisserman 2015, Ioffe & Szegedy 2015, Lin et al. 2014",
)
def compact_large(num_classes: int, size: int) -> nn.Module:
    """`compact` with twice the maps in every convolution: 32, 64, 128, 128, 256, 256, 256.

    Parameters at 2 classes: convolutions 864 + 18,432 + 73,728 + 147,456 + 294,912 + 589,824 + 589,824, BatchNorm 2 * 1,120,
    linear 514, in all 1,717,794.
    """
    return _compact(num_classes, 2)
