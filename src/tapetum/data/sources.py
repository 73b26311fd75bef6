"""From what the user names to a table of pictures: the layout is recognised, never asked for.

    DATA/CLASS/*.jpg                      class folders (pictures may lie deeper in them)
    DATA/train/CLASS/*, val, test         split folders
    DATA/dog.113.jpg                      file names that begin with their class
    DATA.csv                              columns path, label and perhaps split
    DATA.zip, DATA.tar[.gz]               any of the first three, as downloaded
    DATA/MNIST/raw/*-ubyte.gz             the IDX files of MNIST and its kin
    DATA/tapetum-shards.json              shards that `tapetum pack` wrote, of any of the above; here, or at an address

A lone folder that holds them (PetImages/, perhaps beside a readme) is looked through, and so is an archive alone in a folder.

No picture is decoded here, and nothing is written.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from tapetum.data.addresses import url_of
from tapetum.data.samples import Samples, file_number
from tapetum.data.shards import is_shards, open_shards, samples_of
from tapetum.data.stores import FilesStore, FolderStore, ManyStore, Store, archive_kind, open_store, same_name
from tapetum.errors import UserError, did_you_mean
from tapetum.files import as_written, near
from tapetum.talk import counted

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
_CSV_SUFFIXES = (".csv", ".tsv", ".txt")
# So many mistakes of a CSV file are told one by one.
_TOLD_LINES = 20


def find_samples(data: str | Path, numbers: tuple[int, int] | None = None, least: int = 2) -> Samples:
    """The labelled pictures in `data`, whatever its layout.

    Args:
        data: a folder, a CSV file, a zip or tar archive, or shards (their folder, its index file, or the address of either).
        numbers: keep only files whose name's last whole number lies in this range (both ends included).
        least: how many classes there must be; to judge a classifier one is enough.

    Raises:
        UserError: nothing is there, the layout is not understood, there are too few classes, or `numbers` leaves a
            class without files.
    """
    path = _place(data, "a folder, a CSV file or an archive of pictures")
    samples = samples_of(open_shards(path), path) if is_shards(path) else _from_path(Path(path))
    if numbers is not None:
        samples = _with_numbers(samples, numbers)
    present = [name for name, count in samples.counts().items() if count]
    if len(present) < least:
        only = f"only one class, '{present[0]}'" if present else "no labelled pictures"
        raise UserError(
            f"{path} holds {only}: a classifier needs at least two. Put the pictures of each class in a folder of its own."
        )
    return samples


def find_pictures(paths: Sequence[str | Path] | str | Path) -> Samples:
    """The files to predict: `paths` are pictures, folders of them (searched to the bottom), archives or shards; labels are -1.

    Files come in the order of `paths`, sorted inside each. In a single folder or archive a file has the same name as
    `find_samples` gives it; otherwise its path as it was given.

    Raises:
        UserError: a path does not exist, or nothing is there.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    given = [_place(path, "pictures, folders or archives") for path in several]
    parts: list[tuple[str, Store]] = []
    for path in given:
        if isinstance(path, str) or is_shards(path):
            parts.append((str(path), open_shards(path)))
        elif path.is_file() and not _is_archive(path):
            parts.append(("", FilesStore({path.as_posix(): path})))
        else:
            parts.append((path.as_posix(), open_store(path)[0]))
    store: Store = parts[0][1] if len(parts) == 1 else ManyStore(parts)
    names = store.names()
    if not names:
        raise UserError(f"{_nothing_in(', '.join(map(str, given)) or 'The list of paths', store)}: expected pictures.")
    return _samples(given[0], "pictures" + _passed_over(0, "", store), store, names, [""] * len(names), [""] * len(names), ())


def _place(data: str | Path, expected: str) -> Path | str:
    """What the user named: an address (a text), or a path that exists."""
    if url := url_of(data):
        return url
    path = Path(data)
    _check_exists(path, expected)
    return path


