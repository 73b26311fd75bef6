"""The program in several processes: by --processes, by torchrun, started again after kills, and asked to stop."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import write_stripes
from launching import QUICK, ROOT, distance, environment, log, run, torchrun
from tapetum.__main__ import main
from tapetum.commands.launch import _without_the_flag

TAPETUM = [sys.executable, "-m", "tapetum"]
MORTAL = ROOT / "torture" / "mortal.py"
FLAGS = [*QUICK, "--start-size", "32", "--optimizer", "sgd", "--lr", "0.05", "--mixup", "0.2", "--precision", "float32"]
# BatchNorm makes much of rounding.
PLAIN, COMPACT = [*FLAGS, "--model", "lenet"], [*FLAGS, "--model", "compact"]


@pytest.fixture
def data(tmp_path):
    return write_stripes(tmp_path / "data", 20)


def test_the_flag_is_left_out_for_the_processes():
    given = ["train", "a", "--processes", "2", "--out", "b", "--processes=3"]
    assert _without_the_flag(given) == ["train", "a", "--out", "b"]


def test_train_evaluate_and_predict_in_two_processes_say_what_one_says(data, tmp_path, monkeypatch, capsys, one_thread):
    said = {}
    for number in (1, 2):
        out = tmp_path / f"run-{number}"
        found = []
        for command in (
            ["train", data, "--out", out, *PLAIN],
            ["evaluate", tmp_path / "run-1", data],
            ["predict", tmp_path / "run-1", data, "--out", tmp_path / f"{number}.csv"],
        ):
            arguments = [*map(str, command), "--json"]
            if number == 1:
                monkeypatch.setattr(sys, "argv", ["tapetum", *arguments])
                main()
                answer, talk = capsys.readouterr()
            else:
                ended = run([*TAPETUM, *arguments, "--processes", "2"])
                answer, talk = ended.stdout, ended.stderr
                assert ended.returncode == 0, talk[-2000:]
            found.append(json.loads(answer))  # one answer, by one process
            if command[0] == "train":
                assert talk.count("read 40 files in") == 1
                assert ("2 processes" in talk) == (number == 2)
        found[0].pop("folder")
        found[2].pop("out")
        said[number] = found
    assert said[1][1:] == said[2][1:]
    assert said[1][0]["metrics"]["val"]["accuracy"] == said[2][0]["metrics"]["val"]["accuracy"]
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert distance(tmp_path / "run-1", tmp_path / "run-2") < 1e-4


def test_a_mistake_is_one_sentence_and_the_program_ends_with_2(data, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").touch()
    ended = run([*TAPETUM, "train", data, "--out", tmp_path / "other", *COMPACT, "--processes", "2"])
    assert ended.returncode == 2
    assert ended.stderr.count("holds files of another kind") == 1
    assert "Traceback" not in ended.stderr


# The first process, which writes; and three: before there is a checkpoint, in the middle, and the first.
@pytest.mark.parametrize(
    ("kills", "resumed", "lost"),
    [("0:0:5", 1, 0), pytest.param("0:1:1,1:0:5,2:1:9", 2, 1, marks=pytest.mark.slow)],
    ids=["one", "three"],
)
def test_after_kills_the_training_ends_as_the_unbroken_one(data, tmp_path, kills, resumed, lost):
    options = ["train", data, *COMPACT, "--epochs", "6"]
    whole = run(torchrun(2, *options, "--out", tmp_path / "whole", script=MORTAL))
    killed = run(torchrun(2, *options, "--out", tmp_path / "killed", script=MORTAL, restarts=3), MORTAL=kills)
    assert (whole.returncode, killed.returncode) == (0, 0), killed.stderr[-3000:]
    assert killed.stderr.count("resumed in epoch") == resumed
    assert f"rank {lost} of 2 on " in killed.stderr
    assert distance(tmp_path / "whole", tmp_path / "killed") == 0
    assert log(tmp_path / "whole") == log(tmp_path / "killed")


def test_what_is_started_again_does_not_take_another_run_for_its_own(data, tmp_path):
    run([*TAPETUM, "train", data, "--out", tmp_path / "run", *COMPACT, "--epochs", "1"])
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = run(torchrun(2, "train", data, "--out", tmp_path / "run", *COMPACT, restarts=1))
    assert again.returncode != 0
    assert again.stderr.count("holds a run already") == 2  # once each time
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("victim", ["one", "all"])
def test_ctrl_c_saves_and_a_killed_process_is_named(data, tmp_path, victim):
    command = [*TAPETUM, "train", data, "--out", tmp_path / "run", *COMPACT, "--epochs", "100000", "--keep", "best"]
    command += ["--processes", "2"]
    started = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
    )
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    begun = time.monotonic()
    if victim == "all":
        started.send_signal(signal.SIGINT)
    else:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
    try:
        _, said = started.communicate(timeout=60)
    finally:
        started.terminate()
    assert time.monotonic() - begun < 20
    assert "Traceback" not in said
    if victim == "all":
        assert started.returncode == 130
        (step,) = re.findall(r"stopped after step ([\d,]+) of", said)
        assert "--resume --processes 2" in said
        newest = max((tmp_path / "run" / "checkpoint").glob("state-*"))
        assert int(newest.stem.split("-")[1]) == int(step.replace(",", ""))
    else:
        assert started.returncode == 3
        assert re.search(r"rank \d of 2 on \S+ was ended by SIGKILL", said)
