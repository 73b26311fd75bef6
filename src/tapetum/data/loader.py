"""Batches for training and for validation, straight from the decoded pictures: no worker processes, nothing to start.

Which pictures a batch holds and how they are augmented is a function of (seed, epoch, index of the picture), so a training
that is resumed in the middle of an epoch, or that runs on other threads, sees the same numbers. So do several processes: each
prepares its part of every batch, and the pictures of others that are mixed into it.

Letters in names: B pictures, H height, W width, C channels, S side of the square, K classes, N all pictures of a split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from tapetum import processes
from tapetum.config import Recipe
from tapetum.data import augment
from tapetum.data.cache import Pictures
from tapetum.data.prepare import Preprocessing, fit, normalize

# How many training pictures the principal colours are taken from.
_LOOK = 500


@dataclass(frozen=True)
class Batch:
    """One training step's pictures, on the training device."""

    images_BCHW: torch.Tensor
    """float32, normalised, channels-last memory."""
    targets_BK: torch.Tensor
    """float32; each row sums to 1: one class, or smoothed or mixed ones. With turned pictures 4 K, turn by turn."""
    labels_B: torch.Tensor
    """int64 classes, before smoothing and mixing."""
    part: slice
    """Which pictures of the whole batch these are: all, or of several processes this one's, which may be none."""
    whole: int
    """How many the batch has."""


