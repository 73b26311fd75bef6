"""Typing mistakes, each with its sentence; what is right goes through, whatever the command."""

import re
from pathlib import Path

import pytest

from tapetum import cli
from tapetum.commands.mistakes import flags_of, refuse_mistakes
from tapetum.errors import UserError


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("trian P", "there is no command 'trian'. Did you mean 'train'?"),
        ("train P --epohcs 3", "train has no flag --epohcs. Did you mean '--epochs'? All that it has: tapetum train --help."),
        ("tune P --members 3", "tapetum tune has no flag --members. It is one of tapetum train."),
        ("grow P --folds 3", "tapetum grow has no flag --folds. It is one of tapetum train."),
        ("train P --minutes five", "--minutes takes a number or auto, not 'five'."),
        ("train P --minutes=nan", "--minutes takes a number or auto, not 'nan'."),
        ("train P --epochs 2.5", "--epochs takes a whole number or auto, not '2.5'."),
        ("train P --epochs", "--epochs stands alone: expected a whole number or auto after it."),
        ("train P --epochs --resume", "--epochs stands alone"),
        ("train P --fit cropp", "--fit takes auto, crop, pad, center or squash, not 'cropp'. Did you mean 'crop'?"),
        ("explain R P --class", "--class stands alone: expected a value after it."),
        ("serve R --queue many", "--queue takes a whole number, not 'many'."),
        ("train P Q", "'Q' is one argument too many"),
        ("train --epochs 3", "tapetum train needs DATA: expected tapetum train DATA. All that it takes: tapetum train --help."),
        ("compare R", "tapetum compare needs RUN and DATA: expected tapetum compare RUN RUN DATA."),
        ("explain R", "tapetum explain needs PICTURES: expected tapetum explain RUN PICTURES."),
        ("summary --size 7", "tapetum summary needs MODEL"),
        ("train my photos", "my does not exist, but 'my photos' does: a path with spaces in it needs quotes."),
        ("predict R my photos", "my does not exist, but 'my photos' does"),
    ],
)
def test_a_mistake_is_one_sentence(typed, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my photos").mkdir()
    with pytest.raises(UserError) as told:
        refuse_mistakes(typed.split(" "), cli._COMMANDS)
    assert said in str(told.value)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "--help",
        "train --hlep --help",
        "train P --minutes 1e1 --epochs=auto --resume --lr -1 --start_size 32 --weights x",
        "explain R P Q --unit a:1 b:2 --class cat --json",
        "summary AvgPool2d(2) --size 7",
        "get",
        "get mnist here",
        "grow P --sizes 10 20 --seeds 1",
        "tune P --minutes auto --folds 4 --test 0",
    ],
)
def test_what_can_be_meant_goes_through(typed):
    assert refuse_mistakes(typed.split(), cli._COMMANDS) is None


def test_every_flag_that_help_shows_is_known(capsys):
    for name, command in cli._COMMANDS.items():
        with pytest.raises(SystemExit):
            cli.run([name, "--help"])
        shown = set(re.findall(r"^\W*(?:-h, )?(--[a-z][a-z0-9-]*)", capsys.readouterr().out, re.MULTILINE))
        assert shown == flags_of(command) | {"--help"}, name
