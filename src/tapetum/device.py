"""The device to compute on, chosen and named; and mixed precision where it pays."""

import platform

import torch

from tapetum import processes
from tapetum.errors import UserError, reason_of
from tapetum.talk import counted


def choose(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes an accelerator if there is one, else the CPU.

    Of several processes on one machine each takes another accelerator, where the name leaves open which.

    Raises:
        UserError: no device of that name here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        name = accelerator.type if accelerator is not None else "cpu"
    try:
        device = torch.device(name)
        if device.type != "cpu" and device.index is None and (own := processes.local_rank()) is not None:
            device = torch.device(device.type, own)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device '{name}' cannot be used here ({reason_of(error)}). Expected auto, cpu, or an accelerator of this machine."
        ) from error
    return device


def choose_each(names: str) -> list[torch.device]:
    """The devices of a list such as "cuda:0,cuda:1"; one name, or "auto", gives one.

    Raises:
        UserError: one of them is not here.
    """
    return [choose(name.strip()) for name in names.split(",")]


def describe(device: torch.device) -> str:
    """The device in words, such as "cpu (2 threads, x86_64)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({counted(torch.get_num_threads(), 'thread')}, {platform.machine()})"
    return str(device)


def mixed_precision(device: torch.device, precision: str) -> bool:
    """Whether to compute in half precision: when asked for, or by itself where the device is made for it.

    That is CUDA, and a CPU with instructions for bfloat16 (AVX512-BF16, AMX): a training step takes about two thirds of its
    time there. Other CPUs only emulate it, a hundred times slower.
    """
    if precision != "auto":
        return precision == "mixed"
    return device.type == "cuda" or (device.type == "cpu" and _computes_bfloat16())


def _computes_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.11 does not tell
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
