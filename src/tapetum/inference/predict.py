"""Predictions for files: read, prepare, compute, and the table that comes out, on screen and as CSV."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from tapetum import processes
from tapetum.data.reading import read_pictures
from tapetum.data.samples import Samples, file_number
from tapetum.data.sources import find_pictures
from tapetum.errors import UserError
from tapetum.files import as_written, write_atomically, write_csv, write_text
from tapetum.inference.answers import BATCH, Answering, labels
from tapetum.inference.loading import load

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of files. Rows of `probabilities_NK` belong to `names`; files without a picture are apart."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    rows: np.ndarray
    """(N,) int64: where each predicted file stands in the samples that were asked about."""
    probabilities_NK: np.ndarray
    sha256: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    """Name and reason of each file that gave no picture. They are in no other field."""
    familiarity_N: np.ndarray | None = None
    """Share of pictures of the known kind that are at least as strange; None where nothing is to be rejected."""
    reject: float = 0.0
    """Pictures of this familiarity or less get the answer "neither"."""

    @property
    def labels(self) -> list[str]:
        """The answers: the most probable class, or "neither"."""
        return labels(self.classes, self.probabilities_NK, self.familiarity_N, self.reject)

    def select(self, rows: np.ndarray) -> "Predictions":
        """The predictions at these places."""
        names, sha256 = (tuple(each[i] for i in rows) for each in (self.names, self.sha256))
        familiarity_N = None if self.familiarity_N is None else self.familiarity_N[rows]
        found = replace(self, names=names, sha256=sha256, rows=self.rows[rows], familiarity_N=familiarity_N)
        return replace(found, probabilities_NK=self.probabilities_NK[rows])

    def frame(self) -> "pd.DataFrame":
        """A DataFrame: path, label, probability (of the most probable class), a column for each class, reason.

        With `reject`, familiarity stands after the probability. Files that gave no picture come last; they have a path and a
        reason only. Bytes of a name that are not UTF-8 are escaped, as in the CSV: pandas cannot hold them.
        """
        import pandas as pd  # a fifth of a second, for which a CSV file need not wait

        lost = {
            "path": [as_written(name) for name, _ in self.unreadable],
            "reason": [as_written(why) for _, why in self.unreadable],
        }
        read = pd.DataFrame({**self.columns(), "reason": ""})
        return pd.concat([read, pd.DataFrame(lost)], ignore_index=True) if self.unreadable else read

    def columns(self) -> dict[str, list]:
        """The columns of `frame` but for the reason, of the pictures that were predicted."""
        told: dict[str, list] = {"path": list(map(as_written, self.names)), "label": list(map(as_written, self.labels))}
        told["probability"] = self.probabilities_NK.max(1, initial=0).tolist()
        told |= {} if self.familiarity_N is None else {"familiarity": self.familiarity_N.tolist()}
        names = [f"p_{as_written(name)}" for name in self.classes]
        return told | dict(zip(names, self.probabilities_NK.T.tolist(), strict=True))


def predict(run: str | Path, pictures: Sequence[str | Path], batch: int = BATCH, reject: float = 0.0) -> "pd.DataFrame":
    """Predict pictures with the classifier of a run: a DataFrame as `tapetum predict` writes it.

    Args:
        run: a run folder, a model file or an ONNX file.
        pictures: pictures, folders or archives of them, shards, or an address of shards.
        batch: pictures computed at once.
        reject: the answer is "neither" for pictures that are stranger than all but this share of the known kind (0: never).

    Returns:
        One row a picture: path, label, probability, p_CLASS for each class, and reason, which is empty but for files that gave
        no picture; those come last and have nothing else. With `reject` also familiarity: the share of pictures of the known
        kind that are at least as strange.

    Raises:
        UserError: no such run or pictures.
    """
    return predict_samples(load(run), find_pictures(pictures), batch, reject).frame()


def predict_together(classifier: Answering, samples: Samples, batch: int = BATCH, reject: float = 0.0) -> Predictions:
    """`predict_samples` by all processes: each computes a part, whole batches of files, and all get the predictions of all."""
    classifier.refuse_reject(reject)
    if processes.count() == 1:
        return predict_samples(classifier, samples, batch, reject)
    part = processes.part(-(-len(samples) // batch))
    begin, end = batch * part.start, min(len(samples), batch * part.stop)
    return _of_all(predict_samples(classifier, samples.select(np.arange(begin, end)), batch, reject), begin)


def _of_all(mine: Predictions, begin: int) -> Predictions:
    """The predictions of all processes; `begin` is where this one's files begin."""
    import torch

    familiarity_N = mine.familiarity_N
    if familiarity_N is not None:
        familiarity_N = processes.gathered(torch.from_numpy(familiarity_N)).numpy()
    return replace(
        mine,
        names=tuple(processes.all_told(mine.names)),
        sha256=tuple(processes.all_told(mine.sha256)),
        rows=processes.gathered(torch.from_numpy(begin + mine.rows)).numpy(),
        probabilities_NK=processes.gathered(torch.from_numpy(mine.probabilities_NK)).numpy(),
        unreadable=tuple((name, reason) for name, reason in processes.all_told(mine.unreadable)),
        familiarity_N=familiarity_N,
    )


