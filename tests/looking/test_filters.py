"""The share of colour by hand and in expectation; the permutation test against SciPy's; the drawing by its pixels."""

import numpy as np
import pytest
from PIL import Image

from tapetum.looking.filters import colour_share, filter_grid

RNG = np.random.default_rng(0)


def test_grey_is_0_opponent_colours_are_1_and_chance_is_two_thirds():
    pattern = RNG.normal(size=(11, 11))
    grey = np.stack([pattern] * 3)
    opponent = np.stack([pattern, -pattern, 0 * pattern])
    red = np.stack([pattern, 0 * pattern, 0 * pattern])
    found = colour_share(np.stack([grey, opponent, red, 5 * red]))
    assert found.tolist() == pytest.approx([0, 1, 2 / 3, 2 / 3])
    assert colour_share(RNG.normal(size=(500, 3, 11, 11))).mean() == pytest.approx(2 / 3, abs=0.01)


def test_the_grid_shows_every_filter(tmp_path):
    filters = np.zeros((40, 3, 11, 11))
    filters[:, 0] = 1  # red, on grey
    path = filter_grid([filters[:20], filters[20:]], ["column 1", "column 2"], tmp_path / "f.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red = (pixels[:, :, 0] > 230) & (abs(pixels[:, :, 1] - 128) < 20) & (abs(pixels[:, :, 2] - 128) < 20)
    # 16 filters in a row, each 0.92 of its cell's side; 40 in all.
    cell = pixels.shape[1] / 16
    assert red.sum() == pytest.approx(40 * (0.92 * cell) ** 2, rel=0.06)
