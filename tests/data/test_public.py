"""Public pictures by name, fetched from a web server on loopback that has small ones in their place."""

import dataclasses
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torchvision
from PIL import Image

from conftest import encoded
from shard_server import serving
from tapetum.data import public, remote
from tapetum.data.decode import decode
from tapetum.data.public import COLLECTIONS, get
from tapetum.data.sources import find_samples
from tapetum.errors import UserError

FILES = [file for collection in COLLECTIONS.values() for file in collection.files]
# By number, as the CIFAR-10 page has them.
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def idx(array):
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def tar_gz(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def records(seed):
    """CIFAR-10's binary version: a byte for the class, then all red, all green and all blue values."""
    generator = np.random.default_rng(seed)
    labels_N = generator.permutation(10).astype(np.uint8)
    pixels_NCHW = generator.integers(0, 256, (10, 3, 32, 32), np.uint8)
    return labels_N, pixels_NCHW, np.concatenate([labels_N[:, None], pixels_NCHW.reshape(10, -1)], 1).tobytes()


@pytest.fixture
def small():
    """What the publishers offer, in small."""
    png = encoded(Image.new("RGB", (8, 8), "teal"))
    cats = io.BytesIO()
    with zipfile.ZipFile(cats, "w") as archive:
        for name in ("PetImages/Cat/0.jpg", "PetImages/Cat/Thumbs.db", "PetImages/Dog/0.jpg", "readme[1].txt"):
            archive.writestr(name, png)
    breeds = ("Abyssinian_1.jpg", "great_pyrenees_10.jpg", "great_pyrenees_2.jpg", "Abyssinian_100.mat")
    digits_NHW = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    batches = {f"data_batch_{k}.bin": records(k)[2] for k in range(1, 6)} | {"test_batch.bin": records(6)[2]}
    files = {
        "kagglecatsanddogs_5340.zip": cats.getvalue(),
        "images.tar.gz": tar_gz({f"images/{name}": png for name in breeds}),
        "cifar-10-binary.tar.gz": tar_gz({f"cifar-10-batches-bin/{name}": data for name, data in batches.items()}),
    }
    for part in ("train", "t10k"):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(digits_NHW)
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.array([3, 0, 7], np.uint8))
    return files


