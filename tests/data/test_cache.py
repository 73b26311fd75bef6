import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import encoded
from tapetum.data import cache
from tapetum.data.cache import open_pictures
from tapetum.data.decode import BadPicture, decode
from tapetum.data.prepare import reduce, resize
from tapetum.data.sources import find_samples
from tapetum.errors import UserError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for n in range(6):
            picture = Image.fromarray(generator.integers(0, 256, (20 + n, 30, 3), np.uint8))
            (root / label / f"{n}.png").write_bytes(encoded(picture))
    (root / "b" / "bad.jpg").write_bytes(b"no picture")
    (root / "b" / "empty.jpg").write_bytes(b"")
    return root


def everything(pictures):
    return [pictures[i].copy() for i in range(len(pictures)) if i not in pictures.reasons]


def test_cold_warm_and_no_cache_give_the_same_pictures(folder, own_cache):
    samples = find_samples(folder)
    cold = open_pictures(samples, 16)
    files = {p.name: p.stat().st_mtime_ns for p in own_cache.glob("*.u8")}
    warm = open_pictures(samples, 16)
    without = open_pictures(samples, 16, use_cache=False)
    assert len(files) == 1
    assert {p.name: p.stat().st_mtime_ns for p in own_cache.glob("*.u8")} == files
    assert without.cached is None
    expected = [reduce(decode(samples.read(i)), 16) for i in range(len(samples)) if i not in cold.reasons]
    for pictures in (cold, warm, without):
        assert all(np.array_equal(a, b) for a, b in zip(everything(pictures), expected, strict=True))
        assert {samples.names[i]: r for i, r in pictures.reasons.items()} == {
            "b/bad.jpg": "not a picture (begins with 'no pictu')",
            "b/empty.jpg": "empty file",
        }
        assert pictures.hashes[0] == hashlib.sha256(samples.read(0)).hexdigest()


def test_asking_for_a_bad_picture_raises_its_reason(folder):
    pictures = open_pictures(find_samples(folder), 16)
    with pytest.raises(BadPicture, match="empty file"):
        pictures[next(i for i, reason in pictures.reasons.items() if reason == "empty file")]


def test_a_changed_file_or_another_reduction_is_another_cache(folder, own_cache):
    open_pictures(find_samples(folder), 16)
    open_pictures(find_samples(folder), 18)
    (folder / "a" / "0.png").write_bytes(encoded(Image.new("RGB", (40, 40), "red")))
    found = open_pictures(find_samples(folder), 16)
    assert len(list(own_cache.glob("*.u8"))) == 3
    assert (found[0] == [255, 0, 0]).all()


def test_a_file_that_can_be_read_again_is_read_again(folder, own_cache, monkeypatch):
    samples = find_samples(folder)
    read, decoding = type(samples.store).read, cache.decode_reduced

    def refused(store, name):
        if name == "a/0.png":
            raise PermissionError(13, "Permission denied")
        return read(store, name)

    with monkeypatch.context() as first:
        first.setattr(type(samples.store), "read", refused)
        kept = open_pictures(samples, 16)
        assert kept.reasons[0] == "could not be read: Permission denied"
        assert open_pictures(samples, 16).reasons == kept.reasons
    mended = open_pictures(samples, 16)
    assert sorted(kept.reasons.keys() - mended.reasons.keys()) == [0]
    # Once more from the cache, without a look at files that gave something or were no pictures.
    monkeypatch.setattr(cache, "decode_reduced", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(open_pictures(samples, 16)[0], decoding(samples.read(0), 16))


def test_a_damaged_cache_is_made_anew(folder, own_cache):
    samples = find_samples(folder)
    before = everything(open_pictures(samples, 16))
    pixels = next(own_cache.glob("*.u8"))
    pixels.write_bytes(pixels.read_bytes()[:-5])
    assert all(np.array_equal(a, b) for a, b in zip(everything(open_pictures(samples, 16)), before, strict=True))
    next(own_cache.glob("*.json")).write_text("{")
    assert all(np.array_equal(a, b) for a, b in zip(everything(open_pictures(samples, 16)), before, strict=True))


def test_the_caches_stay_within_their_limit_and_the_oldest_goes(folder, own_cache, monkeypatch):
    samples = find_samples(folder)
    open_pictures(samples, 16)
    oldest = next(own_cache.glob("*.u8"))
    os.utime(oldest.with_suffix(".json"), (1, 1))
    monkeypatch.setenv("TAPETUM_CACHE_GB", str(oldest.stat().st_size * 2.5 / 1e9))
    open_pictures(samples, 15)
    assert oldest.exists()
    open_pictures(samples, 14)
    assert not oldest.exists()
    assert len(list(own_cache.glob("*.u8"))) == 2


def test_without_room_pictures_are_decoded_on_demand(folder, own_cache, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE_GB", "0.000001")
    pictures = open_pictures(find_samples(folder), 16)
    assert pictures.cached is None
    assert everything(pictures)
    assert list(own_cache.iterdir()) == []


def test_without_a_cache_a_file_that_goes_or_changes_is_named(folder):
    pictures = open_pictures(find_samples(folder), 16, use_cache=False)
    name = pictures.samples.names[0]
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(encoded(Image.new("RGB", (40, 40), "red")))
    with pytest.raises(UserError, match=f"{name} has changed since it was read"):
        pictures[0]
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} can no longer be read .No such file"):
        pictures[0]
    (folder / name).write_bytes(whole)
    assert pictures[0].shape[2] == 3


def test_a_cache_folder_that_cannot_be_written_stops_nothing(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "file" / "cache"))
    pictures = open_pictures(find_samples(folder), 16)
    assert pictures.cached is None
    assert len(everything(pictures)) == 12


