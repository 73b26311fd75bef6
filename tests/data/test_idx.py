"""MNIST's IDX files: written here byte by byte, and read as torchvision reads them."""

import gzip
import struct

import numpy as np
import pytest
from torchvision.datasets import MNIST

from tapetum.data.cache import open_pictures
from tapetum.data.idx import idx_folder
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 6, 5), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 3


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()


@pytest.fixture(params=["", ".gz"])
def data(tmp_path, request):
    """20 pictures to train and 10 to test, where torchvision looks for them."""
    raw = tmp_path / "digits" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, rows in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        for kind, values in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            content = idx(values[rows])
            (raw / f"{prefix}-{kind}-ubyte{request.param}").write_bytes(gzip.compress(content) if request.param else content)
    return tmp_path / "digits"


def test_pictures_labels_and_parts_come_out_as_they_went_in(data):
    for place in (data, data / "MNIST", data / "MNIST" / "raw"):
        samples = find_samples(place)
        assert samples.describe().startswith("split folders in a set of IDX files, as MNIST comes, 30 files")
        assert samples.classes == ("0", "1", "2")
        pictures = open_pictures(samples, 64, use_cache=False)
        assert not pictures.reasons
        for i, name in enumerate(samples.names):
            number = int(name[-9:-4]) + (20 if samples.splits[i] == "test" else 0)
            assert samples.labels[i] == LABELS[number]
            assert (pictures[i] == IMAGES[number][:, :, None]).all()
    assert len(set(pictures.hashes)) == 30


def test_torchvision_reads_the_same(data):
    for path in (data / "MNIST" / "raw").glob("*.gz"):  # which torchvision unpacks when it downloads them
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    for part, train in (("train", True), ("test", False)):
        samples, theirs = find_samples(data).of_split(part), MNIST(data, train=train)
        numbers = [int(name[-9:-4]) for name in samples.names]
        assert sorted(numbers) == list(range(len(theirs)))
        pictures = open_pictures(samples, 64, use_cache=False)
        for i, number in enumerate(numbers):
            assert samples.labels[i] == theirs.targets[number]
            assert (pictures[i][:, :, 0] == theirs.data[number].numpy()).all()


def test_they_can_be_predicted(data):
    assert len(find_pictures(data)) == 30


def test_a_part_of_the_files(data):
    raw = data / "MNIST" / "raw"
    for path in raw.glob("t10k*"):
        path.unlink()
    assert len(find_samples(data)) == 20
    next(raw.glob("train-labels*")).unlink()
    with pytest.raises(UserError, match="no labels beside it: expected train-labels-idx1-ubyte"):
        find_samples(data)


def test_a_folder_without_idx_files_is_not_one(tmp_path):
    (tmp_path / "train-images").mkdir()
    assert idx_folder(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: content + b"x",
        lambda content: b"\0\0\x0d" + content[3:],
        lambda content: b"",
        lambda content: content[:6],
        lambda content: content[:4] + struct.pack(">i", -1) + content[8:],
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(damage(idx(IMAGES)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        find_samples(tmp_path)


def test_damaged_gzip_and_counts_that_differ_are_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES))[:-20])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(UserError, match="cannot be read"):
        find_samples(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[:7])))
    with pytest.raises(UserError, match=r"holds 7 pictures and .* 30 labels"):
        find_samples(tmp_path)
