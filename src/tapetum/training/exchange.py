"""Gradients added up over processes: by shared memory where all are on one machine's processor, else by the network.

gloo sends every byte through the kernel's network, also between neighbours; for the 170 MB of AlexNet's gradients that is a
third of a second, in which nothing is computed. In memory that all can see, each process adds up its part and reads the rest.
The result is the same everywhere, to the bit, since each number is added up by one process.
"""

import contextlib
import os

import torch

from tapetum import processes


class Exchange:
    """A piece of memory, `flat`, of `length` numbers, and `add_up`, after which it holds the sum of all processes'."""

    def __init__(self, length: int, like: torch.Tensor) -> None:
        self._others: list[torch.Tensor] = []
        self.flat = torch.zeros(length, device=like.device, dtype=like.dtype)
        if like.device.type == "cpu" and processes.on_one_machine():
            self._share(length, like.dtype)

    def _share(self, length: int, dtype: torch.dtype) -> None:
        """Map the memory of all processes, if there is room for it in all of them."""
        with contextlib.ExitStack() as held:
            try:
                # It has no name, so that nothing of it stays, however the processes end; the others reach it through this one.
                descriptor = os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE, 0o600)
                held.callback(os.close, descriptor)
                # Reserved now: memory that turns out not to be there later would end the process.
                os.posix_fallocate(descriptor, 0, length * dtype.itemsize)
                place = f"/proc/{os.getpid()}/fd/{descriptor}"
            except (OSError, AttributeError):  # no such place here (containers give it 64 MB), or no room
                place = ""
            places = processes.all_told([place])
            maps: list[torch.Tensor] = []
            if all(places):
                with contextlib.suppress(RuntimeError):  # what is another user's cannot be reached
                    maps = [torch.from_file(each, shared=True, size=length, dtype=dtype) for each in places]
            if all(processes.all_told([bool(maps)])):  # after this all have mapped it, and it can be closed
                self.flat, self._others = maps[processes.rank()], maps

    def add_up(self) -> None:
        """Replace the numbers by their sums."""
        if not self._others:
            processes.add_up(self.flat)
            return
        parts = [processes.part_of(rank, len(self.flat)) for rank in range(processes.count())]
        mine = parts[processes.rank()]
        processes.wait()  # until all have written theirs
        for rank, other in enumerate(self._others):
            if rank != processes.rank():
                self.flat[mine] += other[mine]  # nobody else reads this part of mine before the next wait
        processes.wait()  # until all have added up their part
        for rank, part in enumerate(parts):
            if rank != processes.rank():
                self.flat[part] = self._others[rank][part]
        processes.wait()  # until all have read mine
