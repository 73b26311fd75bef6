"""The user's cache folder: where it is, how much may stand there, and what goes first when it is too much.

KEY.u8, KEY.json      decoded pictures (data/cache.py)
shards/SHA256.tar     shards that were fetched from elsewhere (data/remote.py)
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

import platformdirs

from tapetum.errors import UserError

# What all caches together may take on the disk; TAPETUM_CACHE_GB overrides it. Some room is always left to the user.
_DEFAULT_GB = 20.0
_KEEP_FREE_BYTES = 2 * 1024**3
_DAY_SECONDS = 86_400


def cache_folder() -> Path:
    """Where the caches lie: the environment variable TAPETUM_CACHE, or the user's cache folder of this system."""
    return Path(os.environ.get("TAPETUM_CACHE") or platformdirs.user_cache_path("tapetum"))


def limit_bytes() -> int:
    """What all caches together may take."""
    text = os.environ.get("TAPETUM_CACHE_GB", "")
    try:
        return int(float(text or _DEFAULT_GB) * 1e9)
    except (ValueError, OverflowError) as error:
        raise UserError(f"TAPETUM_CACHE_GB is '{text}': expected a number of gigabytes, such as 20.") from error


def room(folder: Path, beside: int = 0) -> int:
    """Bytes that a new cache may have in `folder`, `beside` so many that stay there as long as it is used."""
    return min(limit_bytes() - beside, free_bytes(folder))


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of `folder`, which need not be there yet."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(there).free - _KEEP_FREE_BYTES


def is_kept(path: Path, size: int) -> bool:
    """Whether the file is there, with so many bytes; it counts as used now, and what was not used for longest goes first."""
    try:
        if path.stat().st_size != size:
            return False
    except OSError:
        return False
    mark_used(path)
    return True


def mark_used(path: Path) -> None:
    """Set a file's time of last use to now, where it is ours: another user's serves as well."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove_oldest(folder: Path, spare: str = "", coming: int = 0) -> None:
    """Remove the caches that were not used for longest until all together are within the limit; never the one called `spare`.

    `coming`: so many bytes are about to be written beside them.

    What a killed process left half written goes too, once it is a day old and nobody can still be writing it.
    """
    for scrap in (*folder.glob(".*.part"), *folder.glob("shards/.*.part"), *folder.glob("shards/.*.lock")):
        with contextlib.suppress(OSError):  # another process was faster, or another user's it is
            if time.time() - scrap.stat().st_mtime > _DAY_SECONDS:
                scrap.unlink()
    entries: list[tuple[float, int, tuple[Path, Path]]] = []
    for file in (*folder.glob("*.u8"), *folder.glob("shards/*.tar")):
        index = file.with_suffix(".json") if file.suffix == ".u8" else file
        with contextlib.suppress(OSError):
            # Of pixels whose process was killed before it wrote the index, their own time counts.
            when = (index if index.exists() else file).stat().st_mtime
            entries.append((when, file.stat().st_size, (file, index)))
    total = coming + sum(size for _, size, _ in entries)
    for _, size, files in sorted(entries):
        if total <= limit_bytes():
            return
        if files[0].stem != spare:
            with contextlib.suppress(OSError):  # another user's, or on Windows in use: the next one goes
                for file in files:
                    file.unlink(missing_ok=True)
                total -= size
