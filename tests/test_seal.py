"""Judges: hashlib over bytes that the test puts together, and over the files of a run as any program would."""

import hashlib
import re

import pytest

from tapetum.seal import seal

CONTENT = bytes(range(256))


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("start", [0, 1, 100, 256 - 64])
def test_a_seal_is_the_sha256_with_zeros_in_its_place(kind, start):
    zeroed = CONTENT[:start] + b"0" * 64 + CONTENT[start + 64 :]
    assert seal(kind(CONTENT), slice(start, start + 64)) == hashlib.sha256(zeroed).hexdigest()


def test_every_byte_matters_but_those_of_the_seal_itself():
    place, content = slice(30, 94), bytearray(CONTENT)
    whole = seal(content, place)
    for i in range(256):
        content[i] ^= 1
        assert (seal(content, place) == whole) is (30 <= i < 94), i
        content[i] ^= 1
    assert content == CONTENT  # it is only read
    content += b"\0"
    assert seal(content, place) != whole


@pytest.mark.parametrize("kind", ["model file", "ONNX file"])
def test_the_files_of_a_run_can_be_checked_without_this_program(finished, kind):
    content = (finished[2] if kind == "ONNX file" else finished[0] / "model.safetensors").read_bytes()
    (digest,) = re.findall(rb'\\?"seal\\?": \\?"([0-9a-f]{64})\\?"', content)
    assert content.count(digest) == 1
    assert hashlib.sha256(content.replace(digest, b"0" * 64)).hexdigest() == digest.decode()
