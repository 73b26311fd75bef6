import io
import json
import tarfile
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

import tapetum
from conftest import encoded, write_stripes
from shard_server import serving
from tapetum.data import shards
from tapetum.data.cache import open_pictures
from tapetum.data.pack import pack
from tapetum.data.samples import fingerprint
from tapetum.data.shards import part, reading_order
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.evaluation.recorded import refuse_unasked, where_pictures
from tapetum.looking.album import Album

QUICK = dict(model="lenet-table", size=32, epochs=1, batch=8, rotate=0.0, mixup=0.0, say=lambda line: None)


@pytest.fixture
def folder(tmp_path):
    return write_stripes(tmp_path / "pictures", 12)


@pytest.fixture
def packed(folder, tmp_path):
    """24 pictures in several shards."""
    pack(folder, tmp_path / "shards", shard_mb=0.041)
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 6
    return tmp_path / "shards"


def changed_index(packed, change):
    """The index with something done to it, its fingerprint mended."""
    file = packed / "tapetum-shards.json"
    index = json.loads(file.read_text())
    change(index)
    rows = [row for shard in index["shards"] for row in shard["members"]]
    index["fingerprint"] = fingerprint(
        (row[6] for row in rows), (index["classes"][row[2]] for row in rows), (row[3] for row in rows)
    )
    file.write_text(json.dumps(index))


def test_training_from_shards_is_training_from_the_folder_to_the_bit(folder, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("tapetum.run.write_report", lambda *a, **b: None)  # the page is another test's, and takes longest
    files = ("predictions.csv", "splits.csv", "metrics.json")
    with serving(packed) as server:
        runs = [
            tapetum.train(data, tmp_path / f"run-{i}", test=0.2, **QUICK) for i, data in enumerate((folder, packed, server.url))
        ]
        assert f'data = "{server.url}"' in (runs[2].folder / "settings.toml").read_text()
        # Later commands do not name the address: they fetch nothing.
        asked = len(server.asked)
        assert f"--data {server.url} fetches them" in Album(None, {}, origin=server.url).missing
        with pytest.raises(UserError, match=f"nothing is fetched unasked: expected --data {server.url}"):
            refuse_unasked(runs[2].folder, where_pictures(runs[2].folder), None)
        assert len(server.asked) == asked
    for run in runs[1:]:
        for name in files:
            assert (run.folder / name).read_bytes() == (runs[0].folder / name).read_bytes(), name
        assert run.classifier.about["data"] == runs[0].classifier.about["data"]
        ours, first = (each.classifier.network.state_dict() for each in (run, runs[0]))
        assert all(ours[name].equal(first[name]) for name in first)


def test_the_cache_holds_the_pictures_in_the_order_of_the_shards(folder, packed):
    ours, theirs = (open_pictures(find_samples(data), 24) for data in (packed, folder))
    again = open_pictures(find_samples(packed), 24)
    order = reading_order(ours.samples)
    assert sorted(order) == list(range(24))
    assert order.tolist() != list(range(24))
    assert (np.diff(ours.offsets[order]) > 0).all()
    for pictures in (ours, again):
        assert pictures.cached is not None
        assert pictures.hashes == theirs.hashes
        assert all(np.array_equal(pictures[i], theirs[i]) for i in range(24))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 150])
