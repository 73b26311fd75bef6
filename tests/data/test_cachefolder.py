"""Judges: the files on the disk and their times, and hand counts of bytes."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tapetum.data.cachefolder import free_bytes, is_kept, limit_bytes, remove_oldest, room
from tapetum.errors import UserError

GIB = 1024**3


@pytest.mark.parametrize("text", ["20 GB", "20,5", " ", "nan", "inf", "1e300"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("TAPETUM_CACHE_GB", text)
    with pytest.raises(UserError, match=f"^TAPETUM_CACHE_GB is '{text}': expected a number of gigabytes, such as 20.$"):
        limit_bytes()


@pytest.mark.parametrize(("place", "asked"), [(".", "."), ("캐시/깊은 곳/x", "."), ("file/x/y", "file")])
def test_two_gibibytes_of_the_disk_stay_free_and_what_stands_beside_counts(monkeypatch, tmp_path, place, asked):
    (tmp_path / "file").write_text("")
    seen = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: seen.append(path) or SimpleNamespace(free=12 * GIB))
    assert free_bytes(tmp_path / place) == 10 * GIB
    assert seen == [tmp_path / asked]  # what is there of it already
    monkeypatch.setenv("TAPETUM_CACHE_GB", str(16 * GIB / 1e9))
    assert [room(tmp_path / place, beside * GIB) // GIB for beside in (0, 6, 7, 16, 20)] == [10, 10, 9, 0, -4]


def test_a_kept_file_counts_as_used_now_and_another_is_none(tmp_path):
    path = tmp_path / "사진 조각.tar"
    path.write_bytes(b"12345")
    os.utime(path, (1, 1))
    assert not any(is_kept(path, size) for size in (0, 4, 6))
    assert path.stat().st_mtime == 1
    before = time.time()
    assert is_kept(path, 5)
    assert path.stat().st_mtime > before - 60
    assert not is_kept(tmp_path / "none.tar", 0)
    assert not is_kept(path / "below a file.tar", 0)


@pytest.mark.parametrize(
    ("limit", "coming", "removed"),
    [(1000, 0, ""), (999, 0, "b"), (1050, 100, "b"), (700, 0, "b"), (699, 0, "bs"), (400, 0, "bsa"), (0, 0, "bsat")],
)
def test_what_was_not_used_for_longest_goes_until_the_rest_is_within_the_limit(monkeypatch, own_cache, limit, coming, removed):
    (own_cache / "shards").mkdir()
    files = {name: [f"{name}.json", f"{name}.u8"] if name in "abc" else [f"{name}.tar"] for name in "abcst"}
    for name, size, used in (("a", 200, 300), ("b", 300, 100), ("c", 100, 50), ("s", 100, 200), ("t", 300, 400)):
        path = own_cache / (f"{name}.u8" if name in "abc" else f"shards/{name}.tar")
        path.write_bytes(bytes(size))
        if name in "abc":
            os.utime(path, (600 - used,) * 2)  # what a map reads leaves no trace: the JSON's time counts
            path = path.with_suffix(".json")
            path.touch()
        os.utime(path, (used, used))
    monkeypatch.setenv("TAPETUM_CACHE_GB", repr((limit + 0.5) / 1e9))
    remove_oldest(own_cache, spare="c", coming=coming)
    left = sorted(path.name for path in own_cache.rglob("*.*"))
    assert left == sorted(file for name in files if name not in removed for file in files[name])


def test_pixels_whose_process_was_killed_before_their_index_came_go_like_others(monkeypatch, own_cache):
    for name, used in (("old", 100), ("new", 200)):
        (own_cache / f"{name}.u8").write_bytes(bytes(500))
        os.utime(own_cache / f"{name}.u8", (used, used))
    monkeypatch.setenv("TAPETUM_CACHE_GB", repr(600.5 / 1e9))
    remove_oldest(own_cache)
    assert [path.name for path in own_cache.iterdir()] == ["new.u8"]


def test_what_cannot_be_removed_is_passed_over_whole(monkeypatch, own_cache):
    for used, name in enumerate(("held", "free")):
        for suffix in (".json", ".u8"):
            (own_cache / (name + suffix)).write_bytes(bytes(500))
            os.utime(own_cache / (name + suffix), (used, used))
    unlink = Path.unlink

    def refusing(path, missing_ok=False):
        if path.name == "held.u8":
            raise PermissionError(13, "in use")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    monkeypatch.setenv("TAPETUM_CACHE_GB", repr(600.5 / 1e9))
    remove_oldest(own_cache)
    assert sorted(path.name for path in own_cache.iterdir()) == ["held.json", "held.u8"]


def test_many_that_remove_at_once_do_not_stumble_over_each_other(monkeypatch, own_cache):
    monkeypatch.setenv("TAPETUM_CACHE_GB", "0")
    (own_cache / "shards").mkdir()
    for _ in range(20):
        for name in range(60):
            (own_cache / f"{name}.u8").touch()
            (own_cache / f"{name}.json").touch()
            (own_cache / "shards" / f"{name}.tar").touch()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(remove_oldest, own_cache, coming=1) for _ in range(8)]:
                done.result()
        assert [path.name for path in own_cache.rglob("*.*")] == []


def test_scraps_of_killed_processes_go_once_they_are_a_day_old(own_cache):
    (own_cache / "shards").mkdir()
    scraps = [".key.x.part", ".key.json.x.part", "shards/.hash.part", "shards/.hash.lock"]
    others = ["mine.part", ".lock", "README", "shards/mine.lock"]
    for hours, gone in ((23, []), (25, scraps)):
        for name in scraps + others:
            (own_cache / name).write_bytes(b"x")
            os.utime(own_cache / name, (time.time() - hours * 3600,) * 2)
        remove_oldest(own_cache)
        assert [name for name in scraps + others if not (own_cache / name).exists()] == gone
