"""Judges: Pillow's own conversion, hand-made pixels, PngSuite and the EXIF examples."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import encoded
from tapetum.data.decode import BadPicture, decode, to_rgb

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (40, 56, 3), np.uint8)).resize((60, 44))


# What each EXIF orientation asks for (EXIF 2.32, section 4.6.4), in numpy's words.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


def refused(data: bytes) -> str:
    with pytest.raises(BadPicture) as reason:
        decode(data)
    return str(reason.value)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
def test_every_format_gives_what_pillow_gives(format):
    data = encoded(PHOTO, format)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    found = decode(data)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_an_empty_file_and_other_files_are_named():
    assert refused(b"") == "empty file"
    assert refused(b"hello, I am text") == "not a picture (begins with 'hello, I')"
    assert refused(b"\0\1hello") == "not a picture (begins with 00 01 68 65 6c 6c 6f)"
    assert refused(b"P") == "not a picture (begins with 'P')"


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo, as iPhones make: save it as JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIF picture"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "an AVIF picture"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's RAW photo"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's RAW photo"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a video"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "a video"),
        (b"RIFF\0\0\1\0AVI LIST", "a video"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing: save it as PNG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made -->\n<svg>', "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
    ],
)
def test_what_people_take_for_a_picture_is_called_by_its_name(begin, words):
    assert refused(begin + bytes(100)).startswith(words)


def test_a_raw_photo_is_not_taken_for_the_preview_in_it():
    for preview, kept in ((1, False), (3, False), (0, True), (2, True)):  # 2: a page of several
        data = encoded(PHOTO, "TIFF", tiffinfo={254: preview})
        assert np.array_equal(decode(data), PHOTO) if kept else refused(data) == "a camera's RAW photo: save it as JPEG"
    data = encoded(PHOTO, "TIFF")
    canon = data[:4] + (len(data) + 8).to_bytes(4, "little") + b"CR\2\0"
    begin = int.from_bytes(data[4:8], "little")  # the same directory once more, behind the whole
    assert np.array_equal(decode(canon[:10] + b"\0\0" + data[12:] + bytes(8) + data[begin:]), PHOTO)  # pixels may begin so
    assert refused(canon + data[12:] + bytes(8) + data[begin:]).startswith("a camera's RAW photo")


def test_a_damaged_header_names_the_kind_and_keeps_the_cause():
    for format, length in [("PNG", 40), ("JPEG", 20), ("GIF", 12), ("BMP", 20), ("TIFF", 6), ("WEBP", 20), ("PPM", 5)]:
        with pytest.raises(BadPicture, match=f"(?i)damaged or truncated {format}") as reason:
            decode(encoded(PHOTO, format)[:length])
        assert reason.value.__cause__ is not None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(format, share):
    data = encoded(PHOTO, format)
    assert refused(data[: int(len(data) * share)])


@pytest.mark.parametrize("progressive", [False, True])
def test_the_fast_path_is_strict_about_truncation(progressive):
    data = encoded(PHOTO, "JPEG", progressive=progressive)
    for length in range(1, len(data), 13):
        assert refused(data[:length])


def test_a_photo_that_lacks_its_last_bytes_is_refused(shared):
    data = (shared / "cats-dogs" / "Cat" / "cat.1.jpg").read_bytes()
    assert "truncated" in refused(data[:-100])


def test_the_fast_path_gives_pillows_pixels(shared):
    for number in range(20):
        data = (shared / "cats-dogs" / "Dog" / f"dog.{number}.jpg").read_bytes()
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(decode(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, {"keep_rgb": True}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_ordinary_jpeg_has_pillows_pixels(options, mode):
    data = encoded(PHOTO.convert(mode), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data).astype(int) - expected).max() <= 1


def test_of_a_stereo_pair_the_first_picture_counts():
    data = encoded(Image.new("RGB", (8, 8), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(decode(data)[4, 4].astype(int) - [255, 0, 0]).max() < 6


def test_sixteen_bits_are_scaled_not_clipped():
    values = RNG.integers(0, 65536, (9, 7)).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        found = decode(encoded(Image.fromarray(values), format))
        assert np.array_equal(found[:, :, 1], np.round(values / 257).astype(np.uint8))


def test_sixteen_bits_are_turned_and_shown_on_white_too():
    values = np.array([[0, 257, 514], [771, 7, 1028]], np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(Image.fromarray(values), "PNG", exif=exif, transparency=7))
    assert found[:, :, 0].tolist() == [[3, 0], [255, 1], [4, 2]]


def test_of_sixteen_bit_colour_the_high_byte_counts(shared):
    data = (shared / "odd-images" / "pngsuite" / "basn2c16.png").read_bytes()
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(32, 1 + 32 * 6)
    first = rows[0, 1:].reshape(32, 3, 2)  # the first row is stored as it is, or by its difference to the left
    first = np.cumsum(first, axis=0, dtype=np.uint8) if rows[0, 0] == 1 else first
    assert np.abs(decode(data)[0].astype(int) - first[:, :, 0]).max() <= 1


def test_one_bit_is_black_and_white():
    bits = RNG.integers(0, 2, (9, 11)).astype(bool)
    for format in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.array_equal(decode(encoded(Image.fromarray(bits), format))[:, :, 2], bits * 255)


def test_floating_point_has_a_rule():
    tiff = lambda values: encoded(Image.fromarray(np.float32(values)), "TIFF")  # noqa: E731
    assert decode(tiff([[0.0, 0.5], [1.0, 0.2]]))[:, :, 0].tolist() == [[0, 128], [255, 51]]
    assert decode(tiff([[0.0, 100.4], [255.0, 7.6]]))[:, :, 0].tolist() == [[0, 100], [255, 8]]
    assert "floating-point pixels" in refused(tiff([[0.0, 300.0]]))
    assert "floating-point pixels" in refused(tiff([[0.0, float("nan")]]))
    assert "16 bits" in refused(encoded(Image.fromarray(np.int32([[0, 70_000]])), "TIFF"))


def test_what_is_transparent_shows_white():
    red = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    red.putpixel((1, 0), (255, 0, 0, 255))
    assert decode(encoded(red)).tolist() == [[[255, 255, 255], [255, 0, 0]]]
    assert decode(encoded(Image.new("LA", (1, 1), (10, 0)))).tolist() == [[[255, 255, 255]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert decode(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_every_alpha_mode_of_pillow_is_shown_on_white():
    for mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        assert to_rgb(Image.new(mode, (2, 1))).tolist() == [[[255] * 3] * 2], mode
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert to_rgb(half).tolist() == [[[127, 127, 127]]]


def test_a_damaged_pil_picture_gives_the_reason_that_its_bytes_give():
    whole = encoded(PHOTO, "PNG")
    for cut in (whole[: len(whole) // 2], whole[:-30]):
        with pytest.raises(BadPicture) as of_bytes:
            decode(cut)
        with pytest.raises(BadPicture, match="damaged or truncated PNG") as of_picture:
            to_rgb(Image.open(io.BytesIO(cut)))
        assert str(of_picture.value) == str(of_bytes.value)


def test_cmyk_becomes_rgb_as_pillow_does_it():
    data = encoded(PHOTO.convert("CMYK"), "JPEG")
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(decode(data)[4, 4].astype(int) - [255, 0, 0]).max() < 6


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTO, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    stored = np.asarray(PHOTO if format != "JPEG" else Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data), UPRIGHT[orientation](stored))


def test_an_odd_exif_block_costs_no_picture():
    data = encoded(PHOTO, "JPEG")
    # A width (tag 0x0100) given as text, and orientation 6: Pillow reads this block but cannot write it anew.
    odd = b"MM\0*\0\0\0\x08\0\2" + b"\1\0\0\2\0\0\0\4ab\0\0" + b"\1\x12\0\3\0\0\0\1\0\6\0\0" + bytes(4)
    for block, shape in [(b"junk", (44, 60, 3)), (odd, (60, 44, 3))]:
        segment = b"Exif\0\0" + block
        found = decode(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
        assert found.shape == shape


def test_all_eight_orientations_show_the_same(shared):
    folder = shared / "odd-images" / "exif-orientation"
    files = sorted(folder.rglob("*.jpg"))
    assert len(files) == 18
    for kind in {path.name.rsplit("_", 1)[0] for path in files}:
        plain = decode(next(p for p in files if p.name == f"{kind}_0.jpg").read_bytes()).astype(float)
        for path in files:
            if path.name.rsplit("_", 1)[0] == kind:
                assert np.abs(decode(path.read_bytes()) - plain).mean() < 5, path.name


def test_pngsuite_valid_files_decode_and_broken_ones_do_not(shared):
    files = sorted((shared / "odd-images" / "pngsuite").glob("*.png"))
    assert len(files) == 175
    for path in files:
        data = path.read_bytes()
        if path.name.startswith("x"):
            # Pillow does not compare the checksum of the chunk that holds the pixels (xcsn0g01); they are whole here.
            if path.name != "xcsn0g01.png":
                assert refused(data), path.name
            continue
        found = decode(data)
        image = Image.open(io.BytesIO(data))
        if image.mode in ("1", "L", "RGB") and "transparency" not in image.info:
            assert np.array_equal(found, np.asarray(image.convert("RGB"))), path.name
        if image.mode.startswith("I;16"):
            assert np.array_equal(found[:, :, 0], np.round(np.asarray(image) / 257)), path.name


def blank_png(side: int) -> bytes:
    """A black 1-bit PNG, made without holding its pixels."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def test_a_giant_is_refused_by_its_header_at_once():
    assert decode(blank_png(200)).shape == (200, 200, 3)
    giant = blank_png(30_000)
    begun = time.monotonic()
    assert refused(giant) == "30,000 x 30,000 is over the limit of 50,000,000 pixels"
    assert time.monotonic() - begun < 0.1
    # Its pixels are not even asked for: without them the reason is the same.
    assert refused(giant[:60]) == "30,000 x 30,000 is over the limit of 50,000,000 pixels"
    # Of this size Pillow itself would only warn, and warnings are errors here.
    assert refused(blank_png(12_000)) == "12,000 x 12,000 is over the limit of 50,000,000 pixels"


