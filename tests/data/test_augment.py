"""Judges: torchvision's RandomResizedCrop for the distribution of crops, and hand counts."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
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
    found = augment.distort(images, 90, 0, u)[0].numpy()
    quarter = [np.rot90(images[0].numpy(), k, axes=(1, 2)) for k in (1, 3)]
    assert min(np.abs(found - q).max() for q in quarter) < 1e-5


def warped(image, **values):
    """The picture under one distortion alone, each of the five at its strongest (1), none (0.5) or its opposite (0)."""
    u = some_randoms(1)
    u[:, augment._WARP] = [values.get(name, 0.5) for name in ("right", "down", "scale", "squeeze", "shear")]
    return augment.distort(image, 0, 0.25, u)[0, 0]


def test_distortions_one_by_one():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 12:20, 14:18] = 1  # a bar, 8 high and 4 wide

    def extent(found):
        rows, columns = (found > 0.5).any(1).nonzero(), (found > 0.5).any(0).nonzero()
        return len(rows), len(columns), rows.float().mean().item(), columns.float().mean().item()

    assert extent(warped(image)) == (8, 4, 15.5, 15.5)
    # Half of 0.25 of the side is 4 pixels.
    assert extent(warped(image, right=1.0)) == (8, 4, 15.5, 11.5)
    assert extent(warped(image, down=0.0)) == (8, 4, 19.5, 15.5)
    bigger, wider, *_ = extent(warped(image, scale=0.0))
    assert bigger == 10
    assert wider >= 4
    squeezed = warped(image, squeeze=0.0)  # lower and wider
    assert squeezed.amax(1).sum().item() == pytest.approx(8 / 1.25, abs=0.3)
    assert squeezed.amax(0).sum().item() == pytest.approx(4 * 1.25, abs=0.3)
    sheared = warped(image, shear=1.0)
    top, bottom = ((sheared[row] * torch.arange(32)).sum() / sheared[row].sum() for row in (12, 19))
    assert abs(top - bottom) == pytest.approx(0.25 * 7, abs=0.3)


def test_no_distortion_is_none():
    images = torch.rand(2, 3, 8, 8)
    assert augment.distort(images, 0, 0, some_randoms(2)) is images


def test_colours_shift_along_the_principal_components():
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(rng.normal(128, 1, (20, 20, 1)) + rng.normal(0, 30, (20, 20, 1)) * [1, 1, 0], 0, 255) for _ in range(30)
    ]
    pictures = [picture.astype(np.uint8) for picture in pictures]
    colours = augment.principal_colours(pictures)
    strongest = colours[:, np.abs(colours).max(0).argmax()]
    # scikit-learn's PCA is the judge.
    found = PCA().fit(np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255)
    np.testing.assert_allclose(
        np.abs(strongest), np.abs(found.components_[0]) * np.sqrt(found.explained_variance_[0]), rtol=0.05
    )
    images = torch.zeros(4000, 3, 1, 1)
    shifts = augment.shift_colours(images, 0.1, colours, some_randoms(4000))[:, :, 0, 0].double().numpy()
    np.testing.assert_allclose(np.cov(shifts.T), 0.01 * colours @ colours.T, atol=2e-5)
    assert augment.shift_colours(images, 0, colours, some_randoms(4000)) is images


def test_shifted_crops_are_parts_of_the_picture_from_everywhere():
    square = np.arange(36 * 36, dtype=np.uint16).reshape(36, 36)
    places = set()
    for u in some_randoms(400):
        view = augment.shifted_crop(square, 32, u)
        top, left = divmod(int(view[0, 0]), 36)
        assert (view == square[top : top + 32, left : left + 32]).all()
        places.add((top, left))
    assert len(places) == 25


def test_erasing_paints_one_rectangle_in_its_share_of_pictures():
    images = torch.zeros(400, 3, 32, 32)
    found = augment.erase(images, 0.25, some_randoms(400))
    painted = (found == 0.5).all(1).flatten(1).float().mean(1)
    assert 60 < (painted > 0).sum() < 140
    assert painted[painted > 0].min() > 0.01
    assert painted.max() < 0.25


def mixed(images, targets, mixing):
    """The whole batch in its own order."""
    return augment.mix(images, targets, mixing, np.arange(len(images)), slice(None))


def test_mixing_blends_pictures_and_targets_alike():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    targets = torch.eye(4)
    found, soft = mixed(images, targets, augment.mixing(4, 0.4, 0, seed=0, place=(1, 2)))
    assert torch.allclose(soft.sum(1), torch.ones(4))
    assert torch.allclose(soft @ torch.arange(4.0), found[:, 0, 0, 0])
    again, _ = mixed(images, targets, augment.mixing(4, 0.4, 0, seed=0, place=(1, 2)))
    assert torch.equal(found, again)
    assert augment.mixing(4, 0, 0, 0, (0, 0)) is None


def test_cutmix_pastes_a_rectangle_and_the_targets_follow_its_area():
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 20, 20).contiguous()
    for step in range(20):
        found, soft = mixed(images, torch.eye(8), augment.mixing(8, 0, 1.0, seed=3, place=(0, step)))
        own = (found == images).float().mean((1, 2, 3))
        moved = soft.argmax(1) != torch.arange(8)
        # What is not a picture's own is its partner's, in proportion to the targets.
        assert torch.allclose(soft @ torch.arange(8.0), found.mean((1, 2, 3)), atol=1e-5)
        assert (own[moved] <= 0.5 + 1e-6).all()
    assert torch.equal(images, torch.arange(8.0)[:, None, None, None].expand(8, 1, 20, 20)), "the argument was changed"


def test_with_both_strengths_batches_have_one_of_the_mixes():
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 8, 8)
    ways = [augment.mixing(8, 0.5, 0.5, 0, (0, step)) for step in range(60)]
    blended = [bool((mixed(images, torch.eye(8), way)[0] % 1 > 1e-3).any()) for way in ways]
    assert 10 < sum(blended) < 50


def test_balanced_order_shows_every_class_as_often_and_no_view_twice():
    labels = np.array([0] * 70 + [1] * 25 + [2] * 5)
    shown = np.zeros(100, int)
    for epoch in range(30):
        order, showing = augment.balanced(5, epoch, labels)
        assert len(order) == 100
        assert sorted(np.bincount(labels[order])) == [33, 33, 34]
        assert len(set(zip(order.tolist(), showing.tolist(), strict=True))) == 100
        shown += np.bincount(order, minlength=100)
    # Inside a class all pictures have the same chance.
    assert shown[:70].min() > 5
    assert (np.ptp(shown[95:])) <= 30
    assert not np.array_equal(augment.randoms(1, 2, 3), augment.randoms(1, 2, 3, showing=1))
