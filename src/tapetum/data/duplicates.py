"""The same picture twice: found by its decoded pixels, and, after another encoder or scale, by its looks.

Two files with the same decoded, reduced pixels are the same picture. Two photos that are nearly so are found in two steps:
their difference hashes (64 bits: which of two neighbouring patches is lighter) differ in three bits at most, and their 16 x 16
miniatures by few grey levels. Small pictures hold too little for that; of them only equal pixels count. So they do of pictures
that are all alike from afar, as a fixed camera makes them: there looks tell the scene, not the picture.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Smaller pictures (digits, icons) look alike without being the same. What was reduced was larger, and down to 36 pixels holds
# enough: among 4,200 photos of cats and dogs, every fifth of 180 pixels, no two are taken for one, at 36 as at 112 (slow test).
_LEAST_SIDE, _LEAST_REDUCED = 64, 36
# 64 bits in four bands: pairs that differ in three bits at most agree in one band at least.
_BANDS, _MOST_BITS = 4, 3
# Root mean square of the differences of two miniatures, in grey levels; other encoders and scales stay below.
_MOST_DIFFERENCE = 7.0
_MINIATURE = 16
# So many pictures of one band are no duplicates but of one kind (blank, framed in black); comparing all pairs would take long.
_CROWD = 2000
# A chain of more near ones than so many that holds several classes, or most of one, is not of copies but of one scene.
_COPIES, _MOST_OF_CLASS = 10, 2 / 3


@dataclass(frozen=True)
class Look:
    """What a picture is recognised by."""

    pixels: str
    """SHA-256 of its size and pixels, 32 hexadecimal digits of it."""
    hash64: int
    """Its difference hash."""


def look(picture_HWC: np.ndarray) -> Look:
    """What a decoded uint8 RGB picture is recognised by.

    >>> a = look(np.zeros((80, 90, 3), np.uint8))
    >>> a == look(np.zeros((80, 90, 3), np.uint8)), a == look(np.zeros((90, 80, 3), np.uint8))
    (True, False)
    """
    pixels = hashlib.sha256(np.array(picture_HWC.shape[:2], "<u4").tobytes() + picture_HWC.tobytes())
    grey = Image.fromarray(picture_HWC).convert("L").resize((9, 8), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)
    bits = (values[:, 1:] > values[:, :-1]).ravel()
    return Look(pixels.hexdigest()[:32], int.from_bytes(np.packbits(bits).tobytes(), "big"))


@dataclass(frozen=True)
class Duplicates:
    """Which of N pictures are the same, and which nearly."""

    group: np.ndarray
    """(N,) int64: pictures of the same number are the same or nearly so; a chain of near ones counts as one group."""
    exact: np.ndarray
    """(N,) int64: pictures of the same number have the same pixels."""
    alike: np.ndarray
    """(N,) bool: these are of one scene; of them only equal pixels count."""

    def groups(self) -> list[np.ndarray]:
        """The indices of each group of two or more, the largest first."""
        return _members(self.group)

    def near_only(self, indices: np.ndarray) -> bool:
        """Whether no two of these pictures have the same pixels."""
        return len(set(self.exact[indices])) == len(indices)


def find_duplicates(
    picture: Callable[[int], np.ndarray],
    looks: Sequence[Look],
    sizes_N2: np.ndarray,
    labels_N: np.ndarray,
    reduced_to: int = _LEAST_SIDE,
) -> Duplicates:
    """Group N pictures.

    Args:
        picture: gives the i-th, uint8 RGB; only those whose hashes are close are asked for.
        looks: of each.
        sizes_N2: (N, 2) heights and widths.
        labels_N: (N,) their classes.
        reduced_to: larger pictures were made so large (their shorter side).
    """
    _, exact = np.unique([each.pixels for each in looks], return_inverse=True)
    _, first = np.unique(exact, return_index=True)  # of the same pixels one stands for all
    least = min(_LEAST_SIDE, max(_LEAST_REDUCED, reduced_to))
    large = first[sizes_N2[first].min(1) >= least] if len(first) else first
    pairs = _close(np.array([looks[i].hash64 for i in large], np.uint64))
    miniatures: dict[int, np.ndarray] = {}
    near = []
    for a, b in pairs:
        one, other = (_miniature(picture, int(large[i]), miniatures) for i in (a, b))
        if np.sqrt(np.mean((one - other) ** 2)) <= _MOST_DIFFERENCE:
            near.append((large[a], large[b]))
    same = [(first[k], i) for i, k in enumerate(exact)]
    group = _chains(near + same, len(looks))
    alike = np.zeros(len(looks), bool)
    for members in _members(group):
        alike[members] = _one_scene(labels_N[members], labels_N)
    if alike.any():
        group = _chains([pair for pair in near if not alike[pair[0]]] + same, len(looks))
    return Duplicates(group, exact.astype(np.int64), alike)


def _chains(links: list[tuple[int, int]], count: int) -> np.ndarray:
    """(count,) the number of the chain in which each stands."""
    from scipy.sparse import coo_array  # with what it brings a tenth of a second, for which prediction need not wait
    from scipy.sparse.csgraph import connected_components

    ends = np.array(links, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _one_scene(labels_M: np.ndarray, labels_N: np.ndarray) -> bool:
    """Whether a chain of M of the N pictures is one of a scene, not of copies."""
    if len(labels_M) <= _COPIES:
        return False
    of_class = int(np.count_nonzero(labels_N == labels_M[0]))
    return len(set(labels_M)) > 1 or len(labels_M) > _MOST_OF_CLASS * of_class


def _close(hashes_N: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of indices whose hashes differ in few bits."""
    found: set[tuple[int, int]] = set()
    width = 64 // _BANDS
    for band in range(_BANDS):
        keys = (hashes_N >> np.uint64(band * width)) & np.uint64(2**width - 1)
        for members in _members(keys):
            if len(members) > _CROWD:
                continue
            differing = np.bitwise_count(hashes_N[members][:, None] ^ hashes_N[members][None, :])
            rows, columns = np.nonzero(np.triu(differing <= _MOST_BITS, 1))
            found.update(zip(members[rows].tolist(), members[columns].tolist(), strict=True))
    return sorted(found)


def _members(keys_N: np.ndarray) -> list[np.ndarray]:
    """The indices of every key that stands there twice or more, the most frequent key first."""
    order = np.argsort(keys_N, kind="stable")
    cuts = np.flatnonzero(np.diff(keys_N[order])) + 1
    return sorted((part for part in np.split(order, cuts) if len(part) > 1), key=lambda part: (-len(part), part[0]))


def _miniature(picture: Callable[[int], np.ndarray], i: int, kept: dict[int, np.ndarray]) -> np.ndarray:
    if i not in kept:
        small = Image.fromarray(picture(i)).resize((_MINIATURE, _MINIATURE), Image.Resampling.BOX)
        kept[i] = np.asarray(small, np.float32)
    return kept[i]
