"""Miniatures, judged by what a decoder makes of them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tapetum.data.sources import find_pictures
from tapetum.looking.pages import miniature


@pytest.mark.parametrize(("size", "shown"), [((8, 8), (120, 120)), ((500, 375), (120, 90)), ((100, 30), (100, 30))])
def test_a_miniature_is_about_as_large_as_the_others(tmp_path, size, shown):
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "1.png")
    samples = find_pictures(tmp_path)
    head, body = miniature(samples, 0).split(",")
    assert head == "data:image/jpeg;base64"
    found = Image.open(io.BytesIO(base64.b64decode(body)))
    assert found.size == shown
    assert np.abs(np.asarray(found).astype(int) - [200, 30, 30]).max() < 4


def test_what_is_no_picture_has_no_miniature(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no picture")
    samples = find_pictures(tmp_path)
    assert (miniature(samples, 0), miniature(samples, None)) == ("", "")
