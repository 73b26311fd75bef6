"""Pictures from elsewhere and for elsewhere: get, pack."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tapetum.commands.common import Data, Json, dumps, quoted


def get(
    name: Annotated[Positional[str], arg(metavar="[NAME]", help_behavior_hint="")] = "",
    folder: Annotated[Positional[Path | None], arg(metavar="[DIR]", help_behavior_hint="")] = None,
    /,
    json: Json = False,
) -> None:
    """Fetch public pictures by name, from who published them; without a name, list them.

    What came is checked by its SHA-256. A transfer that was broken off goes on where it stopped, by the same command.

    Args:
        name: cats-dogs, oxford-pets, cifar10, mnist or fashion-mnist.
        folder: Folder to write, new or empty (default: NAME).
    """
    from tapetum.data.public import COLLECTIONS
    from tapetum.data.public import get as fetch

    if not name and json:
        print(
            dumps(
                {each: {"what": known.what, "mb": known.size / 1e6, "home": known.home} for each, known in COLLECTIONS.items()}
            )
        )
        return
    if not name:
        print("\n".join(f"{each:13}  {known.size / 1e6:5,.0f} MB  {known.what}" for each, known in COLLECTIONS.items()))
        print("\nnext:     tapetum get NAME")
        return
    data = fetch(name, folder, say=lambda line: print(line, file=sys.stderr))
    if json:
        print(dumps({"name": name, "data": str(data), "home": COLLECTIONS[name].home}))
        return
    print(f"whose they are, and what may be done with them: {COLLECTIONS[name].home}")
    print(f"next:     tapetum check {quoted(data)}")


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
