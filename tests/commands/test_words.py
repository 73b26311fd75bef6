"""What the commands say of what they did: each answer where they are few, files written, files replaced."""

import csv

from tapetum.commands.judging import _answers_in_short


def test_few_pictures_are_answered_one_by_one(tapetum, plain_run, stripes, tmp_path):
    some = sorted((stripes / "lying").iterdir())[:2]
    out = tmp_path / "p.csv"
    code, first, _ = tapetum("predict", plain_run, *some, "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [f"{row['path']}  {row['label']} {float(row['probability']) * 100:.1f} %" for row in rows]
    assert (code, first.splitlines()[:2]) == (0, lines)
    assert f"written:  {out}\n" in first
    assert "without a picture" not in first
    assert f"replaced: {out}\n" in tapetum("predict", plain_run, *some, "--out", out)[1]
    assert "upright.1.png  " not in tapetum("predict", plain_run, stripes, "--out", out)[1]


def test_none_rejected_is_said_too():
    assert _answers_in_short(3, {"cat": 2, "dog": 1}, 0, 0.05) == "3 pictures: cat 2, dog 1, neither 0"
    assert _answers_in_short(3, {"cat": 2, "neither": 1}, 1, 0.05) == "3 pictures: cat 2, neither 1; 1 file without a picture"
    assert _answers_in_short(1, {"cat": 1}, 0, 0.0) == "1 picture: cat 1"


def test_evaluate_and_compare_say_what_they_wrote(tapetum, plain_run, crossed_run, tmp_path):
    from conftest import write_stripes

    others, out = write_stripes(tmp_path / "others", seed=9), tmp_path / "e.csv"
    assert f"\n\nwritten:  {out}\nnext: " in tapetum("evaluate", plain_run, others, "--out", out)[1]
    told = tapetum("compare", plain_run, crossed_run, others, "--out", out)[1]
    assert told.startswith(f"A is {plain_run}, B is {crossed_run}\nA ")
    assert f"\n\nreplaced: {out}\nnext: " in told
    assert "--out writes all" not in told
    assert "A is" not in tapetum("compare", plain_run, crossed_run, others, "--json")[1]


def test_the_notes_file_is_csv(tapetum, plain_run, stripes, tmp_path):
    code, _, said = tapetum("predict", plain_run, stripes, "--kaggle", "--out", tmp_path / "x.parquet")
    assert (code, "--kaggle writes CSV: expected --out" in said) == (2, True)
    assert not (tmp_path / "x.parquet").exists()
