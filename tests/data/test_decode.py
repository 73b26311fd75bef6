"""Judges: Pillow's own conversion, hand-made pixels, PngSuite and the EXIF examples."""

import io
import time

import numpy as np
import pytest
from conftest import encoded
from PIL import Image

from tapetum.data.decode import BadPicture, decode

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (40, 56, 3), np.uint8)).resize((60, 44))


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
    assert refused(b"hello, I am text").startswith("not a picture (begins with b'hello, I")
    assert refused(b"%PDF-1.7 ...").startswith("not a picture")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(format, share):
    data = encoded(PHOTO, format)
    assert refused(data[: int(len(data) * share)])


def test_a_photo_that_lacks_its_last_bytes_is_refused(shared):
    data = (shared / "cats-dogs" / "Cat" / "cat.1.jpg").read_bytes()
    assert "truncated" in refused(data[:-100])


def test_the_fast_path_gives_pillows_pixels(shared):
    for number in range(20):
        data = (shared / "cats-dogs" / "Dog" / f"dog.{number}.jpg").read_bytes()
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(decode(data).astype(int) - expected).max() <= 1


def test_sixteen_bits_are_scaled_not_clipped():
    values = RNG.integers(0, 65536, (9, 7)).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        found = decode(encoded(Image.fromarray(values), format))
        assert np.array_equal(found[:, :, 1], np.round(values / 257).astype(np.uint8))


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


def test_cmyk_becomes_rgb_as_pillow_does_it():
    data = encoded(PHOTO.convert("CMYK"), "JPEG")
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(decode(data)[4, 4].astype(int) - [255, 0, 0]).max() < 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_once(format):
    upright = Image.new("RGB", (24, 16), "black")
    upright.paste("white", (0, 0, 8, 8))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to look at me"
    found = decode(encoded(stored, format, exif=exif))
    assert found.shape == (16, 24, 3)
    assert found[3, 3].min() > 240
    assert found[12, 20].max() < 15


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
            # Pillow accepts a wrong checksum in a chunk that it does not need; the pixels are whole.
            if path.name != "xcsn0g01.png":
                assert refused(data), path.name
            continue
        found = decode(data)
        image = Image.open(io.BytesIO(data))
        if image.mode in ("1", "L", "RGB") and "transparency" not in image.info:
            assert np.array_equal(found, np.asarray(image.convert("RGB"))), path.name
        if image.mode.startswith("I;16"):
            assert np.array_equal(found[:, :, 0], np.round(np.asarray(image) / 257)), path.name


def test_a_giant_is_refused_by_its_header_at_once():
    assert "8,000 x 8,000 is over the limit of 50,000,000 pixels" in refused(encoded(Image.new("1", (8_000, 8_000))))
    giant = encoded(Image.new("1", (30_000, 30_000)))
    assert len(giant) < 150_000
    begun = time.monotonic()
    assert "over the limit of 50,000,000 pixels" in refused(giant)
    assert time.monotonic() - begun < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 65_000)])
def test_thin_and_tiny_pictures_are_pictures(size):
    assert decode(encoded(Image.new("RGB", size, "green"))).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_a_mutated_file_is_a_picture_or_a_reason(format):
    data = encoded(PHOTO, format)
    for _ in range(60):
        mutated = bytearray(data)
        for position in RNG.integers(0, len(data), 3):
            mutated[position] = RNG.integers(256)
        try:
            found = decode(bytes(mutated))
        except BadPicture as reason:
            assert str(reason)
        else:
            assert found.dtype == np.uint8
            assert found.ndim == 3
