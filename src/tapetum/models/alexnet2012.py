"""AlexNet as it was published in 2012, in two columns, and the two one-column nets that are often taken for it.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012), section 3 and
figure 2. The net was trained on two GPUs with half of the maps on each. Convolutions 2, 4 and 5 see only the maps of their own
column; convolution 3 and the linear layers see both.

| layer | a column's output | what | parameters of both, 1,000 classes |
|---|---|---|---|
| 1 | 48 @ 55x55 | 11x11 convolution, stride 4; ReLU; norm; 3x3 max-pool, stride 2 | 2 * (3 * 121 + 1) * 48 = 34,944 |
| 2 | 128 @ 27x27 | 5x5 convolution; ReLU; norm; 3x3 max-pool, stride 2 | 2 * (48 * 25 + 1) * 128 = 307,456 |
| 3 | 192 @ 13x13 | 3x3 convolution of both columns' maps; ReLU | 2 * (256 * 9 + 1) * 192 = 885,120 |
| 4 | 192 @ 13x13 | 3x3 convolution; ReLU | 2 * (192 * 9 + 1) * 192 = 663,936 |
| 5 | 128 @ 13x13 | 3x3 convolution; ReLU; 3x3 max-pool, stride 2 | 2 * (192 * 9 + 1) * 128 = 442,624 |
| 6 | 2048 | linear, of both columns; ReLU; dropout | 2 * (9,216 + 1) * 2,048 = 37,752,832 |
| 7 | 2048 | linear, of both columns; ReLU; dropout | 2 * (4,096 + 1) * 2,048 = 16,781,312 |
| 8 | K | linear, of both columns | (4,096 + 1) * 1,000 = 4,097,000 |

In all 60,965,224; the paper says 60 million, the study notes 66 million. The paper gives the input 224 pixels, with which the
first layer's 55 does not come out: (224 - 11) / 4 + 1 = 54.25; with 227 it does.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tapetum.errors import UserError
from tapetum.models.layers import side_after
from tapetum.models.registry import register

# Pixels are 0 to 255 in the paper, less the mean of the training set (section 2). Its weights of deviation 0.01 count on it:
# with values near 1 the signal would be lost on the way.
_MEAN, _STD = (0.485, 0.456, 0.406), (1 / 255,) * 3

# The layers that change the size of the maps, in order.
_SPATIAL = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]


def normalization() -> nn.Module:
    """Local response normalisation over 5 neighbouring maps with the paper's k = 2, alpha = 1e-4, beta = 0.75 (section 3.3).

    torch divides alpha by the number of neighbours and the paper does not, hence the factor 5.
    """
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class Column(nn.Module):
    """Half of the net: what one of the two GPUs holds. Its parts are called by `AlexNet2012`, which passes maps across."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 48, kernel_size=11, stride=4)
        self.relu1 = nn.ReLU(inplace=True)
        self.norm1 = normalization()
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(48, 128, kernel_size=5, padding=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.norm2 = normalization()
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 192, kernel_size=3, padding=1)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv4 = nn.Conv2d(192, 192, kernel_size=3, padding=1)
        self.relu4 = nn.ReLU(inplace=True)
        self.conv5 = nn.Conv2d(192, 128, kernel_size=3, padding=1)
        self.relu5 = nn.ReLU(inplace=True)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        side = side_after([getattr(self, name) for name in _SPATIAL], _SPATIAL, size)
        self.fc6 = nn.Linear(256 * side * side, 2048)
        self.relu6 = nn.ReLU(inplace=True)
        self.dropout6 = nn.Dropout(0.5)
        self.fc7 = nn.Linear(4096, 2048)
        self.relu7 = nn.ReLU(inplace=True)
        self.dropout7 = nn.Dropout(0.5)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Layers 1 and 2, up to where the columns first meet: pictures to 128 maps."""
        x = self.pool1(self.norm1(self.relu1(self.conv1(images_BCHW))))
        return self.pool2(self.norm2(self.relu2(self.conv2(x))))

    def layers_3_5(self, maps_of_both: torch.Tensor) -> torch.Tensor:
        """The 256 maps of both columns to 128 maps of this one, as features (B, 128 * side * side)."""
        x = self.relu4(self.conv4(self.relu3(self.conv3(maps_of_both))))
        return self.pool5(self.relu5(self.conv5(x))).flatten(1)

    def layer_6(self, features_of_both: torch.Tensor) -> torch.Tensor:
        """2,048 units that see both columns."""
        return self.dropout6(self.relu6(self.fc6(features_of_both)))

    def layer_7(self, units_of_both: torch.Tensor) -> torch.Tensor:
        """2,048 units that see both columns."""
        return self.dropout7(self.relu7(self.fc7(units_of_both)))


class AlexNet2012(nn.Module):
    """Two columns, each on a device of its own if `place` was called; they meet at convolution 3 and the linear layers."""

    crossings = ("conv3", "fc6", "fc7")
    """The layers of a column that see both columns."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.columns = nn.ModuleList([Column(size), Column(size)])
        self.fc8 = nn.Linear(4096, num_classes)
        initialize(self)

    def place(self, devices: Sequence[str | torch.device]) -> "AlexNet2012":
        """Put each column on a device of its own (model parallel); the last layer goes with the first column.

            network.place(["cuda:0", "cuda:1"])

        The outputs are those of the net on one device; pictures may come from any device, outputs are on the first.

        Raises:
            UserError: not exactly two devices.
        """
        if len(devices) != 2:
            names = ", ".join(map(str, devices)) or "none"
            raise UserError(f"{len(devices)} device(s) for two columns ({names}): expected two, such as cuda:0 and cuda:1.")
        for column, device in zip(self.columns, devices, strict=True):
            column.to(device)
        self.fc8.to(devices[0])
        return self

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        maps = [column(images_BCHW.to(_device(column))) for column in self.columns]
        features = [column.layers_3_5(exchanged) for column, exchanged in self._exchange(maps)]
        units = [column.layer_6(exchanged) for column, exchanged in self._exchange(features)]
        units = [column.layer_7(exchanged) for column, exchanged in self._exchange(units)]
        return self.fc8(torch.cat([half.to(self.fc8.weight.device) for half in units], 1))

    def _exchange(self, halves: list[torch.Tensor]) -> list[tuple[Any, torch.Tensor]]:
        """Each column with the outputs of both, on its own device: the only traffic between the two."""
        return [(column, torch.cat([half.to(_device(column)) for half in halves], 1)) for column in self.columns]


