"""The study notes' program as a plain PyTorch + torchvision + PIL script: the yardstick for speed and for accuracy.

It imports nothing of tapetum. Networks, transforms, split, optimizer and loop are those that the notes describe.

    python benchmarks/plain_loop.py DATA --net lenet --epochs 10 --seed 0 --test-numbers 251-1000
"""

import argparse
import copy
import json
import random
import re
import time
from pathlib import Path

import torch
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageTransform:
    def __init__(self, size: int) -> None:
        self.data_transform = {
            "train": transforms.Compose(
                [
                    transforms.RandomResizedCrop(size, scale=(0.5, 1.0)),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                    transforms.Normalize(MEAN, STD),
                ]
            ),
            "val": transforms.Compose(
                [
                    transforms.Resize(max(256, size)),
                    transforms.CenterCrop(size),
                    transforms.ToTensor(),
                    transforms.Normalize(MEAN, STD),
                ]
            ),
        }

    def __call__(self, image: Image.Image, phase: str) -> torch.Tensor:
        return self.data_transform[phase](image)


class TunedTransform(ImageTransform):
    """The same in torchvision's second version, on uint8 until the last step, as its guide advises."""

    def __init__(self, size: int) -> None:
        last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        crop = [v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()]
        middle = [v2.Resize(max(256, size), antialias=True), v2.CenterCrop(size)]
        self.data_transform = {"train": v2.Compose([*crop, *last]), "val": v2.Compose([*middle, *last])}


class DogvsCatDataset(Dataset):
    def __init__(self, file_list: list[Path], transform: ImageTransform, phase: str) -> None:
        self.file_list, self.transform, self.phase = file_list, transform, phase

    def __len__(self) -> int:
        return len(self.file_list)

    def __getitem__(self, idx: int) -> tuple[torch.Tensor, int]:
        path = self.file_list[idx]
        if isinstance(self.transform, TunedTransform):
            image = decode_image(path, ImageReadMode.RGB)
        else:
            image = Image.open(path).convert("RGB")
        return self.transform(image, self.phase), int(path.name.split(".")[0] == "dog")


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn1 = nn.Conv2d(3, 16, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.maxpool1 = nn.MaxPool2d(kernel_size=2)
        self.cnn2 = nn.Conv2d(16, 32, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.maxpool2 = nn.MaxPool2d(kernel_size=2)
        self.fc1 = nn.Linear(32 * 53 * 53, 512)
        self.fc2 = nn.Linear(512, 2)
        self.output = nn.Softmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.maxpool1(self.relu1(self.cnn1(x)))
        out = self.maxpool2(self.relu2(self.cnn2(out)))
        out = out.reshape(out.size(0), -1)
        return self.output(self.fc2(self.fc1(out)))


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = models.AlexNet().features
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True),
            nn.Dropout(), nn.Linear(4096, 512), nn.ReLU(inplace=True), nn.Linear(512, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def numbered(folder: Path, low: int, high: int) -> list[Path]:
    return sorted(p for p in folder.iterdir() if low <= int(re.findall(r"\d+", p.stem)[-1]) <= high)


def readable(path: Path) -> bool:
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


def train_model(
    net: nn.Module, loaders: dict[str, DataLoader], criterion: nn.Module, optimizer: optim.Optimizer, epochs: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds an epoch, those of them spent on training, and validation accuracy; `net` ends with the best epoch's weights.

    The notes' code means to keep these weights but keeps a reference to them, which the next step changes; here it is a copy.
    """
    epoch_seconds, train_seconds, accuracies = [], [], []
    best_acc, best_weights = 0.0, None
    for epoch in range(epochs):
        begun = time.perf_counter()
        for phase in ("train", "val"):
            net.train(phase == "train")
            epoch_loss, epoch_corrects = 0.0, 0
            for inputs, labels in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = net(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                    epoch_loss += loss.item() * inputs.size(0)
                    epoch_corrects += torch.sum(preds == labels.data)
            count = len(loaders[phase].dataset)
            accuracy = epoch_corrects.item() / count
            print(f"epoch {epoch + 1} {phase} loss {epoch_loss / count:.4f} acc {accuracy:.4f}", flush=True)
            if phase == "train":
                train_seconds.append(time.perf_counter() - begun)
        epoch_seconds.append(time.perf_counter() - begun)
        accuracies.append(accuracy)
        if accuracy > best_acc:
            best_acc, best_weights = accuracy, copy.deepcopy(net.state_dict())
    if best_weights is not None:
        net.load_state_dict(best_weights)
    return epoch_seconds, train_seconds, accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--net", choices=["lenet", "alexnet"], default="lenet")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument(
        "--tuned",
        action="store_true",
        help="channels-last memory, the fused optimizer, transforms on uint8: PyTorch's own advice",
    )
    parser.add_argument("--save", type=Path, help="keep the trained weights in this file")
    parser.add_argument(
        "--test-numbers", default="", help="such as 251-1000: accuracy on these photos too, by the best epoch's weights"
    )
    args = parser.parse_args()

    size = 224 if args.net == "lenet" else 256
    cats, dogs = args.data / "Cat", args.data / "Dog"
    files = [p for p in [*numbered(cats, 0, 250), *numbered(dogs, 0, 250)] if readable(p)]
    random.seed(42)
    random.shuffle(files)
    parts = {"train": files[:400], "val": files[400:-10]}

    torch.manual_seed(args.seed)
    transform = TunedTransform(size) if args.tuned else ImageTransform(size)
    loaders = {
        phase: DataLoader(
            DogvsCatDataset(part, transform, phase), batch_size=32, shuffle=phase == "train", num_workers=args.workers
        )
        for phase, part in parts.items()
    }
    net = LeNet() if args.net == "lenet" else AlexNet()
    if args.tuned:
        net = net.to(memory_format=torch.channels_last)
    optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9, fused=args.tuned or None)
    seconds, train_seconds, accuracies = train_model(net, loaders, nn.CrossEntropyLoss(), optimizer, args.epochs)

    if args.save:
        torch.save(net.state_dict(), args.save)

    result = {
        "net": args.net,
        "seed": args.seed,
        "epoch_seconds": seconds,
        "train_seconds": train_seconds,
        "val_seconds": [whole - train for whole, train in zip(seconds, train_seconds, strict=True)],
        "val_accuracy": accuracies,
        "last_val_accuracy": accuracies[-1],
        "best_val_accuracy": max(accuracies),
    }
    if args.test_numbers:
        low, high = map(int, args.test_numbers.split("-"))
        tests = DogvsCatDataset([*numbered(cats, low, high), *numbered(dogs, low, high)], transform, "val")
        net.eval()
        with torch.no_grad():
            hits = sum((net(x).argmax(1) == y).sum().item() for x, y in DataLoader(tests, batch_size=32))
        result |= {"test_accuracy": hits / len(tests), "test_n": len(tests)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
