"""What several processes gain on this machine: so many of one thread each against one process with as many threads.

    python benchmarks/scaling.py [--processes 2] [--rounds 7] [--steps 12] [--network alexnet] [--size 128] [--batch 128]
    python benchmarks/scaling.py --dry

Real training steps by the training's own code: batches from the warm cache (512 pictures made for it), forward, backward,
exchange, update; the same batches of the same pictures in both. A round measures both, every second round in the opposite
order; what is printed is the median of the rounds' ratios with their range, and where the time of a step goes. Wants a machine
where nothing else runs. Writes scaling.json, to which cost_model.py can be fitted.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
# The first steps make what later ones use: kernels, memory, the optimizer's state, connections.
_WARM = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--network", default="alexnet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128, help="pictures of a step, of all processes together")
    parser.add_argument("--out", type=Path, default=HERE / "scaling.json")
    parser.add_argument("--dry", action="store_true", help="one round of few small steps: to see that it runs; writes nothing")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.dry:
        args.rounds, args.steps, args.size, args.batch = 1, 2, 64, 16
    if args.child:
        child(args)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ["TAPETUM_CACHE"] = f"{place}/cache"
        make_pictures(Path(place) / "pictures", args.batch * 4)
        rounds = []
        for number in range(args.rounds):
            ways = [1, args.processes] if number % 2 == 0 else [args.processes, 1]
            found = {each: measured(args, Path(place) / "pictures", each) for each in ways}
            rounds.append({"one": found[1], "many": found[args.processes]})
            print(line(args, rounds[-1]), flush=True)
    ratios = [each["one"]["step"] / each["many"]["step"] for each in rounds]
    print(
        f"throughput of {args.processes} x 1 thread against 1 x {args.processes} threads, {args.network} at {args.size} px, "
        f"batch {args.batch}: {statistics.median(ratios):.3f} (median of {len(ratios)} rounds, "
        f"{min(ratios):.3f} to {max(ratios):.3f})"
    )
    memory = [each["many"]["megabytes"] / each["one"]["megabytes"] for each in rounds]
    print(f"peak memory of a process against the single one's: {statistics.median(memory):.2f} (at most {max(memory):.2f})")
    if not args.dry:
        about = {name: value for name, value in vars(args).items() if name not in ("out", "child", "dry")}
        args.out.write_text(json.dumps({"about": about, "rounds": rounds}, indent=1) + "\n")


def line(args: argparse.Namespace, found: dict) -> str:
    """A round in words."""
    one, many = found["one"], found["many"]
    parts = ", ".join(f"{name} {1000 * many[name]:.0f}" for name in ("data", "exchange", "rest"))
    return (
        f"1 x {args.processes}: {args.batch / one['step']:.1f} pictures/s, "
        f"{args.processes} x 1: {args.batch / many['step']:.1f} ({1000 * many['step']:.0f} ms a step: {parts})"
    )


def make_pictures(folder: Path, count: int) -> None:
    """Smooth random pictures of two classes, 160 pixels."""
    generator = np.random.default_rng(0)
    for i in range(count):
        small = generator.integers(0, 255, (10, 10, 3), np.uint8)
        path = folder / f"class-{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((160, 160), Image.Resampling.BILINEAR).save(path)


def measured(args: argparse.Namespace, pictures: Path, processes: int) -> dict[str, float]:
    """Seconds of a step by `processes` processes that share `args.processes` threads, and where they go."""
    command = [str(Path(__file__)), "--child", str(pictures), "--steps", str(args.steps), "--network", args.network]
    command += ["--size", str(args.size), "--batch", str(args.batch)]
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.processes // processes)}
    done = subprocess.run([*start, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def child(args: argparse.Namespace) -> None:
    """The steps, in one process of some; the first one prints."""
    import torch

    from tapetum import models, processes
    from tapetum.config import Settings
    from tapetum.data.cache import open_pictures
    from tapetum.data.loader import TrainingLoader, ValidationLoader
    from tapetum.data.sources import find_samples
    from tapetum.faster import keep_freed_memory, rewritten
    from tapetum.training import loop, recipes
    from tapetum.training.checkpoint import State
    from tapetum.training.optim import Average, make_optimizer
    from tapetum.training.team import Team

    keep_freed_memory()
    samples = find_samples(args.child)
    facts = recipes.Facts(len(samples), 2, 160, False, 1.0, None)
    asked = Settings(model=args.network, size=args.size, start_size=args.size, batch=args.batch, epochs=1000, turn=0.0)
    recipe, _ = recipes.choose(asked, facts)
    prepared = recipes.preprocessing(recipe)
    times: list[tuple[float, float, float]] = []
    with processes.joined():
        with processes.in_turn():
            pictures = open_pictures(samples, prepared.reduce)
        torch.manual_seed(0)
        cpu = torch.device("cpu")
        network = models.build(recipe.model, 2, recipe.size).to(memory_format=torch.channels_last).train()
        rows = np.arange(len(samples))
        loader = TrainingLoader(pictures, rows, samples.labels, 2, recipe, prepared, 0, cpu)
        task = loop.Task(
            loader, ValidationLoader(pictures, rows[:2], prepared, 2), samples.labels[:2], recipe, 0, cpu, False, Path(), {}
        )
        state = State(network, Average(network, recipe.ema), make_optimizer(network, recipe))
        team = Team(network)
        exchange, add = [0.0], team.add_gradients

        def timed() -> None:
            begun = time.perf_counter()
            add()
            exchange[0] += time.perf_counter() - begun

        team.add_gradients = timed  # type: ignore[method-assign]
        with rewritten(network), team.layers():
            while len(times) < _WARM + args.steps:
                processes.wait()
                begun = time.perf_counter()
                for batch in loader.epoch(len(times), 0, recipe.size):
                    ready = time.perf_counter()
                    exchange[0] = 0.0
                    loop._step(task, state, batch, 0.5, team)
                    ended = time.perf_counter()
                    times.append((ended - begun, ready - begun, exchange[0]))
                    begun = ended
        whole, data, exchanged = (statistics.median(column) for column in zip(*times[_WARM:], strict=True))
        peak = processes.most(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if processes.first():
            told = {"step": whole, "data": data, "exchange": exchanged, "rest": whole - data - exchanged, "megabytes": peak}
            print(json.dumps({**told, "gradient_bytes": 4 * sum(p.numel() for p in network.parameters())}))


if __name__ == "__main__":
    main()
