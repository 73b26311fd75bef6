"""The pre-flight check: what in the data would spoil a training or its figures, by name and reason. Nothing is changed.

Each kind of finding is one function below, from what is read once: `Seen` for each file. Findings are ordered by how much harm
they do: what makes a figure wrong, what makes a picture useless, what is worth knowing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from tapetum.data.cache import Pictures
from tapetum.data.decode import Header, read_header
from tapetum.data.duplicates import Duplicates
from tapetum.data.reading import in_threads
from tapetum.data.samples import Samples
from tapetum.data.stores import same_name
from tapetum.talk import counted

Harm = Literal["serious", "warning", "note"]

# Suffixes that a file of each kind may have.
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"},
    "PNG": {".png", ".apng"},
    "WebP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
_KNOWN_SUFFIXES = frozenset().union(*_SUFFIXES.values())
# A picture whose grey levels have a smaller standard deviation shows nothing.
_BLANK = 3.0
# What 14 of 16 bits come to in 8: microscopes and X-ray detectors store 10 to 14 bits as the lowest of 16.
_DIM = 64
_FEW, _SMALL_SIDE, _LONG = 20, 32, 4.0
# From so many on it is told if grey pictures belong to one class.
_MANY_GREY = 10
_UNEVEN = 3.0
# Windows takes none of these in a name, nor these names, nor a dot or space at the end.
_FORBIDDEN = set('<>:"|?*\\') | {chr(i) for i in range(32)}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was found, with the files that it concerns."""

    kind: str
    """Its name in JSON, such as "two-labels"."""
    harm: Harm
    title: str
    """What it is and what follows, in a sentence."""
    files: tuple[tuple[str, str], ...] = ()
    """Names, each with a detail (may be empty)."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Names that belong together, for duplicates and names that collide."""

    @property
    def count(self) -> int:
        """Files, or groups of files."""
        return len(self.groups) or len(self.files)


@dataclass(frozen=True)
class Check:
    """All that the check found."""

    samples: Samples
    findings: tuple[Finding, ...]
    readable: int
    """Files that give a picture."""
    counts: dict[str, int]
    """How many of these each class has."""
    sides: tuple[int, int, int] = field(default=(0, 0, 0))
    """Smallest, median and largest shorter side of the pictures, in pixels."""

    def to_json(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "data": str(self.samples.origin),
            "layout": self.samples.layout,
            "files": len(self.samples),
            "readable": self.readable,
            "classes": self.samples.counts(),
            "shorter_side": dict(zip(("smallest", "median", "largest"), self.sides, strict=True)),
            "findings": [
                {
                    "kind": each.kind,
                    "harm": each.harm,
                    "title": each.title,
                    "count": each.count,
                    "files": [{"file": name, "detail": detail} for name, detail in each.files],
                    "groups": [list(names) for names in each.groups],
                }
                for each in self.findings
            ],
        }

    def text(self, most: int = 5) -> str:
        """A summary for the terminal, with `most` examples of each finding."""
        lines = [self.samples.describe(), f"{self.readable:,} pictures; shorter side {_range(self.sides)} px"]
        for each in self.findings:
            lines.append(f"\n{each.harm}: {each.title}")
            examples = [f"{name}: {detail}" if detail else name for name, detail in each.files]
            examples += [" = ".join(names) for names in each.groups]
            lines += [f"  {example}" for example in examples[:most]]
            if len(examples) > most:
                lines.append(f"  and {len(examples) - most:,} more")
        if not self.findings:
            lines.append("\nnothing to object to")
        return "\n".join(lines)


@dataclass(frozen=True)
class Seen:
    """What is known of each readable picture: N of them, in the order of the files."""

    names: tuple[str, ...]
    samples: Samples
    headers: tuple[Header, ...]
    grey: np.ndarray
    """(N,) without colour, but not blank."""
    spread: np.ndarray
    """(N,) standard deviation of the grey levels."""
    brightest: np.ndarray
    """(N,) the highest value of any colour, 0 to 255."""


