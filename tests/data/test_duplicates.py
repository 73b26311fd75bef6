"""Judges: pictures that are the same by construction, and all pairs compared one by one."""

import io
import itertools
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tapetum.data.decode import decode
from tapetum.data.duplicates import _close, find_duplicates, look
from tapetum.data.prepare import reduce


def scene(seed, side=160):
    """Something like a photo: smooth random shapes."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def found(pictures, labels=None, **options):
    arrays = [np.asarray(picture) for picture in pictures]
    sizes = np.array([array.shape[:2] for array in arrays])
    labels = np.arange(len(arrays)) % 2 if labels is None else np.array(labels)
    return find_duplicates(lambda i: arrays[i], [look(array) for array in arrays], sizes, labels, **options)


def recoded(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.fromarray(decode(buffer.getvalue()))


def test_the_same_picture_is_found_after_another_encoder_and_scale():
    pictures = [scene(i) for i in range(30)]
    pictures += [pictures[3], recoded(pictures[5], 60), pictures[7].resize((120, 120), Image.Resampling.LANCZOS)]
    twins = found(pictures)
    assert sorted(group.tolist() for group in twins.groups()) == [[3, 30], [5, 31], [7, 32]]
    assert [twins.near_only(group) for group in ([3, 30], [5, 31], [7, 32])] == [False, True, True]


def test_a_chain_of_near_ones_is_one_group_and_mirrors_are_others():
    first = scene(1)
    chain = [first, recoded(first, 90), recoded(recoded(first, 90), 50)]
    twins = found([*chain, first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    assert [group.tolist() for group in twins.groups()] == [[0, 1, 2]]


def test_of_small_pictures_only_equal_pixels_count():
    digit = scene(4, 28)
    twins = found([digit, recoded(digit, 95), digit, scene(5, 28)])
    assert [group.tolist() for group in twins.groups()] == [[0, 2]]


@pytest.mark.parametrize("reduced_to", [36, 63])
def test_photos_reduced_for_a_small_network_are_found_too(reduced_to):
    large = [scene(i) for i in range(20)]
    pictures = [np.array(picture) for picture in [*large, recoded(large[3], 75), recoded(large[8], 60)]]
    twins = found([reduce(picture, reduced_to) for picture in pictures], reduced_to=reduced_to)
    assert [group.tolist() for group in twins.groups()] == [[3, 20], [8, 21]]
    digit = scene(4, 28)  # as small as it came
    assert found([digit, recoded(digit, 95)], reduced_to=28).groups() == []


def seen_by_a_fixed_camera(count, ground=0, marked=()):
    """One scene again and again, with noise; a spot somewhere in the marked ones."""
    generator = np.random.default_rng(1)
    pictures = []
    for i in range(count):
        picture = np.asarray(scene(ground)).astype(float) + generator.normal(0, 4, (160, 160, 3))
        if i in marked:
            top, left = generator.integers(10, 140, 2)
            picture[top : top + 8, left : left + 8] = 255
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return pictures


def test_pictures_of_one_scene_are_no_copies_of_each_other():
    pictures = seen_by_a_fixed_camera(40, marked=range(20))
    twins = found([*pictures, pictures[3]], labels=[*[0] * 20, *[1] * 20, 0])
    assert [group.tolist() for group in twins.groups()] == [[3, 40]]
    assert twins.alike.all()
    # A burst among other pictures of its class is kept together; most of a class is not.
    burst = [*seen_by_a_fixed_camera(12, ground=1), *(scene(i) for i in range(2, 12))]
    assert [len(group) for group in found(burst, labels=[0] * 22).groups()] == [12]
    assert found(burst, labels=[*[0] * 12, *[1] * 10]).groups() == []


@pytest.mark.slow
@pytest.mark.parametrize("reduced_to", [36, 112])
def test_no_two_of_thousands_of_photos_are_taken_for_one(shared, reduced_to):
    with zipfile.ZipFile(shared / "PetImages-180px.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::5]
        photos = [reduce(decode(data), reduced_to) for name in names if (data := archive.read(name))]
    assert len(photos) >= 4200
    assert found(photos, reduced_to=reduced_to).groups() == []


def test_no_pictures_have_no_duplicates():
    assert find_duplicates(lambda i: None, [], np.zeros((0, 2), int), np.zeros(0, int)).groups() == []


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_close_hashes_are_all_found(seed):
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**63, 300).astype(np.uint64)
    for i in range(0, 300, 10):  # neighbours that differ in up to five bits
        flips = generator.choice(64, generator.integers(0, 6), replace=False)
        hashes[i + 1] = hashes[i] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    by_hand = [(a, b) for a, b in itertools.combinations(range(300), 2) if (int(hashes[a]) ^ int(hashes[b])).bit_count() <= 3]
    assert _close(hashes) == by_hand
    assert len(by_hand) > 5
