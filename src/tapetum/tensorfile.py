"""One file of tensors and one JSON object, sealed by a SHA-256 over every byte: the form of models and checkpoints.

The format is safetensors (https://github.com/huggingface/safetensors), readable by any program that knows it. It can
execute nothing when it is read. Its header carries one string, `tapetum`: the JSON object, whose first entry `seal` is the
SHA-256 of the whole file with the 64 digits of the seal itself set to zero. So a flipped bit anywhere in the file is refused,
and the same content always gives the same bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from tapetum.errors import UserError, reason_of
from tapetum.files import write_atomically
from tapetum.seal import NO_SEAL, seal

# How the seal stands in the header: the JSON object is a string there, so its quotes are escaped.
_BEFORE_SEAL = rb'{"__metadata__":{"tapetum":"{\"seal\": \"'
_SEAL = slice(8 + len(_BEFORE_SEAL), 8 + len(_BEFORE_SEAL) + 64)


def save(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    """Write `tensors` and the JSON object `about` to `path`, whole or not at all; the SHA-256 comes back.

    Raises:
        UserError: the file cannot be written; an old file at `path` is unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"seal": NO_SEAL.decode(), **about}, allow_nan=False)
    content = bytearray(safetensors.torch.save(plain, metadata={"tapetum": text}))
    digest = seal(content, _SEAL)
    content[_SEAL] = digest.encode()
    write_atomically(path, lambda file: file.write(content))
    return digest


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of `save`: its tensors (on the CPU) and its JSON object.

    Raises:
        UserError: the file is missing, is of another kind, is damaged (its hash does not fit), or its header is no such header.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"could not read {path}: {error.strerror or error}.") from error
    if not content:
        raise UserError(f"{path} is empty: it holds no model. Use another copy, or train again.")
    if content[8 : _SEAL.start] != _BEFORE_SEAL:
        raise UserError(f"{path} is not a tapetum file (no seal in its header). Expected a file that `tapetum train` wrote.")
    if seal(content, _SEAL).encode() != content[_SEAL]:
        raise UserError(f"{path} is damaged: its SHA-256 does not fit its content. Use another copy, or train again.")
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"]["tapetum"])
        del about["seal"]
    except Exception as error:  # a seal that fits does not say who set it, and the readers raise many kinds
        raise UserError(f"{path} has a header that no `tapetum train` wrote ({reason_of(error)}). Use another copy.") from error
    return tensors, about
