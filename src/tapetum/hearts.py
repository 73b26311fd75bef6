"""Signs of life: processes that work together notice when one of them is killed, hangs, or loses its machine or its network.

A broken connection is an error at once, but only where there is one to break: a process that was stopped, or a machine that was
switched off, leaves the others waiting. So every process says twice a second, in the store that all can read, that it lives.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch.distributed as dist

# A process says so often that it lives, and is lost when it was silent for so long; sooner if a connection is broken already.
_BEAT_SECONDS, _LOST_SECONDS, _BROKEN_SECONDS = 0.5, 15.0, 2.0
# The exit code of a process that cannot go on because another is lost.
LOST = 3


class Hearts:
    """The signs of life: this process's own, and those of the others as far as it looks after them.

    The first process looks after all, the others after the first. A thread writes and reads; a second one waits for no answer,
    so it also notices when the machine with the store is gone.
    """

    def __init__(self, store: "dist.Store", mine: int, number: int, name: str) -> None:
        self._store, self._rank, self._name = store, mine, name
        self._watched = range(1, number) if mine == 0 else range(1)
        self._seen = {each: (b"", time.monotonic()) for each in self._watched}
        self._answered = time.monotonic()
        self._ended = threading.Event()
        store.set(f"name/{mine}", name)
        store.set(f"beat/{mine}", "0")
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look after nobody any more."""
        self._ended.set()
        # A thread that is still asking the store when Python ends is ended within C++, which ends the process with SIGABRT.
        for thread in self._threads:
            thread.join(_BROKEN_SECONDS)

    def name_the_lost(self, reason: str) -> None:
        """After a broken connection: find out who was lost, and say so, unless it told the reason itself."""
        begun = time.monotonic()
        while time.monotonic() - begun < 3 * _BROKEN_SECONDS:
            try:
                if self._store.check(["ended"]):
                    return
            except RuntimeError:
                break
            if silent := self._silent(_BROKEN_SECONDS):
                return self._say(f"{self._names(silent)} has ended without a word: it was killed, or it crashed")
            time.sleep(0.1)
        self._say(f"{self._name} lost its connection to the others ({reason})")

    def _beat(self) -> None:
        store, number = self._store.clone(), 0
        with contextlib.suppress(RuntimeError):  # the store is gone: the other thread tells
            while not self._ended.wait(_BEAT_SECONDS):
                number += 1
                store.set(f"beat/{self._rank}", str(number))
                beats = store.multi_get([f"beat/{each}" for each in self._watched])
                now = time.monotonic()
                if now - self._answered > 6 * _BEAT_SECONDS:  # this one was asleep itself, with all others perhaps
                    self._seen = dict.fromkeys(self._watched, (b"", now))
                for each, beat in zip(self._watched, beats, strict=True):
                    if beat != self._seen[each][0]:
                        self._seen[each] = beat, now
                self._answered = now

    def _judge(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(_BEAT_SECONDS):
            before, slept = time.monotonic(), time.monotonic() - before > 6 * _BEAT_SECONDS
            if slept:
                continue
            if silent := self._silent(_LOST_SECONDS):
                self._say(f"{self._names(silent)} has not been heard of for {_LOST_SECONDS:g} seconds")
                os._exit(LOST)
            if before - self._answered > _LOST_SECONDS:
                print(f"tapetum: {self._name} does not reach the first process's machine any more.", file=sys.stderr)
                os._exit(LOST)

    def _silent(self, seconds: float) -> list[int]:
        """Which of the watched have not been heard of for so long."""
        return [each for each, (_, when) in list(self._seen.items()) if self._answered - when > seconds]

    def _names(self, ranks: Sequence[int]) -> str:
        try:
            return ", ".join(name.decode() for name in self._store.multi_get([f"name/{each}" for each in ranks]))
        except RuntimeError:
            return ", ".join(f"rank {each}" for each in ranks)

    def _say(self, sentence: str) -> None:
        """Say it, unless another process did."""
        with contextlib.suppress(RuntimeError):
            if self._store.add("said/lost", 1) > 1:
                return
            self._store.set("ended", self._name)  # the others need not look for the reason
        print(f"tapetum: {sentence}.", file=sys.stderr, flush=True)
        time.sleep(_BEAT_SECONDS)  # where the store is this process's, the others read it before it goes
