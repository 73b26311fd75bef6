"""The demonstration: real pictures that need no download go the way that any folder of pictures goes."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tapetum.errors import UserError
from tapetum.files import write_atomically
from tapetum.run import Run, train
from tapetum.talk import say_to_stderr


def demo(folder: Path, say: Callable[[str], None] = say_to_stderr) -> Run:
    """Train a LeNet on three fifths of scikit-learn's 1,797 handwritten digits (8 x 8 pixels) and evaluate it on a fifth.

    Args:
        folder: gets `digits/`, a class folder of PNG files, and `run/`, the run folder. A demo that is there is replaced.
        say: takes the lines of talk.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder for the demonstration. Choose another --out.")
    pictures = folder / "digits"
    say(f"writing scikit-learn's handwritten digits to {pictures}, one folder a class")
    write_digits(pictures)
    return train(pictures, folder / "run", overwrite=True, test=0.2, say=say)


def write_digits(folder: Path) -> None:
    """Write the digits as `folder/CLASS/NNNN.png`, white on black, 8 x 8 pixels (Alpaydin & Kaynak 1998, UCI)."""
    # Imported here: it takes a second, and only a demo needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        # The values run from 0 to 16.
        picture = Image.fromarray(np.round(values * 255 / 16).astype(np.uint8))
        write_atomically(path, functools.partial(picture.save, format="PNG"))
