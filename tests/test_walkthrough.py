"""The walkthrough of the study notes is true: every example runs, and both languages show the same (commands: test_docs.py)."""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

from tapetum import models

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["walkthrough.md", "walkthrough.ko.md"]
IMPORTS = {"torch", "torchvision", "numpy", "PIL", "tqdm", "tapetum"} | sys.stdlib_module_names


def text(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def blocks(words, language=""):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", words, re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def commands(page):
    return [line for block in blocks(text(page)) for line in block.splitlines()]


def sections(page):
    """Heading and text of each section."""
    outside = re.split(r"^## (.*)\n", text(page), flags=re.MULTILINE)[1:]
    return list(zip(outside[::2], outside[1::2], strict=True))


def prose(page):
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.DOTALL | re.MULTILINE)


def without_comments(code):
    """The tokens of a program, its comments and their line ends left out."""
    skipped = {tokenize.COMMENT, tokenize.NL}
    return [(t.type, t.string) for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type not in skipped]


EXAMPLES = [pytest.param(page, code, id=f"{page}-{i}") for page in PAGES for i, code in enumerate(blocks(text(page), "python"))]


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_an_example_runs_by_itself(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "example"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_an_example_asserts_something_and_imports_nothing_rare(page, code):
    nodes = list(ast.walk(ast.parse(code)))
    assert any(isinstance(node, ast.Assert) for node in nodes)
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= IMPORTS
    assert max(map(len, code.splitlines())) <= 128


@pytest.mark.parametrize("page", PAGES)
def test_every_section_has_something_to_run(page):
    assert len(sections(page)) > 40
    for heading, words in sections(page):
        assert blocks(words) or blocks(words, "python"), heading


def test_both_languages_have_the_same_sections_examples_and_commands():
    english, korean = PAGES
    assert commands(english) == commands(korean)
    assert len(sections(english)) == len(sections(korean))
    for (heading, words), (_, woerter) in zip(sections(english), sections(korean), strict=True):
        ours, theirs = blocks(words, "python"), blocks(woerter, "python")
        assert [without_comments(code) for code in ours] == [without_comments(code) for code in theirs], heading
        assert blocks(words) == blocks(woerter), heading


def test_both_languages_name_the_same_figures_and_files():
    english, korean = PAGES
    for find in (r"\d+(?:,\d{3})+|\d+\.\d+", r"\]\(\.\./([^)]*)\)"):
        found = [sorted(set(re.findall(find, prose(page)))) for page in PAGES]
        assert found[0] == found[1]
        assert len(found[0]) > 10
    assert not re.search("[가-힣]", "".join(blocks(text(english), "python")))
    assert len(re.findall("[가-힣]", prose(korean))) > 5000


@pytest.mark.parametrize("page", PAGES)
def test_the_counts_in_the_table_are_the_programs(page):
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| ([\d,]+) \|$", text(page), re.MULTILINE)
    assert len(rows) == 4
    for name, count in rows:
        network = models.build_on_meta(name, 2 if name == "alexnet-textbook" else 1000)
        assert f"{sum(p.numel() for p in network.parameters()):,}" == count