def _device(column: nn.Module) -> torch.device:
    return next(column.parameters()).device


@register(
    "alexnet-2012",
    size=227,
    smallest=67,
    channels=3,
    title="AlexNet as published: two columns, local response normalisation, overlapping pools, dropout",
    paper="Krizhevsky, Sutskever & Hinton 2012, section 3",
    mean=_MEAN,
    std=_STD,
    resize=256,
)
def alexnet_2012(num_classes: int, size: int) -> nn.Module:
    """AlexNet of 2012, 3 x 227 x 227: 60,965,224 parameters at 1,000 classes (module docstring), 56,876,418 at 2.

    Normalisation stays inside a column, as each GPU normalised its own maps. Weights start normal with deviation 0.01, biases
    at 1 in convolutions 2, 4, 5 and the hidden linear layers, at 0 elsewhere (section 5). Departure: the mean that is
    subtracted is one of each channel, not of each pixel. Its training is `--recipe paper`.
    """
    return AlexNet2012(num_classes, size)


@register(
    "alexnet-table",
    size=227,
    smallest=67,
    channels=3,
    title="AlexNet by the notes' table 6-2: one column",
    paper="study notes, table 6-2, after Krizhevsky et al. 2012",
    mean=_MEAN,
    std=_STD,
    resize=256,
)
class AlexNetTable(nn.Module):
    """The notes' table 6-2: 3 x 227 x 227, 96 @ 55, 256 @ 27, 384 @ 13 twice, 256 @ 13, pooled to 6, then 4096, 4096, K units.

    Returns logits; the table's softmax is applied by the classifier. The table gives the picture 1 map, where the text below it
    says 227x227x3. Departures from the paper: one column, so convolutions 2, 4 and 5 see all maps; no normalisation; no dropout
    (the table has neither). Initialised as `alexnet-2012`.

    Parameters at 1,000 classes: 34,944 + 614,656 + 885,120 + 1,327,488 + 884,992 + 37,752,832 + 16,781,312 + 4,097,000 =
    62,378,344.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, kernel_size=11, stride=4)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(3, stride=2)
        self.conv2 = nn.Conv2d(96, 256, kernel_size=5, padding=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.MaxPool2d(3, stride=2)
        self.conv3 = nn.Conv2d(256, 384, kernel_size=3, padding=1)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv4 = nn.Conv2d(384, 384, kernel_size=3, padding=1)
        self.relu4 = nn.ReLU(inplace=True)
        self.conv5 = nn.Conv2d(384, 256, kernel_size=3, padding=1)
        self.relu5 = nn.ReLU(inplace=True)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        side = side_after([getattr(self, name) for name in _SPATIAL], _SPATIAL, size)
        self.fc6 = nn.Linear(256 * side * side, 4096)
        self.relu6 = nn.ReLU(inplace=True)
        self.fc7 = nn.Linear(4096, 4096)
        self.relu7 = nn.ReLU(inplace=True)
        self.fc8 = nn.Linear(4096, num_classes)
        initialize(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.pool1(self.relu1(self.conv1(images_BCHW)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu4(self.conv4(self.relu3(self.conv3(x))))
        x = self.pool5(self.relu5(self.conv5(x))).flatten(1)
        return self.fc8(self.relu7(self.fc7(self.relu6(self.fc6(x)))))


def initialize(network: nn.Module) -> None:
    """Weights normal with deviation 0.01; biases 1 in convolutions 2, 4, 5 and the hidden linear layers, else 0 (section 5)."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:  # see layers.kaiming
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, 1.0 if name.rpartition(".")[2] in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0)
