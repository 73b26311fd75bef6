"""Chance in training: random crops on uint8 pictures, then colours, distortion, erasing and mixing on the whole batch.

Every function is pure: what is random comes in as numbers in [0, 1) that `randoms` draws from (seed, epoch, index of the
picture). So a picture's augmentation depends neither on the batch it is in, nor on threads, nor on where a run was resumed.

Letters in names: B pictures, H height, W width, C channels, S side of the square, K classes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from tapetum.data.prepare import resize

# torchvision's RandomResizedCrop: the proportions of a crop, and how often it tries before it takes the middle.
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10

# What each random number of a picture is for. The order is part of the results: append, do not reorder.
_CROP = slice(0, 4 * _TRIES)
_FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, _ROTATE, _ERASE = range(4 * _TRIES, 4 * _TRIES + 6)
_ERASE_BOX = slice(4 * _TRIES + 6, 4 * _TRIES + 10)
_WARP = slice(4 * _TRIES + 10, 4 * _TRIES + 15)
_PCA = slice(4 * _TRIES + 15, 4 * _TRIES + 18)
_TURN = 4 * _TRIES + 18
NUM_RANDOMS = 4 * _TRIES + 19


def randoms(seed: int, epoch: int, index: int, showing: int = 0) -> np.ndarray:
    """The numbers in [0, 1) that decide one picture's augmentation in one epoch, float64 (NUM_RANDOMS,).

    `showing` counts how often the picture was shown before in this epoch.
    """
    return np.random.Generator(np.random.Philox(key=[seed, 1], counter=[0, showing, epoch, index])).random(NUM_RANDOMS)


def shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch shows its `count` pictures: a permutation, a function of (seed, epoch)."""
    return _generator(seed, epoch).permutation(count)


def balanced(seed: int, epoch: int, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which every class that has pictures comes equally often, and how often each picture came before in it.

    It is as long as `labels`. Of a large class some pictures are left out of this epoch, those of a small one come again.
    """
    generator = _generator(seed, epoch)
    classes = np.unique(labels)
    # Of the remainder each epoch gives to other classes.
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[generator.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    order, showing = [], []
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        passes = -(-quota // len(members))
        order.append(np.concatenate([generator.permutation(members) for _ in range(passes)])[:quota])
        showing.append(np.repeat(np.arange(passes), len(members))[:quota])
    mixed = generator.permutation(len(labels))
    return np.concatenate(order)[mixed], np.concatenate(showing)[mixed]


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 2], counter=[0, 0, epoch, 0]))


def crop_box(height: int, width: int, smallest_area: float, u: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop that shows `smallest_area` to all of the picture's area.

    The rule of torchvision's RandomResizedCrop with scale=(smallest_area, 1) and ratio=(3/4, 4/3), driven by the first 40
    numbers of `u`. `smallest_area` 1 gives the whole picture.
    """
    if smallest_area == 1:
        return 0, 0, height, width
    for area_u, ratio_u, top_u, left_u in u[_CROP].reshape(_TRIES, 4):
        area = height * width * (smallest_area + area_u * (1 - smallest_area))
        ratio = math.exp(math.log(_RATIO[0]) + ratio_u * math.log(_RATIO[1] / _RATIO[0]))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(top_u * (height - h + 1)), int(left_u * (width - w + 1)), h, w
    # No try fitted (a very long picture): the largest middle part of allowed proportions.
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def shifted_crop(square_HWC: np.ndarray, size: int, u: np.ndarray) -> np.ndarray:
    """A square of side `size` from anywhere in a larger square (Krizhevsky et al. 2012, section 4.1)."""
    top, left = (int(place * (square_HWC.shape[0] - size + 1)) for place in u[_CROP][:2])
    return square_HWC[top : top + size, left : left + size]


def crop_and_flip(picture_HWC: np.ndarray, size: int, smallest_area: float, flip: bool, u: np.ndarray) -> np.ndarray:
    """A training view (S, S, 3) of a uint8 picture: random crop, resized to the square, mirrored half of the time."""
    top, left, height, width = crop_box(picture_HWC.shape[0], picture_HWC.shape[1], smallest_area, u)
    view = resize(picture_HWC[top : top + height, left : left + width], size, size)
    return view[:, ::-1] if flip and u[_FLIP] < 0.5 else view


def jitter(images_BCHW: torch.Tensor, strength: float, u_BN: np.ndarray) -> torch.Tensor:
    """Random brightness, contrast and saturation, each by a factor in 1 +- strength; values stay within 0 to 1."""
    if strength == 0:
        return images_BCHW

    def factors(column: int) -> torch.Tensor:
        values = 1 + strength * (2 * u_BN[:, column] - 1)
        return torch.from_numpy(values).to(images_BCHW)[:, None, None, None]

    images = images_BCHW * factors(_BRIGHTNESS)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * factors(_CONTRAST)
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * factors(_SATURATION)).clamp_(0, 1)


