"""mkdocs: the pages of the site that lie elsewhere in the repository."""

from pathlib import Path

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
    """The links of the pages in docs/ to those elsewhere."""
    for page, source in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{source})", f"]({page})")
    return markdown
