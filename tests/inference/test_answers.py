"""Judges: numpy, and a classifier so simple that every answer can be told by hand."""

import itertools
import re

import numpy as np
import pytest
import torch  # noqa: F401  where it is in memory it resizes, and takes fewer kinds of arrays
from PIL import Image

from conftest import encoded
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.inference.answers import Answering, batched, labels


class Shade(Answering):
    """As probably light as its mean, and as familiar."""

    classes_ = ("빛", "dark")
    preprocessing = Preprocessing(size=8, fit="squash", resize=8, reduce=16, channels=3)
    calibrating = 99

    def from_squares(self, squares, batch=32):
        self.squares = list(squares)
        light_N = np.array([square.mean() / 255 for square in self.squares])
        return np.stack([light_N, 1 - light_N], 1)

    def familiar_squares(self, squares, batch=32):
        found_NK = self.from_squares(squares, batch)
        return found_NK, found_NK[:, 0]

    def get_ready(self):
        pass


def flat(value):
    return np.full((20, 30, 3), value, np.uint8)


def test_batches_are_full_but_for_the_last_and_take_no_more_than_they_need():
    squares = [np.full((2, 2, 3), i, np.uint8) for i in range(7)]
    for size, sizes in ((1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])):
        found = list(batched(squares, size))
        assert [len(each) for each in found] == sizes
        assert (np.concatenate(found) == np.stack(squares)).all()
    assert list(batched([], 4)) == []
    assert next(batched(itertools.repeat(squares[0]), 5)).shape == (5, 2, 2, 3)


def test_an_answer_is_the_first_of_the_most_probable_unless_it_is_just_as_strange_as_what_is_rejected():
    p_NK = np.array([[0.5, 0.5], [0.4, 0.6], [0.4, 0.6]])
    assert labels(("a", "b"), p_NK, None, reject=0.9) == ["a", "b", "b"]
    assert labels(("a", "b"), p_NK, np.array([0.050001, 0.05, 0.04]), reject=0.05) == ["a", "neither", "neither"]


def test_the_smallest_share_that_is_told_is_one_that_is_taken():
    classifier = Shade()
    for classifier.calibrating in (20, 32, 92, 124, 199, 332, 998, 999, 1000, 4321):
        least = 1 / (1 + classifier.calibrating)
        classifier.refuse_reject(least)
        with pytest.raises(UserError, match=f": {classifier.calibrating} validation pictures cannot tell") as refused:
            classifier.refuse_reject(least * 0.999)
        told = float(re.search(r"Expected (\S+) or more\.", str(refused.value))[1])
        classifier.refuse_reject(told)
        assert 0 <= told - least < 0.001


@pytest.mark.parametrize("reject", [float("nan"), float("inf"), 1, -1e-9])
def test_what_is_no_share_is_refused_before_a_picture_is_read(reject):
    with pytest.raises(UserError, match=r"expected a share of the known pictures, from 0 to below 1, such as 0.05\."):
        Shade().predict(["nowhere.png"], reject=reject)


def test_a_class_that_is_called_neither_leaves_no_word_for_strangers():
    classifier = Shade()
    classifier.classes_ = ("neither", "dark")
    assert classifier.predict(flat(250)) == ["neither"]
    with pytest.raises(UserError, match="one of the classes is called 'neither' itself. Leave --reject out"):
        classifier.predict(flat(250), reject=0.5)


def test_one_or_many_pictures_in_any_form_are_answered_in_their_order(tmp_path):
    path = tmp_path / "내 사진 1.png"
    Image.fromarray(flat(200)).save(path)
    many = (path, flat(10), encoded(Image.fromarray(flat(90))), str(path), Image.new("L", (9, 7), 20), flat(204)[:, :, 0])
    assert Shade().predict(each for each in many) == ["빛", "dark", "dark", "빛", "dark", "빛"]
    for one, light in zip(many, (200, 10, 90, 200, 20, 204), strict=True):
        assert Shade().predict_proba(one)[:, 0] == pytest.approx([light / 255])
    assert Shade().predict(many, reject=0.05) == ["빛", "neither", "dark", "빛", "dark", "빛"]  # 10 / 255 is below 0.05


def test_an_array_is_taken_whatever_its_memory_is_like():
    plain, shade = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8), Shade()
    for odd in (plain[::-1], plain[:, ::-1], plain[::2, 1::2], np.asfortranarray(plain), plain[:, :, ::-1], plain[:, :, 1]):
        whole = np.ascontiguousarray(odd if odd.ndim == 3 else np.stack([odd] * 3, 2))
        shade.predict([odd, whole, encoded(Image.fromarray(whole))])  # a file is reduced as it is decoded
        assert shade.squares[0].shape == (8, 8, 3)
        assert (shade.squares[0] == shade.squares[1]).all()
        assert (shade.squares[0] == shade.squares[2]).all()


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (b"", r"^picture 2 \(bytes\) is not a picture that can be read: empty file\. Leave it out or replace it\.$"),
        ("{folder}", r"빈 폴더 is not a picture that can be read: Is a directory\."),
        (np.zeros((2, 4, 4, 3), np.uint8), r"^picture 2 is a uint8 array of shape \(2, 4, 4, 3\): expected a path, bytes,"),
        (np.zeros((4, 0), np.uint8), r"^picture 2 is an array of shape \(4, 0, 3\): expected \(H, W, 3\) RGB or"),
        (None, "^picture 2 is None: expected a path, bytes, a PIL image, or a uint8 array"),
    ],
    ids=str,
)
def test_among_others_what_is_no_picture_is_named(tmp_path, item, sentence):
    (tmp_path / "빈 폴더").mkdir()
    item = item.format(folder=tmp_path / "빈 폴더") if isinstance(item, str) else item
    with pytest.raises(UserError, match=sentence):
        Shade().predict([flat(1), flat(2), item])
