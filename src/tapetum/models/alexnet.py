"""AlexNet as the study notes teach it, as written and mended.

AlexNet is the network of Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks"
(2012). The notes' code is not that one but Krizhevsky's one-column net of 2014 ("One weird trick for parallelizing
convolutional neural networks"), torchvision's `alexnet`, with narrower linear layers. The notes speak of 66 million parameters;
the net of 2012 has 60,965,224, that of 2014 61,100,840, and their own code, as they print it, 42,321,218.
"""

import torch
from torch import nn

from tapetum.models.layers import kaiming
from tapetum.models.registry import register


class _NotesAlexNet(nn.Module):
    """The layers of the notes' code, in the order and under the numbers of their printed summary (1 to 21)."""

    def __init__(self, num_classes: int) -> None:
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
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, num_classes),
        )

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, K)."""
        x = self.avgpool(self.features(images_BCHW))
        return self.classifier(x.flatten(1))


@register(
    "alexnet-textbook",
    size=256,
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
    return _NotesAlexNet(num_classes)


@register(
    "alexnet",
    size=128,
    channels=3,
    title="the notes' AlexNet mended: initialisation that keeps the signal; any input size",
    paper="study notes, section 6.1.2; He et al. 2015",
)
def alexnet(num_classes: int, size: int) -> nn.Module:
    """The layers of `alexnet-textbook`, so the same 42,321,218 parameters at 2 classes, initialised by He et al. 2015."""
    network = _NotesAlexNet(num_classes)
    kaiming(network)
    return network
