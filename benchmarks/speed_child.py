"""One program doing one piece of work once, in a process of its own: `speed.py` starts it and reads the JSON of its last line.

    python benchmarks/speed_child.py '{"work": "step", "who": "plain", "net": "lenet", "steps": 8}'

Everybody gets the same network, first weights, pictures, batch, optimizer and kind of augmentation. The loops are their owners'
own; they are timed from outside, by torch's hooks.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

import plain_loop

RATE, MOMENTUM = 0.001, 0.9
# The first steps of a process set kernels and memory up.
WARM_UP = 3


@dataclass(frozen=True)
class Job:
    work: str
    """step: training steps on one resident batch. epoch: two epochs from JPEG files. answer: JPEG bytes to labels. folder: a
    folder of photos to a CSV file, by the notes' loop."""
    who: str
    net: str
    """lenet or alexnet, as the notes write them."""
    steps: int = 10
    batch: int = 32
    photos: str = ""
    """A folder of class folders."""
    workers: int = 0
    model: str = ""
    """What `prepare` wrote."""

    @property
    def size(self) -> int:
        return 224 if self.net == "lenet" else 256


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    watch = Stopwatch()
    done = WORK[job.work](job, watch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("\n" + json.dumps({**done, "job": asdict(job), "memory_mb": memory}))


def fresh(job: Job) -> nn.Module:
    """The notes' network with the weights of seed 0."""
    torch.manual_seed(0)
    return plain_loop.LeNet() if job.net == "lenet" else plain_loop.AlexNet()


def fresh_tapetum(job: Job) -> nn.Module:
    """tapetum's network of the same layers, with the same weights."""
    from tapetum import models

    network = models.build(f"{job.net}-textbook", 2, job.size)
    network.load_state_dict(dict(zip(network.state_dict(), fresh(job).state_dict().values(), strict=True)))
    return network.to(memory_format=torch.channels_last)


class Stopwatch:
    """When the training steps of any loop begin, end their forward pass, begin and end their update; and what their loss is."""

    def __init__(self) -> None:
        self.times: list[list[float]] = []
        self.faults: list[int] = []
        self.losses: list[torch.Tensor] = []
        self.pictures: list[int] = []
        self.begun = 0.0

    def attach(self, network: nn.Module, seeded: bool) -> None:
        """Watch `network`. `seeded`: dropout depends on the step alone, so that everybody drops the same."""
        network.register_forward_pre_hook(lambda network, inputs: self._begin(network, inputs[0], seeded))
        network.register_forward_hook(lambda network, inputs, output: self._mark() if network.training else None)
        register_optimizer_step_pre_hook(lambda *_: self._mark())
        register_optimizer_step_post_hook(lambda *_: self._mark())
        torch.nn.functional.cross_entropy = self._recorded(torch.nn.functional.cross_entropy)
        self.begun = time.perf_counter()

    def _begin(self, network: nn.Module, images_BCHW: torch.Tensor, seeded: bool) -> None:
        if network.training:
            self.times.append([time.perf_counter()])
            self.faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            self.pictures.append(len(images_BCHW))
            if seeded:
                torch.manual_seed(len(self.times))

    def _mark(self) -> None:
        if self.times:
            self.times[-1].append(time.perf_counter())

    def _recorded(self, cross_entropy: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def recorded(*args: object, **kwargs: object) -> torch.Tensor:
            value = cross_entropy(*args, **kwargs)
            if value.requires_grad:
                self.losses.append(value.detach())
            return value

        return recorded

    def by_step(self) -> dict:
        """Medians of the steps after the warm-up, whole and in parts, and each step's loss."""
        begins, forwards, updates, ends = np.array(self.times[WARM_UP:]).T
        return {
            "seconds": float(np.median(np.diff(begins))),
            "parts": {
                "forward": float(np.median(forwards - begins)),
                "backward": float(np.median(updates - forwards)),
                "optimizer": float(np.median(ends - updates)),
            },
            "faults": float(np.median(np.diff(self.faults[WARM_UP:]))),
            "losses": [value.mean().item() for value in self.losses],
        }

    def by_epoch(self, count: int) -> dict:
        """Seconds of the first epoch, all that comes before its first step included, and of the second; their mean losses."""
        seen = np.cumsum(self.pictures)
        last = [int(np.searchsorted(seen, count * epoch)) for epoch in (1, 2)]
        if len(seen) <= last[1] or seen[last[0]] != count or seen[last[1]] != 2 * count:
            raise SystemExit(f"not the same work: {self.pictures} pictures a step, expected two epochs of {count}")
        ends = [self.times[i][-1] for i in last]
        losses = np.array([value.mean().item() for value in self.losses[: last[1] + 1]])
        weights = np.array(self.pictures[: last[1] + 1])
        first, second = slice(0, last[0] + 1), slice(last[0] + 1, None)
        return {
            "seconds": {"cold": ends[0] - self.begun, "warm": ends[1] - ends[0]},
            "faults": (self.faults[last[1]] - self.faults[last[0] + 1]) / (last[1] - last[0] - 1),
            "losses": [float(np.average(losses[part], weights=weights[part])) for part in (first, second)],
        }


def step(job: Job, watch: Stopwatch) -> dict:
    TRAINERS[job.who](job, Resident(job), watch)
    return watch.by_step()


def epoch(job: Job, watch: Stopwatch) -> dict:
    TRAINERS[job.who](job, None, watch)
    return watch.by_epoch(sum(1 for _ in Path(job.photos).rglob("*.jpg")))


class Resident:
    """One batch of noise, shown in every step."""

    def __init__(self, job: Job) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images_BCHW = torch.randn(job.batch, 3, job.size, job.size, generator=generator)
        self.labels_B = torch.randint(2, (job.batch,), generator=generator)
        self.steps = job.steps

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter([(self.images_BCHW, self.labels_B)] * self.steps)


def plain(job: Job, resident: Resident | None, watch: Stopwatch) -> None:
    """The textbook loop; "tuned" as PyTorch's own guides advise; "compiled" the same by torch.compile."""
    tuned = job.who in ("tuned", "compiled")
    network = fresh(job).to(memory_format=torch.channels_last if tuned else torch.contiguous_format)
    if job.who == "compiled":
        network = torch.compile(network)
    if resident and tuned:
        resident.images_BCHW = resident.images_BCHW.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, fused=tuned or None)
    criterion = nn.CrossEntropyLoss()
    watch.attach(network, seeded=resident is not None)
    loader = resident or DataLoader(
        plain_loop.DogvsCatDataset(
            sorted(Path(job.photos).rglob("*.jpg")),
            plain_loop.TunedTransform(job.size) if tuned else plain_loop.ImageTransform(job.size),
            "train",
        ),
        batch_size=job.batch,
        shuffle=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
    )
    for _ in range(1 if resident else 2):
        for images_BCHW, labels_B in loader:
            optimizer.zero_grad()
            loss = criterion(network(images_BCHW), labels_B)
            loss.backward()
            optimizer.step()
            loss.item()


def tapetum(job: Job, resident: Resident | None, watch: Stopwatch) -> None:
    """tapetum's training with the notes' recipe."""
    import tempfile

    from tapetum.config import Settings
    from tapetum.data.cache import open_pictures
    from tapetum.data.loader import Batch, TrainingLoader, ValidationLoader
    from tapetum.data.sources import find_samples
    from tapetum.training import loop, recipes

    asked = Settings(recipe="notes", model=f"{job.net}-textbook", batch=job.batch, epochs=1 if resident else 2)
    recipe, _ = recipes.choose(asked, recipes.Facts(400, 2, 375, False))
    prepared, cpu = recipes.preprocessing(recipe), torch.device("cpu")
    network = fresh_tapetum(job)

    class ResidentLoader(TrainingLoader):
        def __len__(self) -> int:
            return resident.steps

        def epoch(self, epoch: int, start: int = 0, size: int | None = None) -> Iterator[Batch]:
            batch = Batch(
                resident.images_BCHW.contiguous(memory_format=torch.channels_last),
                nn.functional.one_hot(resident.labels_B, 2).float(),
                resident.labels_B,
                slice(0, job.batch),
                job.batch,
            )
            return iter([batch] * resident.steps)

    with tempfile.TemporaryDirectory() as cache:
        watch.attach(network, seeded=resident is not None)
        if resident:
            loader = ResidentLoader(None, np.arange(job.batch), resident.labels_B.numpy(), 2, recipe, prepared, 0, cpu)
            validation = [np.zeros((1, job.size, job.size, 3), np.uint8)]
        else:
            import os

            os.environ["TAPETUM_CACHE"] = cache
            samples = find_samples(Path(job.photos))
            pictures = open_pictures(samples, prepared.reduce)
            rows = np.arange(len(samples))
            loader = TrainingLoader(pictures, rows, samples.labels, 2, recipe, prepared, 0, cpu)
            validation = ValidationLoader(pictures, rows[:1], prepared, job.batch)
        task = loop.Task(loader, validation, np.zeros(1, np.int64), recipe, 0, cpu, False, Path(cache), {})
        loop.fit(task, network, False, lambda line: None, lambda entry: None)


def peer(job: Job, resident: Resident | None, watch: Stopwatch) -> None:
    import speed_peers

    speed_peers.TRAINERS[job.who](job, fresh(job), resident, watch, RATE, MOMENTUM)


def answer(job: Job, watch: Stopwatch) -> dict:
    """Bytes of a JPEG file to class probabilities, one at a time and 32 at a time."""
    files = [path.read_bytes() for path in sorted(Path(job.photos).rglob("*.jpg"))]
    ask = ANSWERERS[job.who](job)
    ask(files[:1]), ask(files[: job.batch])  # warm up
    single = []
    for data in files:
        begun = time.perf_counter()
        ask([data])
        single.append(time.perf_counter() - begun)
    batches = [files[start : start + job.batch] for start in range(0, len(files) - job.batch + 1, job.batch)]
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    found = np.concatenate([ask(batch) for batch in batches])
    seconds = (time.perf_counter() - begun) / len(found)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return {
        "seconds": {"one p50": float(np.median(single)), "one p95": float(np.quantile(single, 0.95)), "of 32 each": seconds},
        "faults": (after - before) / len(batches),
        "losses": found[:, 1].tolist(),
    }


def plain_answers(job: Job) -> Callable[[list[bytes]], np.ndarray]:
    """The notes' pipeline; "tuned" and "compiled" as in training, decoding by torchvision; "onnx" by ONNX Runtime."""
    import io

    from PIL import Image
    from torchvision.io import ImageReadMode, decode_jpeg

    tuned = job.who in ("tuned", "compiled")
    if job.who == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(f"{job.model}/{job.net}.onnx", options)
    network = fresh(job).eval().to(memory_format=torch.channels_last if tuned else torch.contiguous_format)
    if job.who == "compiled":
        network = torch.compile(network)
    transform = plain_loop.TunedTransform(job.size) if tuned else plain_loop.ImageTransform(job.size)

    def picture(data: bytes) -> torch.Tensor:
        if tuned:
            return transform(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB), "val")
        return transform(Image.open(io.BytesIO(data)).convert("RGB"), "val")

    @torch.inference_mode()
    def ask(files: list[bytes]) -> np.ndarray:
        images_BCHW = torch.stack([picture(data) for data in files])
        if job.who == "onnx":
            return torch.softmax(torch.from_numpy(session.run(None, {"images": images_BCHW.numpy()})[0]), 1).numpy()
        if tuned:
            images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        return torch.softmax(network(images_BCHW), 1).numpy()

    return ask


