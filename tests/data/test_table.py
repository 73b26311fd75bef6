"""Judges: hashlib, and hand counts of folders that were made for them."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

import tapetum
from tapetum.config import Settings
from tapetum.data.sources import find_samples
from tapetum.data.table import read_all
from tapetum.errors import UserError

PARTS = ("train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "내 사진"


def write(folder, bad=0, **counts):
    """Class folders of different pictures; of each class the first `bad` files are none."""
    generator = np.random.default_rng(0)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            path = folder / label / f"{i:02d}.png"
            Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).save(path)
            if i < bad:
                path.write_bytes(b"")
    return folder


def read(folder, **settings):
    said = []
    return read_all(find_samples(folder), 32, Settings(unreadable=1.0, **settings), said.append), said


def names(table, split):
    return [table.pictures.name(row) for row in table.part(split)[0]]


def test_every_readable_picture_is_in_one_part_with_its_own_label(folder):
    table, said = read(write(folder, bad=2, 개=12, 고양이=7), val=0.2, test=0.1)
    whole = [f"{label}/{i:02d}.png" for label, count in (("개", 12), ("고양이", 7)) for i in range(2, count)]
    assert sorted(name for split in PARTS for name in names(table, split)) == whole
    for split in PARTS:
        labels = table.part(split)[1]
        assert [table.samples.classes[label] for label in labels] == [name.split("/")[0] for name in names(table, split)]
    assert table.fold_N.tolist() == [-1] * 15
    assert said[-1] == "split: 10 train, 3 val, 2 test"  # of each class at least one, and 2 of the larger
    assert read(folder, val=0.2)[1][-1] == "split: 12 train, 3 val"


def test_the_fingerprint_is_of_contents_classes_and_parts_and_of_no_names(folder, tmp_path):
    table, _ = read(write(folder, bad=1, 개=5, 고양이=5))
    lines, new = [], tmp_path / "copy"
    for split in ("train", "val"):
        for i, name in enumerate(names(table, split)):
            label = name.split("/")[0]
            lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} {label} {split}")
            (new / split / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, new / split / label / f"{9 - i}.png")
    right = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert table.fingerprint() == read(new)[0].fingerprint() == right


@pytest.mark.parametrize(("bad", "more"), [(5, []), (6, ["  and 2 more, all in left_out.csv"])])
def test_ten_files_without_a_picture_are_listed_and_the_others_counted(folder, bad, more):
    _, said = read(write(folder, bad=bad, a=10, b=10))
    listed = [f"  {label}/{i:02d}.png: empty file" for label in "ab" for i in range(bad)][:10]
    assert said[1:-1] == [f"left out {2 * bad} of 20 files:", *listed, *more]


@pytest.mark.parametrize("settings", [dict(seed=0), dict(seed=1), dict(folds=3), dict(folds=3, test=0.2)])
def test_copies_are_in_one_part_and_one_fold_where_files_before_them_are_left_out(folder, settings):
    write(folder, bad=3, 개=18, 고양이=15)
    for i in range(9):
        shutil.copy(folder / "개" / "17.png", folder / "개" / f"copy {i}.png")
    table, said = read(folder, **{"val": 0.3, **settings})
    parts = list(zip(table.samples.splits.tolist(), table.fold_N.tolist(), strict=True))
    of_copies = {part for part, name in zip(parts, table.samples.names, strict=True) if "copy" in name or name == "개/17.png"}
    assert len(of_copies) == 1
    in_training = [("train", fold) for fold in range(settings.get("folds", 1))] if "folds" in settings else [("train", -1)]
    others = [("test", -1)] * ("test" in settings) + [("val", -1)] * ("folds" not in settings)
    assert set(parts) == {*in_training, *others}
    assert "9 pictures stand there more than once; the split keeps them together (tapetum check names them)" in said


def test_a_share_of_bad_files_that_is_just_allowed_is(folder):
    """0.29 * 100 is less than 29 in binary numbers."""
    write(folder, cat=71, dog=2)
    for i in range(27):
        (folder / "dog" / f"bad {i}.png").write_bytes(b"")
    (folder / "cat" / "a.png").write_bytes(b""), (folder / "cat" / "b.png").write_bytes(b"")
    assert len(find_samples(folder)) == 102
    few = find_samples(folder).select(np.arange(2, 102))  # without two of cat
    assert len(read_all(few, 32, Settings(unreadable=0.29), lambda line: None).rows) == 71


def test_a_class_without_a_picture_to_train_on_is_refused(folder):
    write(folder / "train", a=4, b=4, c=1)
    write(folder / "val", a=2, b=2, c=2)
    (folder / "train" / "c" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match="class 'c' has no picture to train on: its 2 pictures validate"):
        read(folder)


def test_a_table_without_training_rows_is_to_judge_on_and_not_to_train_on(folder):
    write(folder, a=4, b=4)
    rows = [f"{label}/{i:02d}.png,{label},{split}" for label in "ab" for i, split in enumerate(("val", "test") * 2)]
    (folder / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    with pytest.raises(UserError, match="none of the 8 pictures is for training"):
        read(folder / "table.csv")


@pytest.mark.parametrize("kept", [(), (0, 2)])
def test_a_selection_without_any_file_of_a_class_is_refused(folder, tmp_path, kept):
    samples = find_samples(write(folder, cat=4, dog=4, owl=4))
    with pytest.raises(UserError, match=r"class '(cat|dog)' has no picture here. Expected pictures of every class"):
        tapetum.train(samples.select(np.isin(samples.labels, kept)), tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run" / "model.safetensors").exists()