def principal_colours(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """The principal components (3, 3) of the RGB values of some uint8 pictures; column k is a direction times its deviation.

    Values count as 0 to 1. Krizhevsky et al. 2012 speak of the eigenvalues of the covariance matrix where we have their square
    roots: taken by the letter on pixels of 0 to 255, shifts would be a hundred times larger than the pictures' own variation.
    """
    pixels_N3 = np.concatenate([picture.reshape(-1, 3)[:: max(1, picture.size // 3000)] for picture in pictures]) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels_N3.T))
    return vectors * np.sqrt(np.maximum(values, 0))


def shift_colours(images_BCHW: torch.Tensor, strength: float, colours_33: np.ndarray | None, u_BN: np.ndarray) -> torch.Tensor:
    """Each picture shifted along the principal colours by normal multiples, deviation `strength` (Krizhevsky et al. 2012)."""
    if strength == 0 or colours_33 is None:
        return images_BCHW
    # The inverse of the normal distribution makes normal numbers of even ones; 0 itself would give minus infinity.
    normal_B3 = torch.special.ndtri(torch.from_numpy(u_BN[:, _PCA].clip(1e-12)))
    shifts_BC = strength * normal_B3 @ torch.from_numpy(colours_33).T
    return images_BCHW + shifts_BC.to(images_BCHW)[:, :, None, None]


def distort(images_BCHW: torch.Tensor, degrees: float, warp: float, u_BN: np.ndarray) -> torch.Tensor:
    """A random affine distortion; what comes into view is mirrored at the border.

    It turns by up to +- `degrees`, and with `warp` w, as LeCun et al. 1998 (section III.A) did in kind (they give no sizes),
    shifts by up to +- w/2 of the side in both directions, scales by up to 1 + w, squeezes (narrower and higher, or wider and
    lower) by up to 1 + w, and shears horizontally by up to w.
    """
    if degrees == 0 and warp == 0:
        return images_BCHW
    angle = torch.from_numpy(np.deg2rad(degrees) * (2 * u_BN[:, _ROTATE] - 1)).to(images_BCHW)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix_B23 = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    if warp > 0:
        right, down, scale, squeeze, shear = torch.from_numpy(warp * (2 * u_BN[:, _WARP] - 1)).to(images_BCHW).T
        width, height = (1 + warp) ** ((scale + squeeze) / warp), (1 + warp) ** ((scale - squeeze) / warp)
        warp_B22 = torch.stack([torch.stack([width, shear], 1), torch.stack([zero, height], 1)], 1)
        # The side of the picture is 2 in the units of the grid, so a shift of w/2 of the side is w.
        matrix_B23 = torch.cat([matrix_B23[:, :, :2] @ warp_B22, torch.stack([right, down], 1)[:, :, None]], 2)
    grid = affine_grid(matrix_B23, list(images_BCHW.shape), align_corners=False)
    return grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def erase(images_BCHW: torch.Tensor, share: float, u_BN: np.ndarray) -> torch.Tensor:
    """A rectangle of 2 to 20 % of the area painted grey in a `share` of the pictures (Zhong et al. 2020, Random Erasing)."""
    if share == 0:
        return images_BCHW
    size = images_BCHW.shape[-1]
    for image_CHW, u in zip(images_BCHW, u_BN, strict=True):
        if u[_ERASE] >= share:
            continue
        area_u, ratio_u, top_u, left_u = u[_ERASE_BOX]
        area, ratio = (0.02 + 0.18 * area_u) * size * size, 0.5 * 4**ratio_u
        height, width = (min(size, max(1, round(math.sqrt(area * r)))) for r in (ratio, 1 / ratio))
        top, left = int(top_u * (size - height + 1)), int(left_u * (size - width + 1))
        image_CHW[:, top : top + height, left : left + width] = 0.5
    return images_BCHW


def turn(
    images_BCHW: torch.Tensor, targets_BK: torch.Tensor, share: float, u_BN: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """A `share` of the pictures turned by a quarter, a half or three quarters to the left, as many of each.

    The targets become (B, 4 K), K for the unturned pictures first: a picture's stand where its turn says. Share 0 changes
    neither (training/turning.py).
    """
    if share == 0:
        return images_BCHW, targets_BK
    u_B = u_BN[:, _TURN]
    turns = torch.from_numpy(np.where(u_B < share, 1 + np.minimum(2, 3 * u_B / share).astype(np.int64), 0))
    turned_BKT = torch.zeros(*targets_BK.shape, 4, device=targets_BK.device)
    turned_BKT[torch.arange(len(turns)), :, turns] = targets_BK
    images_BCHW = torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(images_BCHW, turns, strict=True)])
    return images_BCHW, turned_BKT.transpose(1, 2).flatten(1)


@dataclass(frozen=True)
class Mixing:
    """How the pictures of one batch are mixed."""

    pasted: bool
    """CutMix: a rectangle of the partner; else mixup: both pictures laid over each other."""
    share: float
    """How much of a picture stays its own, 0 to 1."""
    middle: tuple[float, float]
    """Of the rectangle, as shares of the side."""
    partner_B: np.ndarray
    """(B,) the place in the batch of each picture's partner."""


def mixing(number: int, mixup: float, cutmix: float, seed: int, place: Sequence[int]) -> Mixing | None:
    """How a batch of `number` pictures is mixed; None, not at all, where both strengths (alpha) are 0.

    mixup (Zhang et al. 2018) blends two pictures; CutMix (Yun et al. 2019) pastes a rectangle of one into the other. With both,
    each batch takes one of them. One share from Beta(alpha, alpha) a batch, and all that is random a function of the seed and
    of `place` (epoch, step in it).
    """
    if mixup == 0 and cutmix == 0:
        return None
    generator = np.random.Generator(np.random.Philox(key=[seed, 3], counter=[0, 0, *place]))
    pasted = cutmix > 0 and (mixup == 0 or generator.random() < 0.5)
    share = float(generator.beta(cutmix, cutmix) if pasted else generator.beta(mixup, mixup))
    partner_B = generator.permutation(number)
    top, left = generator.random(2)
    return Mixing(pasted, share, (top, left), partner_B)


def mix(
    images_BCHW: torch.Tensor,
    targets_BK: torch.Tensor,
    mixing: Mixing,
    here_B: np.ndarray,
    part: slice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each picture and its target mixed with another's; the target follows the share, or the area that was pasted.

    Not the whole batch need be there: `here_B` says the place in it of each picture that is, and `part` which places are asked
    for; they come first, and their partners are among the rest.
    """
    wanted = mixing.partner_B[part]
    order = np.argsort(here_B, kind="stable")
    partner = torch.from_numpy(order[np.searchsorted(here_B[order], wanted)]).to(images_BCHW.device)
    own, share = slice(0, len(wanted)), mixing.share
    mixed_BCHW, other_BCHW = images_BCHW[own], images_BCHW[partner]
    if mixing.pasted:
        size = images_BCHW.shape[-1]
        side = size * math.sqrt(1 - share)
        top, left = (max(0, round(u * size - side / 2)) for u in mixing.middle)
        bottom, right = min(size, round(top + side)), min(size, round(left + side))
        mixed_BCHW = mixed_BCHW.clone()
        mixed_BCHW[:, :, top:bottom, left:right] = other_BCHW[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / size**2
    else:
        mixed_BCHW = torch.lerp(other_BCHW, mixed_BCHW, share)
    return mixed_BCHW, torch.lerp(targets_BK[partner], targets_BK[own], share)
