"""mkdocs: the pages of the site that lie elsewhere in the repository, and docstrings as it wants them."""

import re
import textwrap
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ELSEWHERE = {
    "index.md": "README.md",
    "results.md": "benchmarks/RESULTS.md",
    "log.md": "benchmarks/LOG.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "readme.ko.md": "README.ko.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, with their links as the site needs them."""
    root = Path(config.config_file_path).parent
    for page, source in ELSEWHERE.items():
        text = (root / source).read_text(encoding="utf-8").replace("](../docs/", "](").replace("](docs/", "](")
        for other, path in ELSEWHERE.items():
            for link in (path, Path(path).name):
                text = text.replace(f"]({link})", f"]({other})")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """The links of the pages in docs/ to those elsewhere; files of code are no pages, and are only named."""
    for page, source in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{source})", f"]({page})")
    return re.sub(r"\[([^]]+)\]\((?:\.\./)?(?:src|benchmarks|deploy|torture|tests)/[^)]+\)", r"\1", markdown)


class Examples(griffe.Extension):
    """Doctests stand alone in our docstrings; a site takes them for quotations unless a heading says what they are."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Give the examples of a docstring the heading that griffe knows."""
        if obj.docstring:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^>>> .*(?:\n.+)*", _headed, text)


def _headed(found: re.Match[str]) -> str:
    return f"Examples:\n{textwrap.indent(found[0], '    ')}"
