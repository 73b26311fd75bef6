"""The program, saving after every epoch, and dying where MORTAL says. For torchrun to start, and to start again.

"0:1:5,1:0:9" kills rank 1 in step 5 and, once all were started again, rank 0 in step 9.
"""

import os
import signal
from typing import Any

from tapetum.__main__ import main
from tapetum.training import loop


def run() -> None:
    """Run the command line."""
    loop._SECONDS_BETWEEN_CHECKPOINTS = -1.0
    attempt, rank = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
    deaths = {tuple(each.split(":")) for each in os.environ.get("MORTAL", "").split(",")}
    step = loop._step

    def mortal(task: Any, state: Any, *rest: Any) -> None:
        if (attempt, rank, str(state.progress.step + 1)) in deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        step(task, state, *rest)

    loop._step = mortal
    main()


if __name__ == "__main__":
    run()
