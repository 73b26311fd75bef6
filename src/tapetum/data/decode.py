"""Bytes to pixels, safely: uint8 RGB, or a reason in plain words. Nothing else ever comes out.

The rules, one for each kind of picture:

- The content decides what a file is; its name is never asked. JPEG, PNG, WebP, GIF, BMP, TIFF and PPM are read.
- The size is judged from the header, before a pixel is decoded. The whole file is decoded, so a truncated one is refused.
- Of a JPEG far larger than what is wanted the decoder gives a half, quarter or eighth: a camera's photo in half the time.
- EXIF orientation is applied, once. ICC colour profiles are ignored. Of an animation the first frame counts.
- 16-bit grey is scaled to 8 bits (v / 257), not clipped. 32-bit integers are taken for 16 bits, beyond that refused.
- Of 16-bit colour the high byte counts. Floating point from 0 to 1 is scaled by 255, from 0 to 255 rounded, else refused.
- CMYK and the like become RGB as Pillow does it. What is transparent shows white.

Pillow's warnings about odd metadata are left alone: its decision is the same, and switching them off is not thread-safe.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tapetum.errors import reason_of

MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
_PARTS = (1, 2, 4, 8)
# The readers are called directly: `Image.open` would first warn about large pictures, which the limits here refuse anyway,
# and would call a picture with a damaged header unidentified. A stereo pair (MPO) is read as the JPEG it begins with.
_READERS: list[tuple[str, bytes, type[ImageFile]]] = [
    ("JPEG", rb"\xff\xd8\xff", JpegImageFile),
    ("PNG", rb"\x89PNG\r\n\x1a\n", PngImageFile),
    ("WebP", rb"RIFF....WEBP", WebPImageFile),
    ("GIF", rb"GIF8[79]a", GifImageFile),
    ("BMP", rb"BM", BmpImageFile),
    ("TIFF", rb"II[*+]\0|MM\0[*+]", TiffImageFile),
    ("PPM", rb"P[1-6][\s#]", PpmImageFile),
]
_RAW = "a camera's RAW photo: save it as JPEG"
# What people take for pictures and is not read, by how it begins, and what to do. Video comes after the pictures in the same
# kind of box (ISO 14496-12).
_FOREIGN = [
    (rb"....ftyp(hei[cxms]|hev[cxms])", "a HEIC photo, as iPhones make: save it as JPEG"),
    (rb"....ftypavi[fs]", "an AVIF picture: save it as JPEG or PNG"),
    (rb"....ftyp(mif1|msf1)", "a HEIF picture: save it as JPEG"),
    (rb"....ftypcrx |FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR|FOVb|II\x1a\0\0\0HEAPCCDR|\0MRM", _RAW),
    (rb"....(ftyp|moov|mdat)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01\xba", "a video: save single frames as JPEG"),
    (rb"%PDF-", "a PDF document: save its pictures as JPEG or PNG"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture: save it as JPEG or PNG"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture: save it as JPEG or PNG"),
    (rb"8BPS", "a Photoshop file: save it as JPEG or PNG"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,1000}|<!--.{0,1000})?(?i:<!doctype svg|<svg[\s>])", "an SVG drawing: save it as PNG"),
    (rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head)", "a web page: fetch the picture itself"),
    (rb"PK\x03\x04", "a zip archive: name it by itself, or unpack it"),
]
# How each EXIF orientation (tag 0x0112) but 1 is made upright. `ImageOps.exif_transpose` knows it too, but also writes the
# EXIF block anew, and so fails on pictures whose block is odd and whose pixels are whole.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPicture(Exception):
    """These bytes give no picture; the message is the reason, in a few words for a list."""


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself before a pixel is decoded."""

    kind: str
    """JPEG, PNG, WebP, GIF, BMP, TIFF or PPM."""
    width: int
    height: int
    """In pixels, as Pillow tells it: before an EXIF orientation is applied (of a TIFF after)."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 where there is none."""
    deep: bool
    """Its grey levels have 16 bits."""


def read_header(data: bytes) -> Header:
    """The header of a picture that `decode` can read.

    Raises:
        BadPicture: the bytes are no picture of a known kind.
    """
    kind, reader = _kind(data)
    image = reader(io.BytesIO(data))
    orientation = image.getexif().get(0x0112, 1)
    return Header(kind, *image.size, orientation if orientation in _TURNS else 1, image.mode.startswith("I"))


