"""Runs of released versions are read, and answer as they did then (row 27 of docs/trust.md).

`PYTHONPATH=tests python tests/inference/test_loading.py`, at a release, writes its run to `released/`.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tapetum
from conftest import write_stripes
from tapetum.config import read_settings, settings_from
from tapetum.inference.loading import load
from tapetum.looking.report import write_report

RELEASED = Path(__file__).resolve().with_name("released")
# What `tapetum report` reads.
KEPT = ("model.safetensors", "settings.toml", "log.jsonl", "splits.csv", "predictions.csv", "metrics.json", "cost.json")


def pictures():
    """Six waves, uint8 (40, 48, 3), the same everywhere."""
    rows, columns = np.mgrid[:40, :48]
    waves = [np.sin((rows if lying else columns) * step)[..., None] for lying in (True, False) for step in (0.7, 0.9, 1.2)]
    return [(128 + np.array([60, 80, 100]) * wave).round().astype(np.uint8) for wave in waves]


def answers(run):
    classifier = load(run)
    told = classifier.predict_proba(pictures()).tolist()
    labels = classifier.predict(pictures(), reject=0.05)
    return {"classes": list(classifier.classes_), "probabilities": told, "labels": labels}


@pytest.mark.parametrize("released", sorted(RELEASED.iterdir()), ids=lambda folder: folder.name)
def test_a_released_version_s_run_is_read_and_answers_as_it_did(released, tmp_path):
    run = shutil.copytree(released, tmp_path / "run")
    told = json.loads((run / "answers.json").read_text(encoding="utf-8"))
    found = answers(run)
    np.testing.assert_allclose(found.pop("probabilities"), told.pop("probabilities"), atol=1e-4)
    assert found == told
    assert settings_from(read_settings(run / "settings.toml"), "").model == "lenet-table"
    write_report(run, run / "report.html")
    assert "upright" in (run / "report.html").read_text(encoding="utf-8")


def write_released():
    folder = RELEASED / tapetum.__version__
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.environ["TAPETUM_CACHE"] = scratch
        write_stripes(Path("stripes"))
        tapetum.train("stripes", "run", model="lenet-table", size=32, epochs=6, batch=16, val=0.4, precision="float32")
        folder.mkdir(parents=True)
        for name in KEPT:
            shutil.copy(Path("run") / name, folder / name)
        (folder / "answers.json").write_text(json.dumps(answers("run"), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_released()
