"""The record of a training, epoch by epoch: log.jsonl, and TensorBoard's event files for those who ask for them."""

import json
import shutil
from pathlib import Path
from typing import Any

from tapetum.errors import UserError
from tapetum.files import append_line

_EVENTS = "tensorboard"


def refuse_without_tensorboard() -> None:
    """Raise a UserError where event files cannot be written."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "tensorboard on: TensorBoard is not installed. pip install 'tapetum[track]', or leave --tensorboard out; log.jsonl "
            "holds the same."
        ) from None


class Record:
    """Takes the entry of each finished epoch. A resumed training tells its earlier epochs again, so a record begins empty.

    Args:
        folder: the run folder.
        events: also write `folder/tensorboard`, one event file for each network of the training.
    """

    def __init__(self, folder: Path, events: bool = False) -> None:
        self.folder, self.events = folder, events
        self.writers: dict[str, Any] = {}
        (folder / "log.jsonl").unlink(missing_ok=True)
        shutil.rmtree(folder / _EVENTS, ignore_errors=True)

    def __call__(self, entry: dict[str, Any]) -> None:
        """Keep an entry: `epoch`, the numbers of the epoch, and `stage` or `member` of several networks."""
        append_line(self.folder / "log.jsonl", json.dumps(entry))
        if self.events:
            self._show(entry)

    def _show(self, entry: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # for those who ask

        network = "-".join(str(entry[mark]) for mark in ("stage", "member") if mark in entry)
        if network not in self.writers:
            self.writers[network] = SummaryWriter(self.folder / _EVENTS / network)
        writer = self.writers[network]
        for name, value in entry.items():
            if name not in ("epoch", "stage", "member"):
                writer.add_scalar(name.replace("_", "/", 1), value, entry["epoch"])
        writer.flush()

    def close(self) -> None:
        """Close the event files."""
        for writer in self.writers.values():
            writer.close()
