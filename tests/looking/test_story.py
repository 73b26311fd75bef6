"""Judges: the csv module, and the files of a run damaged or taken away one by one."""

import csv
import re

import pytest

import tapetum
from tapetum.errors import UserError
from tapetum.looking.story import read_story

HEAD = "path,label,split,sha256\n"


def test_names_come_back_as_the_files_are_called(plain_copy):
    names = ["=1+1.png", "-한글 이름.png", "쉼표, '따옴표' & <b>.png", "two\nlines.png", "'tis.png"]
    guarded = ["'=1+1.png", "'-한글 이름.png", *names[2:]]  # a spreadsheet would compute them
    for path, head, cells in (
        ("splits.csv", HEAD.strip(), ["lying", "val", "0"]),
        ("left_out.csv", "path,reason", ["까닭, 1"]),
    ):
        with (plain_copy / path).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head.split(","), *([name, *cells] for name in guarded)])
    story = read_story(plain_copy)
    assert [path for path, _, _ in story.pictures] == list(story.sha256) == names
    assert story.left_out == [[name, "까닭, 1"] for name in names]


def test_what_an_older_version_did_not_write_is_empty_and_a_classifier_at_hand_is_not_loaded(plain_copy):
    classifier = tapetum.load(plain_copy, "cpu")
    (plain_copy / "model.safetensors").write_bytes(b"no model")
    for name in ("splits.csv", "left_out.csv", "log.jsonl", "predictions.csv", "cost.json"):
        (plain_copy / name).unlink()
    settings = (plain_copy / "settings.toml").read_text(encoding="utf-8")
    (plain_copy / "settings.toml").write_text(settings.split("[about]")[0], encoding="utf-8")
    story = read_story(plain_copy, classifier)
    assert story.classifier is classifier
    empty = [story.pictures, story.sha256, story.left_out, story.history, story.answers, story.cost, story.origin, story.why]
    assert empty == [[], {}, [], [], {}, {}, "", ""]
    assert story.counts() == {label: {"train": 0, "val": 0, "test": 0} for label in ("lying", "upright")}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("splits.csv", f"{HEAD}a.png,cat,train,0\nb.png,lying,val,0\n", "'cat' is neither a class nor a part of this run"),
        ("splits.csv", f"{HEAD}a.png,lying,train,0\nb.png,lying,valid,0\n", "'valid' is neither a class nor a part"),
        ("splits.csv", f"{HEAD}사진.png,lying,train,0\n".encode("cp949"), "codec can't decode"),
        ("splits.csv", f"{HEAD}{'a' * 200_000},lying,train,0\n", "field larger than field limit"),
        ("left_out.csv", "path,reason\na.png,one,two\n", "too many values"),
        ("log.jsonl", '{"epoch": 1, "val_loss": 0.5}\n{"epoch": 2, "val_l', "Unterminated string"),
        ("log.jsonl", "[]\n", "is no epoch"),
        ("log.jsonl", '{"val_loss": 1}\n{"val_loss": 1}\n', "is no epoch"),
    ],
    ids=["class", "part", "encoding", "long", "cells", "cut", "list", "no epoch"],
)
def test_a_damaged_file_is_one_sentence_with_the_folder_and_the_reason(plain_copy, name, content, told):
    (plain_copy / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"^{re.escape(str(plain_copy))} holds a file that no training wrote \(.*{told}"):
        read_story(plain_copy)
