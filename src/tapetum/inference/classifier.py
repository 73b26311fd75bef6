"""The classifier: a network, its class names and its exact preprocessing, in memory and as one file.

There is one way from pictures to probabilities, `probabilities`. Validation during training, evaluation, prediction and
whatever comes after them go through it, so what was measured is what is delivered.

Letters in names: B pictures of a batch, N all pictures, H height, W width, S side of the square, K classes.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tapetum
from tapetum import device, models, processes, tensorfile
from tapetum.data.loader import ValidationLoader
from tapetum.data.prepare import Preprocessing, to_input, views
from tapetum.errors import UserError, reason_of
from tapetum.faster import for_inference, keep_freed_memory
from tapetum.inference.answers import BATCH, Answering, batched, temper
from tapetum.inference.description import FORMAT, described, model_file
from tapetum.inference.familiarity import Familiar, watched
from tapetum.memory import as_memory_allows
from tapetum.models.ensemble import Ensemble

# Before the names of the tensors, in a model file, that are not the network's.
_FAMILIAR = "familiar/"
# Classes that a classifier names when it is printed.
_TOLD = 12


@torch.inference_mode()
def probabilities(
    network: torch.nn.Module,
    batches_BHWC: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    on: torch.device,
) -> np.ndarray:
    """Class probabilities (N, K), float64, rows that sum to 1, of uint8 squares (B, side, side, 3).

    The softmax of the network's output, averaged over the views that the preprocessing names. The network computes in
    evaluation mode (no dropout) and is left in the mode that it was in.
    """
    rows = [found_BK for found_BK, _ in _answers(network, batches_BHWC, preprocessing, on)]
    return torch.cat(rows).numpy() if rows else np.zeros((0, 0))


def probabilities_of_all(
    network: torch.nn.Module, squares: ValidationLoader, preprocessing: Preprocessing, on: torch.device
) -> np.ndarray:
    """`probabilities` of all pictures of a loader, of which each process computes its part."""
    return processes.gathered(torch.from_numpy(probabilities(network, squares, preprocessing, on))).numpy()


@torch.inference_mode()
def features(
    network: torch.nn.Module,
    batches_BHWC: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    on: torch.device,
    some: np.ndarray | None = None,
) -> tuple[np.ndarray, list[torch.Tensor]]:
    """What `probabilities` gives, to the bit, and features (V, n, C) of the last layer for each of V views and n pictures.

    Of features there is one tensor for each member of an ensemble. `some`: the places of the n pictures; None: all.
    """
    rows, parts, begin = [], [], 0
    with watched(network) as watch:
        for found_BK, seen in _answers(network, batches_BHWC, preprocessing, on, watch):
            rows.append(found_BK)
            places = np.arange(begin, begin := begin + len(found_BK))
            asked_B = torch.from_numpy(np.ones(len(places), bool) if some is None else np.isin(places, some))
            parts.append([each[:, asked_B] for each in seen])
    found_NK = torch.cat(rows).numpy() if rows else np.zeros((0, 0))
    return found_NK, [torch.cat(each, 1) for each in zip(*parts, strict=True)]


def features_of_all(
    network: torch.nn.Module,
    squares: ValidationLoader,
    preprocessing: Preprocessing,
    on: torch.device,
    some: np.ndarray | None = None,
) -> tuple[np.ndarray, list[torch.Tensor]]:
    """`features` of all pictures of a loader, of which each process computes its part."""
    its_own = None if some is None else some[some >= squares.begin] - squares.begin
    found_NK, mine = features(network, squares, preprocessing, on, its_own)
    members = int(processes.decided(len(mine)))  # a process without a picture has seen none
    parts = [each.transpose(0, 1).cpu() for each in mine] or [torch.zeros(0)] * members
    seen = [processes.gathered(each).transpose(0, 1).contiguous().to(on) for each in parts]
    return processes.gathered(torch.from_numpy(found_NK)).numpy(), seen


def _answers(
    network: torch.nn.Module,
    batches_BHWC: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    on: torch.device,
    watch: list[torch.Tensor] | None = None,
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Of each batch the probabilities (B, K), and for each member its features (V, B, C) where they are watched."""
    was_training, at_once = network.training, 0
    network.eval()
    for images_BHWC in batches_BHWC:
        inputs_BCHW = to_input(torch.from_numpy(images_BHWC).to(on), preprocessing)
        found, seen = [], []
        count = len(images_BHWC)
        at_once = max(1, min(at_once or count, count))
        for view in views(inputs_BCHW, preprocessing):
            work = functools.partial(_outputs, network, view, watch)
            (outputs_BK, features), at_once = as_memory_allows(work, at_once, "Use a smaller network, or free some memory.")
            # float64 is made on the CPU: some accelerators have none.
            found.append(torch.softmax(outputs_BK.cpu().double(), 1))
            if watch is not None:
                seen.append(features)
        yield torch.stack(found).mean(0), [torch.stack(each) for each in zip(*seen, strict=True)]
    if was_training:  # a small network's modes are a tenth of the time of one picture
        network.train()


