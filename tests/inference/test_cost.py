"""The figures of cost by the clock and the operating system, not by what they say of themselves."""

import json
import time

import numpy as np
import pytest

from tapetum import load
from tapetum.data.sources import find_pictures
from tapetum.inference.cost import peak_memory, pictures_per_second, read_cost, write_cost


def test_the_speed_is_that_of_the_clock(plain_run):
    classifier, samples = load(plain_run, "cpu"), find_pictures(plain_run.parent / "stripes" / "upright")
    predict = classifier.from_squares
    asked = []

    def slow(squares, batch):
        squares = list(squares)
        asked.append(len(squares))
        time.sleep(0.02 * len(squares))
        return predict(squares, batch)

    classifier.from_squares = slow
    speed, count = pictures_per_second(classifier, samples)
    assert count == asked[-1]
    assert 20 < speed < 50  # 50 a second at most, less the reading


def test_memory_that_is_taken_is_seen():
    before = peak_memory()
    held = np.ones(40_000_000)
    assert peak_memory() >= before
    assert peak_memory() > held.nbytes


def test_it_stands_in_the_run_folder_and_not_in_the_model(plain_run, tmp_path):
    told = read_cost(plain_run)
    assert told["training_seconds"] > 0
    assert told["seconds_so_far"] >= told["training_seconds"]
    assert told["peak_memory_bytes"] > 50_000_000
    assert told["device"].startswith("cpu")
    classifier = load(plain_run, "cpu")
    assert "training_seconds" not in json.dumps(classifier.about)
    written = write_cost(tmp_path, classifier, find_pictures(plain_run.parent / "stripes" / "upright"), 12.34, 20.0)
    assert read_cost(tmp_path) == written
    assert written["training_seconds"] == 12.3


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_where_nothing_useful_stands_nothing_is_read(tmp_path, content):
    if content is not None:
        (tmp_path / "cost.json").write_text(content)
    assert read_cost(tmp_path) == {}
