"""Predictions of very many files: a folder of parts and a manifest, in flat memory, that goes on where it was killed.

    predictions/
      part-00000.csv      the first files' predictions, with the columns that one CSV file would have (or .parquet)
      part-00001.csv      ...
      manifest.json       which classifier and files these are of and, once all is done, each part's rows and SHA-256

A part is written whole or not at all, so what is there is done: the same command goes on with the rest. Of several processes
each takes every so manieth part; they need no word from each other.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tapetum import processes
from tapetum.data.samples import Samples
from tapetum.errors import UserError
from tapetum.files import LOCK, claim, remove_scraps, sha256_of, unguarded, write_text
from tapetum.inference.answers import BATCH, Answering
from tapetum.inference.predict import predict_samples, refuse_without_parquet, write_predictions

MANIFEST = "manifest.json"
# What a process that was killed while it wrote the first manifest leaves.
_SCRAP = re.compile(rf"\.{re.escape(MANIFEST)}\..+\.part")


def predict_parts(
    classifier: Answering,
    samples: Samples,
    folder: Path,
    *,
    kind: str = "csv",
    rows: int = 8192,
    batch: int = BATCH,
    reject: float = 0.0,
) -> dict[str, Any]:
    """Predict every file of `samples` into the parts of `folder`; the manifest comes back.

    Args:
        classifier: what answers.
        samples: the files, in an order that stays the same.
        folder: new, or one that was begun with the same classifier, files and options: it is gone on with.
        kind: "csv", or "parquet" (pandas with pyarrow).
        rows: files of a part, rounded up to whole batches, so that probabilities are those of a single file to the bit.
        batch, reject: as in `predict`.

    Raises:
        UserError: the folder holds something else, another process writes there, it cannot be written, or pyarrow is missing.
    """
    if kind == "parquet":
        refuse_without_parquet()
    classifier.refuse_reject(reject)
    rows = -(-rows // batch) * batch
    asked = {
        "model": hashlib.sha256(json.dumps(classifier.about, sort_keys=True, default=str).encode()).hexdigest(),
        "classes": list(classifier.classes_),
        "files": len(samples),
        "files_sha256": _hash_of(samples),
        "kind": kind,
        "rows_a_part": rows,
        "batch": batch,
        "reject": reject,
    }
    with contextlib.ExitStack() as held:
        if processes.first():
            _refuse_other(folder, asked)
            held.enter_context(claim(folder, "prediction"))
            _refuse_other(folder, asked)  # once more, now that nobody else writes there
            remove_scraps(folder)
            if not (folder / MANIFEST).exists():
                write_text(folder / MANIFEST, _json({**asked, "complete": False}))
        processes.wait()
        return _predict(classifier, samples, folder, asked)


def _predict(classifier: Answering, samples: Samples, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The parts that are not there yet, and the manifest of all."""
    kind, rows = asked["kind"], asked["rows_a_part"]
    paths = [folder / f"part-{number:05d}.{kind}" for number in range(-(-len(samples) // rows))]
    for number, path in _mine(paths):
        if not path.exists():
            part = samples.select(np.arange(number * rows, min(len(samples), (number + 1) * rows)))
            write_predictions(predict_samples(classifier, part, asked["batch"], asked["reject"]), path)
    parts = [part for _, part in sorted(processes.all_told([(number, _about(path)) for number, path in _mine(paths)]))]
    labels: dict[str, int] = {}
    for part in parts:
        for label, count in part.pop("labels").items():
            labels[label] = labels.get(label, 0) + count
    unreadable = sum(part["unreadable"] for part in parts)
    manifest = {**asked, "complete": True, "unreadable": unreadable, "labels": labels, "parts": parts}
    if processes.first():
        write_text(folder / MANIFEST, _json(manifest))
    return manifest


def _mine(paths: list[Path]) -> Iterator[tuple[int, Path]]:
    """This process's parts, with their numbers."""
    return ((number, path) for number, path in enumerate(paths) if number % processes.count() == processes.rank())


def _json(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _hash_of(samples: Samples) -> str:
    """Changes when a file comes, goes, changes its name or its content."""
    digest = hashlib.sha256()
    for name in samples.names:
        digest.update(f"{name}\0{samples.store.stamp(name)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _refuse_other(folder: Path, asked: dict[str, Any]) -> None:
    """Raise a UserError unless the folder is new, or holds a manifest of what is asked for."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder for the parts. Choose another --out.")
    content = [path.name for path in folder.iterdir()] if folder.exists() else []
    if all(name == LOCK or _SCRAP.fullmatch(name) for name in content):
        return
    try:
        before = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{folder} holds files of another kind: parts need a folder of their own. Choose another --out."
        ) from None
    changed = [name for name, value in asked.items() if before.get(name) != value]
    if {"files", "files_sha256"} & set(changed):
        raise UserError(
            f"{folder} holds predictions of other files, or of these before they changed: expected the same to go on with. "
            "Choose another --out."
        )
    if changed:
        raise UserError(
            f"{folder} holds predictions with another {', '.join(changed)}: expected the same to go on with. "
            "Choose another --out."
        )


def _about(path: Path) -> dict[str, Any]:
    """A finished part: its name, size, hash and counts."""
    import pandas as pd

    columns = ["label", "reason"]
    if path.suffix == ".csv":
        frame = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    else:
        frame = pd.read_parquet(path, columns=columns)
    unreadable = frame["reason"] != ""
    answers = frame.loc[~unreadable, "label"]
    labels = (answers.map(unguarded) if path.suffix == ".csv" else answers).value_counts()
    return {
        "file": path.name,
        "rows": len(frame),
        "unreadable": int(unreadable.sum()),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "labels": {str(label): int(count) for label, count in labels.items()},
    }
