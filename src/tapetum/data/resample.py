"""torch's resizing of uint8 pictures in its own whole numbers, without torch: the same pixels to the bit.

A classifier that is served from an ONNX file does without torch, which takes 300 MB of memory and a second to import. A picture
must become the same pixels there as it did in training, and no other library rounds as torch does: Pillow's filter, from which
torch's is taken, keeps more digits of its weights.

The algorithm is that of `interpolate(..., mode="bilinear", antialias=True)` on uint8 since torch 2.1
(aten/src/ATen/native/cpu/UpSampleKernel.cpp): each axis by itself, the horizontal one first, the weights rounded to 16 bits.
"""

import functools
import math

import numpy as np
from scipy import sparse

# Weights are shifted left as far as they stay below 2^15, at most by this many bits.
_MOST_BITS = 22


def resample(picture_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """A uint8 picture in another size, as `tapetum.data.prepare.resize` gives it.

    >>> resample(np.full((4, 6, 3), 200, np.uint8), 2, 3)[:, :, 0].tolist()
    [[200, 200, 200], [200, 200, 200]]
    """
    across_WHC = _along_first(picture_HWC.transpose(1, 0, 2), width)
    return _along_first(across_WHC.transpose(1, 0, 2), height)


def _along_first(lines: np.ndarray, count: int) -> np.ndarray:
    """Lines (L, ., 3) made `count` lines."""
    if len(lines) == count:
        return np.ascontiguousarray(lines)
    weights, bits = _weights(len(lines), count)
    sums = weights @ lines.reshape(len(lines), -1).astype(np.int32)
    rounded = (sums + (1 << bits - 1)) >> bits
    return rounded.clip(0, 255).astype(np.uint8).reshape(count, *lines.shape[1:])


@functools.lru_cache(maxsize=256)
def _weights(before: int, after: int) -> tuple[sparse.csr_array, int]:
    """What each of `before` lines gives to each of `after`, int32 (after, before), and the bits that it was shifted by."""
    scale = before / after
    reach = max(scale, 1.0)
    centre = scale * (np.arange(after) + 0.5)
    first = np.maximum(0, (centre - reach + 0.5).astype(np.int64))
    last = np.minimum(before, (centre + reach + 0.5).astype(np.int64))
    taps = np.arange(math.ceil(reach) * 2 + 1)
    inside = taps < (last - first)[:, None]
    shares = np.maximum(0, 1 - np.abs((taps + first[:, None] - centre[:, None] + 0.5) * (1 / reach))) * inside
    total = functools.reduce(np.add, shares.T)  # in this order, as torch sums
    shares = shares / total[:, None]
    bits = next((b for b in range(_MOST_BITS) if int(0.5 + shares.max() * (1 << b + 1)) >= 1 << 15), _MOST_BITS)
    whole = (0.5 + shares * (1 << bits)).astype(np.int32)
    columns = taps + first[:, None]
    return sparse.csr_array((whole[inside], columns[inside], np.cumsum([0, *inside.sum(1)])), shape=(after, before)), bits
