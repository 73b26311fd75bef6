"""Predictions in parts are those of one file; a killed one goes on; memory does not grow with the pictures."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tapetum
from launching import Processes, environment, together
from tapetum.data.sources import find_pictures
from tapetum.errors import UserError
from tapetum.inference import parts
from tapetum.inference.predict import predict_samples, predict_together, write_predictions


def into_parts(run, data, out, options, die_at=None):
    if die_at is not None:
        write = parts.write_predictions

        def mortal(predictions, path):
            if path.stem.endswith(str(die_at)):
                os.kill(os.getpid(), signal.SIGKILL)
            write(predictions, path)

        parts.write_predictions = mortal
    from tapetum import processes

    with processes.joined():
        return parts.predict_parts(tapetum.load(run), find_pictures([data]), out, **options)


@pytest.fixture
def pictures(finished, tmp_path):
    """80 pictures and two files that are none."""
    import shutil

    data = shutil.copytree(finished[1], tmp_path / "pictures")
    for name in ("a.png", "upright/broken.png"):
        (data / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    return data


def whole(run, data, path):
    write_predictions(predict_samples(tapetum.load(run), find_pictures([data])), path)
    return pd.read_csv(path, keep_default_na=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_parts_are_the_whole(finished, pictures, tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    options = {"kind": kind, "rows": 30}
    told = into_parts(finished[0], pictures, tmp_path / "parts", options)
    files = sorted((tmp_path / "parts").glob("part-*"))
    assert [path.name for path in files] == [f"part-{n:05d}.{kind}" for n in range(3)]  # of 32: whole batches
    read = [pd.read_csv(path, keep_default_na=False) if kind == "csv" else pd.read_parquet(path) for path in files]
    together_again = pd.concat(read).sort_values("path", ignore_index=True)
    expected = whole(finished[0], pictures, tmp_path / "whole.csv").sort_values("path", ignore_index=True)
    assert together_again["label"].tolist() == expected["label"].tolist()
    assert together_again["reason"].tolist() == expected["reason"].tolist()
    found = pd.to_numeric(together_again["probability"]).to_numpy()
    np.testing.assert_allclose(found, pd.to_numeric(expected["probability"]).to_numpy(), rtol=1e-5, equal_nan=True)
    assert json.loads((tmp_path / "parts" / "manifest.json").read_text()) == told
    assert told["complete"] is True
    assert told["unreadable"] == 2
    assert sum(told["labels"].values()) == sum(part["rows"] for part in told["parts"]) - 2 == 80
    assert [part["sha256"] for part in told["parts"]] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_several_processes_make_the_same_parts_and_a_killed_one_is_gone_on_with(finished, pictures, tmp_path, one_thread):
    options = {"rows": 32, "batch": 16}
    told = into_parts(finished[0], pictures, tmp_path / "one", options)
    assert together(2, into_parts, finished[0], pictures, tmp_path / "two", options) == [told] * 2
    _, codes, _, seconds = Processes(2, into_parts, finished[0], pictures, tmp_path / "killed", options, 2).wait()
    assert codes[0] == -signal.SIGKILL
    assert seconds < 20
    begun = json.loads((tmp_path / "killed" / "manifest.json").read_text())
    assert begun["complete"] is False
    kept = (tmp_path / "killed" / "part-00000.csv").stat().st_mtime_ns
    assert into_parts(finished[0], pictures, tmp_path / "killed", options) == told
    assert (tmp_path / "killed" / "part-00000.csv").stat().st_mtime_ns == kept  # not computed again
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_all_files_of_several_processes_come_in_their_order(finished, pictures, tmp_path):
    found = together(3, of_all, finished[0], pictures)
    expected = predict_samples(tapetum.load(finished[0]), find_pictures([pictures]), 16)
    for names, rows, probabilities, unreadable in found:
        assert (names, rows, unreadable) == (expected.names, expected.rows.tolist(), expected.unreadable)
        np.testing.assert_allclose(probabilities, expected.probabilities_NK, rtol=1e-5)


def of_all(run, data):
    from tapetum import processes

    with processes.joined():
        found = predict_together(tapetum.load(run), find_pictures([data]), 16)
        return found.names, found.rows.tolist(), found.probabilities_NK, found.unreadable


def test_a_folder_of_something_else_is_refused(finished, pictures, tmp_path):
    into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
    with pytest.raises(UserError, match="another rows_a_part"):
        into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 64})
    (pictures / "new.png").write_bytes(b"")
    with pytest.raises(UserError, match="predictions of other files"):
        into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".movie.mkv.part").write_bytes(b"half a film")
    (tmp_path / "other" / "manifest.json").write_text("[1]")
    with pytest.raises(UserError, match="files of another kind"):
        into_parts(finished[0], pictures, tmp_path / "other", {"rows": 32})
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == [".movie.mkv.part", "manifest.json"]


def test_other_pictures_of_the_same_names_are_no_reason_to_stop_early(finished, pictures, tmp_path):
    into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
    before = (tmp_path / "parts" / "part-00000.csv").read_bytes()
    one, two = sorted(pictures.glob("lying/*"))[:2]
    one.write_bytes(two.read_bytes())
    with pytest.raises(UserError, match="or of these before they changed"):
        into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
    assert (tmp_path / "parts" / "part-00000.csv").read_bytes() == before


def test_two_commands_do_not_write_the_same_parts(finished, pictures, tmp_path, monkeypatch):
    write = parts.write_predictions

    def meanwhile(predictions, path):
        monkeypatch.setattr(parts, "write_predictions", write)
        with pytest.raises(UserError, match="another prediction is writing"):
            into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
        write(predictions, path)

    monkeypatch.setattr(parts, "write_predictions", meanwhile)
    into_parts(finished[0], pictures, tmp_path / "parts", {"rows": 32})
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "manifest.json",
        *(f"part-0000{n}.csv" for n in (0, 1, 2)),
    ]


def test_parquet_without_its_library_is_one_sentence(finished, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'tapetum\[parquet\]'"):
        into_parts(finished[0], pictures, tmp_path / "parts", {"kind": "parquet"})
    assert not (tmp_path / "parts").exists()


PEAK = """
import resource, sys
sys.argv = ["tapetum", "predict", *sys.argv[1:]]
from tapetum.__main__ import main
main()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak(*arguments):
    """Peak memory of the program in kB."""
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    return int(done.stderr.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kB on Linux only")
def test_memory_does_not_grow_with_the_pictures(served_file, tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("few", 200), ("many", 3000)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    few, many = (
        peak(served_file, tmp_path / each, "--out", tmp_path / f"{each}-parts", "--rows", 128) for each in ("few", "many")
    )
    assert many < 1.1 * few
    assert len(list((tmp_path / "many-parts").glob("part-*.csv"))) == 24
