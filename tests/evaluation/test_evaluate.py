"""Judges: scikit-learn's confusion matrix, and SHA-256 of the files against the run's own table of parts."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

import tapetum
from tapetum.errors import UserError
from tapetum.evaluation.evaluate import _class_index, evaluate


def pictures(data):
    return sorted(data.rglob("*.png"))


@pytest.fixture
def trained(finished):
    """Whether a file is one of the pictures that trained."""
    with (finished[0] / "splits.csv").open(encoding="utf-8", newline="") as file:
        known = {row["sha256"] for row in csv.DictReader(file) if row["split"] == "train"}
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest() in known


def test_the_test_part_is_judged_else_the_validation_part_else_all(finished, tmp_path):
    _, data, file = finished
    for label in ("lying", "upright"):
        few = sorted((data / label).iterdir())
        for part, chosen in (("train", few[:6]), ("val", few[6:10]), ("test", few[10:13])):
            (tmp_path / part / label).mkdir(parents=True)
            for path in chosen:
                shutil.copy(path, tmp_path / part / label)
    for part, count in (("test", 6), ("val", 8), ("train", 12)):
        found = evaluate(file, tmp_path)
        assert found.metrics.accuracy.n == count
        assert found.note == ("" if part == "train" else f"Judged on the {part} part of the data.")
        assert {name.split("/")[0] for name in found.predictions.names} == {part}
        shutil.rmtree(tmp_path / part)


def test_pictures_are_known_by_their_content_under_any_name(finished, trained, tmp_path):
    for i, path in enumerate(pictures(finished[1])):
        copy = tmp_path / path.parent.name / f"{80 - i} 새 사진.png"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes() + b"\0" * (i % 5 == 0))  # the same pixels in other bytes
    seen = sum(map(trained, pictures(tmp_path)))
    assert 0 < seen < 48
    found = evaluate(finished[0], tmp_path)
    assert (found.trained_on.accuracy.n, found.metrics.accuracy.n) == (seen, 80 - seen)
    for path in pictures(tmp_path):
        if not trained(path):
            path.unlink()
    found = evaluate(finished[0], tmp_path)
    assert (found.trained_on, found.metrics.accuracy.n) == (None, seen)
    assert found.text().endswith("\nAll of these pictures were in its training: this accuracy says nothing about new ones.")


@pytest.mark.parametrize("kind", ["model.safetensors", "stripes.onnx"])
def test_a_file_knows_its_training_only_where_the_runs_table_lies_beside_it(finished, tmp_path, kind):
    run, data, file = finished
    shutil.copy(file if kind == "stripes.onnx" else run / kind, tmp_path)
    alone = evaluate(tmp_path / kind, data)
    assert (alone.metrics.accuracy.n, alone.trained_on, alone.note) == (80, None, "")
    shutil.copy(run / "splits.csv", tmp_path)
    beside = evaluate(tmp_path / kind, data)
    assert (beside.metrics.accuracy.n, beside.trained_on.accuracy.n) == (32, 48)


def test_counts_are_scikit_learns_though_the_data_sort_their_classes_otherwise(finished, tmp_path):
    (tmp_path / "UPRIGHT").mkdir()
    (tmp_path / "lying").mkdir()
    for i, path in enumerate(pictures(finished[1])):
        shutil.copy(path, tmp_path / ("UPRIGHT" if i % 9 == 0 or path.parent.name == "upright" else "lying"))
    true = [path.parent.name.lower() for path in pictures(tmp_path)]
    said = tapetum.load(finished[2]).predict(pictures(tmp_path))
    found = evaluate(finished[2], tmp_path).metrics
    assert found.confusion_KK.tolist() == sklearn.metrics.confusion_matrix(true, said).tolist()
    assert found.confusion_KK.sum(1).tolist() == [35, 45]


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (("개", "고양이"), ("고양이", "개"), [1, 0]),
        (("A", "a"), ("a", "A"), [1, 0]),  # the very name goes before one of other letters
        (("STRASSE", "neither"), ("b", "straße"), [1, -1]),
        (("neither",), ("cat", "neither"), [1]),
        (("Cat",), ("cat", "CAT"), "class 'Cat' of the data was not in the training, which knew cat, CAT"),
        (("uprigth",), ("lying", "upright"), "Did you mean 'upright'? Rename the class"),
    ],
)
def test_classes_are_matched_by_name(names, known, expected):
    if isinstance(expected, list):
        assert _class_index(names, known, strangers=True).tolist() == expected
        return
    with pytest.raises(UserError) as refused:
        _class_index(names, known, strangers=True)
    assert expected in str(refused.value)


def test_with_reject_each_figure_is_of_its_own_pictures(finished, trained, tmp_path):
    """Answered and right are counted over new pictures of known classes, strangers apart, and the unreadable are named."""
    mixed = shutil.copytree(finished[1], tmp_path / "mixed")
    (mixed / "neither").mkdir()
    for i in range(6):
        Image.fromarray(np.full((40, 48, 3), 40 * i, np.uint8)).save(mixed / "neither" / f"{i}.png")
    readable = pictures(mixed)
    (mixed / "lying" / "빈 파일.png").write_bytes(b"")
    found = evaluate(finished[0], mixed, reject=0.25)
    assert list(found.predictions.names) == [path.relative_to(mixed).as_posix() for path in readable]
    said = dict(zip(readable, tapetum.load(finished[0]).predict(readable, reject=0.25), strict=True))
    strangers = [answer for path, answer in said.items() if path.parent.name == "neither"]
    assert (found.strangers.n, found.strangers.value) == (6, strangers.count("neither") / 6)
    for metrics, seen in ((found.metrics, False), (found.trained_on, True)):
        asked = [path for path in readable if path.parent.name != "neither" and trained(path) is seen]
        answered = [path for path in asked if said[path] != "neither"]
        assert 0 < len(answered) == metrics.accuracy.n
        assert metrics.accuracy.value == pytest.approx(np.mean([said[path] == path.parent.name for path in answered]))
        if not seen:
            assert len(answered) < 32
            assert (found.answered.n, found.answered.value) == (32, len(answered) / 32)
    lines = found.text().splitlines()
    assert lines[:2] == [f"answered {found.answered}; of these:", f"accuracy {found.metrics.accuracy}"]
    assert lines[-4:] == [
        f"Of the pictures of no class, called 'neither': {found.strangers}",
        f"On the pictures it was trained on: {found.trained_on.accuracy}",
        found.note,
        "left out: lying/빈 파일.png: empty file",
    ]
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (told["answered"]["n"], told["unreadable"]) == (32, {"lying/빈 파일.png": "empty file"})
    assert evaluate(finished[0], finished[1], reject=0.25).strangers is None


def test_one_class_is_enough_to_judge(finished, trained, tmp_path):
    """Its recall, counted by hand."""
    lying = shutil.copytree(finished[1] / "lying", tmp_path / "one" / "lying")
    new = [path for path in pictures(lying) if not trained(path)]
    said = list(tapetum.load(finished[0]).predict(new))
    found = evaluate(finished[0], tmp_path / "one")
    recall = {each.name: each.recall for each in found.metrics.classes}
    assert (recall["lying"].value, recall["lying"].n) == (said.count("lying") / len(new), len(new))
    assert recall["upright"].n == 0
    assert found.metrics.accuracy.value == recall["lying"].value
    assert f"accuracy {found.metrics.accuracy}" in found.text()
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(UserError, match="only one class, 'lying': a classifier needs at least two"):
        tapetum.train(tmp_path / "one", tmp_path / "run", say=lambda line: None)


def test_of_strangers_alone_the_share_that_is_rejected_is_told(finished, tmp_path):
    (tmp_path / "neither").mkdir()
    for i in range(6):
        Image.fromarray(np.full((40, 48, 3), 40 * i, np.uint8)).save(tmp_path / "neither" / f"{i}.png")
    found = evaluate(finished[0], tmp_path, reject=0.25)
    said = list(tapetum.load(finished[0]).predict(pictures(tmp_path), reject=0.25))
    assert (found.strangers.value, found.strangers.n) == (said.count("neither") / 6, 6)
    assert (found.metrics, found.trained_on, found.answered) == (None, None, None)
    assert found.labels == ("neither",) * 6
    assert (
        found.text()
        == f"No picture is of a class that it knows.\nOf the pictures of no class, called 'neither': {found.strangers}"
    )
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["metrics"] is None
    with pytest.raises(UserError, match="class 'neither' of the data was not in the training.* --reject tells it apart"):
        evaluate(finished[0], tmp_path)


def test_where_no_new_picture_gets_an_answer_those_that_trained_do_not_stand_in(finished, tmp_path):
    mixed = shutil.copytree(finished[1], tmp_path / "mixed")
    for path in (mixed / "lying").glob("*.png"):  # of its own pictures only the upright ones
        path.unlink()
    with (finished[0] / "splits.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] != "train":
                (mixed / row["path"]).unlink(missing_ok=True)
    for i in range(3):
        Image.new("RGB", (40, 48), (90 * i,) * 3).save(mixed / "lying" / f"{i}.png")
    with pytest.raises(UserError, match=r"reject 0.25: none of the 3 new pictures gets an answer.*Expected a smaller share"):
        evaluate(finished[0], mixed, reject=0.25)


def test_another_programs_splits_are_named_in_a_run_and_passed_over_beside_a_lonely_file(finished, tmp_path):
    shutil.copy2(finished[0] / "model.safetensors", tmp_path)
    (tmp_path / "splits.csv").write_text("id,fold\n1,2\n")
    assert evaluate(tmp_path / "model.safetensors", finished[1]).metrics.accuracy.n == 80
    shutil.copy2(finished[0] / "settings.toml", tmp_path)
    with pytest.raises(UserError, match=r"splits.csv is not what a training wrote \(ValueError: no column 'path'\)"):
        evaluate(tmp_path / "model.safetensors", finished[1])


def test_data_without_a_single_picture_are_refused(finished, tmp_path):
    for name in ("lying/1.png", "lying/2.png", "upright/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=rf"no picture that can be read among 3 files of {tmp_path} to evaluate"):
        evaluate(finished[2], tmp_path)
