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


def test_what_is_no_run_or_no_picture_is_called_by_its_name(tapetum, plain_run, stripes, tmp_path):
    picture, graph, out = next((stripes / "lying").iterdir()), tmp_path / "photos.onnx", tmp_path / "out"
    graph.write_bytes(b"graph")
    for arguments, said in (
        (("predict", plain_run, plain_run), f"{plain_run} is a run, not pictures"),
        (("predict", picture, plain_run), f"{picture} is no run, but {plain_run} is: expected the run first"),
        (("predict", stripes, plain_run), f"{stripes} is no run, but {plain_run} is: expected the run first"),
        (("predict", picture, stripes), f"{picture} is a picture, not a run"),
        (("evaluate", stripes, plain_run), f"{stripes} is no run, but {plain_run} is"),
        (("evaluate", plain_run, plain_run), f"{plain_run} is a run, not pictures"),
        (("compare", plain_run, picture, stripes), f"{picture} is a picture, not a run"),
        (("explain", graph, stripes, "--out", out), f"{graph} is an ONNX file, which only answers: expected the run folder"),
        (("export", graph, "--card", out), f"{graph} is an ONNX file"),
        (("report", graph), f"{graph} is an ONNX file"),
        (("labels", graph), f"{graph} is an ONNX file"),
        (("serve", picture), f"{picture} is a picture, not a run"),
    ):
        code, told, err = tapetum(*arguments)
        assert (code, told, err.count("\n")) == (2, "", 1), err
        assert said in err


def test_a_class_alone_is_not_sent_to_a_training(tapetum, stripes):
    assert tapetum("check", stripes)[1].endswith(f"next:     tapetum train {stripes}\n")
    for path in (stripes / "upright").iterdir():
        path.write_bytes(b"") if path.name == "upright.0.png" else path.unlink()
    assert "name the folder above: this looks like one class" in tapetum("check", stripes)[1]


def test_what_is_printed_in_a_session_is_short(plain_run):
    import tapetum as package
    from tapetum.run import Run

    classifier = package.load(plain_run)
    side = classifier.preprocessing.size
    assert repr(classifier) == f"Classifier({classifier.network_name}, {side} px, classes lying, upright)"
    assert repr(Run(classifier, {}, plain_run)) == f"Run({plain_run})"