def _from_path(path: Path) -> Samples:
    is_csv = path.is_file() and path.suffix.lower() in _CSV_SUFFIXES and not _is_archive(path)
    return _from_csv(path) if is_csv else _from_store(path)


def _from_store(path: Path) -> Samples:
    store, kind = open_store(path)
    inside = f" in a {kind}" if kind else ""
    names = store.names()
    if not names:
        raise UserError(f"{_nothing_in(path, store)}: expected pictures, one folder a class.")
    top = _wrapper(names)
    wrapped = [name for name in names if name.startswith(top)]
    num_beside = len(names) - len(wrapped)
    parts = [name.removeprefix(top).split("/") for name in wrapped]
    folders = {part[0] for part in parts if len(part) > 1}
    _refuse_twins(folders, "folders")
    if _has_split_folders(parts):
        return _from_split_folders(path, store, wrapped, parts, num_beside, "split folders" + inside)
    if folders:
        return _from_class_folders(path, store, wrapped, parts, num_beside, "class folders" + inside)
    return _from_file_names(path, store, wrapped, num_beside, "file names that begin with their class" + inside)


def _has_split_folders(parts: list[list[str]]) -> bool:
    """Whether there is a train folder of class folders; among folders of other names that hold folders it is a class."""
    nested = [part[0].lower() for part in parts if len(part) > 2]
    kinds = [_SPLIT_NAMES[name] for name in nested if name in _SPLIT_NAMES]
    return "train" in kinds and (len(set(kinds)) > 1 or 2 * len(kinds) > len(nested))


def _from_class_folders(
    path: Path, store: Store, names: list[str], parts: list[list[str]], num_beside: int, layout: str
) -> Samples:
    rows = [i for i, part in enumerate(parts) if len(part) > 1]
    folders = sorted({parts[i][0] for i in rows})
    # Kaggle's "test1" is a part too; taking the parts for classes would train a classifier of nonsense.
    if len(folders) > 1 and all(folder.lower().rstrip("0123456789") in _SPLIT_NAMES for folder in folders):
        raise UserError(
            f"{path} has the folders {', '.join(folders)} but no class folders in a train folder: expected train/CLASS/*. "
            "If the file names begin with their class, name the inner folder."
        )
    layout += _passed_over(num_beside + len(names) - len(rows), "beside them", store)
    return _samples(path, layout, store, [names[i] for i in rows], [parts[i][0] for i in rows], [""] * len(rows))


def _from_split_folders(
    path: Path, store: Store, names: list[str], parts: list[list[str]], num_beside: int, layout: str
) -> Samples:
    rows = [i for i, part in enumerate(parts) if len(part) > 2 and part[0].lower() in _SPLIT_NAMES]
    splits = [_SPLIT_NAMES[parts[i][0].lower()] for i in rows]
    labels = [parts[i][1] for i in rows]
    known = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    _refuse_twins(labels, "class folders")
    for label, split in zip(labels, splits, strict=True):
        if label not in known:
            raise UserError(
                f"{path}: the {split} part has a class '{label}' that the training part lacks.{did_you_mean(label, known)} "
                "Rename its folder or add training pictures."
            )
    layout += _passed_over(num_beside + len(names) - len(rows), "beside them", store)
    return _samples(path, layout, store, [names[i] for i in rows], labels, splits)


def _from_file_names(path: Path, store: Store, names: list[str], num_beside: int, layout: str) -> Samples:
    labels = [_class_in_name(name) for name in names]
    unclear = [name for name, label in zip(names, labels, strict=True) if not label]
    if len(set(labels) - {""}) < 2 or len(unclear) > 0.1 * len(names):
        raise UserError(
            f"no classes recognised in {path} ({counted(len(names), 'file')}, such as {(unclear or names)[0]}). Expected a "
            "folder for each class, train and val folders of them, file names that begin with their class (dog.113.jpg), or a "
            "CSV with path and label."
        )
    rows = [i for i, label in enumerate(labels) if label]
    layout += _passed_over(num_beside + len(unclear), "of other names", store)
    return _samples(path, layout, store, [names[i] for i in rows], [labels[i] for i in rows], [""] * len(rows))


