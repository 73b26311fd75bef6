import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from conftest import encoded, write_stripes
from tapetum.data import pack as packing
from tapetum.data.pack import pack
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError

# Hangul, spaces, dots, a comma, a quote: WebDataset itself cuts names at the first dot.
ODD = [
    "고양이/검은 고양이.v2.final.png",
    "고양이/1.png",
    "강아지 '둘'/in/deeper.dir/a, b.png",
    "강아지 '둘'/odd ..one.png",
    "강아지 '둘'/1.png",
]


def write_pictures(root, names, kind="PNG"):
    generator = np.random.default_rng(len(names))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(Image.fromarray(generator.integers(0, 256, (20, 30, 3), np.uint8)), kind))
    return root


def assert_same(a, b):
    """Whether two tables hold the same pictures in the same order, under the same names, classes and parts."""
    assert a.names == b.names
    assert a.classes == b.classes
    assert a.labels.tolist() == b.labels.tolist()
    assert a.splits.tolist() == b.splits.tolist()
    assert [a.read(i) for i in range(len(a))] == [b.read(i) for i in range(len(b))]


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fingerprint(samples):
    """As it is defined: sorted lines of SHA-256, class and part."""
    lines = [
        f"{sha256(samples.read(i)).hexdigest()} {samples.classes[k]} {s}"
        for i, (k, s) in enumerate(zip(samples.labels, samples.splits, strict=True))
    ]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


def test_shards_hold_the_folder_with_odd_names(tmp_path):
    folder = write_pictures(tmp_path / "사진 폴더", ODD)
    before = tree(folder)
    packed = pack(folder, tmp_path / "조각 들", shard_mb=0.008)
    samples = find_samples(folder)
    assert set(samples.names) == set(ODD)
    for place in (tmp_path / "조각 들", tmp_path / "조각 들" / "tapetum-shards.json"):
        assert_same(samples, find_samples(place))
        assert find_pictures(place).names == find_samples(place).names
    assert tree(folder) == before
    index = json.loads((tmp_path / "조각 들" / "tapetum-shards.json").read_text(encoding="utf-8"))
    assert index["classes"] == ["강아지 '둘'", "고양이"]
    assert index["counts"] == {"강아지 '둘'": 3, "고양이": 2}
    assert index["pictures"] == 5
    assert index["splits"] == {}
    assert index["fingerprint"] == packed.index["fingerprint"] == fingerprint(samples)
    assert len(index["shards"]) > 1
    for shard in index["shards"]:
        data = (tmp_path / "조각 들" / shard["name"]).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
        assert shard["pictures"] == len(shard["members"])


