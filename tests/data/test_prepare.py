"""Judge: torchvision's transforms on PIL pictures, the study notes' own preprocessing."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from conftest import encoded
from tapetum.data import prepare
from tapetum.data.decode import decode
from tapetum.data.prepare import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, decode_reduced, fit, reduce, resize, to_input

RNG = np.random.default_rng(0)


def photo(height, width):
    """Smooth like a photo, so that filters that differ by rounding stay close."""
    small = Image.fromarray(RNG.integers(0, 256, (9, 12, 3), np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (300, 301), (240, 800), (90, 70)])
def test_crop_is_torchvisions_resize_and_center_crop(height, width):
    picture = photo(height, width)
    ours = fit(picture, Preprocessing(size=224, fit="crop", resize=256, reduce=10_000, channels=3))
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(Image.fromarray(picture))
    assert ours.shape == (224, 224, 3)
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1


def test_input_is_torchvisions_to_tensor_and_normalize():
    pictures = RNG.integers(0, 256, (3, 8, 8, 3), np.uint8)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    expected = torch.stack([theirs(Image.fromarray(p)) for p in pictures])
    found = to_input(torch.from_numpy(pictures), Preprocessing(8, "crop", 8, 8, 3))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_grey_input_is_pillows_luma():
    pictures = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
    found = to_input(torch.from_numpy(pictures), Preprocessing(8, "crop", 8, 8, 1, mean=(0.0,), std=(1 / 255,)))
    expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pictures])
    assert found.shape == (2, 1, 8, 8)
    assert np.abs(found[:, 0].numpy() - expected).max() <= 1


def test_pad_keeps_everything_and_squash_uses_everything():
    picture = photo(50, 100)
    padded = fit(picture, Preprocessing(64, "pad", 64, 200, 3))
    assert (padded[:16] == 128).all()
    assert (padded[48:] == 128).all()
    assert np.array_equal(padded[16:48], resize(picture, 32, 64))
    assert np.array_equal(fit(picture, Preprocessing(64, "squash", 64, 200, 3)), resize(picture, 64, 64))


def test_reduce_only_shrinks():
    picture = photo(375, 500)
    assert reduce(picture, 400) is picture
    assert reduce(picture, 150).shape == (150, 200, 3)
    assert reduce(picture.transpose(1, 0, 2), 150).shape == (200, 150, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
@pytest.mark.parametrize("how", ["crop", "pad", "squash"])
def test_thin_and_tiny_pictures_fit(shape, how):
    found = fit(np.full((*shape, 3), 77, np.uint8), Preprocessing(32, how, 36, 64, 3))
    assert found.shape == (32, 32, 3)
    assert (found[15:17, 15:17] == 77).all(-1).any()


@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (3, 20_000)])
def test_a_line_takes_no_more_memory_than_its_middle(shape, monkeypatch):
    asked = []

    def counted(picture_HWC, height, width):
        asked.append((height, width))
        return resize(picture_HWC, height, width)

    monkeypatch.setattr(prepare, "resize", counted)
    line = RNG.integers(0, 256, (*shape, 3), np.uint8)
    square = fit(line, Preprocessing(size=64, fit="crop", resize=72, reduce=72, channels=3))
    assert max(map(math.prod, asked)) <= 50 * 72 * 72
    # As torchvision shows it, but for the last pixels of a filter: the one way costs gigabytes where the network is large.
    short = line[tuple(slice(max(0, side // 2 - 500), side // 2 + 500) for side in shape)]
    expected = transforms.Compose([transforms.Resize(72), transforms.CenterCrop(64)])(Image.fromarray(short))
    assert np.abs(square.astype(int) - np.asarray(expected)).mean() < 12


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 31), (1, 1), (32, 32)])
def test_center_keeps_the_pixels_of_small_pictures_and_draws_out_their_border(height, width):
    picture = RNG.integers(0, 256, (height, width, 3), np.uint8)
    square = fit(picture, Preprocessing(32, "center", 37, 64, 3))
    top, left = (32 - height) // 2, (32 - width) // 2
    around = ((top, 32 - height - top), (left, 32 - width - left), (0, 0))
    np.testing.assert_array_equal(square, np.pad(picture, around, mode="edge"))


def test_center_reduces_what_is_larger():
    square = fit(photo(100, 50), Preprocessing(32, "center", 37, 640, 3))
    assert square.shape == (32, 32, 3)
    assert (square[:, 0] == square[:, 7]).all()  # 16 of the 32 columns are picture, the others repeat its border


@pytest.mark.parametrize("form", ["crop", "pad", "center", "squash"])
def test_ten_views_are_cut_from_a_larger_square(form):
    assert fit(photo(60, 90), Preprocessing(32, form, 36, 64, 3, views="ten")).shape == (36, 36, 3)


@pytest.mark.parametrize("sides", [((75, 100), (51, 68)), ((30, 41), (56, 57)), ((1, 7), (3, 3)), ((90, 64), (90, 40))])
def test_resizing_gives_torchs_pixels_of_channels_that_lie_apart(sides):
    before, after = sides
    whole = np.random.default_rng(0).integers(0, 256, (before[0] + 3, before[1] + 2, 3), np.uint8)
    for picture in (whole[: before[0], : before[1]], whole[3:, 2:].copy()):
        apart = torch.from_numpy(picture.copy()).permute(2, 0, 1).contiguous()[None]
        expected = torch.nn.functional.interpolate(apart, size=after, mode="bilinear", antialias=True)[0]
        found = resize(picture, *after)
        assert (found == expected.permute(1, 2, 0).numpy()).all()
        assert found.flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("height", "width", "part"),
    [(1200, 1600, 8), (1036, 1600, 4), (600, 800, 4), (470, 300, 2), (252, 400, 1), (1201, 1600, 1)],
)
def test_a_large_jpeg_is_decoded_in_part_and_looks_as_it_would_whole(height, width, part, orientation):
    noisy = photo(height, width) + RNG.normal(0, 8, (height, width, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG", quality=92, exif=exif)
    stored = -(-height // part), -(-width // part)
    assert decode(data, reduce_to=64).shape[:2] == (stored if orientation == 1 else stored[::-1])
    whole = Image.fromarray(decode(data))
    assert whole.size == ((width, height) if orientation == 1 else (height, width))
    found = decode_reduced(data, 64)
    assert min(found.shape[:2]) == 64
    # Pillow's own way, from all pixels.
    expected = np.asarray(whole.resize(found.shape[1::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found - expected).mean() < 0.6
    assert np.abs(found - expected).max() <= (1 if part == 1 else 6)


def test_other_pictures_are_reduced_from_all_their_pixels():
    picture = Image.fromarray(photo(700, 600))
    assert np.array_equal(decode_reduced(encoded(picture), 50), reduce(np.asarray(picture), 50))
    cmyk = encoded(picture.convert("CMYK"), "JPEG")
    assert np.array_equal(decode_reduced(cmyk, 50), reduce(decode(cmyk), 50))
