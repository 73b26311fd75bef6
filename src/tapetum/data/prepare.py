"""From a decoded picture to what a network sees, without chance: the part of the way that training and prediction share.

    decoded picture -> reduce (what the cache keeps) -> fit (a square) -> to_input (normalised numbers)

Training puts random crops (`augment`) in the place of `fit`; everything else is the same code. A model file carries its
`Preprocessing`, so a picture is prepared for prediction exactly as it was for validation.

Letters in names: B pictures, H height, W width, C channels, S side of the square.
"""

import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapetum.config import Fit, Views
from tapetum.data.decode import MAX_PIXELS, decode

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Of a picture that is longer than so many times its width a square from the middle shows none of the rest.
_LONGEST = 50

# ITU-R BT.601 luma, which Pillow's convert("L") uses too.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are prepared for one network; stored in its model file."""

    size: int
    """Side S of the square input, in pixels."""
    fit: Fit
    """"crop": the shorter side becomes `resize`, then the middle S x S. "pad": the longer side becomes S, the rest is
    grey. "center": a picture that is smaller keeps its size in the middle, and its border is drawn out around it; a larger
    one is reduced to S first. "squash": both sides become S, whatever the proportions."""
    resize: int
    """Shorter side before the middle is cut out (only for "crop"); at least `size`."""
    reduce: int
    """A picture whose shorter side is longer than this is first reduced to it; that form is what the cache keeps."""
    channels: int
    """3: RGB. 1: grey."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    views: Views = "one"
    """What of a picture the network sees in prediction: "one": the square. "mirror": it and its mirror image. "ten": the four
    corners and the middle of a square of side `resize`, and their mirror images."""

    @property
    def side(self) -> int:
        """Side of the uint8 square that a picture becomes before its views are cut out."""
        return self.resize if self.views == "ten" else self.size

    def at(self, size: int) -> "Preprocessing":
        """The same view of a picture in another size: all sides in proportion."""
        return dataclasses.replace(self, size=size, resize=max(size, round(self.resize * size / self.size)))


def resize(picture_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """A uint8 picture in another size: bilinear, with an antialiasing filter when it shrinks (as Pillow does).

    Where torch is in memory it does the work, eight times as fast as `resample`; the pixels are the same.

    >>> resize(np.zeros((10, 20, 3), np.uint8), 5, 10).shape
    (5, 10, 3)
    """
    if picture_HWC.shape[:2] == (height, width):
        return picture_HWC
    torch = sys.modules.get("torch")
    if torch is None:
        from tapetum.data.resample import resample  # not needed beside torch

        return resample(picture_HWC, height, width)
    if not picture_HWC.flags.writeable:  # torch warns of such; beside the work of resizing a copy is nothing
        picture_HWC = picture_HWC.copy()
    # In this order of dimensions torch sees that a pixel's channels lie together, and leaves them so: half the time.
    image_1CHW = torch.from_numpy(picture_HWC)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(image_1CHW, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def reduce(picture_HWC: np.ndarray, reduce_to: int) -> np.ndarray:
    """The picture, made smaller where its shorter side is longer than `reduce_to`; the proportions stay."""
    height, width = picture_HWC.shape[:2]
    if min(height, width) <= reduce_to:
        return picture_HWC
    return resize(picture_HWC, *_short_side_to(reduce_to, height, width))


def decode_reduced(data: bytes, reduce_to: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture in the bytes of a file, decoded and reduced: the one way from a file to what the cache keeps.

    Raises:
        BadPicture: as `decode` does.
    """
    return reduce(decode(data, max_pixels, reduce_to), reduce_to)


