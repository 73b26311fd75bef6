"""The training loops of timm, fastai and Ultralytics, given the same network, pictures, optimizer and augmentation.

Each is left as it is wherever it lets the work be the same; what is set differently from its defaults stands here. They are
asked for by `speed_child.py`, in an environment where they are installed (`python benchmarks/speed.py --peers PYTHON`).
"""

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from plain_loop import MEAN, STD


def with_timm(job: Any, network: nn.Module, resident: Any, watch: Any, rate: float, momentum: float) -> None:
    """timm's loader and optimizer in the loop of its train.py, which its package does not hold; channels last, as it offers."""
    from timm.data import ImageDataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter

    network = network.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="momentum", lr=rate, momentum=momentum, weight_decay=0)
    criterion, losses = nn.CrossEntropyLoss(), AverageMeter()
    watch.attach(network, seeded=resident is not None)
    loader = resident or create_loader(
        ImageDataset(job.photos), (3, job.size, job.size), job.batch, is_training=True, scale=(0.5, 1.0), color_jitter=None,
        interpolation="bilinear", mean=MEAN, std=STD, num_workers=job.workers, persistent_workers=job.workers > 0,
        use_prefetcher=False, device=torch.device("cpu"),
    )  # fmt: skip
    if not resident and loader.drop_last:
        loader = torch.utils.data.DataLoader(
            loader.dataset, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=job.workers > 0
        )
    for _ in range(1 if resident else 2):
        network.train()
        for images_BCHW, labels_B in loader:
            loss = criterion(network(images_BCHW.contiguous(memory_format=torch.channels_last)), labels_B)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), len(images_BCHW))


def with_fastai(job: Any, network: nn.Module, resident: Any, watch: Any, rate: float, momentum: float) -> None:
    """fastai's Learner with torch's SGD, which is faster than its own."""
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.vision.all import FlipItem, ImageDataLoaders, Normalize, RandomResizedCrop

    watch.attach(network, seeded=resident is not None)
    if resident:
        batch = [(resident.images_BCHW, resident.labels_B)]
        cpu = torch.device("cpu")
        data = DataLoaders(*[DataLoader(batch * count, bs=None, num_workers=0, device=cpu) for count in (resident.steps, 1)])
    else:
        data = ImageDataLoaders.from_folder(
            Path(job.photos).parent, train="train", valid="val", bs=job.batch, num_workers=job.workers, device="cpu",
            item_tfms=[RandomResizedCrop(job.size, min_scale=0.5), FlipItem(0.5)],
            batch_tfms=[Normalize.from_stats(MEAN, STD)],
        )  # fmt: skip
        data.train.drop_last = False
    torchs = functools.partial(OptimWrapper, opt=torch.optim.SGD, momentum=momentum)
    learner = Learner(data, network, nn.CrossEntropyLoss(), torchs, lr=rate)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1 if resident else 2)


def with_ultralytics(job: Any, network: nn.Module, resident: Any, watch: Any, rate: float, momentum: float) -> None:
    """Ultralytics' classification trainer with its cache in memory, torch's SGD, and no warm-up; its average stays on."""
    from ultralytics.data import ClassificationDataset
    from ultralytics.models.yolo.classify import ClassificationTrainer
    from ultralytics.utils.loss import v8ClassificationLoss

    class Wrapped(nn.Module):
        """The network as the trainer calls it: a batch in, its loss out."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.criterion = network, v8ClassificationLoss()

        def forward(self, batch: Any) -> Any:
            return self.criterion(self.network(batch["img"]), batch) if isinstance(batch, dict) else self.network(batch)

    class ResidentLoader:
        batch_size, num_workers, drop_last = job.batch, 0, False
        dataset = sampler = range(job.batch * job.steps)

        def __len__(self) -> int:
            return job.steps

        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            return iter([{"img": images_BCHW, "cls": labels_B} for images_BCHW, labels_B in resident])

    class Trainer(ClassificationTrainer):
        def setup_model(self) -> None:
            self.model = Wrapped()
            watch.attach(network, seeded=resident is not None)

        def get_dataloader(self, path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
            return ResidentLoader() if resident else super().get_dataloader(path, batch_size, rank, mode)

        def build_dataset(self, path: str, mode: str = "train", batch: Any = None) -> ClassificationDataset:
            # Its classes are learnt from the folder; the wrapped network has no names.
            return ClassificationDataset(path, self.args, augment=mode == "train", prefix=mode)

        def build_optimizer(self, model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)

    class Done(Exception):
        """The epochs are over; its last validation and saved file are no part of the work."""

    def finish(trainer: Trainer) -> None:
        if trainer.epoch + 1 == trainer.epochs:
            raise Done

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            overrides={
                "model": "unused.yaml", "data": str(Path(job.photos).parent), "epochs": 1 if resident else 2,
                "imgsz": job.size, "batch": job.batch, "nbs": job.batch, "lr0": rate, "lrf": 1.0, "momentum": momentum,
                "weight_decay": 0.0, "warmup_epochs": 0, "close_mosaic": 0, "cache": "ram", "device": "cpu", "amp": False,
                "val": False, "save": False, "plots": False, "verbose": False, "deterministic": False, "project": scratch,
                "scale": 0.5, "fliplr": 0.5, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "erasing": 0.0, "auto_augment": None,
            }
        )  # fmt: skip
        trainer.add_callback("on_train_epoch_end", finish)
        try:
            trainer.train()
        except Done:
            return


TRAINERS = {"timm": with_timm, "fastai": with_fastai, "ultralytics": with_ultralytics}
