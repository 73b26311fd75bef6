"""Judges: TensorBoard's own reader, and the log."""

import json
import sys

import pytest

import tapetum
from conftest import write_stripes
from tapetum.errors import UserError

SMALL = {"size": 32, "epochs": 2, "batch": 8, "tensorboard": "on"}


def shown(folder):
    """What TensorBoard shows of one event file: (name, epoch) -> value."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed (extra track)"
    )
    (file,) = folder.glob("events.*")
    found = accumulators.EventAccumulator(str(file)).Reload()
    return {(name, event.step): event.value for name in found.Tags()["scalars"] for event in found.Scalars(name)}


def logged(run):
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_what_the_log_holds(tmp_path):
    photos = write_stripes(tmp_path / "photos", count=12)
    run = tapetum.train(photos, tmp_path / "run", model="compact", **SMALL)
    found, entries = shown(run.folder / "tensorboard"), logged(run)
    assert len(entries) == 2
    for entry in entries:
        epoch = entry.pop("epoch")
        for name, value in entry.items():
            assert found.pop((name.replace("_", "/", 1), epoch)) == pytest.approx(value, rel=1e-6)
    assert not found
    # A run that is replaced leaves nothing of the one before.
    again = tapetum.train(photos, tmp_path / "run", model="compact", members=2, overwrite=True, **SMALL)
    assert sorted(path.name for path in (again.folder / "tensorboard").iterdir()) == ["1", "2"]
    second = [entry for entry in logged(again) if entry["member"] == 2]
    assert shown(again.folder / "tensorboard" / "2")["val/loss", 2] == pytest.approx(second[1]["val_loss"], rel=1e-6)


def test_without_tensorboard_it_ends_with_a_sentence_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"tensorboard on: TensorBoard is not installed\. pip install 'tapetum\[track\]'"):
        tapetum.train(write_stripes(tmp_path / "photos", count=4), tmp_path / "run", tensorboard="on")
    assert not (tmp_path / "run" / "settings.toml").exists()
    run = tapetum.train(tmp_path / "photos", tmp_path / "run", size=32, epochs=1, model="compact")
    assert not (run.folder / "tensorboard").exists()