def fit(picture_HWC: np.ndarray, preprocessing: Preprocessing, side: int | None = None) -> np.ndarray:
    """The square uint8 picture (side, side, 3) from which the network's views are taken, made without chance.

    "crop" is torchvision's Resize(resize) and CenterCrop(size), the study notes' preprocessing for validation. `side` is the
    preprocessing's own unless another is asked for.
    """
    side = preprocessing.side if side is None else side
    height, width = picture_HWC.shape[:2]
    if preprocessing.fit == "squash":
        return resize(picture_HWC, side, side)
    if preprocessing.fit == "crop":
        picture_HWC = _middle(picture_HWC, _LONGEST * min(height, width))
        height, width = picture_HWC.shape[:2]
        resized = resize(picture_HWC, *_short_side_to(preprocessing.resize, height, width))
        top, left = round((resized.shape[0] - side) / 2), round((resized.shape[1] - side) / 2)
        return np.ascontiguousarray(resized[top : top + side, left : left + side])
    scale = side / max(height, width)
    if preprocessing.fit == "center":
        scale = min(1, scale)
    inner = resize(picture_HWC, max(1, round(height * scale)), max(1, round(width * scale)))
    top, left = (side - inner.shape[0]) // 2, (side - inner.shape[1]) // 2
    if preprocessing.fit == "center":
        rows, columns = (np.arange(side) - start for start in (top, left))
        return inner[rows.clip(0, inner.shape[0] - 1)[:, None], columns.clip(0, inner.shape[1] - 1)]
    square = np.full((side, side, 3), 128, np.uint8)
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def views(images_BCHW: "torch.Tensor", preprocessing: Preprocessing) -> "list[torch.Tensor]":
    """The views (B, C, S, S) of a batch over which prediction averages, from inputs (B, C, side, side).

    Ten views are those of Krizhevsky et al. 2012, section 4.1: four corners, the middle, and all of them mirrored.
    """
    if preprocessing.views == "one":
        return [images_BCHW]
    cut = [images_BCHW]
    if preprocessing.views == "ten":
        size, last = preprocessing.size, preprocessing.side - preprocessing.size
        corners = [(0, 0), (0, last), (last, 0), (last, last), (round(last / 2), round(last / 2))]
        cut = [images_BCHW[:, :, top : top + size, left : left + size] for top, left in corners]
    return cut + [view.flip(3) for view in cut]


def to_input(images_BHWC: "torch.Tensor", preprocessing: Preprocessing) -> "torch.Tensor":
    """Normalised float32 input (B, C, S, S) in channels-last memory from uint8 RGB squares (B, S, S, 3).

    RGB: (x / 255 - mean) / std for each channel. Grey: the luma of x / 255, minus and divided by the first mean and std.
    """
    return normalize(images_BHWC.permute(0, 3, 1, 2).float().div_(255), preprocessing)


def normalize(images_BCHW: "torch.Tensor", preprocessing: Preprocessing) -> "torch.Tensor":
    """Network input from float RGB pictures (B, 3, S, S) with values 0 to 1; changes its argument."""
    import torch

    if preprocessing.channels == 1:
        luma = torch.tensor(LUMA, device=images_BCHW.device)
        images_BCHW = torch.einsum("bchw,c->bhw", images_BCHW, luma)[:, None]
    channels = preprocessing.channels
    mean = torch.tensor(preprocessing.mean[:channels], device=images_BCHW.device)[:, None, None]
    std = torch.tensor(preprocessing.std[:channels], device=images_BCHW.device)[:, None, None]
    return images_BCHW.sub_(mean).div_(std)


def _middle(picture_HWC: np.ndarray, longest: int) -> np.ndarray:
    """The picture, of a longer one the middle: a line of 65,535 pixels would take gigabytes once it is as wide as an input."""
    top, left = (max(0, (side - longest) // 2) for side in picture_HWC.shape[:2])
    return picture_HWC[top : top + longest, left : left + longest]


def _short_side_to(side: int, height: int, width: int) -> tuple[int, int]:
    """Height and width after the shorter side becomes `side`, the longer cut to whole pixels as torchvision does."""
    if height <= width:
        return side, max(1, math.floor(side * width / height))
    return max(1, math.floor(side * height / width)), side
