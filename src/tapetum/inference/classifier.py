"""The classifier: a network, its class names and its exact preprocessing, in memory and as one file.

There is one way from pictures to probabilities, `probabilities`. Validation during training, evaluation, prediction and
whatever comes after them go through it, so what was measured is what is delivered.

Letters in names: B pictures of a batch, N all pictures, H height, W width, S side of the square, K classes.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

import tapetum
from tapetum import device, models, tensorfile
from tapetum.config import Fit, Views
from tapetum.data.decode import BadPicture, decode, to_rgb
from tapetum.data.prepare import Preprocessing, fit, reduce, to_input, views
from tapetum.errors import UserError
from tapetum.faster import for_inference, rewritten
from tapetum.inference.familiarity import Familiar, watched
from tapetum.models.ensemble import Ensemble

MODEL_FILE = "model.safetensors"
BATCH = 32
_FORMAT = 2
# No file may ask for more networks than this.
_MOST_MEMBERS = 100

# The answer for a picture that is too strange to be one of the classes.
NEITHER = "neither"
# Before the names of the tensors, in a model file, that are not the network's.
_FAMILIAR = "familiar/"

Picture = str | Path | bytes | Image.Image | np.ndarray


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


@torch.inference_mode()
def features(
    network: torch.nn.Module,
    batches_BHWC: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    on: torch.device,
    fast: bool = True,
) -> list[torch.Tensor]:
    """Features (V, N, C) of the last layer, for each of V views and N pictures; one tensor for each member of an ensemble.

    `fast`: in the faster form of the network, which must not run anywhere else meanwhile.
    """
    with watched(network) as watch, rewritten(network, fast):
        rows = [each for _, each in _answers(network, batches_BHWC, preprocessing, on, watch)]
    return [torch.cat(parts, 1) for parts in zip(*rows, strict=True)]


def _answers(
    network: torch.nn.Module,
    batches_BHWC: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    on: torch.device,
    watch: list[torch.Tensor] | None = None,
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Of each batch the probabilities (B, K), and for each member its features (V, B, C) where they are watched."""
    was_training = network.training
    network.eval()
    for images_BHWC in batches_BHWC:
        inputs_BCHW = to_input(torch.from_numpy(images_BHWC).to(on), preprocessing)
        found, seen = [], []
        for view in views(inputs_BCHW, preprocessing):
            # float64 is made on the CPU: some accelerators have none.
            found.append(torch.softmax(network(view).cpu().double(), 1))
            if watch is not None:
                seen.append(list(watch))
                watch.clear()
        yield torch.stack(found).mean(0), [torch.stack(each) for each in zip(*seen, strict=True)]
    network.train(was_training)


