"""What the source never does: execute data, unpack an archive, ask a shell, or reach for the network by itself."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "tapetum"
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "pty"}
CALLS = {
    *("eval", "exec", "__import__", "os.system", "os.popen", "shutil.unpack_archive", "yaml.load", "yaml.unsafe_load"),
    *("torch.export.load", "torch.jit.load", "torch.package.PackageImporter", "pandas.read_pickle", "pd.read_pickle"),
}


def banned(source: str) -> Iterator[str]:
    """What stands in `source` that no source here may do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.hub"):
            yield "torch.hub"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in CALLS or called.endswith((".extractall", ".extract")):
            yield called
        if called == "torch.load" and given.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if given.get("allow_pickle", "False") != "False":
            yield "allow_pickle"
        if given.get("shell", "False") != "False":
            yield "shell=True"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_source_does_what_could_execute_data(path):
    assert list(banned(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
        "torch.export.load(path)",
        "torch.jit.load(path)",
        "torch.hub.load('a', 'b')",
        "tarfile.open(path).extractall(folder)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert list(banned(source))


def test_the_search_leaves_the_harmless_alone():
    assert not list(banned("network.eval(); torch.load(p, weights_only=True); ast.parse(t, mode='eval'); subprocess.run([a])"))


# Every look at the network ends the program, whoever takes it.
OFFLINE = """
import sys
def hook(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname" or event == "urllib.Request":
        print("NETWORK", event, arguments, flush=True)
        raise OSError(event)
sys.addaudithook(hook)
"""
EVERYTHING = """
import importlib, pkgutil, tapetum
for module in pkgutil.walk_packages(tapetum.__path__, "tapetum."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("DONE")
"""
HELP = """
sys.argv = ["tapetum", "--help"]
from tapetum.__main__ import main
try:
    main()
except SystemExit:
    print("DONE")
"""


def offline(script):
    return subprocess.run([sys.executable, "-c", OFFLINE + script], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("script", [EVERYTHING, HELP], ids=["import", "help"])
def test_nothing_asks_the_network(script):
    said = offline(script)
    assert "DONE" in said
    assert "NETWORK" not in said


def test_a_look_at_the_network_would_be_seen():
    assert "NETWORK" in offline("import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass")


def test_the_wheel_holds_the_source_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=SOURCE.parent.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert held == {path.relative_to(SOURCE.parent).as_posix(): path.read_bytes() for path in files}
