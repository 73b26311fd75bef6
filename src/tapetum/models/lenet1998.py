"""LeNet-5 exactly as it was published in 1998.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86
(1998), section II.B and figure 2. Everybody else's LeNet-5 connects every map of C3 to every map of S2, pools without weights
and ends in a softmax. This one has the connection table, trainable subsampling, the scaled tanh and the RBF output.

| layer | output | what | trainable parameters |
|---|---|---|---|
| C1 | 6 @ 28x28 | 5x5 convolution | 6 * (25 + 1) = 156 |
| S2 | 6 @ 14x14 | sum of 2x2, times a coefficient, plus a bias | 6 * 2 = 12 |
| C3 | 16 @ 10x10 | 5x5 convolution of 3, 4 or 6 maps (table I) | 60 * 25 + 16 = 1,516 |
| S4 | 16 @ 5x5 | as S2 | 16 * 2 = 32 |
| C5 | 120 @ 1x1 | 5x5 convolution | 120 * (16 * 25 + 1) = 48,120 |
| F6 | 84 | fully connected | 84 * (120 + 1) = 10,164 |
| output | K | squared distance of F6 to the code of each class | none: the codes are fixed |

In all 60,000. Each layer but the last ends in the squashing function 1.7159 tanh(2a / 3) (appendix A).
"""

import torch
from torch import nn

from tapetum.errors import UserError
from tapetum.models.layers import side_after
from tapetum.models.registry import register

# Table I: which maps of S2 each of the 16 maps of C3 sees.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Section II.B: white paper is -0.1 and black ink 1.175 to the network, which makes the mean input about 0 and its variance
# about 1. Pictures of digits are white on black here, so ink is the value 1: (x - _MEAN) / _STD.
_MEAN, _STD = (0.1 / 1.275,), (1 / 1.275,)

# The constant j of equation 9 is not given in the paper; measured on validation digits (benchmarks/LOG.md).
_RUBBISH_DISTANCE = 10.0

# The codes of the digits: stylised characters of 7 x 12 pixels, drawn after figure 3, where similar characters have similar
# codes. The paper shows them only as a small picture, so single pixels may differ from its own.
_DIGITS = (
    "..###.. .##.##. ##...## ##...## ##...## ##...## ##...## ##...## ##...## .##.##. ..###.. .......",
    "...##.. ..###.. .####.. ...##.. ...##.. ...##.. ...##.. ...##.. ...##.. ...##.. .###### .......",
    ".#####. ##...## ##...## .....## ....##. ...##.. ..##... .##.... ##..... ##..... ####### .......",
    ".#####. ##...## .....## .....## ....##. ..####. ....##. .....## .....## ##...## .#####. .......",
    ".##..## .##..## .##..## ##...## ##...## ##..### .###### .....## .....## .....## .....## .......",
    "####### ##..... ##..... ##..... ######. .....## .....## .....## .....## ##...## .#####. .......",
    "..####. .##.... ##..... ##..... ######. ##...## ##...## ##...## ##...## ##...## .#####. .......",
    "####### .....## .....## ....##. ....##. ...##.. ...##.. ..##... ..##... ..##... ..##... .......",
    ".#####. ##...## ##...## ##...## .##.##. ..###.. .##.##. ##...## ##...## ##...## .#####. .......",
    ".#####. ##...## ##...## ##...## ##...## .###### .....## .....## .....## ....##. .####.. .......",
)
_CODE_LENGTH = 84


class ScaledTanh(nn.Module):
    """The squashing function A tanh(S a) with A = 1.7159 and S = 2/3, so that f(1) = 1 and f(-1) = -1 (appendix A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape, squashed into +-1.7159."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class ConnectedConv2d(nn.Module):
    """A convolution in which each output map sees only the input maps that a table names; other weights do not exist.

    Args:
        table: for each output map, the numbers of the input maps that it sees.
        in_channels: number of input maps.
        kernel_size: side of the kernels.
    """

    stride, padding = 1, 0

    def __init__(self, table: tuple[tuple[int, ...], ...], in_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.table, self.in_channels, self.kernel_size = table, in_channels, kernel_size
        self._outs = [out for out, maps in enumerate(table) for _ in maps]
        self._ins = [seen for maps in table for seen in maps]
        self.weight = nn.Parameter(torch.empty(len(self._ins), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, len(table), H - kernel + 1, W - kernel + 1) of maps (B, in_channels, H, W)."""
        dense = self.weight.new_zeros(len(self.table), self.in_channels, self.kernel_size, self.kernel_size)
        places = (torch.tensor(self._outs, device=dense.device), torch.tensor(self._ins, device=dense.device))
        return nn.functional.conv2d(x, dense.index_put(places, self.weight), self.bias)


class Subsampling(nn.Module):
    """The sum of each 2 x 2 field, times one trainable coefficient a map, plus one trainable bias a map (layers S2 and S4)."""

    kernel_size, stride, padding = 2, 2, 0

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(maps, 1, 1))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of half the side."""
        return nn.functional.avg_pool2d(x, 2) * (4 * self.weight) + self.bias[:, None, None]


class RBF(nn.Module):
    """Euclidean radial basis function units: minus the squared distance between the input and the code of each class.

    The paper's unit (equation 7) gives the distance itself, and the smallest wins. With the minus the largest wins, as in every
    other network here, and the softmax of the outputs is the probability that equation 9 stands for.
    """

    weight: torch.Tensor

    def __init__(self, codes_KF: torch.Tensor) -> None:
        super().__init__()
        # A buffer, no parameter: the codes are not learnt.
        self.register_buffer("weight", codes_KF)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K), at most 0, of features (B, F)."""
        return -(x[:, None] - self.weight).square().sum(2)