def predict_samples(classifier: Answering, samples: Samples, batch: int = BATCH, reject: float = 0.0) -> Predictions:
    """The predictions of `classifier` for every file of `samples`, in their order; unreadable ones are listed.

    `reject` as in `predict`.
    """
    classifier.refuse_reject(reject)  # before anything is read
    classifier.get_ready()
    names: list[str] = []
    rows: list[int] = []
    hashes: list[str] = []
    unreadable: list[tuple[str, str]] = []

    def squares() -> Iterator[np.ndarray]:
        readings = read_pictures(samples, classifier.preprocessing.reduce)
        progress = tqdm(
            readings, total=len(samples), desc="predicting", unit="", leave=False, disable=None if processes.first() else True
        )
        for i, reading in enumerate(progress):
            if reading.picture is None:
                unreadable.append((samples.names[i], reading.reason))
                continue
            names.append(samples.names[i])
            rows.append(i)
            hashes.append(reading.sha256)
            yield classifier.prepare(reading.picture)

    found_NK, familiarity_N = classifier.answers(squares(), batch, reject)
    return Predictions(
        classes=classifier.classes_,
        names=tuple(names),
        rows=np.array(rows, np.int64),
        probabilities_NK=found_NK,
        sha256=tuple(hashes),
        unreadable=tuple(unreadable),
        familiarity_N=familiarity_N,
        reject=reject,
    )


def write_predictions(predictions: Predictions, path: Path, labels: Sequence[str] = ()) -> None:
    """Write the predictions as CSV, with the columns of `Predictions.frame`; no cell of it is a formula.

    A path that ends in .parquet gets Parquet: the same columns, with the texts as they are. With `labels`, what the pictures
    are, these stand in the column "label" of the CSV and the answers in "predicted", as in the predictions.csv of a run.
    """
    if path.suffix == ".parquet":
        refuse_without_parquet()
        frame = predictions.frame()
        frame["label"] = frame["label"].astype("str").where(frame["reason"] == "", "")
        write_atomically(path, lambda file: frame.to_parquet(file, index=False))
        return
    columns = predictions.columns()
    if labels:
        columns = {"path": columns.pop("path"), "label": list(labels), "predicted": columns.pop("label"), **columns}
    # Python writes a float64 so that it reads back as the same number: a CSV compares to the bit.
    rows = [[*row, ""] for row in zip(*columns.values(), strict=True)]
    lost = [[name, *[""] * (len(columns) - 1), reason] for name, reason in predictions.unreadable]
    write_csv(path, [*columns, "reason"], rows + lost)


def refuse_without_parquet() -> None:
    """Raise a UserError where Parquet cannot be written."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(
            "Parquet needs pyarrow, which is not installed: pip install 'tapetum[parquet]', or write CSV."
        ) from None


def write_kaggle(classes: Sequence[str], names: Sequence[str], probabilities_NK: np.ndarray, path: Path) -> tuple[str, int]:
    """Write the study notes' file: `id,label`, label = the probability of the positive class, sorted by id as a number.

    The id is the number in the file's name (113 for `dog.113.jpg`), the positive class "dog" if there is one, else the second
    of the two. As in the notes the id drops the class, so `cat.15.jpg` and `dog.15.jpg` share one.

    Returns:
        The positive class, and how many ids stand more than once.

    Raises:
        UserError: not two classes, or a file name without a number.
    """
    if len(classes) != 2:
        raise UserError(f"--kaggle needs a classifier of two classes; this one has {len(classes)}.")
    folded = [name.casefold() for name in classes]
    positive = next((k for k, name in enumerate(folded) if name in ("dog", "dogs")), 1)
    rows = []
    for name, p in zip(names, probabilities_NK[:, positive], strict=True):
        number = file_number(name)
        if not number:
            raise UserError(f"--kaggle: the file name '{name}' holds no number to be its id. Rename it or leave --kaggle out.")
        rows.append((int(number), float(p)))
    rows.sort(key=lambda row: row[0])
    write_text(path, "id,label\n" + "".join(f"{number},{p!r}\n" for number, p in rows))
    return classes[positive], len(rows) - len({number for number, _ in rows})
