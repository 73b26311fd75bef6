"""What a machine with GPUs can check that others cannot; one line a check.

    python benchmarks/gpu.py [--network alexnet] [--size 128] [--batch 128]
    python benchmarks/gpu.py --device cpu --network lenet --size 32 --batch 8

Whether the accelerator computes what the processor does (outputs, gradients, one training), in half precision too; whether
memory is in channels-last order there; whether batches made ahead are the batches; whether a training goes on where memory runs
out; speed and peak memory of the training's own steps against a plain loop that is tuned as well as we know (channels-last,
fused optimizer, half precision, pictures on the device already); and whether as many processes as there are GPUs make the
network of one (NCCL). Exit code 1 if a check fails, 2 where there is no accelerator. The second call only shows that the checks
themselves run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import tapetum
from scaling import make_pictures
from tapetum import device, models
from tapetum.config import Settings
from tapetum.data.ahead import ahead
from tapetum.data.cache import open_pictures
from tapetum.data.loader import TrainingLoader, ValidationLoader
from tapetum.data.sources import find_samples
from tapetum.faster import rewritten
from tapetum.training import loop, recipes
from tapetum.training.checkpoint import State
from tapetum.training.optim import Average, make_optimizer
from tapetum.training.team import Team

Check = Callable[[argparse.Namespace, torch.device, Path], tuple[bool, str]]
_QUICK = {"size": 32, "start_size": 32, "batch": 16, "epochs": 2, "rescue": "off", "turn": 0.0, "mixup": 0.2}
_WARM, _STEPS = 5, 30
# A batch of 256 photos of 224 px wants several times as much.
_FULL_BYTES = 2e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="alexnet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    where = device.choose(args.device)
    if where.type == "cpu" and args.device == "auto":
        print("no accelerator here: nothing was checked. Expected a machine with a GPU that torch can use.", file=sys.stderr)
        sys.exit(2)
    print(f"torch {torch.__version__} on {device.describe(where)}, {torch.accelerator.device_count()} of them")
    failed = 0
    for check in (outputs, channels_last, made_ahead, one_training, half_precision, full, speed, several):
        with tempfile.TemporaryDirectory() as place:
            ok, figure = check(args, where, Path(place))
        failed += not ok
        print(f"{check.__doc__}  |  {figure}  |  {'ok' if ok else 'FAILED'}", flush=True)
    sys.exit(bool(failed))


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest number."""
    a, b = a.detach().cpu().float(), b.detach().cpu().float()
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-9))


