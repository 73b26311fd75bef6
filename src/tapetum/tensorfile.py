"""One file of tensors and one JSON object, sealed by a SHA-256 over every byte: the form of models and checkpoints.

The format is safetensors (https://github.com/huggingface/safetensors), readable by any program that knows it. It can
execute nothing when it is read. Its header carries two strings: `tapetum`, the JSON object, and `sha256`, the hash of the
whole file with the 64 digits of that field itself set to zero. A flipped bit anywhere in the file is therefore refused.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from tapetum.errors import UserError
from tapetum.files import write_atomically

_NO_HASH = b"0" * 64
_FIELD = b'"sha256":"'


def save(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    """Write `tensors` and the JSON object `about` to `path`, whole or not at all; the SHA-256 comes back.

    Raises:
        UserError: the file cannot be written; an old file at `path` is unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"tapetum": json.dumps(about, ensure_ascii=True, allow_nan=False), "sha256": _NO_HASH.decode()}
    content = bytearray(safetensors.torch.save(plain, metadata=metadata))
    digest = hashlib.sha256(content).hexdigest()
    at = _seal_position(content)
    content[at : at + 64] = digest.encode()
    write_atomically(path, lambda file: file.write(content))
    return digest


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of `save`: its tensors (on the CPU) and its JSON object.

    Raises:
        UserError: the file is missing, is of another kind, or is damaged (its hash does not fit).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"could not read {path}: {error.strerror or error}.") from error
    if not content:
        raise UserError(f"{path} is empty: it holds no model. Use another copy, or train again.")
    at = _seal_position(content)
    if at < 0:
        raise UserError(f"{path} is not a tapetum file (no seal in its header). Expected a file that `tapetum train` wrote.")
    hasher = hashlib.sha256(memoryview(content)[:at])
    hasher.update(_NO_HASH)
    hasher.update(memoryview(content)[at + 64 :])
    if hasher.hexdigest().encode() != content[at : at + 64]:
        raise UserError(f"{path} is damaged: its SHA-256 does not fit its content. Use another copy, or train again.")
    tensors = safetensors.torch.load(content)
    return tensors, json.loads(_metadata(content)["tapetum"])


def _seal_position(content: bytes | bytearray) -> int:
    """Where the 64 digits of the seal stand, or -1. Only the header is searched: its length is the file's first 8 bytes."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(len(content) - 8, 100_000_000):
        return -1
    # The JSON object stands escaped inside its own string, so the unescaped field can only be the seal itself.
    at = content.find(_FIELD, 8, 8 + length)
    return at + len(_FIELD) if at >= 0 and at + len(_FIELD) + 64 <= 8 + length else -1


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]
