"""Pictures for many machines: pack."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tapetum.commands.common import Data, Json, dumps, quoted


def pack(
    data: Data,
    out: Annotated[Positional[Path], arg(metavar="OUT")],
    /,
    shard_mb: Annotated[float, arg(help="Largest size of a shard, in megabytes.")] = 256,
    seed: Annotated[int, arg(help="Seed of the order in which pictures are packed.")] = 0,
    overwrite: Annotated[bool, arg(help="Replace the shards that are in the folder.")] = False,
    json: Json = False,
) -> None:
    """Pack labelled pictures into WebDataset shards, for a web server or object store, or for other programs.

    Every command that takes DATA takes the folder of shards, its index file, or the address of either; a training from them is
    the same as one from the pictures. Files that give no picture are listed and not packed. The same command goes on with an
    interrupted pack.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
        out: Folder to write.
    """
    from tapetum.data.pack import pack as run_pack

    found = run_pack(data, out, shard_mb, seed, overwrite, say=lambda line: print(line, file=sys.stderr))
    if json:
        print(dumps(found.to_json()))
        return
    print(found.text())
    print(f"next:     tapetum train {quoted(out)}")
