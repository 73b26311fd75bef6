"""Batches made ahead of the step that takes them, by a thread, while an accelerator computes.

On a processor the step itself needs the cores, so nothing is made ahead there.
"""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")

# So many lie ready: one is enough unless making them takes unevenly long.
_READY = 2


def ahead(items: Iterator[Item], wanted: bool) -> Iterator[Item]:
    """The same items in the same order, errors at their place; made by a thread where that is `wanted`.

    Whoever leaves off before the end ends the thread, too.
    """
    if not wanted:
        yield from items
        return
    ready: queue.Queue[tuple[str, object]] = queue.Queue(_READY)
    left = threading.Event()

    def put(kind: str, value: object) -> None:
        while not left.is_set():
            try:
                return ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put("item", item)
                if left.is_set():
                    return
            put("end", None)
        except BaseException as error:  # it belongs to whoever waits for the item
            put("error", error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value  # type: ignore[misc]
            if kind == "end":
                return
            yield value  # type: ignore[misc]
    finally:
        left.set()
        thread.join()
