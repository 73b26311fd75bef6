"""`--processes 2`: the same command in several processes of this machine, which torchrun's machinery starts and looks after."""

import logging
import os
import signal
import socket
import sys
import uuid
from typing import Annotated

from tyro.conf import arg

from tapetum import processes
from tapetum.commands.common import whole_number

Processes = Annotated[
    int, arg(help="Processes of this machine that work together, each with its part of the cores, or one GPU each.")
]


def in_processes(number: int) -> bool:
    """If several processes are asked for, and this is none of them yet: start them, wait for them, and fail as they fail.

    Whether the command is done with that.
    """
    whole_number("processes", number)
    if number == 1 or processes.asked_for():
        return False
    if code := _launch(number, _without_the_flag(sys.argv[1:])):
        sys.exit(code)
    return True


def _without_the_flag(arguments: list[str]) -> list[str]:
    at = [i for i, argument in enumerate(arguments) if argument == "--processes"]
    gone = {i + k for i in at for k in (0, 1)}
    return [each for i, each in enumerate(arguments) if i not in gone and not each.startswith("--processes=")]


def _launch(number: int, arguments: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Threads that are more than the cores wait for one another (benchmarks/LOG.md).
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processes.num_cores() // number)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what went wrong is said in our words
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        max_restarts=0,
        monitor_interval=0.1,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        run_id=uuid.uuid4().hex,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "tapetum", *arguments)
    except SignalException as stop:
        return 128 + stop.sigval
    except ChildFailedError as failed:
        killed = [(rank, -failure.exitcode) for rank, failure in failed.failures.items() if failure.exitcode < 0]
        for rank, number_of_signal in killed:
            name = signal.Signals(number_of_signal).name
            print(f"tapetum: rank {rank} of {number} on {socket.gethostname()} was ended by {name}.", file=sys.stderr)
        first = min(failed.failures.values(), key=lambda failure: failure.timestamp)
        return processes.Lost.exit_code if first.exitcode < 0 else first.exitcode
    return 0