def test_the_limits_are_where_they_are_said_to_be():
    data = encoded(Image.new("L", (20, 10)))
    assert decode(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(BadPicture, match="20 x 10 is over the limit of 199 pixels"):
        decode(data, max_pixels=199)
    assert decode(encoded(Image.new("1", (65_535, 1)))).shape == (1, 65_535, 3)
    assert refused(encoded(Image.new("1", (1, 65_536)))) == "1 x 65,536 is over the limit of 65,535 pixels a side"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 65_000)])
def test_thin_and_tiny_pictures_are_pictures(size):
    assert decode(encoded(Image.new("RGB", size, "green"))).shape == (size[1], size[0], 3)


@pytest.mark.filterwarnings("ignore")  # a mutation may well be odd metadata, about which Pillow warns and goes on
@pytest.mark.parametrize("num_bytes", [1, 3])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_a_mutated_file_is_a_picture_or_a_reason(format, num_bytes):
    generator = np.random.default_rng(1)
    data = encoded(PHOTO, format)
    for turn in range(60):
        mutated = bytearray(data)
        end = len(data) if turn % 2 else min(len(data), 200)  # headers are where readers stumble
        for position in generator.integers(0, end, num_bytes):
            mutated[position] = generator.integers(256)
        try:
            found = decode(bytes(mutated))
        except BadPicture:
            continue
        assert found.dtype == np.uint8
        assert found.ndim == 3