def decode(data: bytes, max_pixels: int = MAX_PIXELS, reduce_to: int = 0) -> np.ndarray:
    """The picture in `data` as uint8 RGB, shape (H, W, 3), upright.

    `reduce_to`: the shorter side that it will be reduced to. A JPEG may then come smaller than it is, but at least twice as
    large as that, so that the antialiasing filter still does its work. 0: in its own size.

    >>> buffer = io.BytesIO()
    >>> Image.new("L", (4, 2), 128).save(buffer, "PNG")
    >>> decode(buffer.getvalue()).shape
    (2, 4, 3)

    Raises:
        BadPicture: the bytes are no picture of a known kind, are damaged, hold more than `max_pixels` pixels, or have a side
            longer than 65,535. No other exception leaves this function, whatever the bytes.
    """
    kind, reader = _kind(data)
    with _reasons(kind):
        image = reader(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise BadPicture(f"{width:,} x {height:,} is over the limit of {max_pixels:,} pixels")
        if max(width, height) > MAX_SIDE:
            raise BadPicture(f"{width:,} x {height:,} is over the limit of {MAX_SIDE:,} pixels a side")
        if isinstance(image, TiffImageFile) and _only_previews(data, image):
            raise BadPicture(_RAW)
        pixels = _fast_jpeg(data, image, reduce_to)
        return pixels if pixels is not None else _upright(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """A PIL picture as uint8 RGB (H, W, 3), by the rules above but for the limits of size.

    Raises:
        BadPicture: it is damaged, or has pixels that the rules refuse. No other exception leaves this function.
    """
    with _reasons(image.format or "picture"):
        return _upright(image)


def is_picture(data: bytes) -> bool:
    """Whether a file that begins with these bytes is one of the kinds that are read; it may still be damaged."""
    return any(re.match(start, data, re.DOTALL) for _, start, _ in _READERS)


def _kind(data: bytes) -> tuple[str, type[ImageFile]]:
    """What a file is, by its first bytes, and the reader for it."""
    if not data:
        raise BadPicture("empty file")
    found = next(((kind, reader) for kind, start, reader in _READERS if re.match(start, data, re.DOTALL)), None)
    if found is None:
        raise BadPicture(_why_not(data))
    return found


def _why_not(data: bytes) -> str:
    for start, words in _FOREIGN:
        if re.match(start, data[:2048], re.DOTALL):
            return words
    return f"not a picture (begins with {_shown(data[:8])})"


def _shown(data: bytes) -> str:
    """Bytes for a person: as text where they are that, else as hexadecimal numbers.

    >>> _shown(b"no image"), _shown(b"\\0\\x01x")
    ("'no image'", '00 01 78')
    """
    text = data.decode("ascii", "replace")
    return f"'{text}'" if text.isprintable() and "\ufffd" not in text else data.hex(" ")


def _fast_jpeg(data: bytes, image: Image.Image, reduce_to: int) -> np.ndarray | None:
    """An ordinary JPEG by simplejpeg, half as fast again as Pillow and with the same pixels; None for others.

    What simplejpeg refuses is Pillow's to judge.
    """
    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    # Eight by eight pixels are coded together, and parts of them take less computing. A side that is no multiple, as cameras
    # seldom make it, would be filled up, and the picture a little out of place. benchmarks/large_photos.py measures it.
    least = min(image.size)
    part = max(
        part
        for part in _PARTS
        if part == 1 or (reduce_to and least >= 2 * part * reduce_to and not any(s % part for s in image.size))
    )
    try:
        pixels = simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastdct=False,
            fastupsample=False,
            strict=True,
            min_height=image.height // part,
            min_width=image.width // part,
            min_factor=part,
        )
    except ValueError:
        return None
    turn = _turn(image)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _only_previews(data: bytes, image: TiffImageFile) -> bool:
    """Whether the first picture of a TIFF file is a small or reworked one of another in it, as in NEF, DNG, ARW and CR2."""
    # Bit 0 of NewSubfileType (TIFF 6.0, section 8) says so; Canon's files have a mark of their own in the header.
    return bool(image.tag_v2.get(254, 0) & 1) or data[8:12] == b"CR\2\0"


@contextmanager
def _reasons(kind: str) -> Iterator[None]:
    """Whatever goes wrong becomes a `BadPicture`."""
    try:
        yield
    except BadPicture:
        raise
    except Image.DecompressionBombError as error:
        # Some readers of Pillow's meet its own limit, 178,956,970 pixels, before the size can be asked.
        raise BadPicture(f"too large ({reason_of(error)})") from error
    except MemoryError as error:
        raise BadPicture(f"too little memory to decode this {kind}") from error
    except Exception as error:
        # Pillow's readers raise almost anything on odd files: OSError, ValueError, IndexError, TypeError, struct.error...
        raise BadPicture(f"damaged or truncated {kind} ({reason_of(error)})") from error


def _upright(image: Image.Image) -> np.ndarray:
    image.load()
    turn = _turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        return _grey(_from_integers(np.asarray(image), image.info.get("transparency")))
    if image.mode == "F":
        return _grey(_from_floats(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        above = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow has no way from La to RGBA
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return np.array(image.convert("RGB"))


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(0x0112, 1))


def _from_integers(values_HW: np.ndarray, transparent: int | None) -> np.ndarray:
    low, high = int(values_HW.min()), int(values_HW.max())
    if low < 0 or high > 65_535:
        raise BadPicture(f"integer pixels from {low:,} to {high:,}, expected 16 bits (0 to 65,535)")
    return np.where(values_HW == transparent, 255, np.round(values_HW.astype(np.float32) / 257))


def _from_floats(values_HW: np.ndarray) -> np.ndarray:
    low, high = float(values_HW.min()), float(values_HW.max())
    if not (low >= 0 and high <= 255):  # false for NaN too
        raise BadPicture(f"floating-point pixels from {low:g} to {high:g}, expected 0 to 1 or 0 to 255")
    return np.round(values_HW * 255 if high <= 1 else values_HW)


def _grey(values_HW: np.ndarray) -> np.ndarray:
    return np.repeat(values_HW.astype(np.uint8)[:, :, None], 3, axis=2)