def test_nothing_is_written_into_the_picture_folder(folder):
    def tree():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}

    before = tree()
    open_pictures(find_samples(folder), 16)
    assert tree() == before


def test_a_killed_build_leaves_no_cache_that_counts(folder, own_cache):
    script = (
        "import os, sys; from tapetum.data import cache; from tapetum.data.sources import find_samples\n"
        "cache.write_text = lambda *a: os._exit(9)\n"
        "cache.open_pictures(find_samples(sys.argv[1]), 16)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == 9
    samples = find_samples(folder)
    assert cache._from_cache(samples, 16, own_cache, cache._key(samples, 16)) is None
    assert len(everything(open_pictures(samples, 16))) == 12


def test_a_cache_larger_than_all_memory_is_used(folder, own_cache):
    samples = find_samples(folder)
    before = everything(open_pictures(samples, 16))
    index = next(own_cache.glob("*.json"))
    told = json.loads(index.read_text())
    told["bytes"] = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    os.truncate(index.with_suffix(".u8"), told["bytes"])  # all holes, which take no room on the disk
    index.write_text(json.dumps(told))
    found = cache._from_cache(samples, 16, own_cache, index.stem)
    assert found is not None
    assert found.cached.nbytes == told["bytes"]
    assert all(np.array_equal(a, b) for a, b in zip(everything(found), before, strict=True))


def test_nobody_can_change_a_cached_picture(folder):
    pictures = open_pictures(find_samples(folder), 16)
    with pytest.raises(ValueError, match="read-only"):
        pictures[0][:] = 0
    assert resize(pictures[0], 8, 8).flags.writeable  # and torch takes it without a warning


_IN_LITTLE_MEMORY = """
import mmap, resource, sys
import tapetum

def train(data):
    quick = dict(model="lenet-now", size=224, start_size=224, crop_area=0.1, epochs=1, batch=8, val=0.2, test=0.6)
    said = []
    tapetum.train(data, data + " run", say=said.append, **quick)
    if not any("kept decoded" in line for line in said):  # else it would do without decoded pictures, slowly
        sys.exit(f"trained without a cache: {said}")

train(sys.argv[1])  # all that a training needs besides its pictures
with open("/proc/self/status") as status:
    needed = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (needed + 250_000_000,) * 2)
try:
    mmap.mmap(-1, 330_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # what the pictures take
    sys.exit("the limit does not hold")
except OSError:
    pass
train(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no limit on a process's own memory that spares mapped files")
def test_pictures_larger_than_the_memory_are_trained_on(tmp_path, own_cache):
    generator = np.random.default_rng(0)
    for name, count in (("few", 200), ("many", 600)):
        for i in range(count):
            path = tmp_path / name / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).resize((430, 430)).save(path)
    subprocess.run([sys.executable, "-c", _IN_LITTLE_MEMORY, tmp_path / "few", tmp_path / "many"], check=True)
    assert max(file.stat().st_size for file in own_cache.glob("*.u8")) > 320_000_000
