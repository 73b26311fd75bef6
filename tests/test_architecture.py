"""docs/architecture.md is true: its examples run from top to bottom, its layers are the contract's, its files are there."""

import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import tapetum
from conftest import write_stripes
from tapetum import cli, models
from tapetum.data import decode
from tapetum.models import registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture
def unchanged(monkeypatch):
    """What the examples add is gone after the test."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(decode, "_READERS", list(decode._READERS))
    monkeypatch.setattr(cli, "_COMMANDS", dict(cli._COMMANDS))


def test_the_examples_run_from_top_to_bottom(unchanged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_stripes(tmp_path / "photos", count=12)
    Image.new("RGB", (32, 24), (200, 30, 30)).save("photo.tga")
    with pytest.raises(decode.BadPicture):  # until the page's line is there
        decode.decode(Path("photo.tga").read_bytes())
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    scope = {}
    for block in blocks:
        exec(compile(block, "docs/architecture.md", "exec"), scope)
    out, err = capsys.readouterr()
    assert out.splitlines()[:3] == [*scope["run"].classifier.classes_, ""]
    assert "five-layers" in err
    assert models.names()[-1] == "five-layers"
    assert decode.decode(Path("photo.tga").read_bytes())[0, 0].tolist() == [200, 30, 30]


def test_the_layers_are_those_of_the_contract():
    (shown,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    assert shown.splitlines() == contract["layers"]


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`((?:\w+/)*\w+\.py|\w+/)`", PAGE)
    assert len(named) > 20
    for name in named:
        assert (ROOT / "src" / "tapetum" / name).exists(), name


def test_every_module_has_a_place_in_the_contract():
    layers = {name for line in re.findall(r"tapetum\.(\w+(?: \| tapetum\.\w+)*)", PAGE) for name in re.findall(r"\w+", line)}
    there = {
        path.stem for path in (ROOT / "src" / "tapetum").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} <= layers


def test_the_version_is_told_once_and_cited_right():
    assert f"version: {tapetum.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest[1] == tapetum.__version__


def test_contributing_says_of_every_dependency_who_needs_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name not in ("dev", "all")}
    wanted = [*project["dependencies"], *(each for some in extras.values() for each in some)]
    rows = [line for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    told = {name for row in rows for name in re.findall(r"[\w-]+", row.split("|")[1])}
    assert {re.split(r"[>\[]", each)[0] for each in wanted} <= told
