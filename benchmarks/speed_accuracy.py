"""Seconds from the start of a training of tapetum on ARCHIVE until 80, 90 and 95 % of the held-out pictures are right.

    python benchmarks/speed_accuracy.py ARCHIVE FOLDER [tapetum train's flags]

Called by speed.py. Judged after each epoch by the weights that would be kept, so it is the end of an epoch that counts.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

GOALS = (0.80, 0.90, 0.95)


def main() -> None:
    archive, folder, *flags = sys.argv[1:]
    begun, reached = time.perf_counter(), {}
    # 20,000 of the 21,000 pictures train.
    command = [sys.executable, "-m", "tapetum", "train", archive, "--out", folder, "--val", "0.0477", *flags]
    log = Path(folder) / "log.jsonl"
    with subprocess.Popen(command, stdout=sys.stderr) as training:
        while training.poll() is None and len(reached) < len(GOALS):
            time.sleep(0.2)
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            best = max((json.loads(line)["val_accuracy"] for line in lines if line.endswith("}")), default=0)
            for goal in GOALS:
                if best >= goal:
                    reached.setdefault(f"{goal:.0%}".replace("%", " %"), time.perf_counter() - begun)
        training.terminate()
    never = {f"{goal:.0%}".replace("%", " %"): float("inf") for goal in GOALS}
    print("\n" + json.dumps({"seconds": {**never, **reached}}))


if __name__ == "__main__":
    main()
