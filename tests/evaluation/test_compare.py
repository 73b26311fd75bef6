"""Judges: figures printed in Newcombe 1998, the binomial sum by hand, and a hand count."""

import math

import numpy as np
import pytest

import tapetum
from tapetum.errors import UserError
from tapetum.evaluation import compare as module
from tapetum.evaluation.compare import compare, paired_difference
from tapetum.evaluation.evaluate import Judged
from tapetum.inference.predict import Predictions


@pytest.mark.parametrize(
    ("table", "low", "high"),
    # Newcombe 1998, table II, method 10: e, f, g, h and the interval.
    [((36, 12, 2, 0), 0.0569, 0.3404), ((36, 14, 0, 0), 0.1528, 0.4167)],
)
def test_the_interval_is_newcombes(table, low, high):
    found = paired_difference(*table)
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))


def test_the_interval_turns_round_with_its_arguments_and_holds_its_value():
    for table in ((30, 5, 9, 6), (0, 10, 0, 0), (0, 0, 0, 7), (5, 0, 0, 5)):
        found, turned = paired_difference(*table), paired_difference(table[0], table[2], table[1], table[3])
        assert found.low <= found.value <= found.high
        assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def judged(answers, labels, classes=("cat", "dog"), seen=()):
    p_NK = np.eye(len(classes))[[classes.index(answer) for answer in answers]] * 0.8 + 0.1
    names = tuple(f"{i}.jpg" for i in range(len(answers)))
    predictions = Predictions(classes, names, np.arange(len(answers)), p_NK, names, ())
    marks = np.isin(np.arange(len(answers)), seen)
    return Judged(np.array([classes.index(label) for label in labels]), predictions, marks, "")


@pytest.fixture
def of(monkeypatch):
    def put(a, b):
        monkeypatch.setattr(module, "judged_on", lambda run, *rest: {"a": a, "b": b}[run])
        return compare("a", "b", "data")

    return put


def test_hand_counted(of):
    labels = ["cat"] * 10 + ["dog"] * 10
    a = judged(["cat"] * 10 + ["cat"] * 8 + ["dog"] * 2, labels)
    # The same classes in another order; right where A is wrong eight times, wrong once where A is right.
    b = judged(["dog"] + ["cat"] * 9 + ["dog"] * 10, labels, classes=("dog", "cat"))
    found = of(a, b)
    assert (found.accuracy_a.value, found.accuracy_b.value) == (0.6, 0.95)
    assert (found.only_a, found.only_b) == (1, 8)
    assert found.p == pytest.approx(2 * sum(math.comb(9, k) for k in (0, 1)) / 2**9)
    assert found.difference.value == pytest.approx(0.35)
    assert len(found.differing) == 9
    assert found.differing[0] == ("0.jpg", "cat", "cat", "dog")
    assert "B is better" in found.text()


def test_equal_ones_and_pictures_that_were_trained_on(of):
    labels = ["cat", "dog"] * 6
    found = of(judged(labels, labels, seen=[0, 1]), judged(labels, labels, seen=[1, 2]))
    assert (found.p, found.difference.value, found.difference.n, found.differing) == (1.0, 0.0, 9, ())
    assert "Left out: 3 pictures that one of them was trained on." in found.text()
    assert "No difference is shown" in found.text()
    with pytest.raises(UserError, match="all 12 pictures of data were in a training"):
        of(judged(labels, labels, seen=range(12)), judged(labels, labels))


def test_other_classes_are_refused(of):
    labels = ["cat", "dog"]
    with pytest.raises(UserError, match="a knows cat, dog and b cat, dog, owl: expected the same classes"):
        of(judged(labels, labels), judged(labels, labels, classes=("cat", "dog", "owl")))


def test_two_runs_by_the_command(stripes, tmp_path, capsys):
    from tapetum import cli

    quick = dict(model="lenet-table", size=32, epochs=1, batch=16, turn=0.0, say=lambda line: None)
    for seed in (0, 1):
        tapetum.train(stripes, tmp_path / f"run{seed}", seed=seed, **quick)
    runs = [str(tmp_path / "run0"), str(tmp_path / "run1")]
    cli.run(["compare", *runs, str(stripes), "--out", str(tmp_path / "differ.csv"), "--json"])
    told = capsys.readouterr().out
    assert '"mcnemar_p"' in told
    lines = (tmp_path / "differ.csv").read_text().splitlines()
    assert lines[0] == "path,label,a,b"
