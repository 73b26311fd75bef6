"""What every form of a classifier has in common: from pictures to answers. How squares become probabilities is its own.

There is a form that computes with torch (`classifier`) and one that computes an ONNX file (`onnx`); nothing here needs torch.

Letters in names: N pictures, H height, W width, K classes.
"""

import abc
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tapetum.data.decode import BadPicture, to_rgb
from tapetum.data.prepare import Preprocessing, decode_reduced, fit, reduce
from tapetum.data.reading import in_threads
from tapetum.errors import UserError

BATCH = 32
# The answer for a picture that is too strange to be one of the classes.
NEITHER = "neither"

Picture = str | Path | bytes | Image.Image | np.ndarray


def temper(probabilities_NK: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), divided by its sum: less sure above a temperature of 1, surer below; the order of the classes stays.

    >>> temper(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    if temperature == 1:
        return probabilities_NK
    logs_NK = np.log(np.maximum(probabilities_NK, np.finfo(np.float64).tiny)) / temperature
    powers_NK = np.exp(logs_NK - logs_NK.max(1, keepdims=True))
    return powers_NK / powers_NK.sum(1, keepdims=True)


def labels(
    classes: Sequence[str], probabilities_NK: np.ndarray, familiarity_N: np.ndarray | None, reject: float = 0.0
) -> list[str]:
    """The answers: the most probable class, or "neither" at a familiarity of `reject` or less.

    >>> labels(("cat", "dog"), np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.01, 0.7]), reject=0.05)
    ['neither', 'dog']
    """
    strange_N = np.zeros(len(probabilities_NK), bool) if familiarity_N is None else familiarity_N <= reject
    return [NEITHER if strange else classes[k] for k, strange in zip(probabilities_NK.argmax(1), strange_N, strict=True)]


class Answering(abc.ABC):
    """A trained image classifier with scikit-learn's words: `classes_`, `predict`, `predict_proba`."""

    classes_: tuple[str, ...]
    """Class names; column k of the probabilities belongs to `classes_[k]`."""
    preprocessing: Preprocessing
    about: dict[str, Any]
    """What the file tells besides: metrics, settings, a fingerprint of the training data, versions."""

    @property
    @abc.abstractmethod
    def calibrating(self) -> int:
        """How many pictures tell the known kind from strangers; 0: nothing can be told."""

    @abc.abstractmethod
    def from_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K) of prepared squares (side, side, 3), uint8."""

    @abc.abstractmethod
    def familiar_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) of prepared squares, as `from_squares` gives them, and familiarity (N,), above 0 and up to 1.

        Familiarity is the share of pictures of the known kind that are at least as strange. Not every classifier can say; ask
        `refuse_reject` first.
        """

    def predict_proba(self, pictures: Sequence[Picture] | Picture, batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K), float64, each row summing to 1; column k is `classes_[k]`.

        Args:
            pictures: paths, encoded bytes, PIL images, or uint8 arrays (H, W, 3) RGB or (H, W) grey; one or many.
            batch: pictures computed at once; changes the time and memory, and the result by at most rounding.

        Raises:
            UserError: an item is not a readable picture; it is named.
        """
        return self.from_squares(self._squares(pictures), batch)

    def predict(self, pictures: Sequence[Picture] | Picture, batch: int = BATCH, reject: float = 0.0) -> list[str]:
        """The most probable class name of each picture; `pictures` and `batch` as in `predict_proba`.

        `reject`: "neither" for pictures whose `familiarity` is this or less; of the known kind that is this share (0: none).
        """
        return labels(self.classes_, *self.answers(self._squares(pictures), batch, reject), reject)

    @abc.abstractmethod
    def get_ready(self) -> None:
        """Do what makes many pictures faster and concerns the whole process. Only programs call this."""

    def refuse_reject(self, reject: float) -> None:
        """Raise a UserError if this classifier cannot tell strangers from a share `reject` of the known kind."""
        if not 0 <= reject < 1:
            raise UserError(f"reject {reject}: expected a share of the known pictures, from 0 to below 1, such as 0.05.")
        if reject == 0:
            return
        if not self.calibrating:
            raise UserError(f"reject {reject}: {self.why_no_strangers()}, or leave --reject out.")
        if NEITHER in self.classes_:
            raise UserError(f"reject {reject}: one of the classes is called '{NEITHER}' itself. Leave --reject out.")
        least = 1 / (1 + self.calibrating)
        if reject < least:
            raise UserError(
                f"reject {reject}: {self.calibrating} validation pictures cannot tell so small a share. Expected "
                f"{math.ceil(1000 * least) / 1000} or more."
            )

    def why_no_strangers(self) -> str:
        """Why nothing can be told of strangers, and what to do, where `calibrating` is 0."""
        return "this classifier has not learnt what strangers are. Train again with 20 or more validation pictures"

    def prepare(self, picture_HWC: np.ndarray) -> np.ndarray:
        """The uint8 square (side, side, 3) from which the network's views of a decoded picture are taken."""
        return fit(reduce(picture_HWC, self.preprocessing.reduce), self.preprocessing)

    def answers(
        self, squares: Iterable[np.ndarray], batch: int = BATCH, reject: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities (N, K) of prepared squares and, if something is to be rejected, familiarity (N,).

        Raises:
            UserError: this classifier cannot tell strangers from a share `reject` of the known kind.
        """
        self.refuse_reject(reject)
        return self.familiar_squares(squares, batch) if reject else (self.from_squares(squares, batch), None)

    def _squares(self, pictures: Sequence[Picture] | Picture) -> Iterator[np.ndarray]:
        items = [pictures] if isinstance(pictures, Picture) else list(pictures)

        def square(i: int) -> np.ndarray:
            return self.prepare(_as_array(items[i], i, self.preprocessing.reduce))

        # Files are decoded by all cores, some ahead of the batch that is computed; a PIL image is not for two threads at once.
        encoded = all(isinstance(item, str | Path | bytes) for item in items)
        return in_threads(square, range(len(items))) if encoded and len(items) > 1 else map(square, range(len(items)))


def batched(squares: Iterable[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    """`batch` squares at once, (B, side, side, 3), the last time perhaps fewer."""
    rows: list[np.ndarray] = []
    for square in squares:
        rows.append(square)
        if len(rows) == batch:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


def _as_array(picture: Picture, position: int, reduce_to: int) -> np.ndarray:
    """Any accepted form of a picture as uint8 RGB (H, W, 3); what has to be decoded comes reduced."""
    try:
        if isinstance(picture, str | Path):
            return decode_reduced(Path(picture).read_bytes(), reduce_to)
        if isinstance(picture, bytes):
            return decode_reduced(picture, reduce_to)
        if isinstance(picture, Image.Image):
            return to_rgb(picture)
    except (OSError, ValueError, BadPicture) as error:
        kind = "bytes" if isinstance(picture, bytes) else "PIL"
        name = picture if isinstance(picture, str | Path) else f"picture {position} ({kind})"
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a picture that can be read: {reason}. Leave it out or replace it.") from error
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        what = f"a {picture.dtype} array of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)
        raise UserError(f"picture {position} is {what}: expected a path, bytes, a PIL image, or a uint8 array (H, W, 3).")
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, 2)
    if picture.shape[2] != 3 or 0 in picture.shape:
        raise UserError(f"picture {position} is an array of shape {picture.shape}: expected (H, W, 3) RGB or (H, W) grey.")
    return np.require(picture, requirements=["C", "W"])  # a copy where it is neither
