"""Judges: the pixels that were saved, and the hashes of the bytes on the disk."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.looking.album import Album


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes with three pictures each; their pixels and hashes by name."""
    folder, pixels, hashes = tmp_path / "내 사진 1", {}, {}
    for label in ("고양이", "big dog"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            name = f"{label}/{number} 번.png"
            pixels[name] = np.random.default_rng(len(pixels)).integers(0, 256, (12, 9 + number, 3), np.uint8)
            Image.fromarray(pixels[name]).save(folder / name)
            hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return folder, pixels, hashes


def test_a_picture_is_found_by_its_name_where_it_was_where_it_is_said_to_be_or_in_the_table_at_hand(photos):
    folder, pixels, hashes = photos
    moved, at_hand = Album(folder, hashes, origin="/nowhere"), Album(None, hashes, find_samples(folder), origin="/nowhere")
    for album in (Album(None, hashes, origin=str(folder)), moved, at_hand):
        assert album.missing == ""
        assert all(np.array_equal(album.picture(name), picture) for name, picture in pixels.items())


def test_what_is_gone_or_another_file_has_no_picture_and_spoils_no_other(photos):
    folder, pixels, hashes = photos
    gone, changed, unknown, damaged, stays, other = sorted(pixels)
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:40])
    hashes[damaged] = hashlib.sha256((folder / damaged).read_bytes()).hexdigest()  # the run has seen it so
    del hashes[unknown]
    album = Album(folder, hashes)
    (folder / gone).unlink()
    Image.fromarray(pixels[stays]).save(folder / changed)
    for name in (gone, changed, unknown, damaged, "고양이/nobody.png"):
        assert album.picture(name) is None, name
    assert album.missing == ""
    assert all(np.array_equal(album.picture(name), pixels[name]) for name in (stays, other))


@pytest.mark.parametrize(
    ("data", "origin", "known", "told"),
    [
        (None, "", "", "the run does not say where its pictures are."),
        (None, "{folder} (old)", "", "{folder} (old)"),
        (None, "{folder}", "old/", "{folder} holds none of the run's pictures."),
        (None, "https:/photos.invalid/둘", "", "at https://photos.invalid/둘, and nothing is fetched unasked (--data https://"),
    ],
)
def test_where_there_are_none_a_sentence_says_why(photos, data, origin, known, told):
    folder, pixels, hashes = photos
    place = None if data is None else Path(data.format(folder=folder))
    album = Album(place, {known + name: digest for name, digest in hashes.items()}, origin=origin.format(folder=folder))
    assert told.format(folder=folder) in album.missing
    assert [album.picture(name) for name in pixels] == [None] * 6


@pytest.mark.parametrize(
    ("data", "known", "told"),
    [
        ("{folder}/고양이", "", "{folder}/고양이"),  # what is named now counts, not where they were
        ("{folder}", "old/", "{folder} holds none of the run's pictures. Expected the folder"),
    ],
)
def test_what_is_named_and_has_none_is_a_mistake(photos, data, known, told):
    folder, _, hashes = photos
    with pytest.raises(UserError, match=re.escape(told.format(folder=folder))):
        Album(Path(data.format(folder=folder)), {known + name: digest for name, digest in hashes.items()}, origin=str(folder))
