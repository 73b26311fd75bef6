"""The report against the files of its run, counted by hand; in both languages, years later, and with things missing."""

import base64
import csv
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import tapetum
from tapetum.errors import UserError
from tapetum.looking import heat, report
from tapetum.looking.report import write_report

LANGUAGES = report.LANGUAGES


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, path):
        super().__init__()
        self.source, self.elements, self.pieces = path.read_text(encoding="utf-8"), [], []
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self.pieces))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.pieces.append(data)

    def images(self):
        return [found for tag, found in self.elements if tag == "img"]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(run, tmp_path, **options):
    return Page(write_report(run, tmp_path / "page.html", **options))


def test_the_training_and_the_command_write_the_same_page(plain_run, tmp_path):
    assert written(plain_run, tmp_path).source == (plain_run / "report.html").read_text(encoding="utf-8")


def test_it_tells_what_the_runs_files_tell(plain_run, tmp_path):
    page = written(plain_run, tmp_path)
    predictions = [row for row in rows(plain_run / "predictions.csv") if row["split"] == "test"]
    right = np.mean([row["right"] == "yes" for row in predictions])
    assert f"{right * 100:.1f} % of 16 test pictures, none of which it was trained on, were named right." in page.text
    assert "Always answering “lying” would give 50.0 %." in page.text
    assert "chosen on these same pictures" not in page.text
    splits = rows(plain_run / "splits.csv")
    counts = [sum((row["label"], row["split"]) == ("upright", part) for row in splits) for part in ("train", "val", "test")]
    assert "upright " + " ".join(map(str, counts)) + f" {sum(counts)}" in page.text
    assert "1 file gave no picture and was left out." in page.text
    assert "lying/broken.png" in page.text
    told = json.loads((plain_run / "cost.json").read_text())
    assert f"{told['peak_memory_bytes'] / 1e9:.1f} GB at most" in page.text
    assert f"({told['pictures_timed']} pictures timed)" in page.text
    assert f"tapetum train {plain_run.parent / 'stripes'} --model compact --test 0.2 --size 32 --crop-area 0.8" in page.text
    metrics = json.loads((plain_run / "metrics.json").read_text())["test"]
    assert " ".join(map(str, metrics["confusion"][0])) in page.text


def test_the_worst_mistakes_are_the_surest_and_the_doubtful_the_least_sure(crossed_run, tmp_path):
    page = written(crossed_run, tmp_path)
    answers = rows(crossed_run / "predictions.csv")
    wrong = sorted((row for row in answers if row["right"] == "no"), key=lambda row: -float(row["probability"]))[:6]
    assert wrong
    least = sorted((row for row in answers if row not in wrong), key=lambda row: float(row["probability"]))[:6]
    named = [found["alt"].removeprefix("Picture ") for found in page.images() if found["alt"].startswith("Picture ")]
    shown = named[12:][: len(wrong) + len(least)]  # after six miniatures of each class
    assert shown[: len(wrong)] == [row["path"] for row in wrong]
    assert set(shown[len(wrong) :]) == {row["path"] for row in least}
    assert f"it said {wrong[0]['predicted']} ({float(wrong[0]['probability']) * 100:.1f} %)" in page.text.replace("\xa0", " ")


def test_a_heat_map_is_that_of_the_network_that_answered(crossed_run, tmp_path, monkeypatch):
    asked = []
    gradcam = heat.gradcam
    monkeypatch.setattr(heat, "gradcam", lambda *given: asked.append(given[0]) or gradcam(*given))
    classifier = tapetum.load(crossed_run, "cpu")
    page = written(crossed_run, tmp_path, classifier=classifier)
    assert 1 <= len(asked) <= 2
    assert all(any(network is member for member in classifier.network.members) for network in asked)
    assert sum(found["alt"].startswith("The same picture, bright where") for found in page.images()) >= 6


def test_cross_validation_doubts_labels_and_says_by_whom(crossed_run, tmp_path):
    page = written(crossed_run, tmp_path)
    assert "80 pictures, each judged by a network that did not train on it" in page.text
    assert "each of them by a network that was not trained on it" in page.text
    assert f"tapetum labels {crossed_run}" in page.text
    korean = written(crossed_run, tmp_path, lang="ko")
    assert "사진 80장을 저마다 그 사진을 보지 않은 신경망이 판단했습니다." in korean.text


