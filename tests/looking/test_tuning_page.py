"""Judges: html.parser, numpy, and what is counted by hand of trials made by hand."""

import numpy as np
from matplotlib.figure import Figure

from html_page import HtmlPage
from tapetum.evaluation.compare import Comparison
from tapetum.evaluation.metrics import Estimate
from tapetum.looking import tuning
from tapetum.looking.tuning import Search, Tried, write_search


def tried(number, state, score=None, lr=0.001, batch=32, reason=""):
    return Tried(number, state, score, (0.4,) * (number % 3), {"lr": lr, "batch": batch}, number == 0, 9.5, "host:1", reason)


TRIALS = (
    tried(5, "finished", 0.7, lr=0.002),
    tried(2, "stopped", 0.9, lr=0.004, batch=16),
    tried(0, "finished", 0.5),
    tried(1, "finished", 0.7, lr=0.00123456, batch=64),
    tried(3, "failed", 0.0, lr=0.1, reason="the training has diverged."),
    tried(4, "waiting"),
)


def search(trials=TRIALS, **changes):
    about = dict(data="photos", network="compact at 80 px", folds=2, epochs=9, final_minutes=1.25, comparison=None)
    about |= dict(defaults={"lr": 0.001, "batch": 32}, logarithmic=("lr",), verdict="Nothing is known.", chosen="")
    return Search(trials=tuple(trials), **{**about, **changes})


def test_the_terminal_is_told_each_trial_and_in_the_end_the_counts_the_default_the_best_and_the_verdict():
    assert [trial.line() for trial in (TRIALS[2], TRIALS[4], TRIALS[5])] == [
        "trial 0 (the default recipe): finished 50.0 % with lr 0.001, batch 32",
        "trial 3: failed (the training has diverged.) 0.0 % with lr 0.1, batch 32",
        "trial 4: waiting with lr 0.001, batch 32",
    ]
    assert search().text().splitlines() == [
        "6 trials: 3 finished, 1 stopped, 1 failed, 1 waiting",
        "default   50.0 % in cross-validation (lr 0.001, batch 32)",
        "best      70.0 % in cross-validation (lr 0.00123, batch 64)",
        "",
        "Nothing is known.",
    ]


def test_the_page_has_the_proof_and_every_trial_by_its_number(tmp_path):
    shares = [Estimate(0.8, 0.7, 0.9, 50), Estimate(0.92, 0.8, 0.97, 50), Estimate(0.12, 0.01, 0.23, 50)]
    proven = search(comparison=Comparison(*shares, 1, 7, 0.0703125, (("aside.png", "a", "a", "b"),), ""))
    page = HtmlPage(write_search(proven, tmp_path / "page.html"))
    assert page.rows[1:] == [
        ["default recipe", "80.0 % (70.0 to 90.0, n = 50)", "1"],
        ["tuned", "92.0 % (80.0 to 97.0, n = 50)", "7"],
        ["trial", "state", "accuracy", "folds", "lr", "batch"],
        ["0 (default)", "finished", "50.0 %", "0", "0.001", "32"],
        ["1 (best)", "finished", "70.0 %", "1", "0.00123", "64"],
        ["2", "stopped", "90.0 %", "2", "0.004", "16"],
        ["3", "failed: the training has diverged.", "0.0 %", "0", "0.1", "32"],
        ["4", "waiting", "", "1", "0.001", "32"],
        ["5", "finished", "70.0 %", "2", "0.002", "32"],
    ]
    assert "Difference +12.0 points (+1.0 to +23.0); p = 0.0703 (McNemar, exact)." in page.text
    assert "B less A  +12.0 points (95 % interval +1.0, +23.0, n = 50)" in proven.text()
    assert "aside.png" not in proven.text()  # nobody is to learn from what was put aside


def test_other_peoples_words_stay_words_and_without_scores_there_are_no_charts(tmp_path):
    evil = "</code><script>alert('한글 & 빈칸')</script><img src=x onerror=\"alert(1)\">"
    found = search([tried(0, "waiting"), tried(1, "failed", reason=evil)], data=evil, network=evil, verdict=evil)
    assert found.best is None
    page = HtmlPage(write_search(found, tmp_path / "페이지 1.html"))
    assert not {"script", "img", "svg"} & set(page.tags)
    assert page.text.count(evil) == 5  # in the title, too


def test_the_line_over_the_trials_is_the_best_that_finished_so_far():
    scores, finished = [0.5, 0.7, 0.4, 0.9, 0.6, 0.8], [0, 1, 2, 4, 5]
    trials = [tried(i, "finished" if i in finished else "stopped", score) for i, score in enumerate(scores)]
    axes = Figure().add_subplot()
    tuning._draw_history(axes, trials)
    best = np.maximum.accumulate([scores[i] for i in finished])
    assert np.array_equal(axes.lines[-1].get_xydata(), np.c_[finished, best])
    dots = {line.get_color(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"}
    assert dots == {tuning.SECOND: [[i, scores[i]] for i in finished], tuning.FAINT: [[3, 0.9]]}
