"""Judges: torchvision's RandomResizedCrop for the distribution of crops, and hand counts."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from tapetum.data import augment

RNG = np.random.default_rng(0)


def some_randoms(count):
    return np.stack([augment.randoms(0, 0, i) for i in range(count)])


def test_randoms_depend_on_seed_epoch_and_index_and_nothing_else():
    assert np.array_equal(augment.randoms(1, 2, 3), augment.randoms(1, 2, 3))
    others = [augment.randoms(s, e, i) for s, e, i in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]]
    assert len({tuple(o) for o in others}) == 5
    assert augment.randoms(0, 0, 0).shape == (augment.NUM_RANDOMS,)


def test_an_epochs_order_is_a_permutation_of_its_own():
    first, second = augment.shuffled(0, 0, 100), augment.shuffled(0, 1, 100)
    assert sorted(first) == list(range(100))
    assert not np.array_equal(first, second)


def test_crops_are_distributed_as_torchvisions():
    ours = np.array([augment.crop_box(375, 500, 0.5, u) for u in some_randoms(3000)])
    torch.manual_seed(0)
    image = torch.zeros(3, 375, 500)
    theirs = np.array([RandomResizedCrop.get_params(image, (0.5, 1.0), (3 / 4, 4 / 3)) for _ in range(3000)])
    for column in range(4):  # top, left, height, width: means within four standard errors, spreads within a tenth
        error = np.hypot(ours[:, column].std(), theirs[:, column].std()) / np.sqrt(3000)
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 4 * error
        assert ours[:, column].std() == pytest.approx(theirs[:, column].std(), rel=0.1)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (1, 1), (10, 2000), (2000, 10), (2, 3)])
def test_crops_lie_inside_the_picture(height, width):
    for u in some_randoms(200):
        top, left, h, w = augment.crop_box(height, width, 0.35, u)
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        assert h > 0
        assert w > 0


def test_half_of_the_views_are_mirrored():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    views = [augment.crop_and_flip(picture, 8, 1.0, True, u) for u in some_randoms(400)]
    mirrored = sum(view[0, 0, 0] == 0 for view in views)
    assert 150 < mirrored < 250
    assert all(augment.crop_and_flip(picture, 8, 1.0, False, u)[0, 0, 0] == 255 for u in some_randoms(20))


def test_jitter_keeps_the_range_and_its_strength_scales_it():
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    u = some_randoms(64)
    assert augment.jitter(images, 0, u) is images
    strong, weak = augment.jitter(images, 0.4, u), augment.jitter(images, 0.1, u)
    assert 0 <= strong.min() <= strong.max() <= 1
    assert (strong - images).abs().mean() > 2 * (weak - images).abs().mean()


def test_rotation_by_a_quarter_is_numpys():
    images = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    u = some_randoms(1)
    u[:, augment._ROTATE] = 1.0
    found = augment.rotate(images, 90, u)[0].numpy()
    quarter = [np.rot90(images[0].numpy(), k, axes=(1, 2)) for k in (1, 3)]
    assert min(np.abs(found - q).max() for q in quarter) < 1e-5


def test_erasing_paints_one_rectangle_in_its_share_of_pictures():
    images = torch.zeros(400, 3, 32, 32)
    found = augment.erase(images, 0.25, some_randoms(400))
    painted = (found == 0.5).all(1).flatten(1).float().mean(1)
    assert 60 < (painted > 0).sum() < 140
    assert painted[painted > 0].min() > 0.01
    assert painted.max() < 0.25


def test_mixing_blends_pictures_and_targets_alike():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    targets = torch.eye(4)
    found, soft = augment.mix(images, targets, 0.4, seed=0, place=(1, 2))
    assert torch.allclose(soft.sum(1), torch.ones(4))
    assert torch.allclose(soft @ torch.arange(4.0), found[:, 0, 0, 0])
    again, _ = augment.mix(images, targets, 0.4, seed=0, place=(1, 2))
    assert torch.equal(found, again)
    assert augment.mix(images, targets, 0, 0, (0, 0))[0] is images
