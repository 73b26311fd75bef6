"""Judge: torchvision's transforms on PIL pictures, the study notes' own preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tapetum.data.prepare import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, fit, reduce, resize, to_input

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
