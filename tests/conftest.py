"""Small pictures made for the test, a cache of its own for every test, and the real pictures where they are."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tapetum.__main__ import main
from tapetum.processes import num_cores

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


# The files that take longest, which begin first; those that start several processes each, launch and team, not together.
LONGEST = ("docs", "launch", "run", "team", "cli", "textbook", "labels", "unlabelled", "judging", "tune")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist's
def pytest_xdist_auto_num_workers():
    """One test process more than there are cores: many tests wait for a program that they started."""
    return num_cores() + 1


def pytest_collection_modifyitems(items):
    """The longest files first: a test process takes a whole file, and what begins last should soon end."""

    def rank(item):
        name = item.path.stem.removeprefix("test_")
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test sees the user's cache, or another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TAPETUM_CACHE", str(folder))
    return folder


@pytest.fixture
def tapetum(monkeypatch, capsys):
    """Run the program; its exit code, stdout and stderr come back."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tapetum", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def shared():
    """The folder of real pictures, or a skip that says so."""
    if not SHARED.exists():
        pytest.skip(f"the real pictures are not at {SHARED}")
    return SHARED


@pytest.fixture
def stripes(tmp_path):
    """A class folder that can be learnt: 40 pictures of upright and 40 of lying stripes, 40 x 48 pixels, with noise."""
    return write_stripes(tmp_path / "stripes")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run that tells strangers, its pictures, and its ONNX file into which uint8 squares go."""
    import tapetum
    from tapetum.deployment.export import export_onnx

    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(root / "cache"))
        data = write_stripes(root / "stripes")
        quick = dict(
            model="lenet-table", size=32, epochs=6, batch=16, crop_area=0.8, rotate=0.0, mixup=0.0, turn=0.0, erase=0.0
        )
        run = tapetum.train(data, root / "run", val=0.4, views="mirror", say=lambda line: None, **quick).folder
    export_onnx(run, root / "stripes.onnx", uint8=True)
    return run, data, root / "stripes.onnx"


def write_stripes(folder: Path, count: int = 40, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for label, axis in (("lying", 0), ("upright", 1)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            waves = np.sin(np.arange((40, 48)[axis]) * generator.uniform(0.7, 1.2) + generator.uniform(0, 6))
            picture = np.broadcast_to(waves[:, None] if axis == 0 else waves[None, :], (40, 48))
            picture = 128 + 70 * picture[:, :, None] + generator.normal(0, 25, (40, 48, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / label / f"{label}.{number}.png")
    return folder


def _trained(folder: Path, **options):
    """A finished run of two classes, one of its files broken; the pictures lie beside it in `stripes`."""
    import tapetum

    write_stripes(folder / "stripes")
    (folder / "stripes" / "lying" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    quick = dict(model="compact", size=32, batch=16, turn=0.0, crop_area=0.8, mixup=0.0, say=lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(folder / "cache"))
        tapetum.train(folder / "stripes", folder / "run", **{**quick, **options})
    return folder / "run"


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory):
    """A run with a test part, to be looked at; a test that changes one takes `plain_copy`."""
    return _trained(tmp_path_factory.mktemp("plain"), test=0.2, epochs=3)


@pytest.fixture(scope="session")
def crossed_run(tmp_path_factory):
    """A cross-validation of two networks, trained too shortly to be always right."""
    return _trained(tmp_path_factory.mktemp("crossed"), folds=2, epochs=1)


@pytest.fixture
def plain_copy(plain_run, tmp_path):
    """A run to change; its pictures stay where they are."""
    return shutil.copytree(plain_run, tmp_path / "run")


@pytest.fixture
def one_thread():
    """One thread, as each of several processes on two cores has: on some processors two sum in another order."""
    import torch

    now = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(now)


def encoded(picture, format="PNG", **options) -> bytes:
    """A PIL picture as the bytes of a file."""
    import io

    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


@contextlib.contextmanager
def interrupted_in_step(number):
    """Ctrl-C during a training step, counted from 1."""
    from tapetum.training import loop
    from tapetum.training.signals import Interrupted

    step, count = loop._step, [0]

    def counted(*arguments):
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGINT)
        step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", counted)
        with pytest.raises(Interrupted):
            yield


@pytest.fixture(scope="session")
def served_run(finished) -> Path:
    """A run folder that is served."""
    return finished[0]


@pytest.fixture(scope="session")
def served_file(finished) -> Path:
    """The same as an ONNX file, which is served without torch, and so begins to be in a second."""
    return finished[2]


@pytest.fixture(scope="session")
def known_pictures(finished) -> list[bytes]:
    """The encoded pictures that it was trained on and validated with, all different."""
    return [path.read_bytes() for path in sorted(finished[1].rglob("*.png"))]


@pytest.fixture(scope="session")
def program(served_run):
    """`tapetum serve` as a process of its own: its port and the process."""
    import load

    with load.served(served_run, "--queue", 2000, "--reject", "0.1") as (port, process):
        yield port, process


@pytest.fixture(scope="session")
def running(served_run):
    """Starts servers in threads: `with running(queue=1, body_seconds=0.5) as server:`."""
    from server_thread import Running

    @contextlib.contextmanager
    def start(**options):
        server = Running(served_run, **options)
        try:
            yield server
        finally:
            server.stop()

    return start


@pytest.fixture(scope="module")
def plain_server(running):
    """One with the usual limits."""
    with running() as server:
        yield server