def check(samples: Samples, pictures: Pictures) -> Check:
    """Look at everything in `samples`, whose decoded pictures are given."""
    rows = pictures.readable
    readable = samples.select(rows)
    looked = list(in_threads(lambda row: _look(samples, pictures, int(row)), rows))
    seen = Seen(
        names=readable.names,
        samples=readable,
        headers=tuple(header for header, *_ in looked),
        grey=np.array([grey and spread >= _BLANK for _, grey, spread, _ in looked], bool),
        spread=np.array([spread for _, _, spread, _ in looked]),
        brightest=np.array([brightest for *_, brightest in looked]),
    )
    findings = [
        *_unreadable(samples, pictures),
        *_duplicates(readable, pictures.duplicates(rows)),
        *_classes(samples, readable),
        *_names(samples),
        *_content(seen),
        *_shapes(seen),
    ]
    order = ("serious", "warning", "note")
    sides = sorted(min(header.width, header.height) for header in seen.headers) or [0]
    return Check(
        samples=samples,
        findings=tuple(sorted(findings, key=lambda each: order.index(each.harm))),
        readable=len(rows),
        counts=readable.counts(),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
    )


def find_serious(samples: Samples, pictures: Pictures) -> tuple[Finding, ...]:
    """The serious findings of `check` alone: nothing is looked at again, neither file nor picture."""
    rows = pictures.readable
    found = _duplicates(samples.select(rows), pictures.duplicates(rows))
    return tuple(each for each in found if each.harm == "serious")


def _look(samples: Samples, pictures: Pictures, row: int) -> tuple[Header, bool, float, int]:
    # Channel by channel: along a side of 3 numpy is slow.
    red, green, blue = pictures[row][::2, ::2].transpose(2, 0, 1).astype(np.int16, order="C")
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    spread = float(((red + green + blue) / 3).std())
    return read_header(samples.read(row)), bool((most - least).max() <= 2), spread, int(most.max())


def _unreadable(samples: Samples, pictures: Pictures) -> Iterator[Finding]:
    bad = tuple((samples.names[i], reason) for i, reason in sorted(pictures.reasons.items()))
    if bad:
        yield Finding("unreadable", "warning", f"{counted(len(bad), 'file')} without a picture; training does without", bad)
    skipped = tuple(samples.store.skipped)
    if skipped:
        yield Finding(
            "left-out", "warning", f"{counted(len(skipped), 'file')} not looked at (links, pipes, or nothing to read)", skipped
        )


def _duplicates(readable: Samples, twins: Duplicates) -> Iterator[Finding]:
    mixed, across, same, near = [], [], [], []
    for group in twins.groups():
        names = tuple(readable.names[i] for i in group)
        splits = set(readable.splits[group]) - {""}
        if len(set(readable.labels[group])) > 1:
            mixed.append(names)
        elif len(splits) > 1:
            across.append(names)
        elif twins.near_only(group):
            near.append(names)
        else:
            same.append(names)
    kinds: list[tuple[str, Harm, list[tuple[str, ...]], str]] = [
        ("two-labels", "serious", mixed, "under two labels: one of them is wrong"),
        ("across-splits", "serious", across, "in two parts of the data: what was trained on is judged too"),
        ("duplicates", "note", same, "there more than once; a split keeps them on one side"),
        ("near-duplicates", "note", near, "there more than once, nearly the same; a split keeps them on one side"),
    ]
    for kind, harm, groups, words in kinds:
        if groups:
            stand = "1 picture stands" if len(groups) == 1 else f"{len(groups):,} pictures stand"
            yield Finding(kind, harm, f"{stand} {words}", groups=tuple(groups))
    alike = tuple((readable.names[i], "") for i in np.flatnonzero(twins.alike))
    if alike:
        title = f"{len(alike):,} pictures of one scene, as of a fixed camera: of these only equal pixels count as the same"
        yield Finding("one-scene", "note", title, alike)


def _classes(samples: Samples, readable: Samples) -> Iterator[Finding]:
    counts = {name: count for name, count in readable.counts().items() if samples.counts()[name]}
    few = tuple((name, counted(count, "picture")) for name, count in counts.items() if count < _FEW)
    if few:
        classes = "1 class" if len(few) == 1 else f"{len(few):,} classes"
        yield Finding("few", "warning", f"{classes} of fewer than {_FEW} pictures: their figures will be vague", few)
    largest, smallest = max(counts.values(), default=0), min(counts.values(), default=0)
    if smallest and largest / smallest >= _UNEVEN:
        ratio = largest / smallest
        title = (
            f"the largest class has {ratio:.0f} times the pictures of the smallest; training shows the small ones more often"
        )
        yield Finding("uneven", "note", title, tuple((name, f"{count:,}") for name, count in counts.items()))