def tapetum_answers(job: Job) -> Callable[[list[bytes]], np.ndarray]:
    from tapetum import load

    return load(f"{job.model}/{job.net}-run", "cpu").predict_proba


def folder(job: Job, watch: Stopwatch) -> dict:
    """The notes' prediction loop: one photo after the other, and a CSV file."""
    import pandas as pd
    from PIL import Image

    network = fresh(job)
    network.load_state_dict(torch.load(f"{job.model}/{job.net}.pt", weights_only=True))
    network.eval()
    transform, rows = plain_loop.ImageTransform(job.size), []
    for path in sorted(Path(job.photos).rglob("*.jpg")):
        image = transform(Image.open(path).convert("RGB"), "val").unsqueeze(0)
        with torch.no_grad():
            rows.append((path.name, torch.softmax(network(image), dim=1)[:, 1].tolist()[0]))
    pd.DataFrame(rows, columns=["id", "label"]).to_csv(f"{job.model}/plain.csv", index=False)
    return {}


def prepare(job: Job, watch: Stopwatch) -> dict:
    """Write the network with its first weights as files for tapetum, torch, and ONNX Runtime if it is here."""
    from tapetum.config import Settings
    from tapetum.inference.classifier import Classifier
    from tapetum.training import recipes

    place, network = Path(job.model), fresh(job).eval()
    recipe, _ = recipes.choose(
        Settings(recipe="notes", model=f"{job.net}-textbook", epochs=2), recipes.Facts(400, 2, 375, False)
    )
    run = place / f"{job.net}-run"
    run.mkdir(parents=True)
    Classifier(fresh_tapetum(job).eval(), recipe.model, ("Cat", "Dog"), recipes.preprocessing(recipe)).save(
        run / "model.safetensors"
    )
    torch.save(network.state_dict(), place / f"{job.net}.pt")
    try:
        import onnx
        import onnxruntime
    except ImportError as absent:
        return {"onnx": f"absent ({absent})"}
    images_BCHW = torch.zeros(2, 3, job.size, job.size)
    torch.onnx.export(
        network, (images_BCHW,), place / f"{job.net}.onnx", input_names=["images"], dynamo=True,
        dynamic_shapes=[{0: torch.export.Dim("batch")}],
    )  # fmt: skip
    return {"onnx": f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"}


def floors(job: Job, watch: Stopwatch) -> dict:
    import speed_floors

    return speed_floors.measure(job.net, job.size, job.batch, job.steps)


WORK = {"step": step, "epoch": epoch, "answer": answer, "folder": folder, "prepare": prepare, "floors": floors}
LOOPS = ("plain", "tuned", "compiled")
TRAINERS = {"tapetum": tapetum, **dict.fromkeys(LOOPS, plain), **dict.fromkeys(("timm", "fastai", "ultralytics"), peer)}
ANSWERERS = {"tapetum": tapetum_answers, **dict.fromkeys((*LOOPS, "onnx"), plain_answers)}

if __name__ == "__main__":
    main()