def _from_csv(path: Path) -> Samples:
    records = _csv_records(path)
    header = [cell.lower() for cell in records[0][1]] if records else []
    places = {want: next((header.index(n) for n in known if n in header), -1) for want, known in _CSV_COLUMNS.items()}
    for column in ("path", "label"):
        if places[column] < 0:
            found = ", ".join(filter(None, header)) or "none"
            raise UserError(f"{path} has no column '{column}' (its columns: {found}): expected path,label and perhaps split.")
    rows: dict[str, tuple[str, str, int]] = {}
    wrong: list[tuple[int, str]] = []
    for line, row in records[1:]:
        name, label, split = (row[places[c]] if -1 < places[c] < len(row) else "" for c in ("path", "label", "split"))
        if not name or not label:
            wrong.append((line, f"no {'label' if name else 'path'}."))
            continue
        if split and split.lower() not in _SPLIT_NAMES:
            hint = did_you_mean(split, _SPLIT_NAMES) or " Expected train, val or test."
            wrong.append((line, f"split '{split}' is unknown.{hint}"))
            continue
        split = _SPLIT_NAMES.get(split.lower(), "")
        name = PurePosixPath(name.replace("\\", "/")).as_posix()
        first = rows.setdefault(name, (label, split, line))
        if first[:2] != (label, split):
            wrong.append((line, f"{name} stands in line {first[2]} with another label or split."))
    return _checked_csv(path, rows, wrong)


def _csv_records(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, each with its number in the file; the separator is the header's most frequent."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=text.lstrip().split("\n", 1)[0].count))
    try:
        records = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} is no line of a CSV file: {error}. Mend or remove it.") from error
    return [(line, row) for line, row in records if any(row)]


def _checked_csv(path: Path, rows: dict[str, tuple[str, str, int]], wrong: list[tuple[int, str]]) -> Samples:
    """The table of `rows`, or all that is wrong with it in one report; `wrong` is what the lines themselves told already."""
    if not rows and not wrong:
        raise UserError(f"{path} has no rows: expected a line with path and label for each picture.")
    labels, splits = [row[0] for row in rows.values()], [row[1] for row in rows.values()]
    # A table without any training rows is one to evaluate on.
    trained = {label for label, split in zip(labels, splits, strict=True) if split in ("", "train")} or set(labels)
    spelt: dict[str, tuple[str, int]] = {}
    for name, (label, split, line) in rows.items():
        if not (path.parent / name).is_file():
            wrong.append((line, f"{name} is missing."))
        other, where = spelt.setdefault(same_name(label), (label, line))
        if other != label:
            wrong.append((line, f"the labels '{label}' and '{other}' (line {where}) differ only in case or in Unicode form."))
        elif label not in trained:
            hint = did_you_mean(label, trained)
            wrong.append((line, f"label '{label}' of {name} ({split}) has no training pictures.{hint}"))
    if wrong:
        told = " ".join(f"line {line}: {what}" for line, what in sorted(wrong)[:_TOLD_LINES])
        more = f" And {len(wrong) - _TOLD_LINES:,} more." if len(wrong) > _TOLD_LINES else ""
        raise UserError(f"{path} {told}{more} Mend or remove these lines; paths count from the folder of the CSV file.")
    return _samples(path, "CSV", FolderStore(path.parent), list(rows), labels, splits)