def _outputs(
    network: torch.nn.Module, view_BCHW: torch.Tensor, watch: list[torch.Tensor] | None, at_once: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Outputs (B, K) of a view, and for each member its features (B, C) where they are watched; so many pictures at once."""
    outputs, features = [], []
    for some_BCHW in view_BCHW.split(at_once):
        if watch is not None:
            watch.clear()  # also of what a try that broke left behind
        outputs.append(network(some_BCHW))
        features.append(list(watch or ()))
    return torch.cat(outputs), [torch.cat(each) for each in zip(*features, strict=True)]


@dataclass
class Classifier(Answering):
    """A trained image classifier with scikit-learn's words: `classes_`, `predict`, `predict_proba`.

    `tapetum.load` reads one from a run folder or a model file.
    """

    network: torch.nn.Module
    network_name: str
    classes_: tuple[str, ...]
    """Class names; column k of the probabilities belongs to `classes_[k]`."""
    preprocessing: Preprocessing
    temperature: float = 1.0
    """By which the network's probabilities are tempered, so that they mean what they say; 1 = not at all."""
    familiar: Familiar | None = None
    """What tells pictures of the known kind from strangers; None where there were too few pictures to learn it from."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the model file tells besides: metrics, settings, a fingerprint of the training data, versions."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    fast: bool = True
    """Compute the same in a faster way; False for comparison."""

    def __post_init__(self) -> None:
        """Make the faster network now: no prediction has to wait for it."""
        self._faster: tuple[list, torch.nn.Module] | None = None
        self.computing()

    def __repr__(self) -> str:
        """Short: the dataclass's own would tell every layer of the network."""
        known = ", ".join(self.classes_[:_TOLD]) + (f" and {len(self.classes_) - _TOLD:,} more" * (len(self.classes_) > _TOLD))
        return f"Classifier({self.network_name}, {self.preprocessing.size} px, classes {known})"

    def computing(self) -> torch.nn.Module:
        """The network that computes: `network` itself, or its faster form as long as its weights stay the same."""
        if not self.fast:
            return self.network
        now = [(id(p), 0 if p.is_inference() else p._version) for p in (*self.network.parameters(), *self.network.buffers())]
        if self._faster is None or self._faster[0] != now:
            self._faster = now, for_inference(self.network)
        return self._faster[1]

    @property
    def calibrating(self) -> int:
        """How many pictures tell the known kind from strangers; 0: nothing can be told."""
        return 0 if self.familiar is None else len(self.familiar.seen_N)

    def get_ready(self) -> None:
        """Keep freed memory with the process, where `fast` is on."""
        if self.fast:
            keep_freed_memory()

    def from_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K) of prepared squares (side, side, 3), uint8."""
        found = probabilities(self.computing(), batched(squares, batch), self.preprocessing, self.device)
        return temper(found, self.temperature) if len(found) else np.zeros((0, len(self.classes_)))

    @torch.inference_mode()
    def familiar_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) of prepared squares, as `from_squares` gives them, and familiarity (N,), above 0 and up to 1.

        Familiarity is the share of pictures of the known kind that are at least as strange. A classifier without `familiar`
        cannot say; ask `refuse_reject` first.
        """
        assert self.familiar is not None
        rows, strange = [np.zeros((0, len(self.classes_)))], [np.zeros(0)]
        network = self.computing()
        with watched(network) as watch:
            for found_BK, seen in _answers(network, batched(squares, batch), self.preprocessing, self.device, watch):
                rows.append(found_BK.numpy())
                strange.append(self.familiar.strangeness(seen))
        return temper(np.concatenate(rows), self.temperature), self.familiar.familiarity(np.concatenate(strange))

    def to_json(self) -> dict[str, Any]:
        """All that a file of it holds besides tensors, as JSON values."""
        return {
            **self.about,
            "format": FORMAT,
            "tapetum": tapetum.__version__,
            "torch": torch.__version__,
            "network": self.network_name,
            "members": len(self.network.members) if isinstance(self.network, Ensemble) else 1,
            "classes": list(self.classes_),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "temperature": self.temperature,
        }

    def save(self, path: str | Path) -> str:
        """Write the classifier as one file, whole or not at all; its SHA-256 comes back.

        Raises:
            UserError: the file cannot be written; an old one is unchanged.
        """
        tensors = dict(self.network.state_dict())
        if self.familiar is not None:
            tensors |= {_FAMILIAR + name: tensor for name, tensor in self.familiar.tensors().items()}
        return tensorfile.save(Path(path), tensors, self.to_json())


