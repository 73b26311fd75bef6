"""Seconds from the start of tapetum's training on ARCHIVE until 80, 90 and 95 % of the held-out pictures are right.

    python benchmarks/speed_accuracy.py ARCHIVE FOLDER [tapetum train's flags]

Called by speed.py. Trainings with longer and longer budgets, each from nothing, with a cache of its own; a goal's time is that
of the first budget that reaches it, at the end of the epoch that does. Infinity: none does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

GOALS = {"80 %": 0.80, "90 %": 0.90, "95 %": 0.95}
MINUTES = (1, 2, 3, 5, 8, 15, 60)


def main() -> None:
    archive, folder, *flags = sys.argv[1:]
    reached: dict[str, float] = {}
    for minutes in MINUTES:
        if len(reached) < len(GOALS):
            reached |= {
                goal: s for goal, s in train(archive, f"{folder}-{minutes}", minutes, flags).items() if goal not in reached
            }
    print("\n" + json.dumps({"seconds": {goal: reached.get(goal, float("inf")) for goal in GOALS}}))


def train(archive: str, folder: str, minutes: int, flags: list[str]) -> dict[str, float]:
    """When the goals were reached; the training is stopped once all are."""
    # 20,000 of the 21,000 pictures train.
    command = [sys.executable, "-m", "tapetum", "train", archive, "--out", folder, "--val", "0.0477", "--minutes", str(minutes)]
    log, reached, begun = Path(folder) / "log.jsonl", {}, time.perf_counter()
    with subprocess.Popen([*command, *flags], stdout=sys.stderr, env={**os.environ, "TAPETUM_CACHE": f"{folder}-cache"}) as run:
        while run.poll() is None and len(reached) < len(GOALS):
            time.sleep(0.2)
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            best = max((json.loads(line)["val_accuracy"] for line in lines if line.endswith("}")), default=0)
            for goal, accuracy in GOALS.items():
                if best >= accuracy:
                    reached.setdefault(goal, time.perf_counter() - begun)
        run.terminate()
    return reached


if __name__ == "__main__":
    main()
