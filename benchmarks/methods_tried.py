"""Methods of training that the package does not have, to be compared with it by `accuracy.py --method`.

What was measured stands in RESULTS ("One method at a time") and, `uncalmed`, in LOG.

Each puts itself in the place of a function of the package while a training runs.
"""

import contextlib
from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
import torch
from torchvision.transforms import v2

from tapetum.data import augment
from tapetum.training import loop, optim

# How far SAM looks: its paper's value for CIFAR-10.
_RADIUS = 0.05
# Patches whose statistics the first layer is made from, and the least variance that it divides by (Jordan 2024).
_PATCHES, _LEAST = 100_000, 5e-4


@contextlib.contextmanager
def alternating_flip() -> Iterator[None]:
    """Each picture mirrored in every other epoch, in place of half of the time by chance (Jordan 2024, section 3.6)."""
    drawn = augment.randoms

    def alternating(seed: int, epoch: int, index: int, showing: int = 0) -> np.ndarray:
        u = drawn(seed, epoch, index, showing)
        u[augment._FLIP] = (drawn(seed, 0, index)[augment._FLIP] + 0.5 * epoch) % 1
        return u

    with patch.object(augment, "randoms", alternating):
        yield


@contextlib.contextmanager
def trivial_augment() -> Iterator[None]:
    """One operation of any strength on each picture, torchvision's (Müller & Hutter 2021), in place of colours and rotation."""
    operation = v2.TrivialAugmentWide()

    def trivial(images_BCHW: torch.Tensor, strength: float, u_BN: np.ndarray) -> torch.Tensor:
        pictures = (images_BCHW * 255).round().to(torch.uint8)
        with torch.random.fork_rng(devices=[]):
            for picture, u in zip(pictures, u_BN, strict=True):
                torch.manual_seed(int(u[augment._BRIGHTNESS] * 2**53))
                picture[:] = operation(picture)
        return pictures.float().div_(255).contiguous(memory_format=torch.channels_last)

    with patch.object(augment, "jitter", trivial), patch.object(augment, "distort", lambda images, *_: images):
        yield


@contextlib.contextmanager
def whitening() -> Iterator[None]:
    """A first layer that is not learnt: it whitens the pictures' patches, each direction in both signs (Jordan 2024)."""
    fit = loop.fit

    def whitened(task: loop.Task, network: torch.nn.Module, *rest: object) -> object:
        first = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
        side, maps = first.kernel_size[0], first.out_channels
        images = torch.cat([batch.images_BCHW for batch, _ in zip(task.training.epoch(0), range(8), strict=False)])
        patches = images.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * side * side)
        some = patches[torch.randperm(len(patches), generator=torch.Generator().manual_seed(task.seed))[:_PATCHES]].double()
        values, vectors = torch.linalg.eigh(some.T @ some / len(some))
        filters = (vectors / (values + _LEAST).sqrt()).T.flip(0)[: maps // 2].reshape(-1, 3, side, side)
        with torch.no_grad():
            first.weight.copy_(torch.cat([filters, -filters]))
        first.weight.requires_grad_(False)
        return fit(task, network, *rest)

    with patch.object(loop, "fit", whitened):
        yield


@contextlib.contextmanager
def sam() -> Iterator[None]:
    """Each step by the gradient at the worst place near the weights (Foret et al. 2021, "Sharpness-aware minimization")."""
    step = loop._step

    def sharp(task: loop.Task, state: loop.State, batch: loop.Batch, *rest: object) -> None:
        network, optimizer = state.network, state.optimizer
        torch.manual_seed((task.seed * 1_000_003 + state.progress.step) % 2**63)  # the dropout of the step that follows
        with torch.autocast(task.device.type, enabled=task.mixed):
            outputs_BK = network(batch.images_BCHW)
            optim.loss(outputs_BK.float(), batch.targets_BK, task.rubbish, batch.whole).backward()
        weights = [weight for weight in network.parameters() if weight.grad is not None]
        length = torch.stack([weight.grad.norm() for weight in weights]).norm()
        away = [weight.grad * (_RADIUS / (length + 1e-12)) for weight in weights]
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_add_(weights, away)

        def back(*_: object) -> None:
            with torch.no_grad():
                torch._foreach_sub_(weights, away)

        hook = optimizer.register_step_pre_hook(back)
        step(task, state, batch, *rest)
        hook.remove()

    with patch.object(loop, "_step", sharp):
        yield


@contextlib.contextmanager
def uncalmed() -> Iterator[None]:
    """Muon as it was for networks without BatchNorm: nothing centred, linear layers of many inputs at the full rate."""
    with patch.object(optim, "_calmed", lambda groups: groups):
        yield


METHODS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "alternating-flip": alternating_flip,
    "sam": sam,
    "trivial-augment": trivial_augment,
    "uncalmed": uncalmed,
    "whitening": whitening,
}