def temper(probabilities_NK: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), divided by its sum: less sure above a temperature of 1, surer below; the order of the classes stays.

    >>> temper(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    [[0.75, 0.25]]
    """
    if temperature == 1:
        return probabilities_NK
    logs_NK = np.log(np.maximum(probabilities_NK, np.finfo(np.float64).tiny)) / temperature
    powers_NK = np.exp(logs_NK - logs_NK.max(1, keepdims=True))
    return powers_NK / powers_NK.sum(1, keepdims=True)


def labels(
    classes: Sequence[str], probabilities_NK: np.ndarray, familiarity_N: np.ndarray | None, reject: float = 0.0
) -> list[str]:
    """The answers: the most probable class, or "neither" at a familiarity of `reject` or less.

    >>> labels(("cat", "dog"), np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.01, 0.7]), reject=0.05)
    ['neither', 'dog']
    """
    strange_N = np.zeros(len(probabilities_NK), bool) if familiarity_N is None else familiarity_N <= reject
    return [NEITHER if strange else classes[k] for k, strange in zip(probabilities_NK.argmax(1), strange_N, strict=True)]


@dataclass
class Classifier:
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

    def computing(self) -> torch.nn.Module:
        """The network that computes: `network` itself, or its faster form as long as its weights stay the same."""
        if not self.fast:
            return self.network
        now = [(id(p), 0 if p.is_inference() else p._version) for p in (*self.network.parameters(), *self.network.buffers())]
        if self._faster is None or self._faster[0] != now:
            self._faster = now, for_inference(self.network)
        return self._faster[1]

    def predict_proba(self, pictures: Sequence[Picture] | Picture, batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K), float64, each row summing to 1; column k is `classes_[k]`.

        Args:
            pictures: paths, encoded bytes, PIL images, or uint8 arrays (H, W, 3) RGB or (H, W) grey; one or many.
            batch: pictures computed at once; changes the time and memory, and the result by at most rounding.

        Raises:
            UserError: an item is not a readable picture; it is named.
        """
        items = [pictures] if isinstance(pictures, Picture) else list(pictures)
        squares = (self.prepare(_as_array(item, i)) for i, item in enumerate(items))
        return self.from_squares(squares, batch)

    def predict(self, pictures: Sequence[Picture] | Picture, batch: int = BATCH, reject: float = 0.0) -> list[str]:
        """The most probable class name of each picture; `pictures` and `batch` as in `predict_proba`.

        `reject`: "neither" for pictures whose `familiarity` is this or less; of the known kind that is this share (0: none).
        """
        items = [pictures] if isinstance(pictures, Picture) else list(pictures)
        squares = (self.prepare(_as_array(item, i)) for i, item in enumerate(items))
        return labels(self.classes_, *self.answers(squares, batch, reject), reject)

    def refuse_reject(self, reject: float) -> None:
        """Raise a UserError if this classifier cannot tell strangers from a share `reject` of the known kind."""
        if not 0 <= reject < 1:
            raise UserError(f"reject {reject}: expected a share of the known pictures, from 0 to below 1, such as 0.05.")
        if reject == 0:
            return
        if self.familiar is None:
            raise UserError(
                f"reject {reject}: this classifier has not learnt what strangers are. Train again with 20 or more validation "
                "pictures, or leave --reject out."
            )
        if NEITHER in self.classes_:
            raise UserError(f"reject {reject}: one of the classes is called '{NEITHER}' itself. Leave --reject out.")
        least = 1 / (1 + len(self.familiar.seen_N))
        if reject < least:
            raise UserError(
                f"reject {reject}: {len(self.familiar.seen_N)} validation pictures cannot tell so small a share. Expected "
                f"{math.ceil(1000 * least) / 1000} or more."
            )

    def prepare(self, picture_HWC: np.ndarray) -> np.ndarray:
        """The uint8 square (side, side, 3) from which the network's views of a decoded picture are taken."""
        return fit(reduce(picture_HWC, self.preprocessing.reduce), self.preprocessing)

    def answers(
        self, squares: Iterable[np.ndarray], batch: int = BATCH, reject: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities (N, K) of prepared squares and, if something is to be rejected, familiarity (N,).

        Raises:
            UserError: this classifier cannot tell strangers from a share `reject` of the known kind.
        """
        self.refuse_reject(reject)
        return self.familiar_squares(squares, batch) if reject else (self.from_squares(squares, batch), None)

    def from_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
        """Probabilities (N, K) of prepared squares (side, side, 3), uint8."""
        found = probabilities(self.computing(), _batched(squares, batch), self.preprocessing, self.device)
        return temper(found, self.temperature) if len(found) else np.zeros((0, len(self.classes_)))

    @torch.inference_mode()
    def familiar_squares(self, squares: Iterable[np.ndarray], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) of prepared squares, as `from_squares` gives them, and familiarity (N,), above 0 and up to 1.

        Familiarity is the share of pictures of the known kind that are at least as strange. A classifier without `familiar`
        cannot say; ask `refuse_reject` first.
        """
        assert self.familiar is not None
        rows, strange = [np.zeros((0, len(self.classes_)))], [np.zeros(0)]
        with watched(self.network) as watch:
            for found_BK, seen in _answers(self.network, _batched(squares, batch), self.preprocessing, self.device, watch):
                rows.append(found_BK.numpy())
                strange.append(self.familiar.strangeness(seen))
        return temper(np.concatenate(rows), self.temperature), self.familiar.familiarity(np.concatenate(strange))

    def save(self, path: str | Path) -> str:
        """Write the classifier as one file, whole or not at all; its SHA-256 comes back.

        Raises:
            UserError: the file cannot be written; an old one is unchanged.
        """
        about = {
            **self.about,
            "format": _FORMAT,
            "tapetum": tapetum.__version__,
            "torch": torch.__version__,
            "network": self.network_name,
            "members": len(self.network.members) if isinstance(self.network, Ensemble) else 1,
            "classes": list(self.classes_),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "temperature": self.temperature,
        }
        tensors = dict(self.network.state_dict())
        if self.familiar is not None:
            tensors |= {_FAMILIAR + name: tensor for name, tensor in self.familiar.tensors().items()}
        return tensorfile.save(Path(path), tensors, about)


def load(path: str | Path, on: str = "auto") -> Classifier:
    """The classifier in a run folder or a model file. The file's hash and content are checked; nothing in it can execute.

    Args:
        path: a run folder (`runs/photos`) or a model file (`model.safetensors`).
        on: the device to compute on: auto, cpu, cuda, ...

    Raises:
        UserError: there is no such file, it is damaged, or it is not a model.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.exists():
        what = f"{path} holds no {MODEL_FILE}" if path.is_dir() else f"{path} does not exist"
        raise UserError(f"{what}: expected a run folder or a model file that `tapetum train` wrote.")
    tensors, about = tensorfile.load(file)
    try:
        return _from_parts(tensors, about, on)
    except UserError:
        raise
    except Exception as error:  # what the file says of itself may be anything, and so may be what comes of it
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"{file} is not a model that this version of tapetum can use ({reason}). Train again.") from error


def _from_parts(tensors: dict[str, torch.Tensor], about: dict[str, Any], on: str) -> Classifier:
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']}, expected {_FORMAT}")
    classes = tuple(about["classes"])
    if not all(isinstance(name, str) for name in classes) or not 2 <= len(set(classes)) == len(classes):
        raise ValueError("class names that are not two or more different texts")
    preprocessing = _preprocessing(about["preprocessing"])
    temperature = about.get("temperature", 1.0)
    if not _finite(temperature) or temperature <= 0:
        raise ValueError(f"temperature {temperature!r}")
    members = about.get("members", 1)
    if not isinstance(members, int) or not 1 <= members <= _MOST_MEMBERS:
        raise ValueError(f"{members!r} members")
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
    return Classifier(network.eval(), about["network"], classes, preprocessing, float(temperature), familiar, about, where)


def _preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    found = Preprocessing(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
    sides = (found.size, found.resize, found.reduce)
    if not all(isinstance(side, int) and 1 <= side <= 65_535 for side in sides) or found.resize < found.size:
        raise ValueError(f"picture sides {sides}")
    if found.fit not in get_args(Fit) or found.views not in get_args(Views) or found.channels not in (1, 3):
        raise ValueError(f"fit {found.fit!r}, views {found.views!r}, {found.channels!r} channels")
    numbers = (*found.mean, *found.std)
    if len(found.mean) < found.channels or len(found.std) < found.channels or not all(map(_finite, numbers)):
        raise ValueError("mean or std")
    if min(found.std) <= 0:
        raise ValueError("a std that is not positive")
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _batched(squares: Iterable[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    rows: list[np.ndarray] = []
    for square in squares:
        rows.append(square)
        if len(rows) == batch:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


def _as_array(picture: Picture, position: int) -> np.ndarray:
    """Any accepted form of a picture as uint8 RGB (H, W, 3)."""
    try:
        if isinstance(picture, str | Path):
            return decode(Path(picture).read_bytes())
        if isinstance(picture, bytes):
            return decode(picture)
    except (OSError, BadPicture) as error:
        name = picture if isinstance(picture, str | Path) else f"picture {position} (bytes)"
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} is not a picture that can be read: {reason}. Leave it out or replace it.") from error
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        what = f"a {picture.dtype} array of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)
        raise UserError(f"picture {position} is {what}: expected a path, bytes, a PIL image, or a uint8 array (H, W, 3).")
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, 2)
    if picture.shape[2] != 3 or 0 in picture.shape:
        raise UserError(f"picture {position} is an array of shape {picture.shape}: expected (H, W, 3) RGB or (H, W) grey.")
    return np.require(picture, requirements=["C", "W"])  # a copy where it is neither