def load(path: str | Path, on: str = "auto") -> Classifier:
    """The classifier in a run folder or a model file. The file's hash and content are checked; nothing in it can execute.

    Args:
        path: a run folder (`runs/photos`) or a model file (`model.safetensors`).
        on: the device to compute on: auto, cpu, cuda, ...

    Raises:
        UserError: there is no such file, it is damaged, or it is not a model.
    """
    file = model_file(Path(path))
    tensors, about = tensorfile.load(file)
    try:
        return _from_parts(tensors, about, on)
    except UserError:
        raise
    except Exception as error:  # what the file says of itself may be anything, and so may be what comes of it
        raise UserError(
            f"{file} is not a model that this version of tapetum can use ({reason_of(error)}). Train again."
        ) from error


def _from_parts(tensors: dict[str, torch.Tensor], about: dict[str, Any], on: str) -> Classifier:
    said = described(about)
    classes, preprocessing, members = said.classes, said.preprocessing, said.members
    # Before any network is built: a hundred large ones would take minutes, and so does the search for a size that fits.
    if members > 1 and f"members.{members - 1}" not in {".".join(name.split(".")[:2]) for name in tensors}:
        raise ValueError(f"{members} members, more than its tensors are for")
    if not models.fits(about["network"], preprocessing.size):
        raise ValueError(f"{about['network']} does not take pictures of {preprocessing.size}x{preprocessing.size}")
    with torch.device("meta"):  # shapes first: a file cannot ask for more memory than its tensors have
        networks = [models.build(about["network"], len(classes), preprocessing.size) for _ in range(members)]
    network = Ensemble(networks) if members > 1 else networks[0]
    for name, tensor in network.state_dict().items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise ValueError(f"tensor {name} is missing or of another shape")
    strange = {name.removeprefix(_FAMILIAR): tensors.pop(name) for name in list(tensors) if name.startswith(_FAMILIAR)}
    familiar = Familiar.from_tensors(strange) if strange else None
    if familiar is not None and len(familiar.known) != members:
        raise ValueError(f"{members} members, and features of {len(familiar.known)}")
    network.load_state_dict(tensors, assign=True)
    where = device.choose(on)
    network.to(where).to(memory_format=torch.channels_last)
    return Classifier(network.eval(), about["network"], classes, preprocessing, said.temperature, familiar, about, where)
