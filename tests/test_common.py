"""Judges: a shell, and the standard library's json."""

import json
import subprocess
from pathlib import Path

import pytest

from tapetum.commands.common import dumps, quoted, whole_number
from tapetum.errors import UserError


def test_counts_begin_with_one_where_they_are_asked_for():
    for value in (0, -1000):
        with pytest.raises(UserError, match=rf"^--batch is {value}: expected a whole number from 1\.$"):
            whole_number("batch", value)
    whole_number("batch", 1)


def test_one_line_of_json_keeps_letters_and_names_that_are_no_text():
    value = {"고양이": 'say "é"\n', "path": "\udcff.png", "n": [1, 0.1, None, True]}
    told = dumps(value)
    assert "고양이" in told
    assert len(told.splitlines()) == 1
    # As the program prints it, where a file's name is not UTF-8.
    assert json.loads(told.encode("utf-8", "backslashreplace")) == value


def test_a_shell_reads_back_every_path_and_an_address_has_both_of_its_slashes():
    paths = ["plain", "my photos", "고양이 사진", "it's", 'say "x"', "$HOME", "`id`", "a;b", "~", "*", "two\nlines", "b\\c"]
    addresses = ["https://host:81/cats and dogs", "s3://bucket/a'b"]
    words = " ".join(quoted(Path(path)) for path in paths + addresses)
    shown = subprocess.run(["sh", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True, cwd="/").stdout
    assert shown.decode().split("\0")[:-1] == paths + addresses
