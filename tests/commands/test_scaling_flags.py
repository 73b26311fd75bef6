"""The flags of tune and grow are those that they heed, with their own defaults."""

import pytest

from tapetum import cli
from tapetum.commands.mistakes import flags_of
from tapetum.commands.scaling import ToGrow, ToTune, plain
from tapetum.config import Settings
from tapetum.scaling import grow, planning


def test_the_defaults_that_help_tells_are_those_that_hold():
    assert (ToTune().minutes, ToTune().folds, ToTune().test) == (planning.MINUTES, planning.FOLDS, planning.TEST)
    assert (ToGrow().minutes, ToGrow().test) == (grow.MINUTES, grow.TEST)


def test_what_was_not_named_is_as_if_nothing_had_been_said():
    assert plain(ToTune()) == plain(ToGrow()) == Settings()
    assert plain(ToTune(minutes=5, folds=2, lr=0.1)) == Settings(minutes=5, folds=2, lr=0.1)
    assert type(plain(ToTune())) is Settings


@pytest.mark.parametrize("name", ["tune", "grow"])
def test_what_is_refused_or_ignored_is_no_flag(name):
    hidden = {"members", "distill", "weights", "unlabelled", "split", "recipe", "keep"} | (
        {"folds"} if name == "grow" else set()
    )
    assert flags_of(cli._COMMANDS[name]).isdisjoint(f"--{each}" for each in hidden)


def test_a_runs_settings_file_serves_a_search(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('members = 1\nlr = 0.5\nminutes = "auto"\nsplit = "auto"\n')
    assert cli._with_settings(["tune", "P", "--settings", str(file)]) == ["tune", "--lr", "0.5", "--minutes", "auto", "P"]
    file.write_text("members = 3\n")
    assert "--members" in cli._with_settings(["tune", "P", "--settings", str(file)])
