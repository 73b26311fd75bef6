"""The command line as a person meets it: help, answers on stdout, talk on stderr, one sentence and exit code 2."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tapetum import cli

QUICK = ["--model", "compact", "--size", "32", "--epochs", "2", "--batch", "16", "--rotate", "0", "--mixup", "0"]


@pytest.fixture
def trained(tapetum, stripes, tmp_path):
    code, out, _ = tapetum("train", stripes, "--out", tmp_path / "run", *QUICK)
    assert code == 0
    return tmp_path / "run", out


def sentence(result):
    """The one sentence of a refused command."""
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("tapetum: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def test_help_needs_no_torch():
    script = "import sys; sys.argv = ['tapetum', '--help']\nfrom tapetum.__main__ import main\n"
    script += "try: main()\nexcept SystemExit: pass\n"
    script += "print('LOADED', [m for m in ('torch', 'numpy', 'pandas', 'matplotlib', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for command in ("demo", "train", "evaluate", "predict", "export", "models", "summary"):
        assert command in done.stdout


def test_help_names_every_command_in_a_sentence_within_the_terminal(tapetum, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, err = tapetum("--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 60
    begins = re.findall(r"^  (\w+) +(.*)$", out, re.MULTILINE)
    assert [name for name, _ in begins] == list(cli._COMMANDS)
    assert all(words and words in cli._COMMANDS[name].__doc__ for name, words in begins)
    assert tapetum() == (2, "", out)  # nothing asked: the same, as a mistake


@pytest.mark.parametrize("command", sorted(cli._COMMANDS))
def test_every_command_explains_itself(tapetum, command):
    code, out, _ = tapetum(command, "--help")
    assert code == 0
    assert f"usage: tapetum {command}" in out
    assert "{None}" not in out  # which would tell a reader nothing


def test_a_prediction_loads_nothing_that_it_does_not_use(trained, stripes, tmp_path):
    # Each of these takes half a second or more: torch's compiler, and libraries for trainings and pages.
    script = "import sys; from tapetum.cli import run; run(sys.argv[1:]); print(*sys.modules)"
    arguments = ["predict", trained[0], stripes, "--out", tmp_path / "p.csv"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert {"torch._dynamo", "sympy", "sklearn", "matplotlib", "torchvision"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare", "explain", "report", "labels", "serve", "export"])
def test_a_run_that_is_not_there_is_told_at_once(stripes, tmp_path, command):
    """Before torch, which takes seconds, is imported; with the name that was meant."""
    meant, typed = tmp_path / "photos-2", tmp_path / "fotos-2"
    meant.mkdir()
    after = {"compare": [typed, stripes], "export": ["--card", tmp_path / "card.md"]}.get(command, [])
    after = [stripes] if command in ("predict", "evaluate", "explain") else after
    script = "import sys; from tapetum.cli import run\ntry: run(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, command, typed, *after], capture_output=True, text=True, check=False)
    assert f"{typed} does not exist. Did you mean 'photos-2'? Expected a run folder" in done.stderr
    assert done.stdout == "False\n"


def test_version(tapetum):
    assert tapetum("--version")[1].startswith("tapetum 0.")


def test_train_answers_on_stdout_and_names_the_next_command(trained):
    folder, out = trained
    assert out.startswith("validation: accuracy ")
    assert "always answering 'lying' would give 50.0 %" in out
    assert out.splitlines()[-1] == f"next:     tapetum predict {folder} PICTURES"


def test_evaluate_and_predict_agree(tapetum, trained, stripes, tmp_path):
    folder, _ = trained
    assert tapetum("evaluate", folder, stripes, "--out", tmp_path / "e.csv")[0] == 0
    code, out, _ = tapetum("predict", folder, stripes, "--out", tmp_path / "p.csv", "--grid", tmp_path / "g.png")
    assert code == 0
    with (tmp_path / "e.csv").open() as evaluated, (tmp_path / "p.csv").open() as predicted:
        for one, other in zip(csv.DictReader(evaluated), csv.DictReader(predicted), strict=True):
            assert one.pop("label") == one["path"].split("/")[0]  # what it is, which a prediction does not know
            assert list(one) == ["path", "predicted", "probability", "p_lying", "p_upright", "reason"]
            assert {**one, "label": one["predicted"]} == {**other, "predicted": other["label"]}
    assert out.startswith("80 pictures: ")
    assert Image.open(tmp_path / "g.png").size[0] > 300


def test_strangers_get_no_answer(tapetum, stripes, tmp_path):
    run, out = tmp_path / "run", tmp_path / "predictions.csv"
    tapetum("train", stripes, "--out", run, "--val", "0.4", *QUICK)
    strangers = tmp_path / "neither"
    strangers.mkdir()
    for i in range(5):
        Image.new("RGB", (40, 48), (50 * i, 200, 0)).save(strangers / f"{i}.png")
    code, told, _ = tapetum("predict", run, strangers, "--out", out, "--reject", "0.05")
    assert code == 0
    assert "5 pictures: neither 5\n" in told
    assert "0.png  neither\n" in told
    with out.open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["neither"] * 5
    code, told, _ = tapetum("evaluate", run, stripes, "--reject", "0.05")
    assert told.startswith("answered ")
    assert "0.031 or more" in sentence(tapetum("predict", run, strangers, "--out", out, "--reject", "0.01"))


def test_no_command_touches_the_pictures(tapetum, stripes, tmp_path):
    def tree():
        return {p: (p.read_bytes() if p.is_file() else None, p.stat().st_mtime_ns) for p in stripes.rglob("*")}

    before, run = tree(), tmp_path / "run"
    many = ("--model", "lenet-now", "--size", "32", "--start-size", "32", "--epochs", "3", "--minutes", "2")
    for command in (
        ("check", stripes, "--out", tmp_path / "check.html"),
        ("tune", stripes, "--out", tmp_path / "tuned", "--trials", "1", *many),
        ("grow", stripes, "--out", tmp_path / "grown", "--seeds", "1", *many),
        ("pack", stripes, tmp_path / "shards", "--shard-mb", "0.1"),
        ("train", stripes, "--out", run, "--folds", "2", *QUICK),
        ("labels", run, "--out", tmp_path / "labels.html", "--csv", tmp_path / "labels.csv"),
        ("evaluate", run, stripes, "--out", tmp_path / "evaluated.csv"),
        ("compare", run, run, stripes, "--out", tmp_path / "compared.csv"),
        ("predict", run, stripes, "--out", tmp_path / "predicted.csv", "--grid", tmp_path / "grid.png"),
        ("explain", run, stripes, "--out", tmp_path / "explained", "--most", "1"),
        ("report", run, "--data", stripes),
        ("export", run, "--onnx", tmp_path / "run.onnx", "--card", tmp_path / "README.md"),
    ):
        code, _, _ = tapetum(*command)
        # Both runs have seen all of these, so there is nothing to compare; the pictures are read all the same.
        assert code == (2 if command[0] == "compare" else 0), command[0]
        assert tree() == before, command[0]


def test_every_command_takes_shards(tapetum, trained, stripes, tmp_path):
    run, shards = trained[0], tmp_path / "조각 들"
    code, out, err = tapetum("pack", stripes, shards, "--shard-mb", "0.1")
    assert code == 0
    assert out.startswith("80 pictures (lying 40, upright 40) in 8 shards, ")
    assert out.splitlines()[-1] == f"next:     tapetum train '{shards}'"
    assert f"{stripes}: class folders, 80 files" in err
    before = {path: path.read_bytes() for path in shards.iterdir()}
    assert "holds shards already" in sentence(tapetum("pack", stripes, shards))
    told = json.loads(tapetum("pack", shards, tmp_path / "again", "--json")[1])
    assert (told["pictures"], told["left_out"], "members" in told["shards"][0]) == (80, {}, False)
    for name in ("folder", "shards"):
        data = stripes if name == "folder" else shards / "tapetum-shards.json"
        assert tapetum("evaluate", run, data, "--out", tmp_path / f"{name}-e.csv")[0] == 0
        assert tapetum("predict", run, data, "--out", tmp_path / f"{name}-p.csv")[0] == 0
        assert tapetum("check", data)[0] == 0
        assert tapetum("explain", run, data, "--out", tmp_path / f"{name}-explained", "--most", "1")[0] == 0
    for kind in "ep":
        assert (tmp_path / f"folder-{kind}.csv").read_bytes() == (tmp_path / f"shards-{kind}.csv").read_bytes()
    for data in (shards, shards / "tapetum-shards.json"):
        assert "lies inside" in sentence(tapetum("predict", run, data, "--out", shards / "p.csv"))
        assert "lies inside" in sentence(tapetum("train", data, "--out", shards / "run"))
    assert {path: path.read_bytes() for path in shards.iterdir()} == before


def test_json_is_one_object_and_nothing_else(tapetum, trained, stripes, tmp_path):
    folder, _ = trained
    found = json.loads(tapetum("evaluate", folder, stripes, "--json")[1])
    assert found["metrics"]["accuracy"]["n"] == 16
    assert json.loads(tapetum("predict", folder, stripes, "--out", tmp_path / "p.csv", "--json")[1])["files"] == 80
    names = [row["name"] for row in json.loads(tapetum("models", "--json")[1])["models"]]
    assert {"lenet-table", "lenet-textbook", "lenet", "alexnet-textbook", "alexnet"} <= set(names)
    assert json.loads(tapetum("summary", "lenet-textbook", "--json")[1])["params"] == 46_038_242


def test_kaggle_writes_the_notes_file(tapetum, trained, stripes, tmp_path):
    folder, _ = trained
    code, _, err = tapetum("predict", folder, stripes / "upright", "--kaggle", "--out", tmp_path / "k.csv")
    assert code == 0
    lines = (tmp_path / "k.csv").read_text().splitlines()
    assert lines[0] == "id,label"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(40))
    assert "label is the probability of upright" in err


def test_settings_can_be_given_back_and_flags_win(tapetum, trained, stripes, tmp_path):
    folder, _ = trained
    again = tmp_path / "again"
    code, _, err = tapetum("train", stripes, "--settings", folder / "settings.toml", "--out", again, "--epochs", "1")
    assert code == 0
    assert "1 epoch of 4 steps" in err
    text = (again / "settings.toml").read_text()
    assert 'model = "compact"' in text
    assert "size = 32" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["photos", "--resume"],
        ["--resume", "photos"],
        ["--epochs", "3", "photos", "--resume"],
        ["elsewhere", "--resume", "--out", "runs/photos"],
        ["elsewhere", "--out=runs/photos", "--epochs=3", "--resume"],
        ["--settings=runs/photos/settings.toml", "photos"],
    ],
)
def test_a_resumed_training_takes_the_settings_of_its_run(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "photos").mkdir(parents=True)
    (tmp_path / "runs" / "photos" / "settings.toml").write_text("[asked]\nmembers = 2\nepochs = 7\n")
    found = cli._with_settings(["train", *arguments])
    given = [word for word in arguments if not word.startswith("--settings")]
    named = any("--epochs" in word for word in arguments)
    assert found == ["train", "--members", "2", *([] if named else ["--epochs", "7"]), *given]


def test_a_bad_picture_is_listed_and_the_others_are_predicted(tapetum, trained, tmp_path):
    folder, _ = trained
    place = tmp_path / "사진 폴더"
    place.mkdir()
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(place / "good.png")
    code, out, err = tapetum("predict", folder, place, "--out", tmp_path / "p.csv")
    assert code == 0
    assert "1 file without a picture" in out
    assert "not predicted: broken.jpg: " in err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train", "{tmp}/none"], "none does not exist"),
        (["train", "{tmp}/empty"], "is empty: expected pictures"),
        (["train", "{tmp}/single"], "only one class, 'cat'"),
        (["train", "{tmp}/photo.jpg"], "neither a folder, a CSV file nor a zip or tar archive"),
        (["train", "{data}", "--model", "lennet"], "Did you mean 'lenet'?"),
        (["train", "{data}", "--lr", "-1"], "lr is -1.0: expected a number from"),
        (["train", "{data}", "--out", "{tmp}/photo.jpg"], "is a file: expected a folder"),
        (["train", "{data}", "--out", "{data}/run"], "lies inside the pictures"),
        (["train", "{data}", "--model", "lenet", "--size", "11"], "conv2 (kernel 5x5) does not fit its 3x3"),
        (["train", "{data}", "--numbers", "x"], "expected a range such as 0-250"),
        (["train", "{data}", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
        (["train", "{data}", "--device", "cpu,cpu"], "compact on 2 devices: expected one device"),
        (
            ["train", "{data}", "--model", "alexnet-2012", "--size", "99", "--device", "cpu,cpu,cpu"],
            "3 device(s) for two columns",
        ),
        (["train", "{data}", "--model", "alexnet-2012", "--size", "99", "--device", "cpu,"], "device '' cannot be used here"),
        (["train", "{data}", "--recipe", "paper"], "expected one of lenet5-1998, alexnet-2012"),
        (["train", "{data}", "--model", "lenet5-1998", "--size", "31"], "the smallest size that fits is 32"),
        (["summary", "lenet5-1998", "--classes", "169"], "169 classes: expected at most 168"),
        (["summary", "alexnet-2012", "--size", "62"], "the smallest size that fits is 67"),
        (["summary", "AvgPool2d((3,2))"], "expected --size"),
        (["summary", "AvgPol2d(2)", "--size", "5"], "Did you mean 'AvgPool2d'?"),
        (["train", "{data}", "--resume", "--out", "{tmp}/new"], "holds no checkpoint to resume from"),
        (["train", "{data}", "--settings", "{tmp}/none.toml"], "could not read the settings file"),
        (["summary", "alexnt"], "Did you mean 'alexnet'?"),
        (["summary", "lenet", "--classes", "1"], "1 classes: a classifier needs at least two"),
        (["summary", "lenet", "--size", "10000000000"], "size 10000000000"),
        (["predict", "{tmp}/photo.jpg", "{data}"], "photo.jpg is a picture, not a run"),
        (["predict", "{tmp}/none", "{data}"], "does not exist"),
        (["evaluate", "{tmp}/empty", "{data}"], "holds no model.safetensors"),
        (["labels", "{tmp}/empty"], "holds no predictions.csv: expected the folder of a finished run"),
        (["report", "{tmp}/empty"], "holds no model.safetensors: expected the folder of a finished run"),
        (["explain", "{tmp}/empty", "{data}"], "holds no model.safetensors"),
        (["explain", "{tmp}/none"], "explain needs PICTURES"),
        (["predict", "{tmp}/none", "{data}", "--out", "{tmp}/p.csv", "--kind", "parquet"], "expected --out FOLDER, not"),
        (["predict", "{tmp}/none", "{data}", "--rows", "100"], "--kind and --rows are for the parts of a folder"),
        (["export", "{tmp}/none", "--card", "{tmp}/c.md", "--int8"], "--int8 says how an ONNX file is written"),
        (["pack", "{data}", "{data}/shards"], "lies inside the pictures"),
        (["pack", "{data}", "{tmp}"], "holds files of another kind"),
        (["pack", "{data}", "{tmp}/new", "--shard-mb", "0"], "shard-mb is 0: expected a number of megabytes"),
        (["pack", "{data}", "https://host/shards"], "https://host/shards is an address: expected a folder on this machine"),
        (["train", "pipe:cat"], "'pipe' is no kind of address that is read"),
        (["demo", "--out", "{tmp}/photo.jpg"], "photo.jpg"),
        (["demo", "--out", "/proc/nope"], "could not write /proc/nope"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tapetum, stripes, tmp_path, arguments, what):
    (tmp_path / "empty").mkdir()
    (tmp_path / "single" / "cat").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "single" / "cat" / "1.jpg")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    said = sentence(tapetum(*(a.format(tmp=tmp_path, data=stripes) for a in arguments)))
    assert what in said
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments", [["trian", "x"], ["train"], ["train", "x", "--epoch", "3"], ["train", "x", "--fit", "cut"]]
)
def test_a_flag_that_is_none_ends_with_code_2(tapetum, arguments):
    code, _, err = tapetum(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_a_report_goes_where_it_is_asked_for_but_not_among_the_pictures(tapetum, trained, stripes, tmp_path):
    folder, _ = trained
    code, out, _ = tapetum("report", folder, "--lang", "ko", "--out", tmp_path / "보고서.html")
    assert code == 0
    assert out.splitlines()[0] == f"look at:  {tmp_path / '보고서.html'}"
    assert '<html lang="ko">' in (tmp_path / "보고서.html").read_text(encoding="utf-8")
    assert json.loads(tapetum("report", folder, "--json")[1]) == {"page": str(folder / "report.html")}
    assert "lies inside the pictures" in sentence(tapetum("report", folder, "--out", stripes / "r.html"))


def test_predictions_are_not_written_among_the_pictures(tapetum, trained, stripes):
    folder, _ = trained
    for command in ("predict", "evaluate"):
        assert "lies inside the pictures" in sentence(tapetum(command, folder, stripes, "--out", stripes / "p.csv"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_goes_on_where_it_stopped(tapetum, stripes, tmp_path, number, code):
    command = [sys.executable, "-m", "tapetum", "train", str(stripes), "--out", str(tmp_path / "run"), *QUICK[:4]]
    command += ["--epochs", "24"]

    def stopped(*more):
        process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in process.stderr:
            if line.startswith("epoch"):
                process.send_signal(number)
                break
        talk = process.communicate(timeout=60)[1]
        assert process.returncode == code
        return talk.split("go on with: ")[1].strip()

    to_go_on = f"tapetum train {stripes} --out {tmp_path / 'run'} --resume"
    assert stopped() == to_go_on
    assert stopped("--resume", "--micro-batch", "4") == f"{to_go_on} --micro-batch 4"
    assert not (tmp_path / "run" / "model.safetensors").exists()
    settings = (tmp_path / "run" / "settings.toml").read_text()
    refused = sentence(tapetum("train", stripes, "--out", tmp_path / "run", "--resume", "--epochs", "9"))
    assert "epochs was 24 and is 9" in refused
    assert (tmp_path / "run" / "settings.toml").read_text() == settings
    assert tapetum("train", stripes, "--out", tmp_path / "run", "--resume")[0] == 0
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 24


def cpu_seconds(*arguments):
    """Least processor time of three processes: the machine may be busy with others."""

    def once():
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    return min(once() for _ in range(3))


def test_prediction_waits_for_no_library_that_it_does_not_need(plain_run, tmp_path):
    picture = next((plain_run.parent / "stripes" / "upright").iterdir())
    script = "import sys; from tapetum.__main__ import main\nmain()\n"
    script += (
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})\nprint('COMPILER', 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "predict", plain_run, picture, "--out", tmp_path / "out.csv"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = said[said.index("LOADED") :].split()
    assert {"torch", "numpy", "PIL", "safetensors"} <= set(loaded)
    assert not {"pandas", "scipy", "sklearn", "matplotlib", "torchvision", "jinja2"} & set(loaded)
    assert "COMPILER False" in said


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of one process is asked for")
def test_help_and_import_come_at_once():
    # The floors are Python itself, and the library that reads the command line.
    assert cpu_seconds("-c", "import tapetum") < cpu_seconds("-c", "pass") + 0.15
    # Tried up to three times: the clock of a shared machine may change between the two.
    assert any(cpu_seconds("-m", "tapetum", "--help") < cpu_seconds("-c", "import tyro") + 0.15 for _ in range(3))