@pytest.mark.parametrize("keep", ["best", "last"])
def test_it_says_when_the_epoch_was_chosen_on_what_it_is_judged_by(crossed_run, tmp_path, keep):
    run = shutil.copytree(crossed_run, tmp_path / "run")
    settings = (run / "settings.toml").read_text(encoding="utf-8")
    head, decided = settings.split("[decided]")
    (run / "settings.toml").write_text(head + "[decided]" + re.sub(r'keep = "\w+"', f'keep = "{keep}"', decided))
    assert ("chosen on these same pictures" in written(run, tmp_path).text) == (keep == "best")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_needs_nothing_but_itself(plain_run, tmp_path, lang):
    page = written(plain_run, tmp_path, lang=lang)
    assert ("html", {"lang": lang}) in page.elements
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    for tag, found in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert found.get(name, "#").startswith(("#", "data:image/")), (tag, found)
    assert "url(http" not in page.source
    assert "@import" not in page.source
    assert all(found.get("alt") for found in page.images())
    targets = {found["id"] for _, found in page.elements if "id" in found}
    assert {found["href"][1:] for tag, found in page.elements if tag == "a"} <= targets


def test_both_languages_have_the_same_sentences_and_parts(crossed_run, tmp_path):
    english, korean = (written(crossed_run, tmp_path, lang=lang) for lang in LANGUAGES)

    def shape(page):
        # Words in a sentence, and the inside of drawings, whose names and lines of text depend on the words.
        skipped = {"code", "strong", "b", "span", "br", "text", "path", "use", "g", "defs"}
        kept = [(tag, found) for tag, found in page.elements if tag not in skipped]
        return [(tag, found.get("class"), found.get("src"), found.get("id") if tag == "h2" else None) for tag, found in kept]

    assert shape(english) == shape(korean)
    sources = [(report.__file__.replace("report.py", f"templates/report.{lang}.html")) for lang in LANGUAGES]
    texts = [open(path, encoding="utf-8").read() for path in sources]
    assert re.findall(r"macro (\w+)\(", texts[1]) == [
        name for name in re.findall(r"macro (\w+)\(", texts[0]) if name != "count"
    ]
    keys = [re.findall(r'"(\w+)": "', text) for text in texts]
    assert keys[0] == keys[1]
    latin = re.sub(r"[^A-Za-z ]", "", re.sub(r"\{[{%].*?[%}]\}|<[^>]*>", "", texts[1].split("{% macro duration")[1]))
    assert not {"the", "and", "of", "picture"} & set(latin.split())


def test_pictures_that_are_gone_changed_or_elsewhere(plain_copy, plain_run, tmp_path):
    away = shutil.copytree(plain_run.parent / "stripes", tmp_path / "elsewhere")
    first = rows(plain_copy / "splits.csv")[0]["path"]
    Image.new("RGB", (9, 9)).save(away / first)
    moved = written(plain_copy, tmp_path, data=away)
    assert first not in {found["alt"].removeprefix("Picture ") for found in moved.images()}
    assert len(moved.images()) > 20
    settings = (plain_copy / "settings.toml").read_text(encoding="utf-8")
    (plain_copy / "settings.toml").write_text(
        settings.replace(str(plain_run.parent), str(tmp_path / "nowhere")), encoding="utf-8"
    )
    for lang, sentence in (("en", "No picture is shown: "), ("ko", "사진을 보여 주지 못합니다.")):
        gone = written(plain_copy, tmp_path, lang=lang)
        assert sentence in gone.text
        assert str(tmp_path / "nowhere") in gone.text
        assert not gone.images()
        assert gone.source.count("<svg") == moved.source.count("<svg") >= 5


@pytest.mark.parametrize(
    ("module", "run", "sentences"),
    [
        ("captum", "plain_run", ["pip install 'tapetum[explain]'", "히트맵에는 패키지가 하나 더 필요합니다"]),
        ("cleanlab.filter", "crossed_run", ["pip install 'tapetum[audit]'", "의심스러운 라벨을 찾으려면"]),
    ],
)
def test_a_missing_package_costs_its_part_alone(request, tmp_path, monkeypatch, module, run, sentences):
    monkeypatch.setitem(sys.modules, module, None)
    for lang, sentence in zip(LANGUAGES, sentences, strict=True):
        page = written(request.getfixturevalue(run), tmp_path, lang=lang)
        assert sentence in page.text
        assert sum(found["alt"].startswith(("The same picture", "같은 사진")) for found in page.images()) == (
            0 if module == "captum" else 12
        )


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_says_that_a_budget_ended_the_training(plain_copy, tmp_path, lang):
    sentence = {"en": "The time budget ended it after 3 of at most 98 epochs", "ko": "3 에포크에서 끝났습니다"}[lang]
    assert sentence not in written(plain_copy, tmp_path, lang=lang).text
    file = plain_copy / "settings.toml"
    text = file.read_text(encoding="utf-8").replace('minutes = "auto"', "minutes = 1.0").replace("epochs = 3", "epochs = 98")
    file.write_text(text, encoding="utf-8")
    assert sentence in written(plain_copy, tmp_path, lang=lang).text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_an_older_run_has_a_report_too(plain_copy, tmp_path, lang):
    for name in ("cost.json", "predictions.csv", "log.jsonl", "left_out.csv"):
        (plain_copy / name).unlink()
    classifier = tapetum.load(plain_copy, "cpu")
    for name in ("surest_half", "calibration", "folds"):
        classifier.about.pop(name, None)
    classifier.save(plain_copy / "model.safetensors")
    page = written(plain_copy, tmp_path, lang=lang)
    for sentence in {
        "en": ["not recorded", "no predictions.csv any more", "Every file gave a picture"],
        "ko": ["기록이 없습니다", "predictions.csv가 더 이상 없어서", "모든 파일을 사진으로 읽었고"],
    }[lang]:
        assert sentence in page.text
    assert "of 16 test pictures" in page.text or "테스트 사진 16장" in page.text