def test_every_picture_belongs_to_exactly_one_process(tmp_path, world_size):
    for n in range(101):
        path = tmp_path / "data" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (n, 0, 0)).save(path)
    pack(tmp_path / "data", tmp_path / "out", shard_mb=0.05)
    samples = find_samples(tmp_path / "out")
    parts = [part(samples, rank, world_size) for rank in range(world_size)]
    names = [name for each in parts for name in each.names]
    assert sorted(names) == sorted(samples.names)
    assert len(names) == len(set(names)) == 101
    assert {len(each) for each in parts} <= {101 // world_size, 101 // world_size + 1}
    # Whole shards, but for one at each border.
    read = [{samples.store.place(name).shard for name in each.names} for each in parts]
    assert sum(map(len, read)) <= len(samples.store.index.shards) + world_size - 1 or world_size > 101
    # A folder can be parted too.
    whole = find_samples(tmp_path / "data")
    assert [n for rank in range(world_size) for n in part(whole, rank, world_size).names] == list(whole.names)


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_process_that_is_none_is_a_bug(packed, rank, world_size):
    with pytest.raises(ValueError, match="expected 0 to"):
        part(find_samples(packed), rank, world_size)


def broken(packed, kind):
    shard = packed / "shard-000001.tar"
    data = shard.read_bytes()
    if kind == "missing":
        shard.unlink()
    elif kind == "truncated":
        shard.write_bytes(data[: len(data) // 3])
    else:
        shard.write_bytes(bytes(reversed(data)))


@pytest.mark.parametrize(
    ("kind", "told"),
    [("missing", "No such file or directory"), ("truncated", "bytes, not the"), ("changed", "damaged in shard-000001.tar")],
)
def test_pictures_of_a_broken_shard_are_listed_and_the_others_read(folder, packed, kind, told):
    whole = find_samples(packed)
    lost = {name for name in whole.names if whole.store.place(name).shard == 1}
    broken(packed, kind)
    samples = find_samples(packed)
    said = samples.describe()
    pictures = open_pictures(samples, 24)
    bad = {samples.names[i]: reason for i, reason in pictures.reasons.items()}
    assert all("shard-000001.tar" in reason for reason in bad.values())
    if kind == "changed":
        assert told in next(iter(bad.values()))
    else:
        assert "packed in 6 shards (1 of them broken, such as shard-000001.tar: " in said
        assert told in said
    # Of a truncated shard, what lies before the cut is whole.
    assert set(bad) == lost if kind != "truncated" else set(bad) < lost
    theirs = open_pictures(find_samples(folder), 24)
    assert all(np.array_equal(pictures[i], theirs[i]) for i in range(24) if i not in pictures.reasons)
    with pytest.raises(UserError, match=r"of 24 files give no picture .*expected at most 10%"):
        tapetum.train(packed, packed.parent / "run", **QUICK)


@pytest.mark.parametrize("kind", ["missing", "truncated", "changed"])
def test_a_shard_that_is_mended_is_read_again(packed, kind):
    data = (packed / "shard-000001.tar").read_bytes()
    broken(packed, kind)
    assert open_pictures(find_samples(packed), 24).reasons
    (packed / "shard-000001.tar").write_bytes(data)
    assert not open_pictures(find_samples(packed), 24).reasons


def set_shard(**values):
    return lambda index: index["shards"][0].update(values)


def set_member(place, value):
    def change(index):
        index["shards"][0]["members"][0][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (set_shard(name="../shard-000000.tar"), "is no shard beside the index"),
        (set_shard(name="/etc/passwd"), "is no shard beside the index"),
        (set_shard(name="shard-000000.tar/../../x"), "is no shard beside the index"),
        (set_shard(name="shard-000000.tar\n"), "is no shard beside the index"),
        (set_shard(name="C:\\shard-000000.tar"), "is no shard beside the index"),
        (set_shard(name="http://elsewhere/shard-000000.tar"), "is no shard beside the index"),
        (set_shard(name="shard-000001.tar"), "a shard stands more than once"),
        (set_shard(name=7), "TypeError"),
        (set_shard(sha256="../../x"), "or has no size and hash"),
        (set_shard(bytes=True), "or has no size and hash"),
        (set_member(4, -1), "has a number that cannot be"),
        (set_member(4, 10**12), "has a number that cannot be"),
        (set_member(5, 300 * 1024**2), "has a number that cannot be"),
        (set_member(5, 1.5), "has a number that cannot be"),
        (set_member(1, ""), "has no name, part or hash"),
        (set_member(3, "holdout"), "has no name, part or hash"),
        (set_member(0, 10**9), ""),
        (set_member(1, "upright/upright.3.png"), "a picture stands more than once"),
        (lambda index: index.update(kind="photos"), "its kind is 'photos'"),
        (lambda index: index.update(format=2), "has format 2: expected 1"),
        (lambda index: index.update(classes=["a", "a"]), "classes must be different names"),
        (lambda index: index["shards"][0]["members"][0].append(1), "too many values"),
    ],
)
def test_an_index_that_is_not_as_it_was_written_is_refused(packed, change, what):
    changed_index(packed, change)
    if not what:  # the number of a picture only orders
        assert len(find_samples(packed)) == 24
        return
    with pytest.raises(UserError, match=what):
        find_samples(packed)


def test_labels_that_were_exchanged_are_refused(packed):
    file = packed / "tapetum-shards.json"
    index = json.loads(file.read_text())
    row = index["shards"][0]["members"][0]
    row[2] = 1 - row[2]
    file.write_text(json.dumps(index))
    with pytest.raises(UserError, match="its fingerprint is not that of its pictures"):
        find_samples(packed)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"kind": "tapetum shards", "format": 1}', "\xff"])
def test_a_damaged_index_is_refused_in_a_sentence(packed, text):
    (packed / "tapetum-shards.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="is no index of shards"):
        find_samples(packed)


def test_no_damage_of_an_index_is_anything_but_a_sentence(packed):
    whole = (packed / "tapetum-shards.json").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(0, 256)
        (packed / "tapetum-shards.json").write_bytes(data[: generator.integers(1, len(data) * 3)])
        try:
            samples = find_samples(packed)
            for i in range(len(samples)):
                samples.read(i)
        except (UserError, OSError):
            refused += 1
    assert refused > 50


def test_evil_members_are_never_written_anywhere(tmp_path, monkeypatch):
    place = tmp_path / "in" / "shards"
    place.mkdir(parents=True)
    monkeypatch.chdir(place.parent)
    picture = encoded(Image.new("RGB", (9, 9), "red"))
    names = ["../../evil.png", "/tmp/evil.png", "C:\\evil.png", "a/../../../evil.png"]
    members = []
    with tarfile.open(place / "shard-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(picture)
            members.append([number, name, number % 2, "", tar.offset + 512, len(picture), sha256(picture).hexdigest()])
            tar.addfile(info, io.BytesIO(picture))
    data = (place / "shard-000000.tar").read_bytes()
    shard = {
        "name": "shard-000000.tar",
        "pictures": 4,
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "members": members,
    }
    index = {"kind": "tapetum shards", "format": 1, "layout": "evil", "classes": ["a", "b"], "shards": [shard]}
    (place / "tapetum-shards.json").write_text(json.dumps(index))
    changed_index(place, lambda index: None)
    before = sorted(tmp_path.rglob("*"))
    with serving(place) as server:
        for samples in (find_samples(place), find_samples(server.url)):
            pictures = open_pictures(samples, 9)
            assert [pictures[i].shape for i in range(4)] == [(9, 9, 3)] * 4
    assert sorted(tmp_path.rglob("*")) == before


def test_what_an_address_holds_must_have_room(packed, own_cache, monkeypatch):
    with serving(packed) as server:
        with monkeypatch.context() as patch:
            patch.setenv("TAPETUM_CACHE_GB", "0.0001")
            with pytest.raises(
                UserError, match=r"holds 0.0 GB, and the cache may take 0.0 GB.*Set TAPETUM_CACHE_GB to 1 or more"
            ):
                find_samples(server.url)
        monkeypatch.setattr(shards, "free_bytes", lambda folder: 1000)
        with pytest.raises(UserError, match="expected room for all shards. Free some space"):
            find_samples(server.url)
        assert [name for name, _ in server.asked] == ["tapetum-shards.json"] * 2
    assert list(own_cache.iterdir()) == []


def test_decoded_pictures_give_way_where_shards_fill_the_cache(packed, own_cache, monkeypatch):
    total = sum(path.stat().st_size for path in packed.glob("*.tar"))
    monkeypatch.setenv("TAPETUM_CACHE_GB", str((total + 20_000) / 1e9))
    with serving(packed) as server:
        pictures = open_pictures(find_samples(server.url), 40)
        assert pictures.cached is None
        assert len([pictures[i] for i in range(24)]) == 24
        assert len([name for name, _ in server.asked if name.endswith(".tar")]) == 6


def test_old_shards_leave_the_cache_first(packed, own_cache, monkeypatch):
    import os

    (own_cache / "shards").mkdir()
    old = own_cache / "shards" / ("0" * 64 + ".tar")
    old.write_bytes(bytes(100_000))
    os.utime(old, (1, 1))
    total = sum(path.stat().st_size for path in packed.glob("*.tar"))
    monkeypatch.setenv("TAPETUM_CACHE_GB", str((total + 140_000) / 1e9))
    with serving(packed) as server:
        assert open_pictures(find_samples(server.url), 40).cached is not None
    assert not old.exists()
    assert len(list((own_cache / "shards").glob("*.tar"))) == 6


def test_a_shard_that_the_disk_has_spoilt_is_fetched_again(packed, own_cache):
    here = find_samples(packed)
    with serving(packed) as server:
        samples = find_samples(server.url)
        assert [samples.read(i) for i in range(24)] == [here.read(i) for i in range(24)]
        for path in (own_cache / "shards").glob("*.tar"):
            path.write_bytes(bytes(path.stat().st_size))
        assert [samples.read(i) for i in range(24)] == [here.read(i) for i in range(24)]
        assert len([name for name, _ in server.asked if name.endswith(".tar")]) == 12


def test_a_shard_that_was_removed_meanwhile_is_fetched_again(packed, own_cache):
    with serving(packed) as server:
        samples = find_samples(server.url)
        first = samples.read(0)
        for path in (own_cache / "shards").glob("*.tar"):
            path.unlink()
        assert samples.read(0) == first