@dataclass(frozen=True)
class TrainingLoader:
    """The training pictures of a run. `epoch(e, start, size)` gives the batches of epoch e from step `start` on."""

    pictures: Pictures
    rows: np.ndarray
    """(N,) int64: which of `pictures` train."""
    labels: np.ndarray
    """(N,) int64 class of each row."""
    num_classes: int
    recipe: Recipe
    preprocessing: Preprocessing
    seed: int
    device: torch.device
    guesses_NK: np.ndarray | None = None
    """(N, K) probabilities in place of labels that are only guessed."""

    @cached_property
    def colours(self) -> np.ndarray | None:
        """The principal colours of some of the training pictures, where the recipe shifts along them."""
        if self.recipe.pca == 0:
            return None
        some = np.unique(np.linspace(0, len(self.rows) - 1, _LOOK).astype(int))
        return augment.principal_colours(self.pictures[int(self.rows[i])] for i in some)

    def __len__(self) -> int:
        """Steps an epoch. The last batch may be smaller, as in the study notes; none is dropped.

        But a single picture that would be left over joins the batch before it: BatchNorm cannot compute with one.
        """
        steps, left = divmod(len(self.rows), self.recipe.batch)
        return max(1, steps + (left > 1))

    def epoch(self, epoch: int, start: int = 0, size: int | None = None) -> Iterator[Batch]:
        """The batches of one epoch in its own order, from step `start` on; skipping costs no decoding.

        `size`: side of the pictures, where it is not that of the preprocessing.
        """
        prepared = self.preprocessing if size is None else self.preprocessing.at(size)
        order, showing = self._order(epoch)
        for step in range(start, len(self)):
            part = self._part(step)
            yield self._batch((epoch, step), order[part], showing[part], prepared)

    def names(self, epoch: int, step: int) -> list[str]:
        """The files whose pictures are in one batch."""
        return [self.pictures.name(int(self.rows[i])) for i in self._order(epoch)[0][self._part(step)]]

    def _part(self, step: int) -> slice:
        """Which places of an epoch's order are in one batch."""
        end = len(self.rows) if step == len(self) - 1 else (step + 1) * self.recipe.batch
        return slice(step * self.recipe.batch, end)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which picture comes when in an epoch, and for the how manieth time."""
        if self.recipe.balance == "on":
            return augment.balanced(self.seed, epoch, self.labels)
        order = augment.shuffled(self.seed, epoch, len(self.rows))
        return order, np.zeros_like(order)

    def _batch(self, place: tuple[int, int], chosen: np.ndarray, showing: np.ndarray, prepared: Preprocessing) -> Batch:
        recipe, size, whole = self.recipe, prepared.size, len(chosen)
        part = processes.part(whole)
        mixing = augment.mixing(whole, recipe.mixup, recipe.cutmix, self.seed, place)
        # The own pictures, then those of others that are mixed into them.
        here = np.arange(whole)[part]
        if mixing is not None:
            here = np.concatenate([here, np.setdiff1d(mixing.partner_B[part], here)])
        if not len(here):  # fewer pictures than processes
            return self._no_pictures(prepared, part, whole)
        chosen, showing = chosen[here], showing[here]
        u_BN = np.empty((len(chosen), augment.NUM_RANDOMS))
        for u, i, n in zip(u_BN, chosen, showing, strict=True):
            u[:] = augment.randoms(self.seed, place[0], int(self.rows[i]), n)
        squares_BHWC = np.empty((len(chosen), size, size, 3), np.uint8)
        for square, i, u in zip(squares_BHWC, chosen, u_BN, strict=True):
            picture = self.pictures[int(self.rows[i])]
            if recipe.crops == "shifted":
                picture = augment.shifted_crop(fit(picture, prepared, prepared.resize), size, u)
            elif recipe.crop_area == 1 or recipe.fit == "center":  # crops of a centred picture keep its scale
                picture = fit(picture, prepared, size)
            area = 1.0 if recipe.crops == "shifted" else recipe.crop_area
            square[:] = augment.crop_and_flip(picture, size, area, recipe.flip == "on", u)

        squares = torch.from_numpy(squares_BHWC)
        if self.device.type == "cuda":  # pinned memory is copied beside the computing
            squares = squares.pin_memory()
        images = squares.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        images = augment.jitter(images, recipe.jitter, u_BN)
        images = augment.shift_colours(images, recipe.pca, self.colours, u_BN)
        images = augment.distort(images, recipe.rotate, recipe.warp, u_BN)
        images = augment.erase(images, recipe.erase, u_BN)
        images = normalize(images, prepared)

        labels = torch.from_numpy(self.labels[chosen]).to(self.device)
        if self.guesses_NK is None:
            targets = torch.nn.functional.one_hot(labels, self.num_classes).float()
        else:
            targets = torch.from_numpy(self.guesses_NK[chosen]).float().to(self.device)
        targets = targets.mul_(1 - recipe.label_smoothing).add_(recipe.label_smoothing / self.num_classes)
        images, targets = augment.turn(images, targets, recipe.turn, u_BN)
        if mixing is not None:
            images, targets = augment.mix(images, targets, mixing, here, part)
        return Batch(
            images_BCHW=images.contiguous(memory_format=torch.channels_last),
            targets_BK=targets,
            labels_B=labels[: len(images)],
            part=part,
            whole=whole,
        )

    def _no_pictures(self, prepared: Preprocessing, part: slice, whole: int) -> Batch:
        """The part of a process that has none."""
        outputs = self.num_classes * (4 if self.recipe.turn > 0 else 1)
        return Batch(
            images_BCHW=torch.zeros(0, prepared.channels, prepared.size, prepared.size, device=self.device),
            targets_BK=torch.zeros(0, outputs, device=self.device),
            labels_B=torch.zeros(0, dtype=torch.int64, device=self.device),
            part=part,
            whole=whole,
        )


# Fitted validation pictures are kept in memory up to this size; more are fitted anew for each validation.
_KEEP_BYTES = 512 * 1024**2


class ValidationLoader:
    """Uint8 squares (B, side, side, 3) of some pictures, made without chance; iterate as often as needed.

    Of several processes each has its part of the batches, the first ones in the first process. Batches are the same however
    many processes there are, so a picture's answer is too, to the bit. `once`: they are needed once, and none is kept.
    """

    def __init__(
        self, pictures: Pictures, rows: np.ndarray, preprocessing: Preprocessing, batch: int, once: bool = False
    ) -> None:
        self.pictures, self.rows, self.preprocessing, self.batch = pictures, rows, preprocessing, batch
        starts = range(0, len(rows), batch)
        self._starts = starts[processes.part(len(starts))]
        keep = not once and len(self._starts) * batch * preprocessing.side**2 * 3 <= _KEEP_BYTES
        self._kept = list(self._fitted()) if keep else None

    @property
    def begin(self) -> int:
        """The place of this process's first picture among all `rows`."""
        return self._starts[0] if self._starts else len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._kept) if self._kept is not None else self._fitted()

    def _fitted(self) -> Iterator[np.ndarray]:
        for start in self._starts:
            rows = self.rows[start : start + self.batch]
            yield np.stack([fit(self.pictures[int(row)], self.preprocessing) for row in rows])
