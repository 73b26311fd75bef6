"""The study notes' tour: judged by its own files, by numpy, and by what both languages say."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from conftest import write_stripes
from tapetum import textbook as tour
from tapetum.config import Settings
from tapetum.errors import UserError
from tapetum.evaluation.metrics import wilson
from tapetum.textbook import Outcome, Variant, textbook
from tapetum.training import recipes


class Page(HTMLParser):
    """What is in a page: tags, text, and addresses."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.addresses = [], "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data + " "

    def figures(self):
        """Every share that the page's own words name; drawings and tables of networks are the same anyway."""
        return re.findall(r"-?\d+\.\d+ ?%(?!p)", self.text)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """26 striped pictures: 16 with the book's numbers, and ten beyond."""
    folder = tmp_path_factory.mktemp("photos") / "cats dogs 사진"
    write_stripes(folder, count=13, seed=3)
    for path in folder.rglob("*.png"):
        stem, number, _ = path.name.split(".")
        if int(number) > 7:
            path.rename(path.with_name(f"{stem}.{int(number) + 300}.png"))
    return folder


@pytest.fixture(scope="module")
def toured(photos, tmp_path_factory):
    said = []
    out = tmp_path_factory.mktemp("out") / "tour"
    with pytest.MonkeyPatch.context() as patch:  # networks of 224 and 256 pixels take half a minute
        patch.setattr(tour, "VARIANTS", tuple(dataclasses.replace(v, options=v.options | {"size": 96}) for v in tour.VARIANTS))
        page, ledger = textbook(photos, out, quick=True, say=said.append)
        yield out, page, ledger, said


def test_the_command_tells_the_ledger_as_json(toured, photos, tapetum):
    out, page, ledger, _ = toured
    code, told, _ = tapetum("textbook", photos, "--out", out, "--quick", "--lang", "en", "--json")
    assert code == 0
    found = json.loads(told)
    assert found["page"] == str(page)
    for line in ledger:
        assert found["ledger"][line.variant] == {"accuracy": line.accuracy.to_json(), "seeds": 1, "gain": None}


def test_the_quick_tour_leaves_a_page_and_a_ledger(toured, photos):
    out, _, ledger, said = toured
    assert [line.variant for line in ledger] == ["lenet", "lenet-mended", "alexnet"]
    assert any("about" in line and "variants" in line for line in said[:3])  # the time, before it starts
    assert any("these are 16: its split is scaled to 13 to train, 2 to validate and 1 to test" in line for line in said), said
    for line in ledger:
        found = json.loads((out / "ledger" / f"{line.variant}-0.json").read_text())
        assert found["judged"]["value"] == line.accuracy.value
        assert line.accuracy == wilson(round(line.accuracy.value * 10), 10)  # ten photos beyond the book's
        assert line.gain is None
    assert (out / "lenet" / "kaggle.csv").read_text().startswith("id,label\n")
    assert {path.name for path in out.iterdir()} == {"index.html", "ledger", "lenet", "alexnet"}
    assert not (out / "lenet" / "checkpoint").exists()
    assert len(list(photos.rglob("*"))) == 28


def test_the_page_stands_alone_and_shows_everything(toured):
    page = Page(toured[1])
    assert "script" not in page.tags
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.tags.count("svg") >= 3
    assert page.tags.count("img") == 5  # curves twice, grids twice, the notes' random grid
    assert "46,038,242" in page.text
    assert "42,321,218" in page.text
    assert "short tour" in page.text


def test_both_languages_tell_the_same_figures(toured, photos):
    out, english, ledger, _ = toured
    said = []
    english_page = Page(english)
    korean, again = textbook(photos, out, lang="ko", quick=True, say=said.append)
    assert again == ledger  # nothing was trained anew
    korean_page = Page(korean)
    assert korean_page.figures() == english_page.figures()
    assert len(korean_page.figures()) > 12
    drawn = {"text", "path", "polygon"}  # words of another length fill other lines
    assert [t for t in korean_page.tags if t not in drawn] == [t for t in english_page.tags if t not in drawn]
    assert len(re.findall("[가-힣]", korean_page.text)) > 1200
    assert not re.findall("[가-힣]", english_page.text.replace("사진", ""))


