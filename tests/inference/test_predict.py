import csv

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tapetum import models
from tapetum.data.prepare import Preprocessing
from tapetum.data.sources import find_pictures
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier
from tapetum.inference.predict import Predictions, predict_samples, write_kaggle, write_predictions


@pytest.fixture
def found(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    generator = np.random.default_rng(0)
    for name in ("dog.10.png", "cat.2.png", 'odd, "name".png'):
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"")
    torch.manual_seed(0)
    classifier = Classifier(models.build("lenet", 2, 32).eval(), "lenet", ("cat", "dog"), Preprocessing(32, "crop", 36, 64, 3))
    return predict_samples(classifier, find_pictures([root]))


def test_every_readable_file_is_a_row_and_the_others_are_listed(found):
    frame = found.frame()
    assert list(frame.columns) == ["path", "label", "probability", "p_cat", "p_dog", "reason"]
    assert frame["path"].tolist() == ["cat.2.png", "dog.10.png", 'odd, "name".png', "broken.jpg"]
    assert frame["reason"].tolist() == ["", "", "", "empty file"]
    frame = frame[frame["reason"] == ""]
    assert np.allclose(frame["p_cat"] + frame["p_dog"], 1)
    assert (frame["probability"] == frame[["p_cat", "p_dog"]].max(axis=1)).all()
    assert found.unreadable == (("broken.jpg", "empty file"),)
    assert found.rows.tolist() == [1, 2, 3]


def test_the_csv_reads_back_to_the_bit(found, tmp_path):
    write_predictions(found, tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    assert (table["p_dog"][:3].to_numpy() == found.probabilities_NK[:, 1]).all()
    assert table["path"].tolist()[3] == "broken.jpg"
    assert table["reason"].tolist()[3] == "empty file"
    assert table["label"].isna().tolist() == [False, False, False, True]
    assert (tmp_path / "out.csv").read_text() == found.frame().to_csv(index=False, lineterminator="\n")


def test_the_notes_file_is_sorted_by_id_as_a_number(tmp_path):
    names = ("Dog/dog.113.jpg", "Cat/cat.15.jpg", "Dog/dog.15.jpg", "Cat/cat.2.jpg")
    p_NK = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert write_kaggle(("Cat", "Dog"), names, p_NK, tmp_path / "k.csv") == ("Dog", 1)
    with (tmp_path / "k.csv").open() as file:
        assert list(csv.reader(file)) == [["id", "label"], ["2", "0.4"], ["15", "0.2"], ["15", "0.7"], ["113", "0.9"]]


def test_the_notes_file_needs_two_classes_and_numbers(tmp_path):
    with pytest.raises(UserError, match="two classes; this one has 3"):
        write_kaggle(("a", "b", "c"), ("1.jpg",), np.ones((1, 3)) / 3, tmp_path / "k.csv")
    with pytest.raises(UserError, match=r"'x.jpg' holds no number"):
        write_kaggle(("a", "b"), ("x.jpg",), np.ones((1, 2)) / 2, tmp_path / "k.csv")
    assert not (tmp_path / "k.csv").exists()


def test_names_that_are_no_utf8_are_escaped_alike_in_csv_parquet_and_pandas(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow (extra parquet)")
    latin = b"\xe9t\xe9".decode("utf-8", "surrogateescape")
    lost = ((f"{latin}.gif", "empty"),)
    p_NK = np.array([[0.25, 0.75]] * 2)
    found = Predictions(("a", latin), (f"{latin}.png", "b.png"), np.arange(2), p_NK, ("0", "1"), lost)
    write_predictions(found, tmp_path / "out.csv")
    write_predictions(found, tmp_path / "out.parquet")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(frame.columns)
    for name in ("path", "label", "reason"):
        assert [row[header.index(name)] for row in rows] == frame[name].tolist()
    assert frame["path"].tolist() == [r"\udce9t\udce9.png", "b.png", r"\udce9t\udce9.gif"]
    assert list(found.frame().columns) == ["path", "label", "probability", "p_a", r"p_\udce9t\udce9", "reason"]
    assert found.names[0] == f"{latin}.png"  # by which it can be opened


def test_no_cell_is_a_formula(tmp_path):
    names = ("=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", "plain=.png")
    p_NK = np.array([[0.25, 0.75]] * 6)
    found = Predictions(("=cmd|' /C calc'!A0", "@dog"), names, np.arange(6), p_NK, names, (("-broken.png", "empty file"),))
    write_predictions(found, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=1+1.png", "plain=.png", "'-broken.png", "'@dog", "0.75"} <= set(cells)
