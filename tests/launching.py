"""Starts the program in several processes, as torchrun does, and looks at what they leave."""

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A training of seconds: every kind of chance, none of the waiting.
QUICK = ["--size", "32", "--batch", "16", "--epochs", "2", "--val", "0.3", "--rescue", "off"]


def environment(**more):
    """One thread each, and no seconds lost to a proxy."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": "", **more}


def torchrun(number, *arguments, restarts=0, script=None):
    """The command line that starts `number` processes of the program, or of a script that calls it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    launch += ["--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    return [*launch, *([str(script)] if script else ["-m", "tapetum"]), *map(str, arguments)]


def run(command, seconds=120, **more):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment(**more), cwd=ROOT, check=False
    )


def trained(number, *arguments):
    """A training in so many processes; one is the plain program."""
    plain = [sys.executable, "-m", "tapetum", *map(str, arguments)]
    done = run(plain if number == 1 else torchrun(number, *arguments))
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def log(folder: Path):
    """The log's entries without their times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def distance(a: Path, b: Path):
    """The largest difference between the networks' tensors of two models, each relative to the tensor's largest number.

    What tells strangers is left out: directions of singular vectors, whose signs are anybody's guess.
    """
    from safetensors.torch import load_file

    first, second = (load_file(each / "model.safetensors") for each in (a, b))
    assert first.keys() == second.keys()
    return max(
        float((first[name] - second[name]).abs().max() / first[name].abs().max().clamp_min(1e-6))
        for name in first
        if first[name].is_floating_point() and not name.startswith("familiar/")
    )


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tapetum.run"])


class Processes:
    """Python processes that work together, each doing `work(*arguments)`; `results` are theirs, by rank."""

    def __init__(self, number, work, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._begun = time.monotonic()
        self._ends, self._said, self.children = [], [], []
        for rank in range(number):
            ours, theirs = SERVER.Pipe()
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            place |= {name: os.environ[name] for name in ("TAPETUM_CACHE",)}
            self._said.append(tempfile.NamedTemporaryFile(mode="r"))
            child = SERVER.Process(target=_work, args=(theirs, self._said[-1].name, place, work, arguments), daemon=True)
            child.start()
            theirs.close()
            self._ends.append(ours)
            self.children.append(child)

    def wait(self, seconds=60, dead=None):
        """The results, the exit codes, what was said on stderr, and the seconds until all but the `dead` one had ended."""
        until = self._begun + seconds
        results = [None] * len(self.children)
        for rank, (child, end) in enumerate(zip(self.children, self._ends, strict=True)):
            if rank == dead:
                continue
            with contextlib.suppress(EOFError):  # it was killed
                if end.poll(max(0.1, until - time.monotonic())):
                    results[rank] = end.recv()
            child.join(max(0.1, until - time.monotonic()))
        took = time.monotonic() - self._begun
        codes = [child.exitcode for child in self.children]
        for child in self.children:
            child.kill()
            child.join()
        said = [file.read() for file in self._said]
        for file in self._said:
            file.close()
        return results, codes, said, took


def _work(end, stderr, place, work, arguments):
    import traceback

    import torch

    from tapetum import processes

    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in place.items()})
    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    value, code = None, 0
    try:
        value = work(*arguments)
    except SystemExit as ended:
        code = ended.code
    except processes.Lost as lost:
        code = lost.exit_code
    except Exception:
        traceback.print_exc()
        code = 1
    end.send(value)
    os._exit(code)


def together(number, work, *arguments, seconds=60):
    """The results of `work(*arguments)` in so many processes, which must all end well."""
    results, codes, said, _ = Processes(number, work, *arguments).wait(seconds)
    assert codes == [0] * number, "".join(said)[-3000:]
    return results
