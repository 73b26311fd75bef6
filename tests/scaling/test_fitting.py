"""Judges: hand counts, the bytes on the disk, and pictures whose class a light meter could tell."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import write_stripes
from tapetum.config import Settings
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.scaling import fitting
from tapetum.training import recipes

SETTINGS = Settings(model="lenet-table", size=32, device="cpu", precision="float32", cache="off")


def read(samples, folds=3, test=0.25, settings=SETTINGS):
    return fitting.read(samples, 32, settings, folds, test, lambda line: None)


def shades(folder, values, sides=(32, 32)):
    """Pictures of one shade each, with a little noise."""
    folder.mkdir(parents=True)
    for number, value in enumerate(values):
        noise = np.random.default_rng(1000 * value + number).integers(-9, 9, (*sides, 1))
        Image.fromarray(np.broadcast_to(value + noise, (*sides, 3)).astype(np.uint8)).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def shaded(tmp_path_factory):
    """12 dark pictures and 12 bright ones in three folds, none put aside."""
    folder = tmp_path_factory.mktemp("shades") / "명암 1"
    shades(folder / "bright", range(190, 202))
    shades(folder / "dark", range(40, 52))
    return read(find_samples(folder), test=0.0)


def fitted(table, tmp_path, **options):
    how = dict(epochs=12, batch=8, lr=0.01, warp=0.0, jitter=0.0, ema=0.0, turn=0.5)
    recipe, _ = recipes.choose(dataclasses.replace(SETTINGS, **how), recipes.Facts(16, 2, 32, True))
    return fitting.fit(table, table.fold_N != 0, table.fold_N == 0, recipe, SETTINGS, seed=0, folder=tmp_path, **options)


def test_pretrained_weights_are_refused_before_anything_is_read():
    with pytest.raises(UserError, match="^weights: networks begin untrained here. Leave it out.$"):
        fitting.find("nowhere", Settings(weights="pretrained"), pytest.fail)


def test_the_pictures_that_judge_choose_no_epoch():
    with pytest.raises(UserError, match="keep best: the pictures that judge do not choose the epoch. Leave it out"):
        fitting.find("nowhere", Settings(keep="best"), pytest.fail)


def test_a_picture_and_its_copies_are_put_aside_together_or_share_a_fold(tmp_path):
    folder = write_stripes(tmp_path / "photos", count=12)
    for label in ("lying", "upright"):
        for number in range(6):
            shutil.copy(folder / label / f"{label}.{number}.png", folder / label / f"copy {number}.png")
    samples, places = find_samples(folder), {}
    table = read(samples)
    for name, part, fold in zip(samples.names, table.samples.splits, table.fold_N, strict=True):
        places.setdefault((folder / name).read_bytes(), set()).add((part, int(fold)))
    assert [len(each) for each in places.values()] == [1] * 24
    assert set.union(*places.values()) == {("test", -1), ("train", 0), ("train", 1), ("train", 2)}
    aside = np.bincount(samples.labels[table.samples.splits == "test"])
    assert set(aside) <= {4, 5}  # a quarter of 18, or one more with its copy
    parts = np.array(["test", *["train"] * 35], object)  # a part that the data bring is the one that is put aside
    assert (read(samples.with_splits(parts)).samples.splits == parts).all()


def test_it_tells_which_pictures_were_named_right_and_leaves_nothing(shaded, tmp_path):
    judges = np.flatnonzero(shaded.fold_N == 0)
    labels = shaded.samples.labels.copy()
    wrong = [judges[labels[judges] == k][1] for k in (0, 1)]  # one of each class is labelled as the other
    labels[wrong] = 1 - labels[wrong]
    mislabelled = dataclasses.replace(shaded, samples=dataclasses.replace(shaded.samples, labels=labels))
    told = []
    found = fitted(mislabelled, tmp_path, validations=3, watch=told.append)
    assert np.array_equal(found.right_N, ~np.isin(judges, wrong))
    assert [entry["epoch"] for entry in told] == [4, 8, 12]
    assert (told[-1]["val_accuracy"], told[-1]["val_n"]) == (pytest.approx(6 / 8), 8)
    assert found.epochs == 12
    assert list(tmp_path.iterdir()) == []


def test_a_watcher_may_end_it_and_nothing_is_left(shaded, tmp_path):
    def watch(entry):
        (scratch,) = tmp_path.iterdir()
        raise KeyError(scratch.name)

    with pytest.raises(KeyError, match=r"\.training-"):
        fitted(shaded, tmp_path, validations=6, watch=watch)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("고양이 사진.tar.gz", "고양이 사진-tune"),
        (".hidden", "run-tune"),
        ("photos/..", "{here}-tune"),
        ("https://host/cats and dogs/", "cats and dogs-tune"),
    ],
)
def test_without_out_the_folder_is_called_after_the_data(tmp_path, data, folder):
    named = data if "://" in data else tmp_path / data
    found = fitting.own_folder(named, None, "tune", "tune.json", "search")
    assert found.as_posix() == "runs/" + folder.format(here=tmp_path.name)
