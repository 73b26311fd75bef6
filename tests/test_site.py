"""The site and the notebook: they build, run from top to bottom, and need no other host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason="the site needs mkdocs (extra dev)")
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if not line.startswith("INFO"))
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"trust", "reference", "results", "walkthrough"} <= {page.parent.name for page in pages}
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|link rel="(?:stylesheet|preload|preconnect)")[^>]*(?:src|href)="(\w+:)?//', page.read_text()
        )
        assert not loaded, page
    reference = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    for name in ("tapetum.train", "tapetum.Classifier.predict_proba", "tapetum.evaluation.metrics.wilson"):
        assert f'id="{name}"' in reference
    assert "<blockquote>" not in reference  # an example would be one, without its heading


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    client = pytest.importorskip("nbclient", reason="the notebook needs nbclient (extra dev)")
    import nbformat

    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what it shows is what it gives here and now
    client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(output.get("text") or output["data"]["text/plain"] for output in shown if output.output_type != "error")
    assert "['7', '7', '7', '7', '7']" in text
    assert float(text.splitlines()[-1]) > 0.95
