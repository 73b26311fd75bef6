"""Mutated picture files: each gives an HxWx3 uint8 array or a named reason, without a crash, a hang or a memory blow-up.

    python torture/fuzz.py                    # 100,000 files
    python torture/fuzz.py --files 500
    python torture/fuzz.py --again 4711       # one file once more, in this process; --write FILE keeps it

Originals are PngSuite (where it is at ../shared/data) and generated JPEG, PNG, WebP, GIF, BMP, TIFF and PPM files of many
modes. File number n is a function of n and the originals alone. They are decoded in child processes, so that whatever ends a
child is seen, and named by the number of its file.
"""

import argparse
import io
import multiprocessing
import os
import random
import re
import resource
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from tapetum.data.decode import BadPicture, decode

PNGSUITE = Path(__file__).resolve().parents[2] / "shared" / "data" / "odd-images" / "pngsuite"
MOST_SECONDS, MOST_MB = 2.0, 300
# How children begin: a forked one would have its parent's memory from the first.
_START = "spawn"
# Seconds of wall clock until a child that says nothing is taken to hang. It tells its own processor time otherwise: a busy
# machine is no fault of the file.
_PATIENCE = 30.0
# Files a child decodes before a fresh one takes over: what leaks or grows shows, and does not hide the next file's share.
_LIFE = 2_000
# Numbers at which readers' arithmetic turns over.
_TURNING = [0, 1, 2, 3, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


@dataclass
class Tally:
    """What became of the files."""

    files: int = 0
    decoded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds, and the number of the file."""
    megabytes: tuple[float, int] = (0.0, 0)
    """The largest memory of a child, and the file after which it was that large."""

    def text(self) -> str:
        """The figures, a line each."""
        share = f"decoded {self.decoded:,}, refused {self.refused.total():,}"
        lines = [f"files {self.files:,}: {share}, faults {len(self.faults):,}"]
        lines += [f"  {count:>7,} {reason}" for reason, count in self.refused.most_common()]
        lines += [f"slowest {self.slowest[0]:.2f} s (file {self.slowest[1]}; allowed {MOST_SECONDS:g} s)"]
        lines += [f"peak memory {self.megabytes[0]:.0f} MB (file {self.megabytes[1]}; allowed {MOST_MB} MB)"]
        return "\n".join([*lines, *(f"FAULT {fault}" for fault in self.faults)])


def originals() -> list[tuple[str, bytes]]:
    """Name and bytes of the whole files."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    photo = Image.fromarray(noise).resize((29, 23))
    modes = {mode: photo.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "YCbCr", "LAB")}
    modes["I;16"] = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    written: list[tuple[str, str, dict]] = [
        *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK", "YCbCr")),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"exif": turned, "subsampling": 0}),
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("PNG", "RGB", {"exif": turned}),
        ("PNG", "RGB", frames),
        ("WEBP", "RGB", {}),
        *(("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA")),
        ("WEBP", "RGB", frames | {"exif": turned}),
        *(("GIF", mode, {}) for mode in ("1", "L", "P", "RGBA")),
        ("GIF", "RGB", frames),
        *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "LAB")),
        *(("TIFF", "RGB", {"compression": how}) for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "RGB", frames | {"big_tiff": True}),
        *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I;16")),
    ]
    found = []
    for format, mode, options in written:
        buffer = io.BytesIO()
        modes[mode].save(buffer, format, **options)
        found.append((f"{format} {mode} {' '.join(options)}".strip(), buffer.getvalue()))
    words = {"P1": "3 2", "P2": "3 2 9", "P3": "3 2 9"}
    found += [(f"PPM {kind} in words", f"{kind} # x\n{size}\n{'1 0 1 0 1 0 ' * 3}".encode()) for kind, size in words.items()]
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54 + 8, 40, 16, 4, 1, 8, 1, 0, 0, 0, 2, 0)
    runs = b"\x10\1\0\0" * 2 + b"\0\4\1\0\1\0" + b"\x0c\1\0\0" + b"\x10\0\0\1"  # sixteen alike; four as they are, then twelve
    found.append(("BMP RLE8", header + bytes(4) + b"\xff" * 4 + runs))
    large = photo.resize((321, 200))
    for format in ("JPEG", "PNG", "WEBP"):
        buffer = io.BytesIO()
        large.save(buffer, format)
        found.append((f"{format} larger", buffer.getvalue()))
    return found + [(path.name, path.read_bytes()) for path in sorted(PNGSUITE.glob("*.png"))]


def mutated(number: int, whole: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """File `number`: the name of its original, and its bytes."""
    chance = random.Random(number)
    name, content = whole[_original(number, whole)]
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_MUTATIONS)(data, chance, whole)
    if data[:4] == b"\x89PNG" and chance.random() < 0.7:
        mend_checksums(data)  # or the first checksum would end nearly all of these stories
    return name, bytes(data)


def _original(number: int, whole: list[tuple[str, bytes]]) -> int:
    """Which original file `number` comes from: of two, one is generated, or PngSuite would be three quarters of them."""
    generated = sum(not name.endswith(".png") for name, _ in whole)
    return (
        number // 2 % generated if number % 2 or generated == len(whole) else generated + number // 2 % (len(whole) - generated)
    )


def mend_checksums(png: bytearray) -> None:
    """Give every chunk of a PNG the checksum that fits it."""
    place = 8
    while place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4])
        if end + 4 > len(png):
            return
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[place + 4 : end]))
        place = end + 4


def _place(data: bytearray, chance: random.Random) -> int:
    """A place in the file, every other time in its beginning: headers are where readers stumble."""
    return chance.randrange(min(len(data), chance.choice((64, 10**9))) or 1)


