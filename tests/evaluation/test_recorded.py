"""Judges: the standard library's csv, SHA-256 of the files on the disk, and files that the test damaged."""

import csv
import hashlib
import os
import shutil

import numpy as np
import pytest

from tapetum.config import to_toml
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.evaluation.recorded import contents, find_run_pictures, recorded, refuse_changed, trained, where_pictures
from tapetum.files import write_csv


def test_every_number_of_a_run_comes_back_to_the_bit(plain_run, crossed_run):
    for run, parts in ((plain_run, ["test", "val"]), (crossed_run, ["folds"])):
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = recorded(run)
        assert sorted(found) == parts
        for part, answers in found.items():
            written = [row for row in rows if row["split"] == part]
            assert answers.names == tuple(row["path"] for row in written)
            assert [answers.classes[k] for k in answers.labels_N] == [row["label"] for row in written]
            assert answers.probabilities_NK.tolist() == [[float(row["p_lying"]), float(row["p_upright"])] for row in written]
            networks = {int(row["fold"]) - 1 for row in written} if part == "folds" else {-1}
            assert set(answers.network_N) == networks


def test_odd_names_come_back_as_the_data_know_them(tmp_path):
    classes = ("=고양이", "@a,b", "p_")
    names = ["+1.png", "-고양이/1 2.png", "\td.png", '"quoted", he said.png', "two\nlines.png", "'tis.png", " e .png"]
    p_NK = np.random.default_rng(0).dirichlet([1, 1, 1], len(names))
    lines = [[name, "test", classes[i % 3], *p_NK[i].tolist()] for i, name in enumerate(names)]
    write_csv(tmp_path / "predictions.csv", ["path", "split", "label", *(f"p_{name}" for name in classes)], lines)
    write_csv(tmp_path / "splits.csv", ["path", "split", "sha256"], [[name, "test", "0"] for name in names])
    found = recorded(tmp_path)["test"]
    assert (found.names, found.classes) == (tuple(names), classes)
    assert found.labels_N.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (found.probabilities_NK == p_NK).all()
    assert list(contents(tmp_path)) == names


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (",1,", ",first,", "ValueError: invalid literal for int"),
        ("0.75", "much", "ValueError: could not convert string to float: 'much'"),
        (",0.75\n", "\n", "ValueError: a row of another length"),  # cut off in the middle of a line
        ("split", "part", "ValueError: no column 'split'"),
        ("a.png", "a" * 200_000, "Error: field larger than field limit"),
        ("a.png", "고양이", "UnicodeDecodeError: 'utf-8' codec"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path, old, new, reason):
    whole = "path,split,fold,label,p_cat,p_dog\na.png,folds,1,cat,0.25,0.75\n"
    (tmp_path / "predictions.csv").write_bytes(whole.replace(old, new).encode("cp949"))
    with pytest.raises(UserError, match=rf"predictions.csv is not what a training wrote \({reason}.*Train anew\.$"):
        recorded(tmp_path)


def test_contents_are_the_sha256_of_the_files_on_the_disk(plain_run, plain_copy):
    pictures = plain_run.parent / "stripes"
    files = {path.relative_to(pictures).as_posix(): path for path in pictures.rglob("*.png") if path.name != "broken.png"}
    assert {name: digest for name, (_, digest) in contents(plain_run).items()} == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
    }
    splits = plain_copy / "splits.csv"
    splits.write_text(splits.read_text().replace("sha256", "md5"))
    with pytest.raises(UserError, match=r"splits.csv is not what a training wrote \(ValueError: no column 'sha256'\)"):
        contents(plain_copy)
    splits.write_text("")
    with pytest.raises(UserError, match=r"splits.csv is not what a training wrote \(ValueError: no column 'path'\)"):
        contents(plain_copy)


