"""Judges: the YAML and Markdown that a reader's program makes of the card, and the run's own metrics."""

import dataclasses
import json
import re

import pytest
from huggingface_hub import ModelCard

from tapetum import cli
from tapetum.deployment.card import escaped, model_card
from tapetum.errors import UserError
from tapetum.inference.classifier import load


def test_the_card_tells_the_runs_figures(finished, tmp_path, capsys):
    run = finished[0]
    cli.run(["export", str(run), "--card", str(tmp_path / "README.md"), "--json"])
    assert json.loads(capsys.readouterr().out) == {"card": str(tmp_path / "README.md")}
    card = ModelCard.load(tmp_path / "README.md")
    metrics = json.loads((run / "metrics.json").read_text())["val"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.dataset_split) == ("accuracy", "validation")
    assert result.metric_value == round(metrics["accuracy"]["value"], 4)
    assert (card.data.library_name, card.data.pipeline_tag) == ("tapetum", "image-classification")
    (row,) = re.findall(r"^\| validation \|.*$", card.text, re.MULTILINE)
    accuracy = metrics["accuracy"]
    told = [f"{accuracy['value']:.1%}", f"{accuracy['low']:.1%} to {accuracy['high']:.1%}", "32", "50.0%"]
    assert row.split(" | ")[1:5] == told
    assert load(run).about["data"]["fingerprint"] in card.text
    assert "48 train, 32 val." in card.text
    for name in ("lying", "upright"):
        assert re.search(rf"^\| {name} \| .*n = ", card.text, re.MULTILINE)
    assert "`--reject 0.05`" in card.text
    assert "mirror image" in card.text


def test_nothing_is_written_among_the_pictures(finished):
    run, data, _ = finished
    with pytest.raises(UserError, match="the model card .* lies inside the pictures"):
        cli.run(["export", str(run), "--card", str(data / "README.md")])
    assert not (data / "README.md").exists()


HOSTILE = ("<img src=x onerror=alert(1)>", "a|b](http://x) `c`", "{{ 7 * 7 }}\n---\nlicense: evil\n# Title")


def test_names_of_classes_are_shown_and_do_nothing(finished):
    classifier = load(finished[0])
    about = json.loads(json.dumps(classifier.about))
    for part in about["metrics"].values():
        part["classes"] = [{**part["classes"][0], "name": name} for name in HOSTILE]
    text = str(model_card(dataclasses.replace(classifier, classes_=HOSTILE, about=about)))
    assert "<img" not in text
    assert "49" not in re.findall(r"It tells .*", text)[0]
    assert not re.search(r"^(license: evil|# Title)", text, re.MULTILINE)
    assert ModelCard(text).data.to_dict().get("license") is None
    body = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    rows = [line for line in body.splitlines() if line.startswith("|") and "img" in line]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert "](http" not in text


def test_escaping_keeps_letters():
    assert escaped("고양이 cat") == "고양이 cat"
    assert escaped("a*b_c") == r"a\*b\_c"


def test_a_classifier_that_was_not_measured_has_no_card(finished):
    with pytest.raises(UserError, match="does not say how well it does"):
        model_card(dataclasses.replace(load(finished[0]), about={}))


def test_a_missing_package_is_named(finished, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'tapetum\[hub\]'"):
        model_card(load(finished[0]))