def test_only_the_training_that_was_kept_is_drawn(plain_copy, tmp_path):
    from tapetum.looking.story import read_story

    entries = [json.loads(line) for line in (plain_copy / "log.jsonl").read_text().splitlines()]
    # A first network may end before the epoch in which the second is first validated.
    before = [{**entry, "epoch": 0, "stage": "first"} for entry in entries] + [
        {**entry, "val_loss": 99.0} for entry in entries[:2]
    ]
    members = [{**entry, "member": 1} for entry in entries] + [{**entry, "member": 2, "val_loss": 98.0} for entry in entries]
    for log in ([*before, *members], [*before[: len(entries)], *members]):
        (plain_copy / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
        assert read_story(plain_copy).history == [{**entry, "member": 1} for entry in entries]


def test_names_are_other_peoples_text(plain_copy, tmp_path):
    evil = "<img src=x onerror=alert(1)>&\"'"
    (plain_copy / "left_out.csv").write_text(
        f'path,reason\n"{evil.replace(chr(34), chr(34) * 2)}",<script>\n', encoding="utf-8"
    )
    page = written(plain_copy, tmp_path)
    assert evil in page.text
    assert "script" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, found in page.elements for name in found)


def test_many_classes_fold_what_nobody_reads(tmp_path):
    data = tmp_path / "data"
    for k in range(24):
        (data / f"class {k:02d}").mkdir(parents=True)
        for i in range(5):
            picture = np.random.default_rng(100 * k + i).integers(0, 255, (20, 20, 3))
            Image.fromarray((picture // 2 + 5 * k).astype(np.uint8)).save(data / f"class {k:02d}" / f"{i}.png")
    tapetum.train(data, tmp_path / "run", model="lenet-now", size=32, epochs=1, say=lambda line: None)
    page = Page(tmp_path / "run" / "report.html")
    assert "The hardest classes" in page.text
    assert "What was taken for what" not in page.text
    assert sum(tag == "details" for tag, _ in page.elements) >= 3


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda run: (run / "model.safetensors").unlink(), "expected the folder of a finished run"),
        (lambda run: (run / "settings.toml").unlink(), "could not read the settings file"),
        (lambda run: (run / "splits.csv").write_text("path,label,split,sha256\na,b,c,d\n"), "is neither a class nor a part"),
        (lambda run: (run / "splits.csv").write_text("path,label\na,b\n"), "holds a file that no training wrote"),
        (lambda run: (run / "log.jsonl").write_text("{"), "holds a file that no training wrote"),
        (lambda run: (run / "predictions.csv").write_text("split\nval\n"), "is not what a training wrote"),
    ],
)
def test_what_is_no_run_is_one_sentence(plain_copy, tmp_path, spoil, what):
    spoil(plain_copy)
    with pytest.raises(UserError, match=what):
        write_report(plain_copy, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_miniatures_are_the_pictures(plain_run, tmp_path):
    page = written(plain_run, tmp_path)
    found = next(each for each in page.images() if each["alt"].startswith("Picture upright/"))
    shown = Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1])))
    far = {
        path.name: np.abs(np.asarray(shown, int) - np.asarray(Image.open(path).resize(shown.size), int)).mean()
        for path in (plain_run.parent / "stripes" / "upright").iterdir()
    }
    assert found["alt"] == f"Picture upright/{min(far, key=far.get)}"


def test_the_page_of_many_pictures_stays_small(plain_run):
    assert (plain_run / "report.html").stat().st_size < 1_000_000
