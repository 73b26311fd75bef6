"""Accuracy by number of pictures: which pictures train, which judge, what is kept, and what is refused."""

import csv
import json
import re

import numpy as np
import pytest

from conftest import interrupted_in_step, write_stripes
from tapetum.config import Settings
from tapetum.data.samples import Samples
from tapetum.data.stores import FilesStore
from tapetum.errors import UserError
from tapetum.scaling import fitting
from tapetum.scaling.grow import grow, part

QUICK = Settings(model="lenet-now", size=32, start_size=32, batch=8, epochs=3, turn=0.0, rotate=0.0, minutes=5.0)
SIZES = (8, 16, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_stripes(tmp_path_factory.mktemp("photos") / "줄 무늬")
    (folder / "lying" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def grown(photos, tmp_path_factory):
    """A growth of three sizes with two seeds; the pictures that trained and judged are written down."""
    seen, fit = [], fitting.fit

    def noted(table, trains_N, judges_N, recipe, settings, **options):
        seen.append((trains_N, judges_N, options["seed"], recipe.epochs))
        return fit(table, trains_N, judges_N, recipe, settings, **options)

    out = tmp_path_factory.mktemp("out") / "자람 1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(fitting, "fit", noted)
        found, page = grow(photos, out, sizes=SIZES, seeds=2, settings=QUICK, say=lambda line: None)
    return found, page, out, seen


def table(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"{i}.png" for i in range(len(labels)))
    splits = np.where(np.random.default_rng(seed).random(len(labels)) < 0.2, "test", "train").astype(object)
    classes = tuple(f"class {k}" for k in range(len(counts)))
    return Samples("nowhere", "made", FilesStore({}), names, labels.astype(np.int64), splits, classes)


def test_parts_of_a_seed_lie_in_each_other_and_hold_each_class_by_its_share():
    samples = table((200, 100, 20))
    trains = samples.splits == "train"
    shares = np.bincount(samples.labels[trains]) / trains.sum()
    before = np.zeros(len(samples), bool)
    for size in (3, 10, 50, 100, 200):
        chosen = part(samples, size, seed=1)
        assert chosen.sum() == size
        assert not (chosen & ~trains).any()  # never one that judges
        assert (chosen | ~before).all()  # all of the smaller part are in it
        counts = np.bincount(samples.labels[chosen], minlength=3)
        assert (counts >= 1).all()
        assert (np.abs(counts - size * shares) <= 2).all()
        before = chosen
    assert (part(samples, 50, 1) != part(samples, 50, 2)).any()


def test_no_training_sees_a_picture_that_judges(grown):
    found, _, _, seen = grown
    assert len(seen) == 6
    judging = seen[0][1]
    assert judging.sum() == found.judges == 20
    for trains, judges, _, _ in seen:
        assert (judges == judging).all()
        assert not (trains & judges).any()
    assert [int(trains.sum()) for trains, _, seed, _ in seen if seed == 0] == list(SIZES)


def test_work_grows_more_slowly_than_the_pictures(grown):
    epochs = {int(trains.sum()): epochs for trains, _, _, epochs in grown[3]}
    assert epochs == {32: 3, 16: round(3 * 2**0.35), 8: round(3 * 4**0.35)}


def test_what_is_written(grown, photos):
    found, page, out, _ = grown
    with (out / "growth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["pictures"]), int(row["seed"])) for row in rows] == [(size, seed) for seed in (0, 1) for size in SIZES]
    for row, point in zip(rows, found.points, strict=True):
        assert float(row["accuracy"]) == pytest.approx(point.right_N.mean())
        assert int(row["judged_on"]) == 20
    assert {path.name for path in out.iterdir()} >= {"grow.json", "trainings.jsonl", "growth.csv", "index.html", "left_out.csv"}
    assert not list(out.glob(".training-*"))
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "줄 무늬" in text
    assert text.count("<svg") == 1
    assert len(list(photos.rglob("*"))) == 83  # two folders and 81 files


def test_the_same_call_goes_on_and_more_seeds_are_added(grown, photos, monkeypatch, capsys):
    found, _, out, _ = grown
    trained = []
    fit = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *a, **options: trained.append(options["seed"]) or fit(*a, **options))
    again, _ = grow(photos, out, sizes=SIZES, seeds=2, settings=QUICK, say=lambda line: None)
    assert trained == []
    assert [point.error for point in again.points] == [point.error for point in found.points]
    with (out / "trainings.jsonl").open("a") as file:
        file.write('{"size": 8, "se')  # of a process that was killed
    more, _ = grow(photos, out, sizes=SIZES, seeds=3, settings=QUICK, say=lambda line: None)
    assert trained == [2, 2, 2]
    assert len(more.points) == 9
    grow(photos, out, sizes=SIZES, seeds=3, settings=QUICK, say=lambda line: None)
    assert trained == [2, 2, 2]  # the half line has swallowed none of them


def test_an_interrupted_growth_keeps_its_trainings(photos, tmp_path):
    out = tmp_path / "out"
    with interrupted_in_step(9):  # five steps in the first training
        grow(photos, out, sizes=SIZES, seeds=1, settings=QUICK, say=lambda line: None)
    assert [json.loads(line)["size"] for line in (out / "trainings.jsonl").read_text().splitlines()] == [8]
    found, _ = grow(photos, out, sizes=SIZES, seeds=1, settings=QUICK, say=lambda line: None)
    assert [point.size for point in found.points] == list(SIZES)


def test_a_test_part_of_the_data_judges(tmp_path):
    for name, count in (("train", 12), ("val", 4), ("test", 7)):
        write_stripes(tmp_path / "photos" / name, count=count, seed=count)
    said = []
    found, _ = grow(tmp_path / "photos", tmp_path / "out", sizes=(8, 32), seeds=1, settings=QUICK, say=said.append)
    assert found.judges == 14
    assert found.largest == 32  # the validation part trains, too
    assert "the validation part joins the training pictures" in said


def test_of_a_class_with_two_pictures_one_trains_and_one_judges(tmp_path):
    photos = write_stripes(tmp_path / "photos", count=12)
    (photos / "rare").mkdir()
    for number, path in enumerate(sorted((photos / "lying").iterdir())[:2]):
        path.rename(photos / "rare" / f"{number}.png")
    found, _ = grow(photos, tmp_path / "out", sizes=(6, 12), seeds=1, settings=QUICK, say=lambda line: None)
    assert (found.largest, found.judges) == (18, 6)  # a quarter of each class, or one
    assert [point.size for point in found.points] == [6, 12]


def test_by_itself_sizes_are_halves(photos, tmp_path):
    said = []
    settings = Settings(model="lenet-now", size=32, epochs=6, minutes=5)
    found, _ = grow(photos, tmp_path / "out", seeds=1, settings=settings, say=said.append)
    assert {point.size for point in found.points} == {30, 60}
    # One of the 61 is broken, as is seen when they are read.
    assert any(line.startswith("2 sizes (30, 61), 1 seeds each: about ") for line in said), said
    assert found.law is None  # two sizes tell nothing
    assert "cannot be told" in found.verdict


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sizes": (2, 16)}, "sizes 2, 16: expected 4 to 60"),
        ({"sizes": (16, 600)}, "sizes 16, 600: expected 4 to 60, the pictures that are left to train once 20 are put aside"),
        ({"seeds": 0}, "seeds 0: expected 1 or more"),
        (
            {"settings": Settings(minutes=0.02)},
            r"minutes 0\.02 are too short: 3 seeds of 2 sizes up to 6\d pictures need about",
        ),
        ({"settings": Settings(members=3)}, "members: each training has one network here"),
        ({"settings": Settings(recipe="notes")}, "recipe notes: "),
        ({"settings": Settings(split="notes")}, "split notes: "),
        (
            {"settings": Settings(folds=3)},
            "folds 3: a part put aside judges all sizes .--test., and there are no folds. Leave it",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(photos, tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        grow(photos, tmp_path / "out", **{"settings": QUICK, **options}, say=lambda line: None)
    assert not (tmp_path / "out").exists()


def test_folders_of_something_else_are_left_alone(grown, photos, tmp_path):
    with pytest.raises(UserError, match="lies inside the pictures"):
        grow(photos, photos / "out", settings=QUICK)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds files of another kind"):
        grow(photos, tmp_path / "other", settings=QUICK)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]
    with pytest.raises(UserError, match="holds a growth of other pictures or settings"):
        grow(photos, grown[2], sizes=SIZES, settings=Settings(model="compact"), say=lambda line: None)
    others = write_stripes(tmp_path / "others", seed=7)
    with pytest.raises(UserError, match="holds a growth of other pictures or settings"):
        grow(others, grown[2], sizes=SIZES, settings=QUICK, say=lambda line: None)
