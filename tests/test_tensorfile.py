import hashlib
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tapetum import tensorfile
from tapetum.errors import UserError


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}
    tensorfile.save(path, tensors, {"classes": ["고양이", 'say "dog"'], "sha256": "0" * 64, "seal2": "x"})
    return path, tensors


def test_tensors_and_words_come_back_and_any_safetensors_reader_can_read_them(sealed):
    path, tensors = sealed
    found, about = tensorfile.load(path)
    assert about["classes"] == ["고양이", 'say "dog"']
    for reading in (found, load_file(path)):
        assert reading.keys() == tensors.keys()
        assert all(torch.equal(reading[name], tensors[name]) for name in tensors)


def test_every_single_flipped_bit_is_refused(sealed):
    path, _ = sealed
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged|not a tapetum file"):
            tensorfile.load(path)


def test_every_truncation_is_refused(sealed):
    path, _ = sealed
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            tensorfile.load(path)


def test_other_files_are_refused_with_a_sentence(tmp_path):
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(100), np.random.default_rng(0).bytes(5000)):
        path = tmp_path / "x"
        path.write_bytes(content)
        with pytest.raises(UserError, match="is empty|is not a tapetum file"):
            tensorfile.load(path)


@pytest.mark.parametrize("text", [", 1]", ", x}", ', "a": ' + "[" * 100_000, "} {"])
@pytest.mark.parametrize("tensor", [{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, {"dtype": "F99"}, "exec", [[]]])
def test_a_right_seal_around_a_strange_header_is_refused(tmp_path, text, tensor):
    inner = '{"seal": "' + "0" * 64 + '"' + text
    header = '{"__metadata__":' + json.dumps({"tapetum": inner}, separators=(",", ":")) + ',"w":' + json.dumps(tensor) + "}"
    content = struct.pack("<Q", len(header)) + header.encode() + bytes(4)
    path = tmp_path / "a.safetensors"
    path.write_bytes(content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1))
    with pytest.raises(UserError, match="a header that no `tapetum train` wrote"):
        tensorfile.load(path)


def test_the_same_content_gives_the_same_bytes(sealed, tmp_path):
    path, tensors = sealed
    tensorfile.save(tmp_path / "b", tensors, {"classes": ["고양이", 'say "dog"'], "sha256": "0" * 64, "seal2": "x"})
    assert (tmp_path / "b").read_bytes() == path.read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path):
    script = (
        "import sys, torch; from pathlib import Path; from tapetum import tensorfile\n"
        "tensors = {str(n): torch.full((n,), n, dtype=(torch.float32, torch.int64)[n % 2]) for n in range(1, 20)}\n"
        "tensorfile.save(Path(sys.argv[1]), tensors, {'a': 1})"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
