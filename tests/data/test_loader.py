import dataclasses

import numpy as np
import pytest
import torch

from tapetum.config import Recipe
from tapetum.data.cache import open_pictures
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.prepare import Preprocessing, fit
from tapetum.data.sources import find_samples

RECIPE = Recipe(
    model="lenet", size=32, fit="crop", crop_area=0.5, flip="on", jitter=0.2, rotate=10.0, erase=0.2, mixup=0.2, epochs=2,
    start_size=32, cutmix=0.0, turn=0.0, balance="off", rescue="off",
    crops="resized", warp=0.0, pca=0.0, views="one",
    batch=12, micro_batch=12, optimizer="sgd", lr=0.1, schedule="constant", weight_decay=0.0, label_smoothing=0.1, ema=0.0,
    keep="last",
)  # fmt: skip
PREPARED = Preprocessing(32, "crop", 36, 40, 3)


@pytest.fixture
def pictures(stripes):
    return open_pictures(find_samples(stripes), 40)


def loader(pictures, **changes):
    rows = np.arange(0, 80, 2)
    recipe = dataclasses.replace(RECIPE, **changes)
    return TrainingLoader(pictures, rows, pictures.samples.labels[rows], 2, recipe, PREPARED, 7, torch.device("cpu"))


def test_an_epoch_shows_every_picture_once(pictures):
    batches = list(loader(pictures).epoch(0))
    assert [len(b.labels_B) for b in batches] == [12, 12, 12, 4]
    labels = torch.cat([b.labels_B for b in batches])
    assert labels.bincount().tolist() == [20, 20]
    for b in batches:
        assert b.images_BCHW.shape[1:] == (3, 32, 32)
        assert b.images_BCHW.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(b.targets_BK.sum(1), torch.ones(len(b.labels_B)))


def test_a_picture_that_would_be_alone_joins_the_batch_before_it(pictures):
    for batch, sizes in ((13, [13, 13, 14]), (39, [40]), (20, [20, 20]), (19, [19, 19, 2]), (64, [40]), (1, [1] * 40)):
        odd = loader(pictures, batch=batch, mixup=0.0)
        assert [len(b.labels_B) for b in odd.epoch(0)] == sizes
        assert len(odd) == len(sizes)
        names = [name for step in range(len(odd)) for name in odd.names(0, step)]
        assert sorted(names) == sorted(pictures.name(row) for row in odd.rows)


def test_a_resumed_epoch_goes_on_with_the_same_numbers(pictures):
    whole = list(loader(pictures).epoch(3))
    rest = list(loader(pictures).epoch(3, start=2))
    assert len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.images_BCHW, b.images_BCHW)
        assert torch.equal(a.targets_BK, b.targets_BK)


def test_a_pictures_augmentation_does_not_depend_on_its_batch(pictures):
    small, large = loader(pictures, batch=5, mixup=0.0), loader(pictures, batch=40, mixup=0.0)
    a = torch.cat([b.images_BCHW for b in small.epoch(1)])
    b = torch.cat([b.images_BCHW for b in large.epoch(1)])
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_without_chance_training_sees_what_validation_sees(pictures):
    plain = loader(
        pictures,
        crop_area=1.0,
        flip="off",
        jitter=0.0,
        rotate=0.0,
        erase=0.0,
        mixup=0.0,
        label_smoothing=0.0,
        batch=40,
    )
    (batch,) = plain.epoch(0)
    order = batch.labels_B.argsort(stable=True)
    squares = np.stack([fit(pictures[i], PREPARED) for i in range(0, 80, 2)])
    means = torch.tensor(squares).float().mean((1, 2, 3))
    undone = batch.images_BCHW * torch.tensor(PREPARED.std)[:, None, None] + torch.tensor(PREPARED.mean)[:, None, None]
    assert torch.allclose((undone.mean((1, 2, 3)) * 255).sort()[0], means.sort()[0], atol=1e-2)
    assert order.tolist() == sorted(range(40), key=lambda i: (batch.labels_B[i].item(), i))
    assert torch.equal(batch.targets_BK.argmax(1), batch.labels_B)


def test_validation_squares_can_be_asked_for_again(pictures):
    found = ValidationLoader(pictures, np.array([3, 1, 2]), PREPARED, 2)
    first, second = list(found), list(found)
    assert [len(b) for b in first] == [2, 1]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(first[0][0], fit(pictures[3], PREPARED))


PLAIN = dict(crop_area=1.0, flip="off", jitter=0.0, rotate=0.0, erase=0.0, mixup=0.0, label_smoothing=0.0)


def test_shifted_crops_are_parts_of_the_fitted_picture_at_its_own_scale(pictures):
    (batch,) = loader(pictures, **PLAIN, crops="shifted", batch=40).epoch(0)
    mean, std = (torch.tensor(values)[:, None, None] for values in (PREPARED.mean, PREPARED.std))
    views = ((batch.images_BCHW * std + mean) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    larger = [fit(pictures[i], PREPARED, PREPARED.resize) for i in range(0, 80, 2)]
    windows = {square[t : t + 32, left : left + 32].tobytes() for square in larger for t in range(5) for left in range(5)}
    assert all(view.tobytes() in windows for view in views)


def test_colours_shift_each_picture_as_a_whole(pictures):
    (still,) = loader(pictures, **PLAIN, batch=40).epoch(0)
    (shifted,) = loader(pictures, **PLAIN, pca=0.5, batch=40).epoch(0)
    change = (shifted.images_BCHW - still.images_BCHW).flatten(2)
    assert change.std(2).max() < 1e-4  # the same for every pixel of a channel
    assert change.mean(2).std(0).min() > 0.01  # and another for every picture
    assert loader(pictures).colours is None


def test_distortions_change_the_picture_and_repeat(pictures):
    (still,) = loader(pictures, **PLAIN, batch=40).epoch(0)
    warped, again = (next(iter(loader(pictures, **PLAIN, warp=0.1, batch=40).epoch(0))) for _ in range(2))
    assert torch.equal(warped.images_BCHW, again.images_BCHW)
    assert (warped.images_BCHW - still.images_BCHW).abs().mean() > 0.05


def test_smaller_pictures_show_the_same_crops(pictures):
    full = next(iter(loader(pictures, mixup=0.0, erase=0.0, rotate=0.0, jitter=0.0).epoch(0))).images_BCHW
    half = next(iter(loader(pictures, mixup=0.0, erase=0.0, rotate=0.0, jitter=0.0).epoch(0, size=16))).images_BCHW
    assert half.shape == (12, 3, 16, 16)
    assert (torch.nn.functional.avg_pool2d(full, 2) - half).abs().mean() < 0.15
    assert (torch.nn.functional.avg_pool2d(full, 2) - half.flip(0)).abs().mean() > 0.4
    # A fitted picture keeps its view too: less sharp, not cut out of the middle.
    whole = loader(pictures, crop_area=1.0, mixup=0.0, erase=0.0, rotate=0.0, jitter=0.0)
    whole = dataclasses.replace(whole, preprocessing=dataclasses.replace(PREPARED, fit="squash"))
    full, half = (next(iter(whole.epoch(0, size=size))).images_BCHW for size in (32, 16))
    assert (torch.nn.functional.avg_pool2d(full, 2) - half).abs().mean() < 0.15


def test_balance_fills_an_epoch_evenly(pictures):
    rows = np.arange(0, 50)  # 40 lying, 10 upright
    uneven = dataclasses.replace(loader(pictures, balance="on"), rows=rows, labels=pictures.samples.labels[rows])
    assert torch.cat([b.labels_B for b in uneven.epoch(0)]).bincount().tolist() == [25, 25]
