"""Ctrl-C and SIGTERM as a request: the running step ends, the state is saved, then the program stops."""

import signal
import threading
from pathlib import Path
from types import FrameType


class Interrupted(Exception):
    """The training was asked to stop; its state is saved and can be resumed."""

    def __init__(self, message: str, signal_number: int, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder
        """The run folder in which the state is; of a training without one (scaling/fitting.py) its folder, which has gone."""
        self.exit_code = 128 + signal_number
        """130 for Ctrl-C, 143 for SIGTERM, as a shell reports them."""


class StopRequest:
    """Inside `with StopRequest() as stop`, the first signal only sets `stop.signal_number`; a second one ends at once."""

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        # Only the main thread may set handlers; elsewhere Ctrl-C keeps its usual meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
