"""Which run folder is written, and gone on with."""

import contextlib
from pathlib import Path

from tapetum.runfolder import begin, newest


def test_what_a_killed_process_had_half_written_goes_at_the_next_start(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    kept = [tmp_path / "settings.toml", tmp_path / "checkpoint-2" / "state-000000001.safetensors", tmp_path / "note.part"]
    scraps = [tmp_path / ".model.safetensors.abc.part", tmp_path / "checkpoint-2" / ".state-000000002.safetensors.x.part"]
    for path in (*kept, *scraps):
        path.touch()
    with contextlib.ExitStack() as held:
        begin(Path("photos"), tmp_path, False, True, held)
        assert [path.exists() for path in (*kept, *scraps)] == [True] * 3 + [False] * 2


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
