"""What README and docs show is true: every command runs, every link leads somewhere, both languages show the same."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from conftest import write_stripes
from tapetum import textbook
from tapetum.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
TWINS = {"README.md": "README.ko.md", "docs/walkthrough.md": "docs/walkthrough.ko.md"}
ENGLISH = [*TWINS, "docs/looking.md", "docs/export.md", "docs/serving.md", "docs/shards.md", "docs/scaling.md"]
ENGLISH += ["docs/tuning.md"]
PAGES = [*ENGLISH, *TWINS.values()]
OTHERS = ["docs/trust.md", "docs/architecture.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
QUICK = ["--size", "32", "--epochs", "1"]


def blocks(page, language=""):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def commands(page):
    lines = [line for block in blocks(page) for line in block.splitlines()]
    return [line for line in lines if line.startswith("tapetum ")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with everything that the pages name: photos, cats-dogs (small, numbered), and finished runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))  # for the processes of --processes
    for name in ("photos", "other-photos", "cats-dogs", "DATA"):
        write_stripes(tmp_path / name, count=12, seed=len(name))
    for path in (tmp_path / "DATA").rglob("*.png"):
        stem, number, _ = path.name.split(".")
        if int(number) > 7:  # some photos beyond the book's, to judge on
            path.rename(path.with_name(f"{stem}.{int(number) + 300}.png"))
    small = [dataclasses.replace(v, options=v.options | {"size": 64, "epochs": 1}) for v in textbook.VARIANTS]
    monkeypatch.setattr(textbook, "VARIANTS", tuple(small))
    for path in write_stripes(tmp_path / "more", count=4, seed=1).rglob("*.png"):
        path.parent.parent.with_name("more-photos").mkdir(exist_ok=True)
        path.rename(tmp_path / "more-photos" / path.name)
    (tmp_path / "new-photos").mkdir()
    source = tmp_path / "photos" / "lying" / "lying.1.png"
    (tmp_path / "new-photos" / "1.jpg").write_bytes(source.read_bytes())
    return tmp_path


def call(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    main()


def serve(arguments):
    """The server as shown, until it says where it is."""
    command = [sys.executable, "-m", *arguments, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            assert json.load(answer) == {"ready": True}
        process.terminate()
    assert process.returncode == 0


def quickened(arguments):
    """The command as shown, but small and short: the networks of the notes are large."""
    if arguments[1] == "textbook":
        return [*arguments, "--quick"]
    if arguments[1] == "train":
        return [*arguments, *(["--model", "compact"] if "--model" not in arguments else []), *QUICK, "--batch", "8"]
    if arguments[1] in ("tune", "grow"):
        small = ["--model", "lenet-now", "--size", "32", "--start-size", "32", "--epochs", "3"]
        return [*arguments, *small, *(["--trials", "1"] if arguments[1] == "tune" else ["--seeds", "1"])]
    if "--int8" in arguments:
        return [*arguments, "--max-loss", "1"]  # of a handful of pictures one is many points
    return arguments


@pytest.mark.parametrize("page", ENGLISH)  # those of their twins are the same
def test_every_command_that_a_page_shows_runs(page, place, monkeypatch, capsys):
    shown = commands(page)
    assert shown
    for line in shown:
        arguments = quickened(shlex.split(line))
        if "alexnet-textbook" in arguments and "--size" in arguments:
            arguments[arguments.index("--size") + 1] = "64"
        if arguments[1] == "serve":
            serve(arguments)
        else:
            call(arguments, monkeypatch)
    assert "Traceback" not in capsys.readouterr().err


def test_the_settings_of_a_run_repeat_it_as_the_readme_says(place, monkeypatch, capsys):
    call(["tapetum", "train", "photos", "--model", "compact", *QUICK], monkeypatch)
    call(shlex.split("tapetum train photos --settings runs/photos/settings.toml"), monkeypatch)
    first, second = (Path("runs") / name / "model.safetensors" for name in ("photos", "photos-2"))
    from safetensors.numpy import load_file

    a, b = load_file(first), load_file(second)
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_python_that_a_page_shows_runs(page, place):
    (code,) = blocks(page, "python")
    small = code.replace('train("photos", minutes=5)', 'train("photos", minutes=5, epochs=1, size=32)')
    assert small != code
    scope = {}
    exec(compile(small, page, "exec"), scope)
    assert scope["clf"].classes_ == ("lying", "upright")
    assert scope["run"].folder == Path("runs/photos")


def test_the_python_of_the_export_page_runs(place, monkeypatch):
    call(["tapetum", "train", "photos", "--model", "compact", *QUICK], monkeypatch)
    (code,) = blocks("docs/export.md", "python")
    exec(compile(code, "docs/export.md", "exec"), {})
    assert (place / "photos-model" / "README.md").exists()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS, "benchmarks/RESULTS.md", "benchmarks/LOG.md"])
def test_every_link_leads_to_a_file(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("english", TWINS)
def test_both_languages_show_the_same_commands(english):
    # But for the language of what comes out.
    assert commands(english) == [line.replace("--lang ko", "--lang en") for line in commands(TWINS[english])]


def test_both_readmes_show_the_same_figures():
    english, korean = "README.md", "README.ko.md"
    assert [b for b in blocks(english) if b.startswith("make")] == [b for b in blocks(korean) if b.startswith("make")]

    def figures(page):
        rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        return re.findall(r"\d+\.\d+ ?%|\d+\.\d+x", "\n".join(rows))

    assert figures(english) == figures(korean)
    assert figures(english)


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, *OTHERS]:
        for block in blocks(page):
            named = re.findall(r"^make (\w+)", block, re.MULTILINE)
            assert set(named) <= targets


def test_examples_in_docstrings_are_true():
    import doctest
    import importlib
    import pkgutil

    import tapetum

    tried = 0
    for module in pkgutil.walk_packages(tapetum.__path__, "tapetum."):
        if module.name != "tapetum.__main__":
            found = doctest.testmod(importlib.import_module(module.name))
            assert found.failed == 0, module.name
            tried += found.attempted
    assert tried > 15


def test_the_demo_learns_and_tells_its_metrics_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(["tapetum", "demo", "--json"], monkeypatch)
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["test"]["accuracy"]["value"] >= 0.97
    assert (tmp_path / "tapetum-demo" / "run" / "report.html").exists()