@pytest.mark.parametrize("kind", ["split folders", "zip", "tar.gz", "csv", "names", "idx", "shards"])
def test_every_layout_is_packed_with_its_parts(tmp_path, kind):
    names = [f"{part}/{label}/{n}.jpg" for part in ("train", "val", "test") for label in ("a", "b") for n in range(3)]
    data = write_pictures(tmp_path / "data", names, "JPEG")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
            for name in names:
                file.write(data / name, f"data/{name}")
        data = tmp_path / "data.zip"
    elif kind == "tar.gz":
        with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as file:
            file.add(data, "data")
        data = tmp_path / "data.tar.gz"
    elif kind == "csv":
        rows = [f"data/{name},{name.split('/')[1]},{name.split('/')[0]}" for name in reversed(names)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
        data = tmp_path / "list.csv"
    elif kind == "names":
        data = write_pictures(tmp_path / "flat", [f"{label}.{n}.jpg" for label in ("cat", "dog") for n in range(4)])
    elif kind == "idx":
        (tmp_path / "raw").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
        head = bytes([0, 0, 8, 3]) + np.array([6, 8, 8], ">i4").tobytes()
        (tmp_path / "raw" / "train-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = bytes([0, 0, 8, 1]) + np.array([6], ">i4").tobytes() + bytes([1, 7, 1, 7, 1, 7])
        (tmp_path / "raw" / "train-labels-idx1-ubyte").write_bytes(labels)
        data = tmp_path / "raw"
    elif kind == "shards":
        pack(data, tmp_path / "first")
        data = tmp_path / "first"
    packed = pack(data, tmp_path / "out", shard_mb=0.01)
    samples = find_samples(data)
    assert_same(samples, find_samples(tmp_path / "out"))
    assert packed.index["fingerprint"] == fingerprint(samples)
    counted = Counter(zip(samples.splits, samples.labels, strict=True))
    for part, counts in packed.index["splits"].items():
        assert counts == {name: counted[part, k] for k, name in enumerate(samples.classes)}
    assert set(packed.index["splits"]) == set(samples.splits) - {""}


def test_webdataset_itself_reads_the_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    folder = write_pictures(tmp_path / "data", ODD)
    jpeg = write_pictures(tmp_path / "data", ["고양이/사진.5.jpg"], "JPEG")
    pack(folder, tmp_path / "out", shard_mb=0.008)
    found = {}
    urls = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        about = json.loads(sample["json"])
        (ending,) = {"jpg", "png"} & set(sample)
        found[about["name"]] = (sample[ending], int(sample["cls"]), about["class"], ending)
    samples = find_samples(jpeg)
    assert found == {
        name: (samples.read(i), k, samples.classes[k], name[-3:])
        for i, (name, k) in enumerate(zip(samples.names, samples.labels.tolist(), strict=True))
    }


def test_bad_files_are_listed_and_not_packed(tmp_path):
    data = write_stripes(tmp_path / "data", 3)
    (data / "lying" / "a.jpg").write_bytes(b"no picture")
    (data / "upright" / "z.jpg").write_bytes(b"")
    packed = pack(data, tmp_path / "out", shard_mb=0.002)
    reasons = {"lying/a.jpg": "not a picture (begins with 'no pictu')", "upright/z.jpg": "empty file"}
    assert dict(packed.left_out) == reasons
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        assert {row["path"]: row["reason"] for row in csv.DictReader(file)} == reasons
    assert set(find_samples(data).names) - set(find_samples(tmp_path / "out").names) == set(reasons)
    assert packed.index["counts"] == {"lying": 3, "upright": 3}


def test_a_class_without_a_readable_picture_is_refused_and_leaves_nothing(tmp_path):
    data = write_stripes(tmp_path / "data", 3)
    for path in (data / "upright").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(UserError, match="class 'upright' has no readable picture .upright/upright.0.png: not a picture"):
        pack(data, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_the_same_pictures_give_the_same_shards_in_a_mixed_order(tmp_path):
    data = write_stripes(tmp_path / "data", 20)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pack(data, tmp_path / name, shard_mb=0.1, seed=seed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b") != tree(tmp_path / "c")
    assert_same(find_samples(tmp_path / "a"), find_samples(tmp_path / "c"))
    for shard in json.loads((tmp_path / "a" / "tapetum-shards.json").read_text())["shards"][:-1]:
        assert {label for _, _, label, *_ in shard["members"]} == {0, 1}
        assert shard["bytes"] <= 100_000


def test_an_interrupted_pack_goes_on(tmp_path, monkeypatch):
    data = write_stripes(tmp_path / "data", 20)
    (data / "lying" / "bad.png").write_bytes(b"x")
    pack(data, tmp_path / "whole", shard_mb=0.03)
    read, count = packing._read, []

    def stopped(samples, row):
        if len(count) == 25:
            raise KeyboardInterrupt
        count.append(row)
        return read(samples, row)

    monkeypatch.setattr(packing, "_read", stopped)
    with pytest.raises(KeyboardInterrupt):
        pack(data, tmp_path / "out", shard_mb=0.03)
    begun = tree(tmp_path / "out")
    assert "tapetum-shards.json" not in begun
    assert [name for name in begun if name.endswith((".part", ".lock"))] == []
    with pytest.raises(UserError, match="with other settings"):
        pack(data, tmp_path / "out", shard_mb=0.04)
    assert tree(tmp_path / "out") == begun
    again = []
    monkeypatch.setattr(packing, "_read", lambda samples, row: again.append(row) or read(samples, row))
    pack(data, tmp_path / "out", shard_mb=0.03)
    assert 0 < len(again) < 41
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_killed_pack_leaves_no_index_and_goes_on(tmp_path):
    data = write_stripes(tmp_path / "data", 20)
    pack(data, tmp_path / "whole", shard_mb=0.03)
    script = (
        "import os, sys; from tapetum.data import pack\n"
        "add, count = pack._add, []\n"
        "def killed(*a):\n"
        "    count.append(1)\n"
        "    os._exit(9) if len(count) == 80 else add(*a)\n"
        "pack._add = killed\n"
        "pack.pack(sys.argv[1], sys.argv[2], shard_mb=0.03)"
    )
    command = [sys.executable, "-c", script, str(data), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == 9
    left = tree(tmp_path / "out")
    assert [name for name in left if name.endswith(".part")]
    assert "tapetum-shards.json" not in left
    # A shard that was damaged meanwhile is packed again.
    (tmp_path / "out" / "shard-000001.tar").write_bytes(b"x")
    pack(data, tmp_path / "out", shard_mb=0.03)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_shards_are_replaced_only_if_asked(tmp_path):
    data = write_stripes(tmp_path / "data", 6)
    pack(data, tmp_path / "out", shard_mb=0.01)
    before = tree(tmp_path / "out")
    with pytest.raises(UserError, match="holds shards already. Use --overwrite"):
        pack(data, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    pack(data, tmp_path / "out", overwrite=True)
    assert sorted(tree(tmp_path / "out")) == ["shard-000000.tar", "tapetum-shards.json"]
    assert_same(find_samples(data), find_samples(tmp_path / "out"))


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("data/shards", "lies inside the pictures"),
        ("other", "holds files of another kind .letter.txt."),
        ("foreign", "holds files of another kind .shard-000000.tar."),
        ("file", "is a file: expected a folder"),
        ("gs://bucket/shards", "is an address: expected a folder on this machine"),
        ("file/deeper", "could not write to"),
    ],
)
def test_a_place_that_is_none_is_refused_and_left_alone(tmp_path, monkeypatch, place, what):
    data = write_stripes(tmp_path / "data", 2)
    for name in ("other/letter.txt", "foreign/shard-000000.tar", "file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=what):
        pack(data, place)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("options", [dict(shard_mb=v) for v in (0, -1, float("nan"), 1e9)] + [dict(seed=-1), dict(seed=2**63)])
def test_a_size_or_seed_that_is_none_is_refused(tmp_path, options):
    with pytest.raises(UserError, match="(shard-mb|seed) is .*: expected a"):
        pack(write_stripes(tmp_path / "data", 2), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_packs_do_not_write_into_one_folder(tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(UserError, match="another pack is writing"):
        pack(write_stripes(tmp_path / "data", 2), tmp_path / "out")


def test_a_full_disk_ends_in_a_sentence_and_the_pack_goes_on(tmp_path, monkeypatch):
    data = write_stripes(tmp_path / "data", 10)
    pack(data, tmp_path / "whole", shard_mb=0.03)
    add, count = packing._add, []

    def full(*arguments):
        count.append(1)
        if len(count) == 40:
            raise OSError(28, "No space left on device")
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_add", full)
        with pytest.raises(UserError, match="No space left on device"):
            pack(data, tmp_path / "out", shard_mb=0.03)
    pack(data, tmp_path / "out", shard_mb=0.03)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8")
def test_names_that_are_no_text_stay_what_they_are(tmp_path):
    data = write_stripes(tmp_path / "data", 2)
    odd = os.fsencode(data / "lying") + b"/\xff\xfe.png"
    shutil.copyfile(data / "lying" / "lying.0.png", odd)
    pack(data, tmp_path / "out")
    assert_same(find_samples(data), find_samples(tmp_path / "out"))
