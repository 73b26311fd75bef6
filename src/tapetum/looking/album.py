"""The pictures of a run, long after: by name, as long as they are where they were and what they were."""

import hashlib
from pathlib import Path

import numpy as np

from tapetum.data.addresses import url_of
from tapetum.data.decode import BadPicture, decode
from tapetum.data.samples import Samples
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.files import as_written


class Album:
    """Looks pictures up by the names that the run knows them by."""

    def __init__(self, data: Path | None, sha256: dict[str, str], samples: Samples | None = None, origin: str = "") -> None:
        """Look at `data`, or at the `samples` at hand, or where they came from; `sha256`: of each file, by name.

        If they came from an address, they are fetched only if `data` names it.

        Raises:
            UserError: there are no pictures in `data`, or none of the run's.
        """
        self.missing = ""
        """Why there are no pictures at all; empty where there are."""
        self._sha256, self._places, named = sha256, {}, data is not None
        try:
            if samples is None:
                if data is None and not origin:
                    raise UserError("the run does not say where its pictures are.")
                if data is None and (url := url_of(origin)):
                    raise UserError(f"they are at {url}, and nothing is fetched unasked (--data {url} fetches them).")
                data = data or Path(origin)
                samples = find_samples(data)
        except UserError as error:
            if named:
                raise
            self.missing = str(error)
            return
        self._samples = samples
        self._places = {as_written(name): i for i, name in enumerate(self._samples.names)}
        if not self._places.keys() & sha256.keys():
            self.missing = f"{self._samples.origin} holds none of the run's pictures."
            if named:
                raise UserError(f"{self.missing} Expected the folder, archive or address that it was trained on.")

    def picture(self, name: str) -> np.ndarray | None:
        """The decoded picture (uint8 RGB); None where it is gone, or another file has its name now."""
        if name not in self._places:
            return None
        try:
            content = self._samples.read(self._places[name])
            same = hashlib.sha256(content).hexdigest() == self._sha256.get(name)
            return decode(content) if same else None
        except (OSError, BadPicture, UserError):  # UserError: an address that answers no more
            return None
