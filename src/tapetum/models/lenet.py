"""LeNet-5 as the study notes teach it (their table 6-1, their code as written, the same mended), and as it can be today.

LeNet-5 is the network of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).
The notes keep its skeleton (convolution, pooling, convolution, pooling, linear layers) and change the rest: ReLU, max-pools
and a softmax in place of scaled tanh, trainable subsampling and an RBF output. Their figure 6-1 gives F6 64 units; the paper
and the notes' own table have 84.
"""

import torch
from torch import nn

from tapetum.models.layers import convolution, kaiming, side_after
from tapetum.models.registry import register


@register(
    "lenet-table",
    size=32,
    smallest=16,
    channels=1,
    title="LeNet-5 by the notes' table 6-1, on grey pictures",
    paper="study notes, table 6-1, after LeCun et al. 1998",
)
class LeNetTable(nn.Module):
    """The notes' table 6-1: 1 x 32 x 32, 6 maps of 28, pooled to 14, 16 maps of 10, pooled to 5, then 120, 84 and K units.

    Returns logits; the table's softmax is applied by the classifier. Departures from the paper: every C3 map sees all six S2
    maps (the paper's table I connects 60 of 96 pairs), max-pools without weights, ReLU, no RBF layer.

    Parameters at 2 classes: 156 + 2,416 + 48,120 + 10,164 + 170 = 61,026.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        side = side_after([self.conv1, self.pool1, self.conv2, self.pool2], ["conv1", "pool1", "conv2", "pool2"], size)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)
        kaiming(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.pool1(self.relu1(self.conv1(images_BCHW)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = x.flatten(1)
        x = self.relu3(self.fc1(x))
        x = self.relu4(self.fc2(x))
        return self.fc3(x)


@register(
    "lenet-textbook",
    size=224,
    smallest=16,
    channels=3,
    title="the notes' LeNet as written: softmax inside, nothing between its linear layers",
    paper="study notes, section 6.1.1",
)
class LeNetTextbook(nn.Module):
    """The notes' code, mistakes included: 3 x 224 x 224, 16 and 32 maps of 5 x 5 kernels, 512 units, K.

    It returns probabilities, not logits: a softmax stands inside. CrossEntropyLoss applies another, which holds the loss of two
    classes within [0.313, 1.313] and flattens its gradient; prediction applies another too, as the notes do, which squeezes
    the probability of two classes into [0.269, 0.731]. Between the two linear layers there is no activation (the code builds
    one and never calls it), so they are one linear layer. Initialisation is torch's default, as in the notes.

    Parameters at 2 classes and 224 pixels, as the notes print them: 1,216 + 12,832 + 46,023,168 + 1,026 = 46,038,242.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        side = side_after([self.conv1, self.pool1, self.conv2, self.pool2], ["conv1", "pool1", "conv2", "pool2"], size)
        self.fc1 = nn.Linear(32 * side * side, 512)
        self.fc2 = nn.Linear(512, num_classes)
        self.softmax = nn.Softmax(dim=1)

    def features(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """What the linear layers see: (B, 32 * side * side)."""
        x = self.pool1(self.relu1(self.conv1(images_BCHW)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return x.flatten(1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K)."""
        return self.softmax(self.fc2(self.fc1(self.features(images_BCHW))))


@register(
    "lenet-textbook-logits",
    size=224,
    smallest=16,
    channels=3,
    title="the notes' LeNet with one mistake mended: no softmax inside",
    paper="study notes, section 6.1.1",
)
class LeNetTextbookLogits(LeNetTextbook):
    """`lenet-textbook` without its softmax: logits, as CrossEntropyLoss takes them. All else is as written."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__(num_classes, size)
        del self.softmax

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        return self.fc2(self.fc1(self.features(images_BCHW)))


@register(
    "lenet-textbook-relu",
    size=224,
    smallest=16,
    channels=3,
    title="the notes' LeNet with one mistake mended: a ReLU between its linear layers",
    paper="study notes, section 6.1.1",
)
class LeNetTextbookReLU(LeNetTextbook):
    """`lenet-textbook` with the activation that its code builds and never calls. All else is as written."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__(num_classes, size)
        self.relu3 = nn.ReLU()

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K)."""
        return self.softmax(self.fc2(self.relu3(self.fc1(self.features(images_BCHW)))))


@register(
    "lenet",
    size=96,
    smallest=16,
    channels=3,
    title="the notes' LeNet mended: logits, ReLU, initialisation, dropout; any input size",
    paper="study notes, section 6.1.1; He et al. 2015; Srivastava et al. 2014",
)
class LeNet(nn.Module):
    """The notes' layers with their mistakes mended: logits, ReLU between the linear layers, Kaiming initialisation, dropout.

    The same learned layers as `lenet-textbook`, so the same 46,038,242 parameters at 224 pixels; at its own 96 pixels, where
    most of them go, 7,240,930: 1,216 + 12,832 + (32 * 21 * 21 * 512 + 512) + 1,026.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        side = side_after([self.conv1, self.pool1, self.conv2, self.pool2], ["conv1", "pool1", "conv2", "pool2"], size)
        self.dropout1 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32 * side * side, 512)
        self.relu3 = nn.ReLU()
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(512, num_classes)
        kaiming(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.pool1(self.relu1(self.conv1(images_BCHW)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.dropout1(x.flatten(1))
        x = self.relu3(self.fc1(x))
        return self.fc2(self.dropout2(x))


# Pictures from this side on get a stem before the two convolutions, which alone would see spots of 16 pixels only.
_STEM_FROM = 64


@register(
    "lenet-now",
    size=32,
    smallest=16,
    channels=3,
    title="LeNet-5's two convolutions with what has been learnt since: BatchNorm, ReLU, dropout, more maps; a stem for photos",
    paper="after LeCun et al. 1998; Ioffe & Szegedy 2015; Lin et al. 2014; Srivastava et al. 2014",
)
class LeNetNow(nn.Module):
    """Two 5 x 5 convolutions, each with a 2 x 2 pool, and linear layers, as in 1998; all else is younger.

    Up to 63 pixels: 32 and 64 maps for 6 and 16, 256 and 84 units for 120 and 84; BatchNorm, ReLU and max-pools; dropout before
    the linear layers; an average to 5 x 5, which changes nothing at 32 pixels. From 64 pixels on: a 5 x 5 convolution of stride
    2 and a pool come first, the maps are 64 and 160, and in place of the hidden linear layers stands an average over the whole
    maps: few photos cannot fill more.

    Parameters at 32 pixels and 10 classes: convolutions 2,400 + 51,200, BatchNorm 2 * (32 + 64 + 256 + 84), linear 409,600 +
    21,504 + 850, in all 486,426. At 128 pixels and 2 classes: convolutions 1,800 + 38,400 + 256,000, BatchNorm 2 * 248, linear
    322, in all 297,018.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        photos = size >= _STEM_FROM
        maps_in, maps1, maps2 = (24, 64, 160) if photos else (3, 32, 64)
        # Digits keep the paper's unpadded convolutions, 32 -> 28 -> 14 -> 10 -> 5; photos their borders.
        padding = 2 if photos else 0
        self.stem = nn.Sequential(convolution(3, maps_in, 5, stride=2), nn.MaxPool2d(2)) if photos else nn.Identity()
        self.conv1 = nn.Conv2d(maps_in, maps1, kernel_size=5, padding=padding, bias=False)  # BatchNorm has a bias of its own
        self.norm1 = nn.BatchNorm2d(maps1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(maps1, maps2, kernel_size=5, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm2d(maps2)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1 if photos else 5)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(maps2, num_classes)) if photos else _linear_layers(num_classes)
        kaiming(self)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.stem(images_BCHW)
        x = self.relu1(self.pool1(self.norm1(self.conv1(x))))
        x = self.relu2(self.pool2(self.norm2(self.conv2(x))))
        return self.head(self.average(x).flatten(1))


def _linear_layers(num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(64 * 5 * 5, 256, bias=False),
        nn.BatchNorm1d(256),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Linear(256, 84, bias=False),
        nn.BatchNorm1d(84),
        nn.ReLU(inplace=True),
        nn.Linear(84, num_classes),
    )
