"""Rows 5 to 7: archives that point outside or swell, pictures that swell, and mutated pictures."""

import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from common import ROOT, SHARED, Outcome, encoded, in_child, kept, noise, row
from tapetum.data.decode import BadPicture, decode
from tapetum.data.stores import open_store
from tapetum.errors import UserError

_SECRET = b"SECRET: this lies outside the archive"
_MB = 1024**2


def _zip(path: Path, *members: tuple[str, bytes], mode: int = 0, packing: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", packing) as file, warnings.catch_warnings(action="ignore"):  # the same name twice
        for name, content in (("Cat/1.jpg", b"x"), *members):
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = packing, mode << 16 if name != "Cat/1.jpg" else 0
            file.writestr(info, content)


def _tar(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, to: str = "", mode: Any = "w") -> None:
    with tarfile.open(path, mode) as file:
        for name, content in (("Cat/1.jpg", b"x"), *members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name != "Cat/1.jpg":
                info.type, info.linkname = kind, to
            file.addfile(info, io.BytesIO(content))


def _write_archives(folder: Path, secret: Path) -> list[Path]:
    """20 hostile archives."""
    evil = (b"evil",)
    outside = f"../{secret.name}"
    zips: dict[str, list[tuple[str, bytes]]] = {
        "dots": [("../evil.jpg", *evil)],
        "dots-deep": [("Cat/../../../evil.jpg", *evil)],
        "absolute": [(f"{folder.parent}/evil.jpg", *evil)],
        "windows": [("C:\\evil.jpg", *evil), ("\\\\server\\evil.jpg", *evil)],
        "windows-dots": [("..\\..\\evil.jpg", *evil)],
        "sibling": [(f"../{folder.name}-evil/a.jpg", *evil)],
        "twice": [("Cat/2.jpg", *evil), ("Cat//2.jpg", *evil), ("./Cat/2.jpg", *evil)],
        "names": [("\u202egpj.exe", *evil), ("con.jpg", *evil), ("a\nb.jpg", *evil), ("x" * 5000, *evil)],
        "bomb": [("Cat/2.png", bytes(200 * _MB))],
        "bomb-over": [("Cat/2.png", bytes(300 * _MB))],
    }
    for name, members in zips.items():
        _zip(folder / f"{name}.zip", *members)
    _zip(folder / "symlink.zip", ("Cat/link.jpg", str(secret).encode()), mode=0o120777)
    _zip(folder / "many.zip", *((f"Cat/{n}.png", b"") for n in range(100_000)), packing=zipfile.ZIP_STORED)
    _tar(folder / "dots.tar", (outside, *evil))
    _tar(folder / "absolute.tar", (str(secret), *evil))
    _tar(folder / "symlink.tar", ("Cat/link.jpg", b""), kind=tarfile.SYMTYPE, to=str(secret))
    _tar(folder / "hardlink.tar", ("Cat/link.jpg", b""), kind=tarfile.LNKTYPE, to=outside)
    _tar(folder / "through.tar", ("Cat/link", b""), ("Cat/link/evil.jpg", b""), kind=tarfile.SYMTYPE, to="../..")
    _tar(folder / "device.tar", ("Cat/zero.jpg", b""), kind=tarfile.CHRTYPE)
    _tar(folder / "pipe.tar", ("Cat/pipe.jpg", b""), kind=tarfile.FIFOTYPE)
    with tarfile.open(folder / "bomb.tar.gz", "w:gz", compresslevel=1) as file:
        for n in range(6):
            info = tarfile.TarInfo(f"Cat/{n}.png")
            info.size = 200 * _MB
            file.addfile(info, io.BytesIO(bytes(info.size)))
    return sorted(folder.iterdir())


def _read_all(path: Path) -> dict[str, Any]:
    """Read every member; the writes that were seen, whether a secret came out, the memory, and how many were read."""
    told: dict[str, Any] = {"writes": [], "secret": False, "read": 0}

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes or event in ("os.mkdir", "os.symlink", "os.link", "os.rename", "subprocess.Popen", "os.system"):
            told["writes"].append(str(arguments[0]))

    sys.addaudithook(hook)
    before = _megabytes()
    try:
        store, _ = open_store(path)
        for name in store.names():
            told["secret"] |= _SECRET in store.read(name)
            told["read"] += 1
    except (UserError, OSError) as error:
        told["reason"] = str(error)
    return told | {"megabytes": _megabytes() - before}


def _megabytes() -> float:
    """The most memory that this process has had."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


@row(5, "an archive writes nothing anywhere, reads nothing outside itself, and takes no more memory than its cap")
def archives(place: Path) -> Outcome:
    """24 archives: four of zip-slip and 20 generated; every write of the process is watched, and the folder around them."""
    inside = place / "inside"
    inside.mkdir()
    secret = place / "secret.jpg"
    secret.write_bytes(_SECRET)
    paths = _write_archives(inside, secret)
    known = sorted(path for path in (SHARED / "odd-images" / "zip-slip").glob("*") if path.suffix in (".zip", ".tar"))
    before = sorted(path.relative_to(place) for path in place.rglob("*"))
    os.chdir(inside)
    right, largest, wrong = 0, 0.0, []
    for path in [*paths, *known]:
        ended = in_child(_read_all, path, seconds=120)
        told = ended.value or {"writes": [f"ended with {ended.code} {ended.err[-200:]}"], "secret": False, "megabytes": 0.0}
        # A compressed tar may be held in memory, up to 1 GiB; a member may have 256 MB.
        cap = 1300 if path.name == "bomb.tar.gz" else 600
        fine = not told["writes"] and not told["secret"] and told["megabytes"] < cap
        right += fine
        largest = max(largest, told["megabytes"])
        if not fine:
            wrong.append(f"{path.name}: {told}")
    os.chdir("/")
    same = before == sorted(path.relative_to(place) for path in place.rglob("*"))
    ok, figure = kept(right, len(paths) + len(known), f"harmless, 0 bytes written, at most {largest:,.0f} MB of memory", *wrong)
    return ok and same, f"{figure}; {len(paths)} generated and {len(known)} known"


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, bits: int = 1) -> bytes:
    """A black PNG of any size, without holding its pixels; what lies beyond 200 MB of them is missing."""
    packer = zlib.compressobj(9)
    row_bytes = bytes(1 + (width * bits + 7) // 8)
    rows = min(height, max(1, 200 * _MB // len(row_bytes)))
    pixels = b"".join(packer.compress(row_bytes) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _bombs() -> dict[str, bytes]:
    """Small files that would be large pictures, one of every kind and some of each trick."""
    small = {kind: encoded(noise(1, 20, 30), kind) for kind in ("JPEG", "GIF", "BMP", "TIFF")}
    jpeg = bytearray(small["JPEG"])
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 65_500, 65_500)
    gif = bytearray(small["GIF"])
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    frame = bytearray(small["GIF"])
    place = frame.index(b",\0\0\0\0") + 5  # the frame's own size, larger than the screen
    frame[place : place + 4] = struct.pack("<HH", 65_535, 65_535)
    bmp = bytearray(small["BMP"])
    bmp[18:26] = struct.pack("<ii", 2_000_000, 2_000_000)
    tiff = small["TIFF"]  # width and height are the tags 256 and 257, a short or a long
    for tag in (b"\0\1", b"\1\1"):
        tiff = re.sub(
            tag + rb"[\x03\x04]\x00\x01\x00\x00\x00....",
            tag + struct.pack("<HII", 4, 1, 100_000),
            tiff,
            count=1,
            flags=re.DOTALL,
        )
    canvas = struct.pack("<I", 2**24 - 2)[:3] * 2
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    return {
        "30,000 x 30,000 PNG": _png(30_000, 30_000),
        "65,536 x 65,536 PNG": _png(65_536, 65_536),
        "2^31 PNG": _png(2**31 - 1, 2**31 - 1)[:200],
        "just over the limit, PNG": _png(7_072, 7_072),
        "a side of 65,536, PNG": _png(65_536, 1),
        "JPEG": bytes(jpeg),
        "GIF": bytes(gif),
        "GIF, frame": bytes(frame),
        "BMP": bytes(bmp),
        "TIFF": tiff,
        "WebP": b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp,
        "PPM": b"P6 99999 99999 255\n" + bytes(99),
    }


def _refuse(data: bytes) -> tuple[str, float, float]:
    before, begun = _megabytes(), time.process_time()
    try:
        decode(data)
        reason = ""
    except BadPicture as error:
        reason = str(error)
    return reason, time.process_time() - begun, _megabytes() - before


@row(6, "a picture too large is refused by its header: within 100 ms and 50 MB")
def bombs(place: Path) -> Outcome:
    """A bomb of every format; and one just under the limit is read."""
    right, slowest, largest, wrong = 0, 0.0, 0.0, []
    files = _bombs()
    for name, data in files.items():
        reason, seconds, megabytes = in_child(_refuse, data).value
        slowest, largest = max(slowest, seconds), max(largest, megabytes)
        fine = bool(reason) and seconds < 0.1 and megabytes < 50
        right += fine
        if not fine:
            wrong.append(f"{name}: {reason or 'not refused'}, {seconds * 1000:.0f} ms, {megabytes:.0f} MB")
    under = in_child(_refuse, encoded(Image.new("1", (7_071, 7_071)))).value[0] == ""
    ok, figure = kept(right, len(files), f"refused; slowest {slowest * 1000:.0f} ms, most memory {largest:.0f} MB", *wrong)
    return ok and under, f"{figure}; one just under the limit is {'read' if under else 'refused'}"


@row(7, "no picture file ends the program (its server part belongs to the server)")
def decoder(place: Path) -> Outcome:
    """3,000 mutated files; `make fuzz` judges 100,000."""
    command = [sys.executable, str(ROOT / "torture" / "fuzz.py"), "--files", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    figures = [line for line in done.stdout.splitlines() if line.startswith(("files", "slowest", "peak", "FAULT"))]
    return done.returncode == 0, "; ".join(figures) or done.stderr[-300:]
