"""Judges: times counted by hand, and the two streams of a program."""

import pytest

from tapetum.talk import counted, duration, say_nothing, say_to_stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3599.6, "1 h 0 min"), (90_061, "25 h 1 min")],
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


def test_counts_begin_with_none_where_they_are_told():
    assert [counted(n, "part") for n in (0, 1, 2, 1_234_567)] == ["0 parts", "1 part", "2 parts", "1,234,567 parts"]


def test_talk_leaves_stdout_to_the_answers(capsys):
    say_to_stderr("고양이 1")
    say_nothing("고양이 2")
    assert tuple(capsys.readouterr()) == ("", "고양이 1\n")