@pytest.fixture
def web(small, tmp_path, monkeypatch):
    """A server of the small files, and the collections as if they came from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "_PAUSE_SECONDS", 0.01)
    (tmp_path / "web").mkdir()
    for name, data in small.items():
        (tmp_path / "web" / name).write_bytes(data)
    with serving(tmp_path / "web") as server:
        for name, collection in list(COLLECTIONS.items()):
            files = []
            for file in collection.files:
                data = small[file.url.rpartition("/")[2]]
                url = f"{server.url}/{file.url.rpartition('/')[2]}"
                files.append(dataclasses.replace(file, url=url, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
            monkeypatch.setitem(COLLECTIONS, name, dataclasses.replace(collection, files=tuple(files)))
        yield server


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cats-dogs", {"Cat": 1, "Dog": 1}),
        ("oxford-pets", {"Abyssinian": 1, "great_pyrenees": 2}),
        ("mnist", {"0": 2, "3": 2, "7": 2}),
        ("fashion-mnist", {"0": 2, "3": 2, "7": 2}),
    ],
)
def test_what_was_fetched_is_data(web, name, counts):
    told = []
    found = get(name, say=told.append)
    assert find_samples(found).counts() == counts
    assert all(line.startswith((f"fetching {web.url}/", "writing oxford-pets/")) for line in told)
    asked = len(web.asked)
    assert get(name, say=told.append) == found  # again: nothing is fetched
    assert len(web.asked) == asked


def test_cifar10_becomes_a_zip_of_its_very_pictures(web):
    found = get("cifar10", "사진 셋", say=lambda line: None)
    assert [path.name for path in found.iterdir()] == ["cifar10.zip"]
    samples = find_samples(found)
    assert ((samples.splits == "train").sum(), (samples.splits == "test").sum()) == (50, 10)
    read = {name: decode(samples.read(i)) for i, name in enumerate(samples.names)}
    number = 0
    for k in range(1, 6):
        labels_N, pixels_NCHW, _ = records(k)
        for label, pixels_CHW in zip(labels_N, pixels_NCHW, strict=True):
            (name,) = (name for name in read if name.startswith("train/") and name.endswith(f"/{number:05d}.png"))
            assert name.split("/")[1] == CIFAR[label]
            assert (read[name] == pixels_CHW.transpose(1, 2, 0)).all()
            number += 1
    first = (found / "cifar10.zip").read_bytes()
    (found / "cifar10.zip").unlink()
    get("cifar10", "사진 셋", say=lambda line: None)
    assert (found / "cifar10.zip").read_bytes() == first


def test_a_broken_transfer_goes_on(web, small):
    web.wrong["kagglecatsanddogs_5340.zip"] = ["cut", None]
    found = get("cats-dogs", say=lambda line: None)
    assert (found / "cats-dogs.zip").read_bytes() == small["kagglecatsanddogs_5340.zip"]
    assert web.asked[1][1] == f"bytes={len(small['kagglecatsanddogs_5340.zip']) // 2}-"
    assert [path.name for path in found.iterdir()] == ["cats-dogs.zip"]


@pytest.mark.parametrize(("fault", "told"), [(404, "404 Not Found"), ("changed", "its content is not what is known")])
def test_what_cannot_be_had_is_a_sentence(web, fault, told):
    web.wrong["cifar-10-binary.tar.gz"] = [fault]
    with pytest.raises(UserError, match=rf"cifar-10-binary.tar.gz could not be fetched: .*{told}"):
        get("cifar10", say=lambda line: None)


def test_a_conversion_that_is_stopped_leaves_nothing_half_made(web, monkeypatch):
    def stopped(archive):
        yield "train/cat/00000.png", b"half"
        raise KeyboardInterrupt

    ours = COLLECTIONS["cifar10"]
    with monkeypatch.context() as patch:
        patch.setitem(COLLECTIONS, "cifar10", dataclasses.replace(ours, convert=stopped))
        with pytest.raises(KeyboardInterrupt):
            get("cifar10", "c", say=lambda line: None)
    asked = len(web.asked)
    assert len(find_samples(get("cifar10", "c", say=lambda line: None))) == 60
    assert len(web.asked) == asked


def test_a_call_that_was_killed_before_the_archive_had_gone_is_mended(web, small):
    found = get("cifar10", "c", say=lambda line: None)
    (found / "cifar-10-binary.tar.gz").write_bytes(small["cifar-10-binary.tar.gz"])
    asked = len(web.asked)
    assert get("cifar10", "c", say=lambda line: None) == found
    assert [path.name for path in found.iterdir()] == ["cifar10.zip"]
    assert len(find_samples(found)) == 60
    assert len(web.asked) == asked


def test_nothing_is_written_among_pictures_of_ones_own(web, stripes, tmp_path):
    with pytest.raises(UserError, match=r"stripes holds other files, such as lying: expected a new or empty folder"):
        get("mnist", stripes)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file: expected a folder"):
        get("mnist", tmp_path / "file")
    assert web.asked == []


def test_a_file_that_was_changed_is_neither_used_nor_replaced(web):
    found = get("mnist", say=lambda line: None)
    changed = found / "t10k-labels-idx1-ubyte.gz"
    changed.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.gz is not what http.* published .*Move it away"):
        get("mnist")
    assert changed.read_bytes() == b"mine"


def test_a_full_disk_is_said_before(web, monkeypatch, tmp_path):
    monkeypatch.setattr(public, "free_bytes", lambda folder: 100)
    with pytest.raises(UserError, match=r"0\.0 GB are needed, and 0\.0 GB can be written to mnist: expected room"):
        get("mnist")
    assert web.asked == []


def test_the_files_are_those_that_torchvision_knows():
    pets = {url for url, _ in torchvision.datasets.OxfordIIITPet._RESOURCES}
    assert COLLECTIONS["oxford-pets"].files[0].url in pets
    for name, theirs in (("mnist", torchvision.datasets.MNIST), ("fashion-mnist", torchvision.datasets.FashionMNIST)):
        assert {file.name for file in COLLECTIONS[name].files} == {name for name, _ in theirs.resources}
    assert COLLECTIONS["fashion-mnist"].files[0].url.startswith(torchvision.datasets.FashionMNIST.mirrors[0])
    assert all(len(file.sha256) == 64 and file.size > 1000 for file in FILES)
    assert len({file.sha256 for file in FILES}) == len(FILES)


def test_the_command_lists_fetches_and_names_the_next(web, capsys, monkeypatch):
    from tapetum.cli import run

    run(["get"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in COLLECTIONS)
    assert listed.endswith("next:     tapetum get NAME\n")
    run(["get", "--json"])
    assert json.loads(capsys.readouterr().out).keys() == COLLECTIONS.keys()
    run(["get", "cats-dogs"])
    assert "next:     tapetum check cats-dogs\n" in capsys.readouterr().out
    run(["get", "mnist", "digits here", "--json"])
    assert json.loads(capsys.readouterr().out)["data"] == "digits here"
    with pytest.raises(UserError, match="Did you mean 'cifar10'"):
        run(["get", "cifar-10"])
