"""The photos that benchmarks/speed.py works on, as its programs want them laid out."""

import random
import shutil
import zipfile
from pathlib import Path


def book_photos(data: Path, count: int) -> list[Path]:
    """Some of the notes' 502 photos, as many cats as dogs."""
    from tapetum.data.decode import BadPicture, decode

    def readable(file: Path) -> bool:
        try:
            return bool(decode(file.read_bytes()).size)
        except BadPicture:
            return False

    each = []
    for folder in ("Cat", "Dog"):
        files = sorted((data / "cats-dogs" / folder).iterdir())
        each += [file for file in random.Random(0).sample(files, count // 2 + 20) if readable(file)][: count // 2]
    return each


def unpacked(archive: Path, count: int, folder: Path) -> list[Path]:
    """Some photos of the zip."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.endswith(".jpg") and file.getinfo(name).file_size]
        some = [name for label in ("Cat", "Dog") for name in [name for name in names if f"/{label}/" in name][: count // 2]]
        file.extractall(folder, some)
    return [folder / name for name in some]


def lay_out(files: list[Path], folder: Path) -> Path:
    """Copies as class folders, named as the notes' loop expects; two of them stand in `val` beside, as some programs want."""
    for number, file in enumerate(files):
        label = file.parent.name
        for part in ("train", "val") if number in (0, len(files) - 1) else ("train",):
            target = folder / part / label / f"{label.lower()}.{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return folder / "train"
