"""Rows 30 to 46: pictures, names, folders and tables as they come."""

import html.parser
import io
import json
import os
import re
import socket
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import fuzz
import tapetum as package
from common import (
    QUICK,
    SHARED,
    Outcome,
    classifier,
    encoded,
    in_child,
    kept,
    noise,
    program,
    row,
    stripes,
    tapetum,
    tests,
    together,
    tree,
)
from tapetum.data import cache
from tapetum.data.decode import decode
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError
from tapetum.inference.predict import predict_samples
from tapetum.training import loop

_NOBODY = 65534


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _classes(count: int = 3, *labels: str) -> dict[str, bytes]:
    """Some pictures a class, all different."""
    names = [f"{label}/{n}.png" for label in labels or ("Cat", "Dog") for n in range(count)]
    return {name: encoded(noise(sum(map(ord, name)) + 7919 * n, 40, 40)) for n, name in enumerate(names)}


def _said(work: Callable[[], Any]) -> str:
    """What a refusal says; "" if there is none."""
    try:
        work()
    except UserError as error:
        return str(error)
    return ""


@row(30, "every file is a picture or listed with a reason, and none of the user's files is touched")
def undecodable(place: Path) -> Outcome:
    """4,122 files: all originals of the fuzz, the EXIF examples and mutated ones; found by `check`, judged by Pillow."""
    originals = fuzz.originals()
    files = [(f"whole{n}", data) for n, (_, data) in enumerate(originals)]
    files += [(path.name, path.read_bytes()) for path in sorted((SHARED / "odd-images" / "exif-orientation").glob("*.jpg"))]
    files += [(f"mutated{n}", fuzz.mutated(n, originals)[1]) for n in range(4122 - len(files))]
    data = _write(place / "data", {f"{'ab'[n % 2]}/{n}-{name}": content for n, (name, content) in enumerate(files)})
    before = tree(data)
    ended = tapetum("check", data, "--json", seconds=600)
    if ended.code:
        return False, f"exit code {ended.code}: {ended.err[-300:]}"
    told = json.loads(ended.out)
    bad = next((each["files"] for each in told["findings"] if each["kind"] == "unreadable"), [])
    named = {each["file"] for each in bad if each["detail"]}
    # Valid ones by their makers' word: the generated, and those of PngSuite that do not begin with x.
    valid = sum(f"/{n}-whole{n}" not in " ".join(named) for n, (name, _) in enumerate(originals) if name[0] != "x")
    all_valid = sum(name[0] != "x" for name, _ in originals)
    classified = kept(
        told["readable"] + len(named), len(files), f"classified ({told['readable']:,} ok, {len(named):,} refused)"
    )
    same = tree(data) == before
    return together(
        classified, kept(valid, all_valid, "valid ones read"), (same, f"tree {'' if same else 'not '}byte-identical")
    )