def test_pictures_are_where_they_are_said_to_be_else_where_they_were(tmp_path):
    settings = tmp_path / "settings.toml"
    assert where_pictures(tmp_path, tmp_path / "now") == tmp_path / "now"  # what a run says is not even read
    settings.write_text(to_toml({"asked": {"data": "no"}, "about": {"data": '/내 "사진"/2024 = 1'}}), encoding="utf-8")
    assert str(where_pictures(tmp_path)) == '/내 "사진"/2024 = 1'
    for silent in ('[about]\nwhy = "data"\n', "[about]\ndata = 7\n"):
        settings.write_text(silent)
        with pytest.raises(UserError, match=r"settings.toml does not say where the pictures are: expected --data FOLDER\."):
            where_pictures(tmp_path)


def test_the_runs_pictures_come_in_the_order_in_which_they_are_asked_for(plain_run):
    place = plain_run.parent / "stripes"
    names = ["upright/upright.7.png", "lying/lying.30.png", "upright/upright.0.png"]
    found = find_run_pictures(plain_run, place, names)
    assert [found.classes[k] for k in found.labels] == ["upright", "lying", "upright"]
    assert [found.read(i) for i in range(3)] == [(place / name).read_bytes() for name in names]
    with pytest.raises(UserError, match=rf"lacks 2 of 5 pictures of {plain_run} \(no/1.png\)"):
        find_run_pictures(plain_run, place, ["no/1.png", *names, "no/0.png"])


def test_names_that_are_no_utf8_are_found_again_by_what_the_tables_say(tmp_path):
    """Bytes of Latin-1: only some file systems take them."""
    run, place = tmp_path / "run", tmp_path / "photos"
    names = [f"{label}/{label}{i}".encode() + b" \xe9t\xe9.png" for label in ("cat", "dog") for i in range(2)]
    for number, name in enumerate(names):
        path = place / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(bytes([number]))
        except OSError:
            pytest.skip("no such names here")
    samples = find_samples(place)
    rows = [[name, "val", hashlib.sha256(samples.read(i)).hexdigest()] for i, name in enumerate(samples.names)]
    write_csv(run / "splits.csv", ["path", "split", "sha256"], rows)
    asked = list(contents(run))[::-1]
    assert asked[0] == r"dog/dog1 \udce9t\udce9.png"
    found = find_run_pictures(run, place, asked)
    assert [found.read(i) for i in range(4)] == [bytes([number]) for number in (3, 2, 1, 0)]
    refuse_changed(run, found)


def test_what_trained_is_known_with_labels_and_without(tmp_path):
    rows = [["a.png", "train", "aa"], ["b.png", "val", "bb"], ["c.png", "train", "cc"]]
    write_csv(tmp_path / "splits.csv", ["path", "split", "sha256"], rows)
    assert trained(tmp_path) == {"aa", "cc"}
    write_csv(tmp_path / "unlabelled.csv", ["path", "sha256"], [["=1.png", "dd"]])
    assert trained(tmp_path) == {"aa", "cc", "dd"}
    (tmp_path / "unlabelled.csv").write_text("path,size\n=1.png,3\n")
    with pytest.raises(UserError, match=r"unlabelled.csv is not what a training wrote .*no column 'sha256'"):
        trained(tmp_path)


def test_files_that_are_gone_exchanged_or_no_part_of_the_run_have_changed(plain_run, tmp_path):
    place = shutil.copytree(plain_run.parent / "stripes", tmp_path / "옮긴 사진")
    names = [f"lying/lying.{i}.png" for i in range(5)]
    refuse_changed(plain_run, find_run_pictures(plain_run, place, names))
    samples = find_run_pictures(plain_run, place, [*names, "lying/broken.png"])  # its training left the last one out
    (place / names[1]).unlink()
    (place / names[3]).write_bytes((place / names[4]).read_bytes())
    with pytest.raises(UserError, match=rf"^3 pictures of {plain_run} changed since its training \({names[1]}\)"):
        refuse_changed(plain_run, samples)
