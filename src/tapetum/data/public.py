"""Public pictures by name, fetched from whoever published them: the one module behind `tapetum get`.

Sizes and hashes are those by which others check the same files (TensorFlow Datasets, torchvision's prototypes, GoMLX). What can
be read in place stays as it comes; compressed tars become zips, which can.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image

from tapetum.data.cachefolder import free_bytes
from tapetum.data.remote import fetch
from tapetum.errors import UserError, did_you_mean
from tapetum.files import sha256_of, write_atomically

# The CIFAR-10 page: a record of the binary version is a byte for the class, then 32 x 32 red, green and blue values.
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_SIDE = 32


@dataclass(frozen=True)
class Published:
    """A file as its publisher offers it."""

    url: str
    name: str
    """What it is called here."""
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """Some public pictures."""

    what: str
    """In one line."""
    home: str
    """The page that tells where they come from and what may be done with them."""
    files: tuple[Published, ...]
    convert: Callable[[Path], Iterator[tuple[str, bytes]]] | None = None
    """The names and bytes of the pictures in the one file, of which a zip is made; then that file goes."""

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.files)


def _zip(pictures: Iterable[tuple[str, bytes]], out: IO[bytes]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures:
            # With a date of its own the archive would be another one each time.
            archive.writestr(zipfile.ZipInfo(name), data)


def _breeds(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The Oxford pets, images/great_pyrenees_10.jpg, in class folders: great_pyrenees/great_pyrenees_10.jpg."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.suffix == ".jpg" and (file := tar.extractfile(member)):
                yield f"{name.stem.rpartition('_')[0]}/{name.name}", file.read()


def _cifar10(archive: Path) -> Iterator[tuple[str, bytes]]:
    """CIFAR-10's binary version as PNGs in split folders: train/frog/00000.png."""
    with tarfile.open(archive) as tar:
        for part, files in (("train", [f"data_batch_{k}.bin" for k in range(1, 6)]), ("test", ["test_batch.bin"])):
            records = (record for file in files for record in _cifar_records(tar, f"cifar-10-batches-bin/{file}"))
            for number, (label, picture_HWC) in enumerate(records):
                png = io.BytesIO()
                Image.fromarray(picture_HWC).save(png, "PNG")
                yield f"{part}/{_CIFAR_CLASSES[label]}/{number:05d}.png", png.getvalue()


def _cifar_records(tar: tarfile.TarFile, name: str) -> Iterator[tuple[int, np.ndarray]]:
    file = tar.extractfile(name)
    assert file is not None  # the archive's hash was right
    records_NB = np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * _CIFAR_SIDE**2)
    for record in records_NB:
        yield int(record[0]), np.ascontiguousarray(record[1:].reshape(3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(1, 2, 0))


def _idx(root: str, *files: tuple[str, int, str]) -> tuple[Published, ...]:
    return tuple(Published(f"{root}/{name}.gz", f"{name}.gz", size, sha256) for name, size, sha256 in files)


COLLECTIONS = {
    "cats-dogs": Collection(
        "25,000 photos of cats and dogs, the study notes' among them (Asirra, Microsoft Research)",
        "https://www.microsoft.com/download/details.aspx?id=54765",
        (
            Published(
                "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
                "cats-dogs.zip",
                824_887_076,
                "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
            ),
        ),
    ),
    "oxford-pets": Collection(
        "7,390 photos of 37 breeds of cats and dogs (Parkhi et al. 2012)",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        (
            Published(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                "images.tar.gz",
                791_918_971,
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
        ),
        _breeds,
    ),
    "cifar10": Collection(
        "60,000 pictures of 10 kinds of things, 32 x 32 (Krizhevsky 2009)",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (
            Published(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        _cifar10,
    ),
    "mnist": Collection(
        "70,000 handwritten digits, 28 x 28, grey (LeCun et al. 1998)",
        "http://yann.lecun.com/exdb/mnist/",
        _idx(
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            ("train-images-idx3-ubyte", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            ("train-labels-idx1-ubyte", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ("t10k-images-idx3-ubyte", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ("t10k-labels-idx1-ubyte", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": Collection(
        "70,000 pictures of clothes and shoes, 28 x 28, grey (Xiao et al. 2017)",
        "https://github.com/zalandoresearch/fashion-mnist",
        _idx(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            ("train-images-idx3-ubyte", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ("train-labels-idx1-ubyte", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3-ubyte", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1-ubyte", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
}


def get(name: str, folder: str | Path | None = None, say: Callable[[str], None] = print) -> Path:
    """The folder of public pictures, which every command takes as it is: what is not there yet is fetched from its publisher.

    A transfer that was broken off goes on where it stopped; what does not have the known hash is not kept.

    Args:
        name: one of `COLLECTIONS`.
        folder: a new or empty folder, or one of an earlier `get`; without it `name` here.
        say: takes what is told on the way.

    Raises:
        UserError: no collection of that name, other files in `folder`, one of its files is not what was published, no room,
            or they cannot be fetched.

    >>> get("mnits")
    Traceback (most recent call last):
    tapetum.errors.UserError: no public pictures are called 'mnits': expected cats-dogs, oxford-pets, cifar10, mnist, \
fashion-mnist. Did you mean 'mnist'?
    """
    if name not in COLLECTIONS:
        known = ", ".join(COLLECTIONS)
        raise UserError(f"no public pictures are called '{name}': expected {known}.{did_you_mean(name, COLLECTIONS)}")
    collection, folder = COLLECTIONS[name], Path(folder or name)
    made = folder / f"{name}.zip"
    _refuse_others(folder, {made.name, *(file.name for file in collection.files)})
    convert = collection.convert
    if convert is None or not made.exists():
        _fetch_all(collection, folder, say)
    if convert is not None:
        archive = folder / collection.files[0].name
        if not made.exists():
            say(f"writing {made}, which can be read in place")
            write_atomically(made, lambda file: _zip(convert(archive), file))
        archive.unlink(missing_ok=True)  # also after an earlier call that was killed here; beside it the zip is not read
    return folder


def _refuse_others(folder: Path, ours: set[str]) -> None:
    """Nothing is written among pictures of the user's own."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write, new or empty. Name another place.")
    there = {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.exists() else set()
    if others := sorted(there - ours):
        raise UserError(f"{folder} holds other files, such as {others[0]}: expected a new or empty folder. Name another place.")


def _fetch_all(collection: Collection, folder: Path, say: Callable[[str], None]) -> None:
    missing = []
    for file in collection.files:
        place = folder / file.name
        if not place.exists():
            missing.append(file)
        elif sha256_of(place) != file.sha256:
            raise UserError(
                f"{place} is not what {file.url} published (SHA-256): expected that file, or none. Move it away, and give "
                "the same command again."
            )
    needed = sum(file.size for file in missing) * (1 if collection.convert is None else 2)
    if needed > free_bytes(folder):
        raise UserError(
            f"{needed / 1e9:,.1f} GB are needed, and {max(0, free_bytes(folder)) / 1e9:,.1f} GB can be written to {folder}: "
            "expected room for all. Free some space, or name another folder."
        )
    for file in missing:
        say(f"fetching {file.url} ({file.size / 1e6:,.1f} MB)")
        fetch(file.url, file.size, file.sha256, folder / file.name)
