"""The promises of docs/trust.md that want large counts, one line each: row, promise, figure, ok or FAILED.

    python torture/torture.py            # all; those of the server take by far the longest
    python torture/torture.py 14 18

The rows' numbers are those of the trust page. Works on tiny networks and pictures made for it, in a folder that goes again.
What needs root or Linux (another user, a full disk of its own) says so where it cannot be tried.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import archives  # noqa: F401 - the modules put their rows into the list
import distributed  # noqa: F401
import inputs  # noqa: F401
import model_files  # noqa: F401
import onnx_files  # noqa: F401
import saving  # noqa: F401
import serving  # noqa: F401
import trainings  # noqa: F401
from common import ROWS, Row, warm


def run(row: Row) -> bool:
    """Check one row and print its line."""
    place = Path(tempfile.mkdtemp(prefix=f"torture-{row.number}-"))
    place.chmod(0o755)  # another user looks in
    os.environ["TAPETUM_CACHE"] = str(place / "cache")
    begun = time.monotonic()
    try:
        ok, figure = row.check(place)
    except Exception as error:
        ok, figure = False, f"the check itself broke: {type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(
        f"row {row.number:>2}  {row.promise}  |  {figure}  |  {time.monotonic() - begun:.0f} s  {'ok' if ok else 'FAILED'}",
        flush=True,
    )
    return ok


def main() -> None:
    """Run the command line; exit code 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", type=int, help="numbers of rows; none: all")
    wanted = set(parser.parse_args().rows)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what has used a GPU cannot be copied
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.environ["TAPETUM_CACHE"] = f"{place}/cache"
        warm(Path(place))
    rows = sorted((row for row in ROWS if not wanted or row.number in wanted), key=lambda row: row.number)
    failed = [row.number for row in rows if not run(row)]
    print(f"{len(rows)} rows, {len(failed)} failed {failed or ''} in {time.monotonic() - begun:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
