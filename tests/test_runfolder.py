"""Judges: other processes that want the same folder, and the file system."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from tapetum.errors import UserError
from tapetum.files import claim
from tapetum.runfolder import begin, newest

# Claims the folder if it can, and then holds it until its stdin ends.
CLAIMANT = """
import sys
from pathlib import Path
from tapetum.errors import UserError
from tapetum.files import claim
try:
    with claim(Path(sys.argv[1]), "training"):
        (Path(sys.argv[1]) / "settings.toml").touch()
        print("holds", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error, flush=True)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMANT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_of_many_that_start_at_once_one_runs(tmp_path):
    folder = tmp_path / "한 실행"
    claimants = [start(folder) for _ in range(6)]
    said = [each.stdout.readline().strip() for each in claimants]
    assert said.count("holds") == 1
    refused = f"another training is writing to {folder}: wait until it has ended, or choose another folder."
    assert said.count(refused) == 5
    holder = claimants[said.index("holds")]
    holder.kill()  # the lock goes with the process
    holder.wait()
    with claim(folder, "training"):
        pass
    for each in claimants:
        each.communicate()


def test_a_folder_to_which_nothing_was_written_goes_again(tmp_path):
    folder = tmp_path / "runs" / "new"
    with pytest.raises(ZeroDivisionError), claim(folder, "training"):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()
    with claim(folder, "training"):
        (folder / "settings.toml").touch()
    assert (folder / "settings.toml").exists()


def test_what_stood_there_before_stays(tmp_path):
    with claim(tmp_path, "training"):
        pass
    assert tmp_path.exists()


def test_what_a_killed_process_had_half_written_goes_at_the_next_start(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    kept = [tmp_path / "settings.toml", tmp_path / "checkpoint-2" / "state-000000001.safetensors", tmp_path / "note.part"]
    scraps = [tmp_path / ".model.safetensors.abc.part", tmp_path / "checkpoint-2" / ".state-000000002.safetensors.x.part"]
    for path in (*kept, *scraps):
        path.touch()
    with contextlib.ExitStack() as held:
        begin(Path("photos"), tmp_path, False, True, held)
        assert [path.exists() for path in (*kept, *scraps)] == [True] * 3 + [False] * 2


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="could not write to .*: nothing was changed"),
        claim(tmp_path / "file" / "run", "training"),
    ):
        pass


def test_without_a_name_the_newest_unfinished_run_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert newest(Path("photos")) == Path("runs/photos")
    for name, files in (
        ("photos", ["checkpoint/state-000000001.safetensors"]),
        ("photos-2", ["checkpoint/state-000000001.safetensors"]),
        ("photos-3", ["checkpoint/state-000000001.safetensors", "model.safetensors"]),
    ):
        for file in files:
            (tmp_path / "runs" / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "runs" / name / file).touch()
    assert newest(Path("photos")) == Path("runs/photos-2")
    (tmp_path / "runs/photos/model.safetensors").touch()
    (tmp_path / "runs/photos-2/model.safetensors").touch()
    assert newest(Path("photos")) == Path("runs/photos-3")