def test_an_outcome_of_other_options_is_not_used_again(toured, photos):
    out = toured[0]
    variant = tour.VARIANTS[0]
    book, others = tour._photos(photos, lambda line: None)
    judging = tour._judging(book, others)
    options = tour._options(variant, 0, True, "auto")
    assert tour._finished(out, variant, 0, options, judging) is not None
    assert tour._finished(out, variant, 0, {**options, "lr": 0.5}, judging) is None
    assert tour._finished(out, variant, 1, options, judging) is None
    (out / "ledger" / "lenet-0.json").write_text("{")
    assert tour._finished(out, variant, 0, options, judging) is None


def test_without_further_photos_the_notes_own_judge(photos, tmp_path):
    few = tmp_path / "few"
    write_stripes(few, count=8, seed=3)
    said = []
    book, others = tour._photos(few, said.append)
    judging = tour._judging(book, others)
    assert others is None
    assert judging.from_book
    assert set(judging.samples.splits) == {"val", "test"}
    assert len(judging.samples) == 3


def test_the_ledger_is_students_t_seed_by_seed():
    def outcomes(name, values):
        return [Outcome(name, seed, (0.5,), wilson(round(v * 1000), 1000), 0.5) for seed, v in enumerate(values)]

    base, mended = [0.58, 0.60, 0.57, 0.61], [0.66, 0.69, 0.64, 0.68]
    line = tour._line(Variant("b", "a", {}), [*outcomes("a", base), *outcomes("b", mended)])
    assert line.seeds == 4
    interval = stats.ttest_rel(mended, base).confidence_interval(0.95)
    assert (line.gain.low, line.gain.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert line.accuracy.value == pytest.approx(np.mean(mended))


def test_what_cannot_be_is_refused(photos, tmp_path):
    with pytest.raises(UserError, match="seeds 0"):
        textbook(photos, tmp_path / "out", seeds=0)
    with pytest.raises(UserError, match="lies inside the pictures"):
        textbook(photos, photos / "out")
    with pytest.raises(UserError, match="does not exist"):
        textbook(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_language_that_there_is_not_is_refused_before_anything_is_trained(photos, tmp_path):
    with pytest.raises(UserError, match="lang 'fr': expected ko or en"):
        textbook(photos, tmp_path / "out", lang="fr")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_tour_goes_on_where_it_was(photos, tmp_path, monkeypatch):
    small = [Variant(v.name, v.as_written, v.options | {"size": 64, "epochs": 1}) for v in tour.VARIANTS]
    monkeypatch.setattr(tour, "VARIANTS", tuple(small))
    trained = []
    train = tour.train
    monkeypatch.setattr(tour, "train", lambda *a, **options: trained.append(options["model"]) or train(*a, **options))

    def stop(line):
        if line.startswith("lenet-mended, seed 0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        textbook(photos, tmp_path / "out", quick=True, say=stop)
    assert trained == ["lenet-textbook", "lenet"]
    assert not (tmp_path / "out" / "index.html").exists()
    page, _ = textbook(photos, tmp_path / "out", quick=True, say=lambda line: None)
    assert trained == ["lenet-textbook", "lenet", "alexnet-textbook"]
    assert page.exists()
    assert not (tmp_path / "out" / "under-way").exists()


def test_a_file_without_a_picture_is_left_out_and_said(photos, tmp_path):
    broken = tmp_path / "broken"
    write_stripes(broken, count=8, seed=3)
    (broken / "lying" / "lying.3.png").write_bytes(b"no picture")
    said = []
    book, _ = tour._photos(broken, said.append)
    assert len(book) == 15
    assert "lying/lying.3.png" not in book.names
    assert any(line.startswith("left out: lying/lying.3.png: not a picture") for line in said)


def test_photos_are_read_once_for_the_notes_lenet():
    recipe, _ = recipes.choose(Settings(recipe="notes"), recipes.Facts(400, 2, 375, False))
    assert recipes.preprocessing(recipe).reduce == tour._NOTES_REDUCE


def test_an_outcome_of_other_photos_is_not_used_again(tmp_path):
    folder = write_stripes(tmp_path / "photos", count=8, seed=3)

    def photos():
        return tour._judging(*tour._photos(folder, lambda line: None)).photos

    before = photos()
    assert photos() == before
    path = folder / "lying" / "lying.3.png"
    path.write_bytes((folder / "upright" / "upright.3.png").read_bytes())
    assert photos() != before
