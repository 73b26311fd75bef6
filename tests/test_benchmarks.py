"""Benchmarks that reach into the training: that they still run is all that a test can ask of them.

The others go through the public commands, which have tests of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpu.py", "--device", "cpu", "--network", "lenet", "--size", "32", "--batch", "8"], "ok"),
        (["scaling.py", "--dry"], "throughput of 2 x 1 thread against 1 x 2 threads"),
    ],
)
def test_it_runs(arguments, said, own_cache):
    command = [sys.executable, BENCHMARKS / arguments[0], *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    assert "FAILED" not in done.stdout
