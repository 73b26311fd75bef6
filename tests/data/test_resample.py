"""Judge: torch's own resizing, bit for bit, over sizes of every proportion."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tapetum.data.prepare import Preprocessing, fit, reduce, resize
from tapetum.data.resample import resample


def torchs(picture, height, width):
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_the_pixels_are_torchs_to_the_bit(seed):
    chance = np.random.default_rng(seed)
    for case in range(60):
        before = chance.integers(1, (300, 40, 1500)[case % 3], 2)
        after = chance.integers(1, 300, 2)
        after[case % 2] = before[case % 2] if case % 5 == 0 else after[case % 2]
        picture = chance.integers(0, 256, (*before, 3), np.uint8)
        if case % 4 == 0:
            picture = np.where(picture > 127, np.uint8(255), np.uint8(0))  # the hardest edges
        assert (resample(picture, *after) == torchs(picture, *after)).all(), (before, after)


def test_views_of_pictures_are_taken_too():
    whole = np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)
    for view in (whole[:, ::-1], whole[3:40, 5:50], whole.transpose(1, 0, 2)):
        assert (resample(view, 20, 30) == torchs(np.ascontiguousarray(view), 20, 30)).all()


def test_without_torch_in_memory_squares_are_the_same(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (333, 222, 3), np.uint8)
    prepared = [Preprocessing(48, how, 56, 200, 3) for how in ("crop", "pad", "center", "squash")]
    expected = [fit(reduce(picture, p.reduce), p) for p in prepared]
    assert resize(picture, 10, 20).shape == (10, 20, 3)
    np.savez(tmp_path / "given.npz", *expected, picture=picture)
    script = f"""
import sys, numpy as np
from tapetum.data.prepare import Preprocessing, fit, reduce
given = np.load({str(tmp_path / "given.npz")!r})
for i, how in enumerate(("crop", "pad", "center", "squash")):
    p = Preprocessing(48, how, 56, 200, 3)
    assert (fit(reduce(given["picture"], p.reduce), p) == given[f"arr_{{i}}"]).all(), how
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