def _flip(data: bytearray, chance: random.Random, whole: list) -> None:
    place = _place(data, chance)
    data[place : place + 1] = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[place : place + 1])


def _set(data: bytearray, chance: random.Random, whole: list) -> None:
    place = _place(data, chance)
    data[place : place + 1] = bytes([chance.randrange(256)])


def _turn_over(data: bytearray, chance: random.Random, whole: list) -> None:
    size = chance.choice((1, 2, 4))
    value = chance.choice(_TURNING) % 256**size
    place = _place(data, chance)
    data[place : place + size] = value.to_bytes(size, chance.choice(("little", "big")))


def _cut(data: bytearray, chance: random.Random, whole: list) -> None:
    place = _place(data, chance)
    del data[place : place + chance.choice((1, 4, 16, 10**9))]


def _repeat(data: bytearray, chance: random.Random, whole: list) -> None:
    place = _place(data, chance)
    data[place:place] = data[place : place + chance.randrange(1, 64)] * chance.choice((1, 2, 50))


def _insert(data: bytearray, chance: random.Random, whole: list) -> None:
    place = _place(data, chance)
    data[place:place] = chance.randbytes(chance.randrange(1, 20))


def _splice(data: bytearray, chance: random.Random, whole: list) -> None:
    other = chance.choice(whole)[1]
    data[_place(data, chance) :] = other[chance.randrange(len(other)) :]


# The small ones stand more than once: what is still nearly whole goes deeper into a reader.
_MUTATIONS: list[Callable[[bytearray, random.Random, list], None]] = [
    *(_flip, _set, _turn_over) * 3,
    *(_cut, _repeat, _insert, _splice),
]


def judge(data: bytes) -> tuple[str, str]:
    """("decoded", ""), ("refused", a reason without its figures), or ("fault", what is wrong)."""
    try:
        picture = decode(data)
    except BadPicture as reason:
        words = re.sub(r" \(.*|,? expected.*", "", re.sub(r"-?\d[\d,.]*(e[+-]\d+)?|-?inf|nan", "N", str(reason)))
        return ("refused", words) if words else ("fault", "refused without a reason")
    except BaseException as error:  # whatever it is, it should not have left
        return "fault", f"{type(error).__name__}: {error}"
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return "decoded", ""
    return "fault", f"no uint8 picture: {getattr(picture, 'dtype', type(picture))} {getattr(picture, 'shape', '')}"


def _child(first: int, last: int, whole: list[tuple[str, bytes]], pipe: Connection) -> None:
    """Judge the files first to last - 1, and say of each what it came to, the seconds, and the memory of this process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes what it thinks there
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata and goes on
    for number in range(first, last):
        _, data = mutated(number, whole)
        begun = time.process_time()
        verdict = judge(data)
        seconds = time.process_time() - begun
        pipe.send((number, verdict, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def fuzz(files: int, say: Callable[[str], None] = print) -> Tally:
    """Judge the files 0 to `files` - 1."""
    whole, tally = originals(), Tally()
    say(f"{len(whole)} originals, {files:,} mutated files")
    started = multiprocessing.get_context(_START)
    while tally.files < files:
        ours, theirs = started.Pipe(duplex=False)
        last = min(files, tally.files + _LIFE)
        child = started.Process(target=_child, args=(tally.files, last, whole, theirs), daemon=True)
        child.start()
        theirs.close()
        _listen(ours, child, last, whole, tally)
        if tally.files % 10_000 == 0:
            say(f"{tally.files:,} files, {tally.decoded:,} decoded, {len(tally.faults)} faults")
    return tally


def _listen(pipe: Connection, child: multiprocessing.process.BaseProcess, last: int, whole: list, tally: Tally) -> None:
    """Take the child's verdicts until it is through, dies, hangs or has grown too large; the last three are faults."""
    while tally.files < last:
        number = tally.files
        what = f"file {number} ({whole[_original(number, whole)][0]}): "
        try:
            answer = pipe.recv() if pipe.poll(_PATIENCE) else None
        except EOFError:
            child.join()
            answer = (number, ("fault", f"crash, exit code {child.exitcode}"), 0.0, 0.0)
        if answer is None:
            answer = (number, ("fault", f"hang, over {_PATIENCE:g} s"), _PATIENCE, 0.0)
        tally.files += 1
        _, (word, why), seconds, megabytes = answer
        if word == "decoded":
            tally.decoded += 1
        elif word == "refused":
            tally.refused[why] += 1
        else:
            tally.faults.append(what + why)
        if seconds > MOST_SECONDS and word != "fault":
            tally.faults.append(f"{what}{seconds:.1f} s")
        if megabytes > MOST_MB:
            tally.faults.append(f"{what}{megabytes:.0f} MB")
        tally.slowest = max(tally.slowest, (seconds, number), key=_figure)
        tally.megabytes = max(tally.megabytes, (megabytes, number), key=_figure)
        if word == "fault" or megabytes > MOST_MB:
            break
    child.kill()
    child.join()


def _figure(measured: tuple[float, int]) -> float:
    return measured[0]  # the first file of several counts


def main() -> None:
    """Run the command line; exit code 1 if a file was at fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--again", type=int, help="number of a file to decode in this process")
    parser.add_argument("--write", type=Path, help="with --again: keep that file here")
    asked = parser.parse_args()
    if asked.again is not None:
        name, data = mutated(asked.again, originals())
        if asked.write:
            asked.write.write_bytes(data)
        print(f"{name}, {len(data):,} bytes:", *judge(data))
        return
    begun = time.monotonic()
    tally = fuzz(asked.files, lambda line: print(line, flush=True))
    print(tally.text())
    print(f"in {time.monotonic() - begun:.0f} s")
    sys.exit(bool(tally.faults))


if __name__ == "__main__":
    main()
