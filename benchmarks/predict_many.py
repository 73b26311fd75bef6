"""A million predictions: killed and gone on with, whole in the end, in memory that stays as it is.

    python benchmarks/predict_many.py [--files 1000000] [--kind parquet] [--processes 1] [--kills 3]

A small network, trained here on 80 drawings, predicts links to a thousand other drawings. `tapetum predict` is killed (SIGKILL)
at moments drawn by chance and started again; its resident memory is read five times a second. In the end every file must have
one row, in order, its answer that of the drawing it links to, each part's hash that of the manifest. Prints the sum of
seconds, files a second, and the memory at each tenth of the way.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import tapetum

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from conftest import write_stripes  # noqa: E402 - a helper of the tests

_DRAWINGS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=["csv", "parquet"], default="parquet")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.environ["TAPETUM_CACHE"] = str(place / "cache")
        quick = {"model": "lenet-table", "size": 32, "epochs": 6, "batch": 16, "turn": 0.0, "mixup": 0.0, "erase": 0.0}
        run = tapetum.train(write_stripes(place / "known"), place / "run", say=lambda line: None, **quick).folder
        drawings = sorted(write_stripes(place / "drawings", _DRAWINGS // 2, seed=1).rglob("*.png"))
        link_all(drawings, place / "many", args.files)
        print(f"{args.files:,} files are laid out", flush=True)
        parts = place / "parts"
        command = [sys.executable, "-m", "tapetum", "predict", str(run), str(place / "many"), "--out", str(parts)]
        command += ["--kind", args.kind, "--processes", str(args.processes)]
        seconds, memory = driven(command, parts, args)
        told = tapetum.load(run).predict_proba(drawings)
        checked(parts, args, {path.name: row for path, row in zip(drawings, told, strict=True)})
    print(f"{args.files:,} rows whole, in {seconds:.0f} s: {args.files / seconds:,.0f} files a second; {args.kills} kills")
    print("memory in MB, a line a start, at each tenth of its time: ", *memory, sep="\n  ")


def link_all(drawings: list[Path], folder: Path, count: int) -> None:
    """So many names for the drawings, a thousand to a folder."""
    for start in range(0, count, len(drawings)):
        place = folder / f"{start // len(drawings):04d}"
        place.mkdir(parents=True)
        for drawing in drawings[: count - start]:
            os.link(drawing, place / drawing.name)


def driven(command: list[str], parts: Path, args: argparse.Namespace) -> tuple[float, list[str]]:
    """Start it, kill it at chance moments, and start it again until it ends: seconds, and the memory of each start."""
    chance, seconds, memory = random.Random(0), 0.0, []
    number = -(-args.files // 8192)
    for start in range(args.kills + 1):
        goal = chance.uniform(start, start + 1) / (args.kills + 1) * number if start < args.kills else None
        begun, read = time.monotonic(), []
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            read.append(resident(process.pid))
            if goal is not None and len(list(parts.glob("part-*"))) >= goal:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.2)
        seconds += time.monotonic() - begun
        if goal is None and process.returncode:
            raise SystemExit(f"exit code {process.returncode}")
        tenths = np.linspace(0, len(read) - 1, 11).astype(int)[1:]
        memory.append(" ".join(f"{read[i]:,}" for i in tenths))
        print(f"start {start + 1}: {len(list(parts.glob('part-*'))):,} of {number:,} parts", flush=True)
    return seconds, memory


def resident(group: int) -> int:
    """Megabytes that the processes of a group hold together."""
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                pages += int((process / "statm").read_text().split()[1])
        except (OSError, ValueError):  # it has ended
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def checked(parts: Path, args: argparse.Namespace, told: dict[str, np.ndarray]) -> None:
    """Stop unless all rows are there once, in order, right, and as the manifest has them."""
    manifest = json.loads((parts / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["complete"]
    assert sum(each["rows"] for each in manifest["parts"]) == args.files
    names: list[str] = []
    for each in manifest["parts"]:
        content = (parts / each["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each["sha256"], each["file"]
        read = pd.read_parquet if args.kind == "parquet" else pd.read_csv
        frame = read(parts / each["file"])
        names += frame["path"].tolist()
        expected = np.stack([told[Path(name).name] for name in frame["path"]])
        found = frame[[name for name in frame.columns if name.startswith("p_")]].to_numpy()
        assert np.abs(found - expected).max() < 1e-5, each["file"]
    assert len(set(names)) == args.files
    assert names == sorted(names)


if __name__ == "__main__":
    main()