@row(33, "what a file is, its content tells: wrong suffixes and none are no matter, and are said")
def suffixes(place: Path) -> Outcome:
    """40 mislabelled files and 59 without a suffix."""
    kinds = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}
    wrong = [(kind, other) for kind in kinds for own, other in kinds.items() if own != kind][:40]
    files = {f"{'ab'[n % 2]}/{n}.{other}": encoded(noise(n), kind) for n, (kind, other) in enumerate(wrong)}
    files |= {f"{'ab'[n % 2]}/bare{n}": encoded(noise(100 + n), [*kinds][n % 7]) for n in range(59)}
    data = _write(place / "data", files)
    right = sum(
        np.array_equal(decode(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
        for content in files.values()
    )
    told = json.loads(tapetum("check", data, "--json").out)
    belied = {each["file"] for finding in told["findings"] if finding["kind"] == "belied-names" for each in finding["files"]}
    said = sum(name in belied for name in files if "bare" not in name)
    bare = next((len(finding["files"]) for finding in told["findings"] if finding["kind"] == "no-suffix"), 0)
    return together(
        kept(right, 99, "decoded as Pillow does"),
        kept(said, 40, "belied names reported"),
        kept(bare, 59, "without a suffix reported"),
    )


@row(34, "16 bits, floats, CMYK, alpha, palettes and 1 bit become 8-bit RGB by a rule, scaled and not clipped")
def modes(place: Path) -> Outcome:
    """Each mode against arithmetic of one's own: the mean difference."""
    levels = np.arange(0, 65536, 257, np.uint16).reshape(16, 16)
    grey = (levels / 257).astype(np.uint8)
    colour = np.asarray(noise(3))
    alpha = np.linspace(0, 255, colour.shape[0] * colour.shape[1]).astype(np.uint8).reshape(colour.shape[:2])
    share = alpha[:, :, None] / 255
    cmyk = np.dstack([colour, alpha // 4])
    cases: dict[str, tuple[bytes, np.ndarray]] = {
        "I;16 PNG": (encoded(Image.fromarray(levels)), grey),
        "I;16 TIFF": (encoded(Image.fromarray(levels), "TIFF"), grey),
        "I TIFF": (encoded(Image.fromarray(levels.astype(np.int32)), "TIFF"), grey),
        "F TIFF 0-1": (encoded(Image.fromarray(levels.astype(np.float32) / 65535), "TIFF"), grey),
        "F TIFF 0-255": (encoded(Image.fromarray(levels.astype(np.float32) / 257), "TIFF"), grey),
        "L": (encoded(Image.fromarray(grey)), grey),
        "1": (encoded(Image.fromarray(grey > 127)), (grey > 127) * 255),
        "RGB": (encoded(Image.fromarray(colour)), colour),
        "RGBA": (encoded(Image.fromarray(np.dstack([colour, alpha]))), colour * share + 255 * (1 - share)),
        "LA": (encoded(Image.fromarray(np.dstack([colour[..., 0], alpha]))), colour[..., :1] * share + 255 * (1 - share)),
        "P": (encoded(Image.fromarray(grey).convert("P")), grey),
        "CMYK TIFF": (
            encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"),
            (255 - cmyk[..., :3].astype(float)) * (255 - cmyk[..., 3:]) / 255,
        ),
        "clear red": (encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), np.full((4, 4, 3), 255)),
    }
    far = {}
    for name, (data, wanted) in cases.items():
        wanted = wanted if wanted.ndim == 3 else wanted[:, :, None]
        far[name] = float(np.abs(decode(data).astype(float) - wanted).mean())
    wrong = [f"{name}: {value:.2f}" for name, value in far.items() if value > 1]
    ok = kept(
        sum(value <= 1 for value in far.values()), len(far), f"modes within 1/255 (most: {max(far.values()):.2f})", *wrong
    )
    suite = "tests/data/test_decode.py::test_pngsuite_valid_files_decode_and_broken_ones_do_not"
    return together(ok, tests(suite) if (SHARED / "odd-images").exists() else (False, "PngSuite is not here"))


@row(35, "EXIF orientation is applied once: turned copies of a picture look alike and get the same prediction")
def orientation(place: Path) -> Outcome:
    """The two sets of eight; and all eight in JPEG, PNG, WebP and TIFF, each made from an upright picture."""
    answers = classifier()
    # The files of a set were encoded each by itself: one that is turned the wrong way would differ by 40 and more.
    most, same, pillows = 0.0, 0, 0
    for kind in ("Landscape", "Portrait"):
        paths = sorted((SHARED / "odd-images" / "exif-orientation").glob(f"{kind}_*.jpg"))
        found = [decode(path.read_bytes()) for path in paths]
        pillows += sum(
            np.array_equal(ImageOps.exif_transpose(Image.open(path)), mine) for path, mine in zip(paths, found, strict=True)
        )
        most = max([most, *(float(np.abs(each.astype(float) - found[0]).mean()) for each in found)])
        same += len(paths) == 9 and len(set(answers.predict(found))) == 1
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of Pillow's transpositions that undo each orientation's
    exact = 0
    upright = noise(5)
    for format, options in (("JPEG", {"quality": 98}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        for number, back in turns.items():
            exif = Image.Exif()
            exif[0x0112] = number
            stored = upright.transpose(Image.Transpose(back))
            difference = np.abs(
                decode(encoded(stored, format, exif=exif, **options)).astype(float) - np.asarray(upright)
            ).mean()
            exact += difference < 3
    return together(
        kept(pillows, 18, "to the bit as Pillow turns them"),
        (most < 5, f"mean difference to the unturned at most {most:.2f} of 255 (the files' own JPEG noise)"),
        kept(same, 2, "sets with one prediction"),
        kept(exact, 28, "turned copies upright again"),
    )


@row(36, "of an animation the first frame counts")
def animations(place: Path) -> Outcome:
    """183 files of 2 to 5 frames: GIF, WebP, APNG and TIFF."""
    formats = {"GIF": {}, "WEBP": {"lossless": True}, "PNG": {}, "TIFF": {}}
    right = 0
    for n in range(183):
        format, options = list(formats.items())[n % 4]
        frames = [noise(1000 + 7 * n + k, 12, 16).convert("P").convert("RGB") for k in range(2 + n % 4)]
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        many = getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == len(frames)
        right += many and np.abs(decode(data).astype(int) - np.asarray(frames[0])).max() <= 1
    return kept(right, 183, "equal to frame 0")


@row(37, "tiny, thin and long pictures are read, fitted and answered, within a second")
def sizes(place: Path) -> Outcome:
    """85 sizes, from 1 x 1 to a side of 65,500."""
    sides = (1, 2, 3, 5, 9, 17, 100, 1000)
    shapes = (
        [(a, b) for a in sides for b in sides] + [(1, n) for n in (65_500, 30_000, 5_000)] + [(n, 1) for n in (65_500, 30_000)]
    )
    shapes += [(n, 1000 * n) for n in range(1, 9)] + [(1000 * n, n) for n in range(1, 9)]
    answers = classifier()
    slowest, right, wrong = 0.0, 0, []
    for height, width in shapes:
        data = encoded(Image.new("L", (width, height), 99), compress_level=1)
        begun = time.process_time()
        try:
            fine = answers.predict_proba([data]).shape == (1, 2)
        except Exception as error:
            fine = False
            wrong.append(f"{width}x{height}: {error!r}")
        seconds = time.process_time() - begun
        right += fine and seconds < 1
        slowest = max(slowest, seconds)
    return kept(right, len(shapes), f"answered, slowest {slowest:.2f} s", *wrong)


# Names that have broken programs: markup, shells, formulas, formats, Unicode of every kind.
_NAUGHTY = """<script>alert(1)</script>|"><img src=x onerror=alert(1)>|<b>bold|&lt;|&amp;|'|"|''
`id`|$(id)|${HOME}|;ls|&&ls|-rf|--help|-x|=1+1|+1|@SUM(A1)|=cmd|%s|%d%n|%00|{0}
{{7*7}}|{% x %}|\\|a\\b|C:\\x|con|nul|aux.txt|. .|a.|...|~|~root|*|?|[a]|!|#|^|null
None|True|NaN|undefined|0|-1|1e9|inf|;|:|a,b|a;b|a: b|--|'; DROP TABLE x|1' OR '1'='1
\u00e9|e\u0301x|\u00f1|ß|ſ|İ|ı|고양이|ㄱ|猫|犬|ねこ|кот|γάτα|قط|חתול|แมว|बिल्ली|🐱|👩‍👩‍👧
🇰🇷|\u202ereversed|\u200bzero|\ufeffbom|\u00a0nbsp|\u2028line|\u2029para|\x7fdel
\x1besc|\ttab|new\nline|cr\rhere|two  spaces| lead|trail |Ω|Å|ﬁ|①|𝕏|\U0010ffff|\ufffd
\ue000|\U000e0041tag|a\u0300\u0301\u0302\u0303|ＡＢ|test1|x y z|.5.|ö.jpg|100%"""


def _names(count: int) -> list[str]:
    """Naughty names that a file may have here, each different also where case and Unicode form do not count; 255 bytes too.

    The single ones first, then pairs of them.
    """
    single = [each for line in _NAUGHTY.split("\n") for each in line.split("|")]
    pairs = (f"{a}{b}" for a in single for b in single[::-1])
    names: dict[str, str] = {}
    for name in (*single, "new\nline", "n" * 251, "가" * 83, *pairs):
        if len(names) == count:
            break
        name = name.replace("/", "∕")
        if name and name[0] != "." and name.casefold() not in ("thumbs.db",):
            names.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
    return list(names.values())


class _Page(html.parser.HTMLParser):
    """What a browser would see of a page: its elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Note an element."""
        self.elements.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


@row(38, "files and classes of any name are trained, predicted and reported, and the names come back")
def names(place: Path) -> Outcome:
    """515 naughty names of files and of classes, and 20 names of bytes that are no UTF-8."""
    naughty = _names(515)
    odd = [os.fsdecode(bytes([0x80 + 6 * n, 0xFF, 0x41, 0xC0 + n])) for n in range(20)]
    pictures = iter(range(10_000))
    files = {f"{label}/{n}.png": encoded(noise(next(pictures), 20, 20)) for label in naughty for n in range(2)}
    by_class = _write(place / "classes", files)
    files = {f"{'ab'[n % 2]}/{name}.png": encoded(noise(next(pictures), 20, 20)) for n, name in enumerate([*naughty, *odd])}
    by_file = _write(place / "files", files)
    small = [*QUICK, "--model", "lenet5-1998-softmax", "--epochs", "1"]  # which takes any number of classes
    trained = (
        tapetum("train", by_class, "--out", place / "r1", *small, seconds=300),
        tapetum("train", by_file, "--out", place / "r2", *small),
    )
    if any(each.code for each in trained):
        return False, "; ".join(each.err[-400:] for each in trained if each.code)
    known = set(package.load(place / "r1").classes_)
    back = sum(name in known for name in naughty)
    found = predict_samples(package.load(place / "r2"), find_pictures(by_file))
    paths = set(found.frame()["path"])
    again = sum(name in paths for name in files)
    ended = (
        tapetum("predict", place / "r1", by_file, "--out", place / "p.csv"),
        tapetum("check", by_file, "--out", place / "c.html"),
    )
    rows = sum(each.code == 0 for each in ended)
    pages = [_Page(path.read_text(encoding="utf-8")) for path in (place / "r1" / "report.html", place / "c.html")]
    foreign = [
        tag
        for page in pages
        for tag, attributes in page.elements
        if tag == "script" or any(key.startswith("on") for key, _ in attributes)
    ]
    written = (place / "p.csv").read_text(encoding="utf-8")
    return together(
        kept(back, len(naughty), "class names round-trip"),
        kept(again, len(naughty) + len(odd), f"file names round-trip, {len(odd)} of bytes"),
        (rows == 2 and not foreign and len(written) > 1000, f"{len(foreign)} foreign elements in 2 pages"),
    )


@row(39, "links that loop or lead outside, pipes, sockets and devices are passed over; each file counts once")
def odd_files(place: Path) -> Outcome:
    """A tree with each of them, looked through in a child."""
    data = _write(place / "data", _classes())
    (data / "Cat" / "loop").symlink_to(data)
    (data / "Dog" / "up").symlink_to("..")
    (data / "Dog" / "outside").symlink_to("/etc")
    (data / "Dog" / "dead.png").symlink_to("nothing.png")
    os.mkfifo(data / "Cat" / "pipe.png")
    os.chdir(data / "Cat")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
    os.chdir("/")
    if not os.getuid():
        os.mknod(data / "Cat" / "zero.png", 0o020666, os.makedev(1, 5))
    ended = in_child(lambda: find_samples(data).names, seconds=20)
    named = ended.value or ()
    return (list(named) == sorted(_classes()) and ended.seconds < 2, f"{len(named)} of 6 files, {ended.seconds:.2f} s")


def _as_nobody(*arguments: object) -> None:
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    os.environ["TAPETUM_CACHE"] = "/nonexistent"
    program(*arguments)


@row(40, "a file or folder that may not be read is named")
def unreadable(place: Path) -> Outcome:
    """As another user: 10 files without the right to read, then a folder."""
    if os.getuid():
        return False, "needs root to become another user: not tried"
    data = _write(place / "data", _classes(15))
    locked = sorted(data.rglob("*.png"))[::3]
    for path in locked:
        path.chmod(0)
    ended = in_child(_as_nobody, "check", data, "--json")
    if ended.code:
        return False, f"exit code {ended.code}: {ended.err[-200:]}"
    findings = json.loads(ended.out)["findings"]
    told = {each["file"] for finding in findings if finding["kind"] == "unreadable" for each in finding["files"]}
    named = sum(path.relative_to(data).as_posix() in told for path in locked)
    (data / "Dog").chmod(0)
    ended = in_child(_as_nobody, "check", data, "--json")
    folder = str(data / "Dog") in ended.sentence and "Permission denied" in ended.sentence
    return together(
        kept(named, len(locked), "files named"), (folder, "the folder named" if folder else f"folder: {ended.err[-200:]}")
    )


# Trees, and a part of what must be said of each; "" where it can be trained on.
_TREES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "is empty"),
    "one class": (("Cat/1", "Cat/2"), "only one class, 'Cat'"),
    "no class": (("1", "2", "3"), "no classes recognised"),
    "an empty class": (("Cat/1", "Dog/", "Ape/1"), ""),
    "two, one empty": (("Cat/1", "Dog/"), "only one class, 'Cat'"),
    "loose files": (("Cat/1", "Dog/1", "readme"), ""),
    "only hidden": ((".git/a/1", "@eaDir/b/1"), "is empty"),
    "hidden beside": ((".git/1", "@eaDir/1", "__MACOSX/1", "Cat/1", "Dog/1"), ""),
    "parts without classes": (("train/1", "test/1"), "no class folders"),
    "a class only in val": (("train/Cat/1", "train/Dog/1", "val/Ape/1"), "that the training part lacks"),
    "deeper": (("pets/Cat/x/1", "pets/Dog/y/1"), ""),
    "a lone train": (("train/Cat/1", "train/Dog/1"), ""),
}


@row(41, "empty, single and missing classes, loose files and hidden folders are named or passed over")
def trees(place: Path) -> Outcome:
    """12 trees."""
    right, wrong = 0, []
    for turn, (what, (names, sentence)) in enumerate(_TREES.items()):
        folder = place / str(turn)
        folder.mkdir()
        for name in names:
            if name.endswith("/"):
                (folder / name).mkdir(parents=True)
            else:
                _write(folder, {f"{name}.png": b"x"})
        said = _said(lambda folder=folder: find_samples(folder))
        fine = sentence in said and bool(said) == bool(sentence)
        right += fine
        if not fine:
            wrong.append(f"{what}: {said!r}")
    code = tapetum("train", place / "1", "--out", place / "run").code
    return together(kept(right, 12, "trees: the right sentence or none", *wrong), (code == 2, f"exit code {code}"))


@row(42, "classes that another system takes for one are refused, with both names")
def collisions(place: Path) -> Outcome:
    """Case and Unicode form, in class folders, in parts and in a table."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    pairs = [
        (("Cat", "cat"), "{}/1.png"),
        ((composed, apart), "{}/1.png"),
        (("Cat", "CAT"), "train/{}/1.png"),
        ((composed, apart), "train/{}/1.png"),
    ]
    right = 0
    for turn, (names, form) in enumerate(pairs):
        folder = _write(place / str(turn), {form.format(name): b"x" for name in (*names, "Dog")})
        said = _said(lambda folder=folder: find_samples(folder))
        right += all(f"'{name}'" in said for name in names)
    return kept(right, 4, "refused with both names")


@row(43, "classes of parts and of other data are mapped by name; unknown ones are refused")
def classes_of_parts(place: Path) -> Outcome:
    """6 cases: fewer, more, other order and other case in a part; fewer and strange ones in data to evaluate."""
    right, wrong = [], []

    def case(what: str, fine: bool) -> None:
        right.append(fine)
        wrong.extend([] if fine else [what])

    def found(turn: int, *names: str) -> Path:
        return _write(place / str(turn), dict.fromkeys(names, b"x"))

    train = ("train/Ape/1.png", "train/Cat/1.png", "train/Dog/1.png")
    fewer = find_samples(found(0, *train, "val/Dog/2.png"))
    case("fewer", [fewer.classes[k] for k in fewer.of_split("val").labels] == ["Dog"])
    case("more", "'Emu'" in _said(lambda: find_samples(found(1, *train, "val/Emu/2.png"))))
    other = find_samples(found(2, *train, "test/Dog/2.png", "test/Ape/2.png"))
    case("order", sorted(other.classes[k] for k in other.of_split("test").labels) == ["Ape", "Dog"])
    case("case", "differ only in case" in _said(lambda: find_samples(found(3, *train, "val/dog/2.png"))))
    data = stripes(place / "data", 8)
    tapetum("train", data, "--out", place / "run", *QUICK, "--epochs", "1")
    told = tapetum("evaluate", place / "run", stripes(place / "strange", 4, ("lying", "oblique")), "--json")
    case("strange", "'oblique'" in told.sentence)
    turned = tapetum("evaluate", place / "run", stripes(place / "more", 4, ("upright", "lying"), seed=1), "--json")
    case("by name", turned.code == 0 and json.loads(turned.out)["metrics"]["accuracy"]["n"] == 8)
    return kept(sum(right), 6, "cases", *wrong)


@row(44, "pictures that stand in both parts are found: the same ones, and those encoded anew or resized")
def duplicates(place: Path) -> Outcome:
    """50 exact and 50 near ones planted in the validation part, beside 400 that are different."""
    files = {f"train/{'ab'[n % 2]}/{n}.png": encoded(noise(n, 90, 120)) for n in range(300)}
    files |= {f"val/{'ab'[n % 2]}/own{n}.png": encoded(noise(5000 + n, 90, 120)) for n in range(100)}
    for n in range(50):
        files[f"val/{'ab'[n % 2]}/same{n}.bmp"] = encoded(noise(n, 90, 120), "BMP")
        near = noise(50 + n, 90, 120)
        near = near.resize((96, 72)) if n % 2 else near
        files[f"val/{'ab'[n % 2]}/near{n}.jpg"] = encoded(near, "JPEG", quality=80)
    told = json.loads(tapetum("check", _write(place / "data", files), "--json", seconds=300).out)
    groups = [set(group) for each in told["findings"] if each["kind"] == "across-splits" for group in each["groups"]]
    pairs = {(place.name, frozenset(group)) for group in groups for place in [Path(min(group))]}
    joined = {name: group for _, group in pairs for name in group}
    same = sum(f"train/{'ab'[n % 2]}/{n}.png" in joined.get(f"val/{'ab'[n % 2]}/same{n}.bmp", ()) for n in range(50))
    near = sum(f"train/{'ab'[n % 2]}/{50 + n}.png" in joined.get(f"val/{'ab'[n % 2]}/near{n}.jpg", ()) for n in range(50))
    planted = set(range(100))
    false = sum("own" in name or ("/train" in f"/{name}" and int(Path(name).stem) not in planted) for name in joined)
    return together((same == 50, f"{same}/50 exact"), (near >= 47, f"{near}/50 near"), (false <= 3, f"{false} false of 300"))


# Tables, and the lines that must be named; none: it is fine.
_TABLES: list[tuple[str, list[int]]] = [
    ("path,label\n1.png,a\n2.png,b\n", []),
    ("\ufeffpath,label\r\n1.png,a\r\n2.png,b\r\n", []),
    ("path;label\n1.png;a\n2.png;b\n", []),
    ("label\tpath\na\t1.png\nb\t2.png\n", []),
    ("path,label,split\n1.png,a,train\n3.png,a,val\n2.png,b,train\n", []),
    ("path,label\n1.png,a\n1.png,a\n2.png,b\n", []),
    ("path,label\nsub\\4.png,a\n./2.png,b\n", []),
    ("path,label\nsub/../1.png,a\n2.png,b\n", []),
    ("path,label\n{here}/1.png,a\n2.png,b\n", []),
    ("path,label\n1.png,a\n9.png,b\n2.png,b\n8.png,a\n", [3, 5]),
    ("path,label\n1.png,a\n../9.png,b\n2.png,b\n/no/8.png,a\n", [3, 5]),
    ("path,label\n1.png,a\n1.png,b\n2.png,b\n", [3]),
    ("path,label\n1.png,a\n,b\n2.png,\n3.png,b\n", [3, 4]),
    ("path,label,split\n1.png,a,train\n2.png,b,trian\n3.png,b,vla\n4.png,b,\n", [3, 4, 5]),
    ("path,label,split\n1.png,a,train\n2.png,b,train\n3.png,c,val\n", [4]),
    ("path,label\n1.png,a\n2.png,b\n3.png,A\n", [4]),
    ("path,label\r\n1.png,a\r\n\r\n9.png,b\r\n2.png,b\r\n", [4]),
    ("path;label\n1.png;a\n9.png;b\n2.png\n3.png;b\n", [3, 4]),
    ('path,label\n"1.png",a\n"9\n.png",b\n2.png,b\n', [4]),
    ("path,label,split\n9.png,a,train\n2.png,b,x\n,b,\n1.png,a,\n1.png,b,\n3.png,b,\n", [2, 3, 4, 6]),
]


@row(45, "a table of any dialect is read; all that is wrong in it is told at once, by line")
def tables(place: Path) -> Outcome:
    """20 CSV files."""
    _write(place, dict.fromkeys(("1.png", "2.png", "3.png", "sub/4.png"), b"x"))
    right, wrong = 0, []
    for turn, (text, lines) in enumerate(_TABLES):
        path = place / f"{turn}.csv"
        path.write_bytes(text.format(here=place).encode())
        said = _said(lambda path=path: find_samples(path))
        named = [int(line) for line in re.findall(r"line (\d+): ", said)]
        right += named == lines and bool(said) == bool(lines)
        if named != lines or bool(said) != bool(lines):
            wrong.append(f"{turn}: {named}, {said[-200:]!r}")
    return kept(right, 20, "tables: the right lines", *wrong)


def _changed_meanwhile(data: Path, out: Path, change: str, keep: str) -> None:
    """A training in whose third step a picture's file goes, or becomes another."""
    real = loop._step

    def stepped(task: Any, state: Any, *rest: Any) -> None:
        if state.progress.step == 2:
            for path in data.rglob("*.png"):
                if change == "gone":
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(encoded(noise(1, 33, 44)))
        real(task, state, *rest)

    loop._step = stepped
    program("train", data, "--out", out, *QUICK, "--epochs", "3", "--cache", keep)


def _gone_before_reading(data: Path, out: Path) -> None:
    real = cache.read_pictures

    def late(*arguments: Any, **options: Any) -> Any:
        sorted(data.rglob("*.png"))[0].unlink()
        return real(*arguments, **options)

    cache.read_pictures = late
    program("train", data, "--out", out, *QUICK, "--epochs", "1")


@row(46, "pictures that go or change during a training: what was read counts, or a sentence names the file")
def changing(place: Path) -> Outcome:
    """Files removed and replaced in an epoch, with and without the cache; one removed between the listing and the reading."""
    right, wrong = 0, []
    for change in ("gone", "changed"):
        for keep in ("on", "off"):
            data = stripes(place / f"{change}-{keep}", 20)
            ended = in_child(_changed_meanwhile, data, place / f"run-{change}-{keep}", change, keep)
            fine = ended.code == 0 if keep == "on" else ".png" in ended.sentence
            right += fine
            if not fine:
                wrong.append(f"{change}, cache {keep}: code {ended.code}, {ended.err[-300:]!r}")
    data = stripes(place / "late", 20)
    ended = in_child(_gone_before_reading, data, place / "run-late")
    fine = ended.code == 0 and "could not be read" in ended.err
    return kept(right + fine, 5, "cases", *wrong, "" if fine else ended.err[-300:])
