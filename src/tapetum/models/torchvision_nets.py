"""torchvision's classification networks under the names `torchvision:NAME`, with or without weights that others trained.

They are here as yardsticks and for those who have a GPU. Nothing is fetched unless `--weights pretrained` asks for it; then
torchvision fetches it, and checks its hash.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode

from tapetum.errors import UserError, did_you_mean, reason_of
from tapetum.models.layers import Misfit
from tapetum.models.registry import Entry, provide

PREFIX = "torchvision:"
PRETRAINED = "pretrained"

# The last layer's tensors are new where the number of classes is; fewer than this share of all is another network's weights.
_FITTING = 0.5


@provide(PREFIX)
def entry(name: str) -> Entry:
    """The registry's entry for `torchvision:NAME`.

    Raises:
        UserError: torchvision has no classification network of that name.
    """
    import torchvision  # only when asked for: it takes a second

    short = name.removeprefix(PREFIX)
    known = torchvision.models.list_models(module=torchvision.models)
    if short not in known:
        raise UserError(f"torchvision has no network '{short}'.{did_you_mean(short, known)} Known: {', '.join(known)}.")
    prepared = torchvision.models.get_model_weights(short).DEFAULT.transforms()
    return Entry(
        name=name,
        build=functools.partial(_build, short),
        size=prepared.crop_size[0],
        channels=3,
        title=f"torchvision's {short}",
        paper="see torchvision's documentation",
        mean=tuple(prepared.mean),
        std=tuple(prepared.std),
        resize=prepared.resize_size[0],
    )


def _build(short: str, num_classes: int, size: int) -> nn.Module:
    import torchvision

    options: dict[str, Any] = {"num_classes": num_classes}
    if short.startswith("vit_"):  # its positions are learnt for one size
        patch = int(short.split("_")[-1])
        if size % patch:
            raise Misfit(f"its patches of {patch}x{patch} do not tile {size}x{size}")
        options["image_size"] = size
    if short in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    with _ValuesOnCpu() if short.startswith("regnet") else contextlib.nullcontext():
        return torchvision.models.get_model(short, weights=None, **options)


class _ValuesOnCpu(TorchFunctionMode):
    """Makes lists of values on the CPU: RegNets compute their widths with them, and the meta device has none.

    The weights stay where they belong: on the meta device the largest RegNet takes no memory, on the CPU 2.6 GB.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = {"device": "cpu", **(kwargs or {})} if func in (torch.arange, torch.tensor) else kwargs or {}
        return func(*args, **options)


def take_weights(network: nn.Module, name: str, weights: str) -> str:
    """Put pretrained weights into `network`, all tensors whose name and shape fit; a sentence says how many did.

    Args:
        network: a network of the registry.
        name: its name there.
        weights: "pretrained" (torchvision fetches its default weights for this network), or the path of a file of tensors:
            `.safetensors` (a tapetum model too), or torch's `.pt` or `.pth`, of which only tensors are read, nothing executed.

    Raises:
        UserError: no such file, not a file of tensors, or the tensors of another network.
    """
    found = _fetch(name) if weights == PRETRAINED else _read(Path(weights))
    own = network.state_dict()
    fitting = {key: tensor for key, tensor in found.items() if key in own and tensor.shape == own[key].shape}
    covered, total = (sum(own[key].numel() for key in keys) for keys in (fitting, own))
    new = [key for key in own if key not in fitting and not key.endswith("num_batches_tracked")]
    if covered < _FITTING * total:
        raise UserError(
            f"weights {weights}: {len(fitting)} of the {len(own)} tensors of {name} are there in the same shape, expected all "
            f"but the last layer's. Choose the network that they belong to."
        )
    network.load_state_dict(fitting, strict=False)
    return f"weights from {weights}: {covered:,} of {total:,} numbers; new: {', '.join(new) or 'none'}"


def _fetch(name: str) -> dict[str, torch.Tensor]:
    import torchvision

    if not name.startswith(PREFIX):
        raise UserError(f"weights pretrained with model '{name}': expected torchvision:NAME, or the path of a file of weights.")
    try:
        weights = torchvision.models.get_model_weights(name.removeprefix(PREFIX)).DEFAULT
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the weights of {name} could not be fetched ({error}). Give the path of a downloaded file with --weights."
        ) from error


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"weights {path}: expected a file of tensors (.safetensors, .pt or .pth), or '{PRETRAINED}'.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a file that is none of theirs
        reason = reason_of(error)
        if reason.startswith("Weights only load failed"):  # torch goes on to say how to execute the file all the same
            reason = "it holds more than tensors"
        raise UserError(f"weights {path} cannot be read as tensors ({reason}).") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    return {key: tensor for key, tensor in found.items() if isinstance(tensor, torch.Tensor)}
