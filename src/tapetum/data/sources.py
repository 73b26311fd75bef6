"""From what the user names to a table of pictures: the layout is recognised, never asked for.

    DATA/CLASS/*.jpg                      class folders (pictures may lie deeper in them)
    DATA/train/CLASS/*, val, test         split folders
    DATA/dog.113.jpg                      file names that begin with their class
    DATA.csv                              columns path, label and perhaps split
    DATA.zip, DATA.tar[.gz]               any of the first three, as downloaded

No picture is decoded here, and nothing is written.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tapetum.data.samples import Samples
from tapetum.data.stores import FilesStore, FolderStore, ManyStore, Store, open_store, same_name
from tapetum.errors import UserError, did_you_mean

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_CSV_COLUMNS = {
    "path": ("path", "file", "filename", "image", "file_name"),
    "label": ("label", "class"),
    "split": ("split", "subset"),
}
# dog.113.jpg, cat_001.png, cat (3).jpg, dog12.jpg: letters, then a sign or a number.
_NAME_BEGINS_WITH_CLASS = re.compile(r"([^\W\d_]+)[\W_]*\d")


def find_samples(data: str | Path, numbers: tuple[int, int] | None = None) -> Samples:
    """The labelled pictures in `data`, whatever its layout.

    Args:
        data: a folder, a CSV file, or a zip or tar archive.
        numbers: keep only files whose name's last whole number lies in this range (both ends included).

    Raises:
        UserError: nothing is there, the layout is not understood, there are fewer than two classes, or nothing is left.
    """
    path = Path(data)
    if not path.exists():
        raise UserError(f"{path} does not exist.{_near(path)} Expected a folder, a CSV file or an archive of pictures.")
    is_csv = path.is_file() and path.suffix.lower() in (".csv", ".tsv")
    samples = _from_csv(path) if is_csv else _from_store(path)
    if numbers is not None:
        samples = _with_numbers(samples, numbers)
    present = [name for name, count in samples.counts().items() if count]
    if len(present) < 2:
        only = f"only one class, '{present[0]}'" if present else "no labelled pictures"
        raise UserError(
            f"{path} holds {only}: a classifier needs at least two. Put the pictures of each class in a folder of its own."
        )
    return samples


def find_pictures(paths: Sequence[str | Path]) -> Samples:
    """The files to predict: `paths` are pictures, folders of them (searched to the bottom) or archives; labels are -1.

    Files come in the order of `paths`, sorted inside each. In a single folder or archive a file has the same name as
    `find_samples` gives it; otherwise its path as it was given.

    Raises:
        UserError: a path does not exist, or nothing is there.
    """
    parts: list[tuple[str, Store]] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist.{_near(path)} Expected pictures, folders or archives.")
        if path.is_file() and not _is_archive(path):
            parts.append(("", FilesStore({path.as_posix(): path})))
        else:
            parts.append((path.as_posix(), open_store(path)[0]))
    store: Store = parts[0][1] if len(parts) == 1 else ManyStore(parts)
    names = store.names()
    if not names:
        raise UserError(f"{', '.join(map(str, paths))} holds no files: expected pictures.")
    return _samples(Path(paths[0]), "pictures", store, names, [""] * len(names), [""] * len(names), ())


def _from_store(path: Path) -> Samples:
    store, kind = open_store(path)
    inside = f" in a {kind}" if kind else ""
    names = store.names()
    if not names:
        raise UserError(f"{path} is empty: expected pictures, one folder a class.")
    top = _wrapper(names)
    parts = [name[len(top) :].split("/") for name in names]
    folders = {part[0] for part in parts if len(part) > 1}
    _refuse_twins(folders, "folders")
    if any(_SPLIT_NAMES.get(name.lower()) == "train" for name in folders):
        return _from_split_folders(path, store, names, parts, "split folders" + inside)
    if folders:
        chosen = [i for i, part in enumerate(parts) if len(part) > 1]
        labels = [parts[i][0] for i in chosen]
        layout = "class folders" + inside
        if len(chosen) < len(names):
            layout += f" ({len(names) - len(chosen):,} files beside them passed over)"
        return _samples(path, layout, store, [names[i] for i in chosen], labels, [""] * len(chosen))
    return _from_file_names(path, store, names, parts, "file names that begin with their class" + inside)


def _from_split_folders(path: Path, store: Store, names: list[str], parts: list[list[str]], layout: str) -> Samples:
    rows = [i for i, part in enumerate(parts) if len(part) > 2 and part[0].lower() in _SPLIT_NAMES]
    splits = [_SPLIT_NAMES[parts[i][0].lower()] for i in rows]
    labels = [parts[i][1] for i in rows]
    known = sorted({label for label, split in zip(labels, splits, strict=True) if split == "train"})
    _refuse_twins(labels, "class folders")
    for label, split in zip(labels, splits, strict=True):
        if label not in known:
            raise UserError(
                f"{path}: the {split} part has a class '{label}' that the training part lacks.{did_you_mean(label, known)} "
                "Rename its folder or add training pictures."
            )
    return _samples(path, layout, store, [names[i] for i in rows], labels, splits)


def _from_file_names(path: Path, store: Store, names: list[str], parts: list[list[str]], layout: str) -> Samples:
    labels, unclear = [], []
    for name, part in zip(names, parts, strict=True):
        match = _NAME_BEGINS_WITH_CLASS.match(part[-1])
        labels.append(match[1] if match else "")
        if not match:
            unclear.append(name)
    classes = {same_name(label) for label in labels if label}
    if len(classes) < 2 or len(unclear) > 0.1 * len(names):
        example = (unclear or names)[0]
        raise UserError(
            f"no classes recognised in {path} ({len(names):,} files, such as {example}). Expected a folder for each class, "
            "train and val folders of them, file names that begin with their class (dog.113.jpg), or a CSV with path and label."
        )
    if unclear:
        layout += f" ({len(unclear):,} files of other names passed over)"
    rows = [i for i, label in enumerate(labels) if label]
    chosen = [same_name(labels[i]) for i in rows]
    return _samples(path, layout, store, [names[i] for i in rows], chosen, [""] * len(rows))


def _from_csv(path: Path) -> Samples:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    header = [column.strip().lower() for column in next(reader, [])]
    places = {want: next((header.index(n) for n in known if n in header), -1) for want, known in _CSV_COLUMNS.items()}
    for column in ("path", "label"):
        if places[column] < 0:
            found = ", ".join(filter(None, header)) or "none"
            raise UserError(f"{path} has no column '{column}' (its columns: {found}): expected path,label and perhaps split.")
    rows: dict[str, tuple[str, str, int]] = {}
    for line, row in enumerate(reader, start=2):
        if not any(cell.strip() for cell in row):
            continue
        name, label, split = (row[places[c]].strip() if -1 < places[c] < len(row) else "" for c in ("path", "label", "split"))
        name = name.replace("\\", "/")
        if not name or not label:
            raise UserError(f"{path} line {line}: no {'label' if name else 'path'}. Fill it in or remove the line.")
        if split and split.lower() not in _SPLIT_NAMES:
            hint = did_you_mean(split, _SPLIT_NAMES)
            raise UserError(f"{path} line {line}: split '{split}' is unknown.{hint} Expected train, val or test.")
        split = _SPLIT_NAMES.get(split.lower(), "")
        if name in rows and rows[name][:2] != (label, split):
            raise UserError(
                f"{path} line {line}: {name} stands in line {rows[name][2]} with another label or split. Keep one of them."
            )
        rows[name] = (label, split, line)
    return _checked_csv(path, rows)


def _checked_csv(path: Path, rows: dict[str, tuple[str, str, int]]) -> Samples:
    if not rows:
        raise UserError(f"{path} has no rows: expected a line with path and label for each picture.")
    missing = [(line, name) for name, (_, _, line) in rows.items() if not (path.parent / name).is_file()]
    if missing:
        some = "; ".join(f"line {line}: {name}" for line, name in missing[:3])
        raise UserError(
            f"{path}: {len(missing):,} of {len(rows):,} pictures are missing ({some}). "
            "Paths count from the folder of the CSV file."
        )
    labels, splits = [row[0] for row in rows.values()], [row[1] for row in rows.values()]
    _refuse_twins(labels, "labels")
    trained = {label for label, split in zip(labels, splits, strict=True) if split in ("", "train")}
    for name, (label, split, line) in rows.items():
        if label not in trained:
            hint = did_you_mean(label, trained)
            raise UserError(f"{path} line {line}: label '{label}' of {name} ({split}) has no training pictures.{hint}")
    return _samples(path, "CSV", FolderStore(path.parent), list(rows), labels, splits)


def _samples(
    origin: Path,
    layout: str,
    store: Store,
    names: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
    classes: tuple[str, ...] | None = None,
) -> Samples:
    """Samples with class numbers: the classes are the labels, sorted; a label "" has the number -1."""
    known = tuple(sorted(set(labels))) if classes is None else classes
    index = {name: k for k, name in enumerate(known)}
    numbers = np.array([index.get(label, -1) for label in labels], np.int64)
    return Samples(origin, layout, store, tuple(names), numbers, np.array(splits, object), known)


def _with_numbers(samples: Samples, numbers: tuple[int, int]) -> Samples:
    low, high = numbers
    rows = []
    for i, name in enumerate(samples.names):
        found = re.findall(r"\d+", Path(name).stem)
        if found and low <= int(found[-1]) <= high:
            rows.append(i)
    if not rows:
        raise UserError(
            f"{samples.origin} has no file whose number is in {low}-{high}, such as {samples.names[0]}. Use another range."
        )
    return samples.select(np.array(rows))


def _wrapper(names: list[str]) -> str:
    """The folders that hold everything, such as "PetImages/": the common path that is followed by two or more entries."""
    top = ""
    while True:
        heads = {name[len(top) :].split("/")[0] for name in names}
        inner = [name for name in names if "/" in name[len(top) :]]
        folders = {name[len(top) :].split("/")[0] for name in inner}
        deeper = {name[len(top) :].split("/")[1] for name in inner if name[len(top) :].count("/") > 1}
        # A lone folder is a wrapper only if folders lie in it or it holds files named by class; files alone make it a class.
        if len(folders) != 1 or len(heads) > 1 or not (deeper or _named_by_class(inner)):
            return top
        top += folders.pop() + "/"


def _named_by_class(names: list[str]) -> bool:
    begins = (_NAME_BEGINS_WITH_CLASS.match(name.rsplit("/", 1)[-1]) for name in names)
    return len({same_name(match[1]) for match in begins if match}) > 1


def _refuse_twins(names: Iterable[str], what: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name(name), name)
        if other != name:
            raise UserError(f"the {what} '{other}' and '{name}' differ only in case or in Unicode form. Give them one name.")


def _is_archive(path: Path) -> bool:
    # By name first: only what is called so is opened to look, since every predicted picture comes by here.
    suffixes = {suffix.lower() for suffix in path.suffixes}
    return bool(suffixes & {".zip", ".tar", ".tgz", ".tbz2", ".txz"})


def _near(path: Path) -> str:
    parent = path.parent
    return did_you_mean(path.name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""