def _names(samples: Samples) -> Iterator[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in samples.names:
        alike[same_name(name)].append(name)
    collisions = tuple(tuple(names) for names in alike.values() if len(names) > 1)
    if collisions:
        title = f"{len(collisions):,} names that differ only in case or Unicode form: on Windows and macOS they are one file"
        yield Finding("name-collisions", "warning", title, groups=collisions)
    odd = tuple((name, reason) for name in samples.names if (reason := _not_on_windows(name)))
    if odd:
        yield Finding("odd-names", "note", f"{counted(len(odd), 'file')} whose names Windows does not take", odd)


def _not_on_windows(name: str) -> str:
    """Why a name cannot be one there, or ""."""
    for part in PurePosixPath(name).parts:
        if _FORBIDDEN & set(part):
            return f"'{part}' has a character that is not allowed"
        if part.split(".")[0].casefold() in _DEVICES:
            return f"'{part}' is the name of a device"
        if part.endswith((".", " ")):
            return f"'{part}' ends in a dot or a space"
    return ""


def _content(seen: Seen) -> Iterator[Finding]:
    belied = []
    for name, header in zip(seen.names, seen.headers, strict=True):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in _KNOWN_SUFFIXES and suffix not in _SUFFIXES[header.kind]:
            belied.append((name, f"is a {header.kind} file"))
    if belied:
        title = f"{counted(len(belied), 'file')} whose content is not what the name says; the content counts"
        yield Finding("belied-names", "note", title, tuple(belied))
    bare = [
        (name, f"is a {header.kind} file")
        for name, header in zip(seen.names, seen.headers, strict=True)
        if not PurePosixPath(name).suffix
    ]
    if bare:
        yield Finding(
            "no-suffix", "note", f"{counted(len(bare), 'file')} whose names do not say that they are pictures", tuple(bare)
        )
    turned = tuple(
        (name, f"EXIF orientation {header.orientation}")
        for name, header in zip(seen.names, seen.headers, strict=True)
        if header.orientation != 1
    )
    if turned:
        title = f"{counted(len(turned), 'file')} stored turned or mirrored; they are put upright (EXIF)"
        yield Finding("turned", "note", title, turned)
    if seen.grey.any() and not seen.grey.all():
        grey = tuple((seen.names[i], "") for i in np.flatnonzero(seen.grey))
        yield Finding("grey", "note", f"{counted(len(grey), 'file')} without colour among coloured ones{_lopsided(seen)}", grey)
    deep = np.array([header.deep for header in seen.headers], bool)
    if deep.any() and seen.brightest[deep].max() <= _DIM:
        title = f"{counted(int(deep.sum()), 'file')} of 16 bits that use 14 or fewer: nearly black; scale them to 65,535"
        yield Finding("few-bits", "warning", title, tuple((seen.names[i], "") for i in np.flatnonzero(deep)))
    blank = tuple((seen.names[i], f"grey levels vary by {seen.spread[i]:.1f}") for i in np.flatnonzero(seen.spread < _BLANK))
    if blank:
        yield Finding("blank", "warning", f"{counted(len(blank), 'file')} with nothing to see: one colour all over", blank)


def _lopsided(seen: Seen) -> str:
    """Grey pictures that are nearly all of one class teach the colour in place of the class."""
    if seen.grey.sum() < _MANY_GREY:
        return ""
    of_grey = Counter(seen.samples.labels[seen.grey].tolist())
    label, most = of_grey.most_common(1)[0]
    share = (seen.samples.labels == label).mean()
    if len(of_grey) > 1 and most / seen.grey.sum() < 1 - (1 - share) / 4:
        return ""
    return f", {most:,} of them '{seen.samples.classes[label]}': the network may learn the colour for the class"


def _shapes(seen: Seen) -> Iterator[Finding]:
    sides = np.array([(header.height, header.width) for header in seen.headers]).reshape(-1, 2)
    if not len(sides):
        return
    median = np.median(sides.min(1))
    small = np.flatnonzero((sides.min(1) < _SMALL_SIDE) & (sides.min(1) < median / 3))
    if len(small):
        files = tuple((seen.names[i], f"{sides[i][1]:,} x {sides[i][0]:,}") for i in small)
        yield Finding("small", "warning", f"{counted(len(files), 'file')} far smaller than the others", files)
    long = np.flatnonzero(sides.max(1) / sides.min(1) > _LONG)
    if len(long):
        files = tuple((seen.names[i], f"{sides[i][1]:,} x {sides[i][0]:,}") for i in long)
        title = f"{counted(len(files), 'file')} more than {_LONG:.0f} times as long as wide: a square shows only their middle"
        yield Finding("long", "note", title, files)


def _range(sides: tuple[int, int, int]) -> str:
    low, middle, high = sides
    return f"{low:,}" if low == high else f"{low:,} to {high:,} (median {middle:,})"
