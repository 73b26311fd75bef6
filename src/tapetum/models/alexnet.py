"""AlexNet in one column: Krizhevsky's of 2014, and the study notes' code after it, as written and mended.

AlexNet is the network of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks"
(2012). The notes' code is not that one but Krizhevsky's one-column net of 2014 ("One weird trick for parallelizing
convolutional neural networks"), torchvision's `alexnet`, with narrower linear layers. The notes speak of 66 million parameters;
the net of 2012 has 60,965,224, that of 2014 61,100,840, and their own code, as they print it, 42,321,218.
"""

import torch
from torch import nn

from tapetum.models.layers import averaged, convolution, kaiming
from tapetum.models.registry import register

# The notes narrow torchvision's second hidden linear layer from 4096.
_NOTES_UNITS = (4096, 512)


class OneColumn(nn.Module):
    """The one-column AlexNet under torchvision's names of layers; `units` are the widths of the two hidden linear layers."""

    def __init__(self, num_classes: int, units: tuple[int, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 6 * 6, units[0]),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units[0], units[1]),
            nn.ReLU(inplace=True),
            nn.Linear(units[1], num_classes),
        )

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.avgpool(self.features(images_BCHW))
        return self.classifier(x.flatten(1))


@register(
    "alexnet-2014",
    size=224,
    smallest=63,
    channels=3,
    title="Krizhevsky's one-column net of 2014, torchvision's alexnet",
    paper="Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks",
    resize=256,
)
def alexnet_2014(num_classes: int, size: int) -> nn.Module:
    """torchvision's `alexnet` layer by layer, under the same names: its weights fit, and the outputs are then the same.

    Against 2012: one column, 64 and 192 maps first, no normalisation, padding 2 in the first layer (so 224 gives 55), dropout
    before the linear layers. torchvision averages to 6 x 6, which changes nothing at 224 and takes any size from 63 pixels.
    Initialised by torch's default, as torchvision's.

    Parameters at 1,000 classes: 23,296 + 307,392 + 663,936 + 884,992 + 590,080 + 37,752,832 + 16,781,312 + 4,097,000 =
    61,100,840.
    """
    return OneColumn(num_classes, (4096, 4096))


@register(
    "alexnet-textbook",
    size=256,
    smallest=63,
    channels=3,
    title="the notes' AlexNet as written, with torch's default initialisation",
    paper="study notes, section 6.1.2, after Krizhevsky 2014",
)
def alexnet_textbook(num_classes: int, size: int) -> nn.Module:
    """The notes' code: 3 x 256 x 256, torchvision's convolutions (64, 192, 384, 256, 256), pooled to 6 x 6, 4096, 512, K.

    torch's default initialisation (weights of variance 1 / (3 fan-in)) with ReLU leaves about a sixth of the signal's mean
    square after each layer, more where max-pools follow: of noise of mean square 1 about 0.0001 is left after the seven. With
    the notes' 130 steps of 0.001 it stays at chance. It fits any size from 63 pixels, thanks to the adaptive pool.

    Parameters at 2 classes, as the notes print them: 23,296 + 307,392 + 663,936 + 884,992 + 590,080 + 37,752,832 + 2,097,664
    + 1,026 = 42,321,218.
    """
    return OneColumn(num_classes, _NOTES_UNITS)


@register(
    "alexnet",
    size=128,
    smallest=63,
    channels=3,
    title="the notes' AlexNet mended: initialisation that keeps the signal; any input size",
    paper="study notes, section 6.1.2; He et al. 2015",
)
def alexnet(num_classes: int, size: int) -> nn.Module:
    """The layers of `alexnet-textbook`, so the same 42,321,218 parameters at 2 classes, initialised by He et al. 2015."""
    network = OneColumn(num_classes, _NOTES_UNITS)
    kaiming(network)
    return network


@register(
    "alexnet-now",
    size=112,
    smallest=7,
    channels=3,
    title="AlexNet's convolutions with what has been learnt since: small stem, BatchNorm, an average for linear layers",
    paper="after Krizhevsky 2014; Ioffe & Szegedy 2015; Lin et al. 2014",
)
def alexnet_now(num_classes: int, size: int) -> nn.Module:
    """Convolutions of 5 x 5, 3 x 3, 3 x 3 and 3 x 3 after a first one, pools after the first and second, as in 2012.

    The first, 11 x 11 with stride 4, has become two of 3 x 3, the first of stride 2: small pictures have no room for more. 32,
    96 and 192 maps for 64, 192, 384 and 256. In place of three linear layers, which held 94 % of the parameters, an average
    over the last maps and one linear layer. BatchNorm after every convolution.

    Parameters at 2 classes: convolutions 864 + 9,216 + 76,800 + 165,888 + 331,776 + 331,776, BatchNorm 2 * 736, linear 386, in
    all 918,178.
    """
    layers = [
        convolution(3, 32, 3, stride=2),
        convolution(32, 32, 3),
        nn.MaxPool2d(2),
        convolution(32, 96, 5),
        nn.MaxPool2d(2),
        convolution(96, 192, 3),
        convolution(192, 192, 3),
        convolution(192, 192, 3),
    ]
    return averaged(layers, 192, num_classes)
