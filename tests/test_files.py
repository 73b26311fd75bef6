import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from tapetum.errors import UserError
from tapetum.files import (
    append_line,
    claim,
    csv_cells,
    no_formula,
    read_csv,
    unguarded,
    write_atomically,
    write_csv,
    write_text,
)


def test_a_file_is_written_whole_and_nothing_stays_beside_it(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "고양이\n")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "고양이\n"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_a_failing_writer_leaves_the_old_file_and_no_scrap(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def full_disk(file):
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="No space left on device.*old file is unchanged"):
        write_atomically(path, full_disk)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_flushed_takes_the_file_all_the_same(tmp_path, monkeypatch):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", sync)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_interrupt_leaves_the_old_file_and_no_scrap(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_is_really_full_is_said(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match="could not write"):
        # The kernel answers ENOSPC to every write; renaming over a device is never reached.
        write_atomically(tmp_path / "x", lambda file: open("/dev/full", "wb", buffering=0).write(b"x"))
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_the_disk_does_not_take_is_said(tmp_path):
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "둘")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\n둘\n"
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match=r"could not write /dev/full \(No space left on device\)"):
        append_line(Path("/dev/full"), "three")


def test_written_files_obey_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["Icon\r", "a\rb", "\r", "a\nb", 'quote"d', "comma,d", "=1\r"])
def test_any_name_comes_back_from_a_csv_as_it_was(tmp_path, name):
    write_csv(tmp_path / "x.csv", ["path", "n"], [["first", 1], [name, 2], ["last", 3]])
    cells = read_csv(tmp_path / "x.csv")
    assert [[unguarded(path), n] for path, n in cells] == [["first", "1"], [name, "2"], ["last", "3"]]
    assert csv_cells(["path", "n"], [[name, 2]]) == [cells[1]]
    assert pandas.read_csv(tmp_path / "x.csv")["path"].tolist() == [path for path, _ in cells]


def test_csv_quotes_what_needs_it(tmp_path):
    write_csv(tmp_path / "a.csv", ["path", "n"], [('a,b"c.jpg', 1)])
    assert (tmp_path / "a.csv").read_text() == 'path,n\n"a,b""c.jpg",1\n'


@pytest.mark.parametrize("text", ["=1+1", "'=1+1", "''-cat/1.jpg", "'tis.jpg", "'", "''", "cat-1.jpg", "\t", "'\r", ""])
def test_every_text_comes_back_from_its_guard_and_none_begins_a_formula(text):
    guarded = no_formula(text)
    assert unguarded(guarded) == text
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))


# Claims the folder if it can, and then holds it until its stdin ends.
CLAIMANT = """
import sys
from pathlib import Path
from tapetum.errors import UserError
from tapetum.files import claim
try:
    with claim(Path(sys.argv[1]), "training"):
        (Path(sys.argv[1]) / "settings.toml").touch()
        print("holds", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error, flush=True)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMANT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_of_many_that_start_at_once_one_runs(tmp_path):
    folder = tmp_path / "한 실행"
    claimants = [start(folder) for _ in range(6)]
    said = [each.stdout.readline().strip() for each in claimants]
    assert said.count("holds") == 1
    refused = f"another training is writing to {folder}: wait until it has ended, or choose another folder."
    assert said.count(refused) == 5
    holder = claimants[said.index("holds")]
    holder.kill()  # the lock goes with the process
    holder.wait()
    with claim(folder, "training"):
        pass
    for each in claimants:
        each.communicate()


def test_a_folder_to_which_nothing_was_written_goes_again(tmp_path):
    folder = tmp_path / "runs" / "new"
    with pytest.raises(ZeroDivisionError), claim(folder, "training"):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()
    with claim(folder, "training"):
        (folder / "settings.toml").touch()
    assert (folder / "settings.toml").exists()


def test_what_stood_there_before_stays(tmp_path):
    with claim(tmp_path, "training"):
        pass
    assert tmp_path.exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="could not write to .*: nothing was changed"),
        claim(tmp_path / "file" / "run", "training"),
    ):
        pass