def _samples(
    origin: Path | str,
    layout: str,
    store: Store,
    names: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
    classes: tuple[str, ...] | None = None,
) -> Samples:
    """Samples with class numbers: the classes are the labels, sorted; a label "" has the number -1.

    A class is called as files can hold it, also where its folder's name is no UTF-8.
    """
    labels = list(map(as_written, labels))
    known = tuple(sorted(set(labels))) if classes is None else classes
    index = {name: k for k, name in enumerate(known)}
    numbers = np.array([index.get(label, -1) for label in labels], np.int64)
    return Samples(origin, layout, store, tuple(names), numbers, np.array(splits, object), known)


def _with_numbers(samples: Samples, numbers: tuple[int, int]) -> Samples:
    low, high = numbers
    rows = []
    for i, name in enumerate(samples.names):
        number = file_number(name)
        if number and low <= int(number) <= high:
            rows.append(i)
    if not rows:
        raise UserError(
            f"{samples.origin} has no file whose number is in {low}-{high}, such as {samples.names[0]}. Use another range."
        )
    chosen = samples.select(np.array(rows))
    for label, count in chosen.counts().items():
        if count == 0:
            raise UserError(
                f"{samples.origin}: class '{label}' has no file whose number is in {low}-{high}. Use another range or leave "
                "the class out."
            )
    return chosen


def _wrapper(names: list[str]) -> str:
    """The lone folders that hold everything but perhaps a readme, such as "PetImages/", or "" where there is none.

    A lone folder is a wrapper only if folders lie in it, or nothing but files named by their class; else it is a class.
    """
    top = ""
    while True:
        parts = [name.removeprefix(top).split("/") for name in names if name.startswith(top)]
        inner = [part for part in parts if len(part) > 1]
        beside = [part[0] for part in parts if len(part) == 1]
        if len({part[0] for part in inner}) != 1 or _named_by_class(beside):
            return top
        if all(len(part) == 2 for part in inner) and (beside or not _named_by_class([part[1] for part in inner])):
            return top
        top += inner[0][0] + "/"


def _named_by_class(names: list[str]) -> bool:
    return len({_class_in_name(name) for name in names} - {""}) > 1


def _class_in_name(name: str) -> str:
    """The class with which a file's name begins: letters, then a sign or a number; "" where there is none. Case does not count.

    >>> [_class_in_name(name) for name in ("in/Dog.113.jpg", "cat (3).jpg", "고양이-1.jpg", "notes.txt")]
    ['dog', 'cat', '고양이', '']
    """
    base = same_name(name.rsplit("/", 1)[-1])
    # Letters with their marks: an accent or a vowel sign may be a character of its own, which `\w` does not match.
    end = next((i for i, sign in enumerate(base) if unicodedata.category(sign)[0] not in "LM"), len(base))
    return base[:end] if re.match(r"[\W_]*\d", base[end:]) else ""


def _passed_over(count: int, where: str, store: Store) -> str:
    """What of the data is not in the table, as an addition to the layout."""
    notes = [f"{counted(count, 'file')} {where} passed over"] if count else []
    if store.skipped:
        name, reason = store.skipped[0]
        notes.append(f"{counted(len(store.skipped), 'file')} left out, such as {name}: {reason}")
    return f" ({'; '.join(notes)})" if notes else ""


def _nothing_in(what: object, store: Store) -> str:
    if not store.skipped:
        return f"{what} is empty"
    name, reason = store.skipped[0]
    return f"{what} holds nothing that can be read ({counted(len(store.skipped), 'file')} left out, such as {name}: {reason})"


def _refuse_twins(names: Iterable[str], what: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_name(name), name)
        if other != name:
            raise UserError(f"the {what} '{other}' and '{name}' differ only in case or in Unicode form. Give them one name.")


def _is_archive(path: Path) -> bool:
    try:
        return archive_kind(path) != ""
    except OSError:
        return False  # reading it will say why


def _check_exists(path: Path, expected: str) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} does not exist.{near(path)} Expected {expected}.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path} cannot be opened: {reason}. Expected {expected}; check the path and its permissions."
        ) from error
