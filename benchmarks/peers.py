"""What others reach on the same photos in the same minutes, each with its own defaults and without pretrained weights.

    python benchmarks/peers.py T400 --peers fastai ultralytics timm --minutes 5 --seeds 3

In an environment of its own, with tapetum, fastai, ultralytics and timm installed (`pip install -e . fastai ultralytics timm`).
The photos are laid out as class folders: those that train, those that validate, those that judge, as in accuracy.py, to whose
accuracy.jsonl the runs are appended.

    fastai       `vision_learner(resnet18, pretrained=False)` with its usual transforms at 224 px and `fit_one_cycle`, for as
                 many epochs as fit into the minutes by the time of the second of two
    ultralytics  `yolo26n-cls.yaml` from scratch, `time=` the minutes, all else as it comes
    timm         its resnet18 in a plain loop: timm's own training transforms at 128 px, AdamW 0.001, cosine by the clock

Each is judged as it judges by itself: one view a photo.
"""

import argparse
import importlib.metadata
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from accuracy import Track, append, find_track
from tapetum.data.cache import open_pictures
from tapetum.data.sources import find_samples
from tapetum.data.splits import notes_split, numbers_range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track", choices=("T400", "T2000", "T20k"))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=tuple(PEERS))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = lay_out(args.track, find_track(args.track, None, Path(scratch)), Path(scratch) / "peers")
        for name in args.peers:
            for seed in range(args.seeds):
                append(one_run(args.track, name, folder, args.minutes, seed))


def lay_out(name: str, track: Track, folder: Path) -> Path:
    """Class folders `train`, `val` and `judge` in `folder`, of copies."""
    if name == "T400":
        book = find_samples(track.train, numbers_range("auto", notes=True))
        unreadable = open_pictures(book, 512).reasons
        book = notes_split(book.select(np.array([i for i in range(len(book)) if i not in unreadable])))
        parts = [(split, book.of_split(split)) for split in ("train", "val")]
    else:
        whole = find_samples(track.train, None)
        parts = [(split, whole.of_split(split)) for split in ("train", "val")]
    parts.append(("judge", find_samples(track.judge, numbers_range(track.numbers, notes=False))))
    for part, samples in parts:
        for i, picture in enumerate(samples.names):
            target = folder / part / samples.classes[samples.labels[i]] / Path(picture).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(samples.read(i))
    return folder


def one_run(track: str, peer: str, folder: Path, minutes: float, seed: int) -> dict:
    """Train and judge once."""
    torch.manual_seed(seed)
    begun = time.monotonic()
    about, seconds, right = PEERS[peer](folder, 60 * minutes, seed)
    return {
        "track": track,
        "network": about,
        "options": {"minutes": minutes},
        "seed": seed,
        "accuracy": float(np.mean(right)),
        "n": len(right),
        "training_seconds": round(seconds, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {name: importlib.metadata.version(name) for name in (peer, "torch")},
        "note": "peer",
    }


def with_fastai(folder: Path, budget: float, seed: int) -> tuple[str, float, np.ndarray]:
    """fastai's course recipe without its pretrained weights."""
    from fastai.vision.all import (
        ImageDataLoaders,
        Resize,
        accuracy,
        aug_transforms,
        get_image_files,
        resnet18,
        set_seed,
        vision_learner,
    )  # fmt: skip

    set_seed(seed)
    data = ImageDataLoaders.from_folder(
        folder, train="train", valid="val", item_tfms=Resize(256), batch_tfms=aug_transforms(size=224), bs=64, num_workers=0
    )
    trial = vision_learner(data, resnet18, pretrained=False, metrics=accuracy)
    trial.fit_one_cycle(1)  # reads the files for the first time, which the second epoch need not
    begun = time.monotonic()
    trial.fit_one_cycle(1)
    an_epoch = time.monotonic() - begun
    learner = vision_learner(data, resnet18, pretrained=False, metrics=accuracy)
    begun = time.monotonic()
    learner.fit_one_cycle(max(1, int(budget / an_epoch)))
    seconds = time.monotonic() - begun
    judged = get_image_files(folder / "judge")
    probabilities_NK, _ = learner.get_preds(dl=data.test_dl(judged))
    labels = np.array([data.vocab.o2i[path.parent.name] for path in judged])
    return "fastai resnet18", seconds, probabilities_NK.argmax(1).numpy() == labels


def with_ultralytics(folder: Path, budget: float, seed: int) -> tuple[str, float, np.ndarray]:
    """Ultralytics' smallest classifier from its layout, without weights."""
    from ultralytics import YOLO

    runs = Path(tempfile.mkdtemp())
    model = YOLO("yolo26n-cls.yaml", task="classify")
    begun = time.monotonic()
    model.train(
        data=str(folder), time=budget / 3600, seed=seed, imgsz=224, project=str(runs), name="run", exist_ok=True, verbose=False
    )
    seconds = time.monotonic() - begun
    best = YOLO(model.trainer.best)
    right = []
    for label in sorted(path.name for path in (folder / "judge").iterdir()):
        found = best.predict(str(folder / "judge" / label), stream=True, verbose=False)
        right += [each.names[each.probs.top1] == label for each in found]
    shutil.rmtree(runs)
    return "ultralytics yolo26n-cls", seconds, np.array(right)


def with_timm(folder: Path, budget: float, seed: int) -> tuple[str, float, np.ndarray]:
    """timm's ResNet-18 in the loop that everybody writes."""
    import timm
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    def loader(part: str, **how: object) -> DataLoader:
        transform = timm.data.create_transform(128, is_training=part == "train")
        return DataLoader(ImageFolder(folder / part, transform), batch_size=32, **how)

    network = timm.create_model("resnet18", pretrained=False, num_classes=2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, weight_decay=0.05)
    training, begun = loader("train", shuffle=True, drop_last=True), time.monotonic()
    network.train()
    while time.monotonic() - begun < budget:
        for images_BCHW, labels_B in training:
            done = (time.monotonic() - begun) / budget
            if done >= 1:
                break
            optimizer.param_groups[0]["lr"] = 0.0005 * (1 + math.cos(math.pi * done))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images_BCHW), labels_B).backward()
            optimizer.step()
    seconds = time.monotonic() - begun
    network.eval()
    with torch.inference_mode():
        right = [network(images_BCHW).argmax(1) == labels_B for images_BCHW, labels_B in loader("judge")]
    return "timm resnet18", seconds, torch.cat(right).numpy()


PEERS: dict[str, Callable[[Path, float, int], tuple[str, float, np.ndarray]]] = {
    "fastai": with_fastai,
    "ultralytics": with_ultralytics,
    "timm": with_timm,
}

if __name__ == "__main__":
    main()
