"""MNIST, the paper's own job: the error on the 10,000 test digits, as a mean over seeds.

    python benchmarks/mnist.py --model lenet5-1998 --recipe paper
    python benchmarks/mnist.py --model lenet5-1998 --recipe paper --warp 0.1 --epochs 40
    python benchmarks/mnist.py --model lenet-now --epochs 15

57,000 of the 60,000 training digits train, 3,000 validate (they choose nothing: the last epoch counts), the test digits are
judged once a seed. Settings were chosen on 10,000 of the training digits (benchmarks/LOG.md), never on the test digits. Prints
a line a seed and, at the end, a row for RESULTS.md: mean error, 95 % interval of the mean (Student's t), seeds, time.
"""

import argparse
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import tapetum
from tapetum.evaluation.metrics import mean_interval

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mnist"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="lenet5-1998")
    parser.add_argument("--recipe", choices=["auto", "paper"], default="auto")
    parser.add_argument("--warp", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    options = {name: value for name in ("warp", "epochs") if (value := getattr(args, name)) is not None}
    errors, seconds = [], []
    for seed in range(args.seeds):
        folder, begun = Path(tempfile.mkdtemp()), time.monotonic()
        run = tapetum.train(
            args.data, folder / "run", model=args.model, recipe=args.recipe, val=0.05, seed=seed, say=lambda _: None, **options
        )
        seconds.append(time.monotonic() - begun)
        errors.append(1 - run.metrics["test"].accuracy.value)
        print(f"{args.model} {args.recipe} {options} seed {seed}: error {errors[-1]:.2%}, {seconds[-1]:.0f} s", flush=True)
        shutil.rmtree(folder)
    mean = mean_interval(np.array(errors))
    print(f"\n{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {tapetum.__version__}")
    flags = " ".join(f"--{name} {value}" for name, value in options.items())
    print(
        f"| `{args.model}` | {args.recipe} {flags} | {mean.value:.2%} | {mean.low:.2%} to {mean.high:.2%} | {args.seeds} "
        f"| {np.mean(seconds) / 60:.1f} min |"
    )


if __name__ == "__main__":
    main()