class LeNet5(nn.Module):
    """The layers C1 to F6, and an output layer on top of their 84 features."""

    def __init__(self, output: nn.Module, size: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.squash1 = ScaledTanh()
        self.s2 = Subsampling(6)
        self.squash2 = ScaledTanh()
        self.c3 = ConnectedConv2d(C3_TABLE, 6, kernel_size=5)
        self.squash3 = ScaledTanh()
        self.s4 = Subsampling(16)
        self.squash4 = ScaledTanh()
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.squash5 = ScaledTanh()
        # At 32 pixels C5 gives 1 x 1; the paper calls it a convolution because a larger input gives larger maps.
        side = side_after([self.c1, self.s2, self.c3, self.s4, self.c5], ["c1", "s2", "c3", "s4", "c5"], size)
        self.f6 = nn.Linear(120 * side * side, _CODE_LENGTH)
        self.squash6 = ScaledTanh()
        self.output = output
        initialize(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K); the largest names the class."""
        x = self.squash2(self.s2(self.squash1(self.c1(images_BCHW))))
        x = self.squash4(self.s4(self.squash3(self.c3(x))))
        x = self.squash5(self.c5(x)).flatten(1)
        return self.output(self.squash6(self.f6(x)))


@register(
    "lenet5-1998",
    size=32,
    smallest=32,
    channels=1,
    title="LeNet-5 as published: connection table, trainable subsampling, scaled tanh, RBF output",
    paper="LeCun, Bottou, Bengio & Haffner 1998, section II.B",
    mean=_MEAN,
    std=_STD,
    rubbish=-_RUBBISH_DISTANCE,
)
def lenet5_1998(num_classes: int, size: int) -> nn.Module:
    """LeNet-5 of 1998, 1 x 32 x 32 (module docstring): 60,000 trainable parameters at any number of classes.

    It is trained with the paper's equation 9 (see `tapetum.training.optim.loss`): the distance to the right code shall be
    small, and those to the other codes larger than it, as long as they are not larger than j anyway. Weights start uniform
    within +-2.4 / fan-in (section III.B's appendix A). Ten classes get the paper's codes, stylised digits, in the order of
    their names; other numbers of classes, for which the paper has none, get rows of a Hadamard matrix of order 84 and their
    negatives, the most different codes of this length that there are.

    Departures: the codes are drawn after figure 3 by eye; the paper's optimizer (stochastic diagonal Levenberg-Marquardt, one
    picture a step) is replaced by a recipe's.

    Raises:
        UserError: more than 168 classes.
    """
    return LeNet5(RBF(class_codes(num_classes)), size)


@register(
    "lenet5-1998-softmax",
    size=32,
    smallest=32,
    channels=1,
    title="the body of LeNet-5 as published, with a linear layer and softmax on top",
    paper="LeCun, Bottou, Bengio & Haffner 1998, section II.B, but for the output",
    mean=_MEAN,
    std=_STD,
)
def lenet5_1998_softmax(num_classes: int, size: int) -> nn.Module:
    """C1 to F6 of `lenet5-1998` with the output layer that everybody uses since: 84 * K + K parameters more."""
    return LeNet5(nn.Linear(_CODE_LENGTH, num_classes), size)


def class_codes(num_classes: int) -> torch.Tensor:
    """The codes (K, 84) of +1 and -1 that the RBF units stand for: digits for ten classes, Hadamard codes for others.

    >>> class_codes(10).shape, class_codes(3).shape
    (torch.Size([10, 84]), torch.Size([3, 84]))

    Raises:
        UserError: more classes than there are codes.
    """
    if num_classes > 2 * _CODE_LENGTH:
        raise UserError(
            f"lenet5-1998 with {num_classes:,} classes: expected at most {2 * _CODE_LENGTH}, since there are only so many "
            f"well-separated codes of {_CODE_LENGTH} signs. Use lenet5-1998-softmax, which has no codes."
        )
    if num_classes == len(_DIGITS):
        rows = [[1.0 if sign == "#" else -1.0 for sign in digit.replace(" ", "")] for digit in _DIGITS]
        return torch.tensor(rows)
    hadamard = torch.tensor(_hadamard())
    return torch.cat([hadamard, -hadamard])[:num_classes].clone()


def _hadamard() -> list[list[float]]:
    """A Hadamard matrix of order 84 by Paley's first construction over the 83 residues: any two rows differ in 42 signs."""
    prime = _CODE_LENGTH - 1
    squares = {k * k % prime for k in range(1, prime)}

    def character(k: int) -> float:
        return 0.0 if k % prime == 0 else 1.0 if k % prime in squares else -1.0

    rows = [[1.0] * _CODE_LENGTH]
    for i in range(prime):
        rows.append([-1.0, *(character(j - i) + (1.0 if i == j else 0.0) for j in range(prime))])
    return rows


@torch.no_grad()
def initialize(network: LeNet5) -> None:
    """Weights and biases uniform within +-2.4 / F, F the fan-in of the unit that they lead to (appendix A)."""
    for layer in network.modules():
        if isinstance(layer, ConnectedConv2d):
            place = 0
            for out, maps in enumerate(layer.table):
                _draw(layer.weight[place : place + len(maps)], layer.bias[out], len(maps) * layer.kernel_size**2)
                place += len(maps)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            _draw(layer.weight, layer.bias, layer.weight[0].numel())
        elif isinstance(layer, Subsampling):
            _draw(layer.weight, layer.bias, 4)


def _draw(weight: torch.Tensor, bias: torch.Tensor | None, fan_in: int) -> None:
    weight.uniform_(-2.4 / fan_in, 2.4 / fan_in)
    if bias is not None:
        bias.uniform_(-2.4 / fan_in, 2.4 / fan_in)