def outputs(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """outputs and gradients in float32 are the processor's"""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    worst = 0.0
    for name in ("lenet5-1998", "alexnet-2012", args.network, "compact"):
        entry = models.entry(name)
        network = models.build(name, 2, entry.size).eval()
        images = torch.randn(4, entry.channels, entry.size, entry.size)
        found = []
        for each in (torch.device("cpu"), where):
            network.to(each).zero_grad()
            out = network(images.to(each))
            out.square().sum().backward()
            found.append([out, *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
        worst = max([worst, *(_difference(a, b) for a, b in zip(*found, strict=True))])
    return worst < 1e-3, f"largest relative difference {worst:.1e}"


def _wait(where: torch.device) -> None:
    """Until the device has computed all that it was given."""
    if where.type != "cpu":
        torch.accelerator.synchronize(where)


def _scaler(where: torch.device, mixed: bool) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(where.type, enabled=mixed and where.type == "cuda")


def _task(args: argparse.Namespace, where: torch.device, place: Path, mixed: bool = False) -> tuple[loop.Task, torch.nn.Module]:
    make_pictures(place / "pictures", args.batch * 4)
    samples = find_samples(place / "pictures")
    asked = Settings(model=args.network, size=args.size, start_size=args.size, batch=args.batch, epochs=1000, turn=0.0)
    recipe, _ = recipes.choose(asked, recipes.Facts(len(samples), 2, 160, False, 1.0, None))
    prepared = recipes.preprocessing(recipe)
    pictures = open_pictures(samples, prepared.reduce, use_cache=False)
    rows = torch.arange(len(samples)).numpy()
    torch.manual_seed(0)
    network = models.build(recipe.model, 2, recipe.size).to(where).to(memory_format=torch.channels_last).train()
    loader = TrainingLoader(pictures, rows, samples.labels, 2, recipe, prepared, 0, where)
    few = ValidationLoader(pictures, rows[:2], prepared, 2)
    return loop.Task(loader, few, samples.labels[:2], recipe, 0, where, mixed, place, {}), network


def channels_last(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """weights and batches lie in channels-last order"""
    task, network = _task(args, where, place)
    batch = next(task.training.epoch(0))
    tensors = [batch.images_BCHW, *(p for p in network.parameters() if p.ndim == 4)]
    right = sum(each.is_contiguous(memory_format=torch.channels_last) for each in tensors)
    return right == len(tensors), f"{right} of {len(tensors)} tensors"


def made_ahead(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """batches made ahead, from pinned memory, are the batches"""
    task, _ = _task(args, where, place)
    plain, ready = (list(ahead(task.training.epoch(0), wanted)) for wanted in (False, True))
    right = sum(torch.equal(a.images_BCHW, b.images_BCHW) for a, b in zip(plain, ready, strict=True))
    return right == len(plain), f"{right} of {len(plain)} equal to the bit"


def one_training(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """a short training ends as on the processor"""
    make_pictures(place / "pictures", 100)
    found = []
    for name in ("cpu", where.type):
        options = {**_QUICK, "model": "compact", "optimizer": "sgd", "lr": 0.02, "device": name, "precision": "float32"}
        run = tapetum.train(place / "pictures", place / f"run-{len(found)}", say=lambda line: None, **options)
        found.append(run.classifier.predict_proba([str(path) for path in sorted((place / "pictures").rglob("*.png"))]))
    worst = float(abs(found[0] - found[1]).max())
    return worst < 0.02, f"largest difference of a probability {worst:.1e}"


def half_precision(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """in half precision the loss falls as in full"""
    last = []
    for mixed in (False, True):
        losses, _ = _steps(*_task(args, where, place / str(mixed), mixed), 20)
        last.append(sum(losses[-5:]) / 5)
    return abs(last[0] - last[1]) < 0.1 * last[0] + 0.02, f"loss after 20 steps {last[0]:.4f} in full, {last[1]:.4f} in half"


def _steps(task: loop.Task, network: torch.nn.Module, count: int) -> tuple[list[float], float]:
    """The losses of so many of the training's own steps, and seconds of one after the first few."""
    optimizer = make_optimizer(network, task.recipe)
    state = State(network, Average(network, task.recipe.ema), optimizer, scaler=_scaler(task.device, task.mixed))
    team = Team(network)
    losses: list[float] = []
    begun = 0.0
    with rewritten(network), team.layers():
        for epoch in range(count):
            for batch in ahead(task.training.epoch(epoch), True):
                if len(losses) == _WARM:
                    _wait(task.device)
                    begun = time.perf_counter()
                before = state.progress.loss_sum
                loop._step(task, state, batch, 0.5, team)
                losses.append((state.progress.loss_sum - before) / batch.whole)
                if len(losses) == count:
                    _wait(task.device)
                    return losses, (time.perf_counter() - begun) / max(1, count - _WARM)
    return losses, 0.0


def _plain(args: argparse.Namespace, where: torch.device, task: loop.Task, network: torch.nn.Module) -> float:
    """Seconds of a step of a plain loop on pictures that are on the device already."""
    batch = next(task.training.epoch(0))
    labels, optimizer = batch.labels_B, torch.optim.AdamW(network.parameters(), fused=True)
    scaler = _scaler(where, task.mixed)
    for number in range(_WARM + _STEPS):
        if number == _WARM:
            _wait(where)
            begun = time.perf_counter()
        with torch.autocast(where.type, enabled=task.mixed):
            value = torch.nn.functional.cross_entropy(network(batch.images_BCHW).float(), labels)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    _wait(where)
    return (time.perf_counter() - begun) / _STEPS


def full(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """where the device's memory runs out, batches go in portions, and the training ends"""
    if where.type != "cuda":
        return True, "not tried: only CUDA's memory can be limited"
    make_pictures(place / "pictures", 400)
    options = {"model": "compact", "size": 224, "start_size": 224, "batch": 256, "epochs": 1, "turn": 0.0}
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, _FULL_BYTES / torch.cuda.get_device_properties(where).total_memory), where
    )
    try:
        run = tapetum.train(place / "pictures", place / "run", device=str(where), say=lambda line: None, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, where)
    at_once = run.classifier.about["training"]["micro_batch"]
    return at_once < 256, f"{at_once} of 256 pictures at once in {_FULL_BYTES / 1e9:.0f} GB"


def speed(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """speed and memory of a step against a tuned plain loop (a figure, no promise)"""
    mixed = device.mixed_precision(where, "auto")
    ratios, memory = [], 0.0
    for turn in range(5):
        ours, plain = _task(args, where, place / f"{turn}a", mixed), _task(args, where, place / f"{turn}b", mixed)
        times = {}
        for way in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            times[way] = _steps(*ours, _WARM + _STEPS)[1] if way == "ours" else _plain(args, where, *plain)
        ratios.append(times["plain"] / times["ours"])
        if where.type == "cuda":
            memory = torch.cuda.max_memory_allocated(where) / 1e9
    ratios.sort()
    rate = args.batch / times["ours"]
    return (
        True,
        f"{rate:,.0f} pictures/s, {ratios[2]:.2f} of the plain loop's ({ratios[0]:.2f} to {ratios[-1]:.2f}), {memory:.1f} GB",
    )


def several(args: argparse.Namespace, where: torch.device, place: Path) -> tuple[bool, str]:
    """one process a GPU makes the network of one process (NCCL)"""
    count = torch.accelerator.device_count()
    if where.type != "cuda" or count < 2:
        return True, f"not tried: {count} {where.type} device"
    make_pictures(place / "pictures", 101)
    flags = [word for name, value in _QUICK.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    # With BatchNorm and without dropout, of which CUDA draws the chance in another way for one process.
    flags += ["--model", "torchvision:resnet18", "--optimizer", "sgd", "--lr", "0.01", "--precision", "float32"]
    for number in (1, count):
        command = [
            "-m",
            "tapetum",
            "train",
            str(place / "pictures"),
            "--out",
            str(place / str(number)),
            "--processes",
            str(number),
        ]
        done = subprocess.run([sys.executable, *command, *flags], capture_output=True, text=True, check=False)
        if done.returncode:
            return False, done.stderr[-500:]
    from safetensors.torch import load_file

    one, many = (load_file(place / str(number) / "model.safetensors") for number in (1, count))
    worst = max(_difference(one[name], many[name]) for name in one if one[name].is_floating_point())
    return worst < 1e-2, f"{count} processes, largest relative difference of a tensor {worst:.1e}"


if __name__ == "__main__":
    main()
