"""MNIST and its kin (Fashion-MNIST, KMNIST) as a store of pictures: the IDX files, where torchvision keeps them, read in place.

    mnist/MNIST/raw/train-images-idx3-ubyte.gz      or without .gz, or the files in `mnist` or `mnist/raw` itself
                    train-labels-idx1-ubyte.gz
                    t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz

Picture 42 of the training part, a seven, is the file `train/7/00042.pgm`: the layout of split folders.

The format (Y. LeCun, C. Cortes, C. Burges, the MNIST page): two zeros, a byte for the type (8: unsigned bytes), one for the
number of dimensions, each dimension as a big-endian 32-bit number, then the values. Pixels are ink: 0 is paper.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from tapetum.errors import UserError

_PARTS = {"train": "train", "t10k": "test"}


def idx_folder(path: Path) -> Path | None:
    """The folder with the IDX files of a training part: `path`, `path/raw` or `path/NAME/raw`; None if there is none."""
    places = [path, path / "raw", *sorted(path.glob("*/raw"))]
    return next((place for place in places if _file(place, "train", "images-idx3") is not None), None)


class IdxStore:
    """The pictures in a folder of IDX files, each as a PGM file under the name `PART/LABEL/NUMBER.pgm`. All stay in memory.

    Raises:
        UserError: a file is missing or damaged, or pictures and labels differ in number.
    """

    def __init__(self, folder: Path) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._places: dict[str, tuple[np.ndarray, int, int]] = {}
        for prefix, part in _PARTS.items():
            images_file = _file(folder, prefix, "images-idx3")
            if images_file is None:
                continue
            labels_file = _file(folder, prefix, "labels-idx1")
            if labels_file is None:
                raise UserError(f"{images_file} has no labels beside it: expected {prefix}-labels-idx1-ubyte. Download it too.")
            images_NHW, labels_N = _read(images_file, 3), _read(labels_file, 1)
            if len(images_NHW) != len(labels_N):
                raise UserError(
                    f"{images_file} holds {len(images_NHW):,} pictures and {labels_file.name} {len(labels_N):,} labels: "
                    "expected as many. Download both again."
                )
            changed = images_file.stat().st_mtime_ns
            for i, label in enumerate(labels_N.tolist()):
                self._places[f"{part}/{label}/{i:05d}.pgm"] = (images_NHW, i, changed)

    def names(self) -> list[str]:
        """All pictures, sorted."""
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        """One picture as a grey PGM file."""
        images_NHW, i, _ = self._places[name]
        height, width = images_NHW.shape[1:]
        return b"P5 %d %d 255\n" % (width, height) + images_NHW[i].tobytes()

    def stamp(self, name: str) -> tuple[int, int]:
        """The picture's place, and its file's time of last change."""
        _, i, changed = self._places[name]
        return i, changed


def _file(folder: Path, prefix: str, kind: str) -> Path | None:
    names = (f"{prefix}-{kind}-ubyte", f"{prefix}-{kind}-ubyte.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, in its shape."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. Download it again.") from error
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(f"{path} begins with {data[:4]!r}: expected an IDX file of bytes in {dimensions} dimension(s).")
    shape = np.frombuffer(data, ">i4", dimensions, 4).astype(np.int64) if len(data) >= 4 + 4 * dimensions else np.array([-1])
    values = np.frombuffer(data, np.uint8, offset=min(len(data), 4 + 4 * dimensions))
    if shape.min() < 0 or shape.prod() != len(values):
        raise UserError(f"{path} holds {len(values):,} bytes: expected {' x '.join(map(str, shape))}. Download it again.")
    return values.reshape(shape)
