"""The settings: one field is one command-line flag, one key of a settings file and one saved setting.

`Settings` is what somebody asked for; "auto" leaves a choice to the program. `Recipe` is what a training does: every
"auto" decided (by `tapetum.training.recipes`), under the same names.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tapetum.errors import UserError, did_you_mean
from tapetum.files import as_written

Auto = Literal["auto"]
Fit = Literal["crop", "pad", "center", "squash"]
OnOff = Literal["on", "off"]
Views = Literal["one", "mirror", "ten"]


# A line for each: `--help` would break a second one off.
@dataclass(frozen=True)
class Settings:
    """What is asked of a training. "auto" leaves the choice to the recipe, which says what it chose and why."""

    model: str = "auto"
    """Network, a name from `tapetum models`."""
    recipe: Literal["auto", "notes", "paper"] = "auto"
    """"notes": the study notes' training. "paper": that of the network's paper, for lenet5-1998 and alexnet-2012."""
    minutes: Auto | float = "auto"
    """Time budget, from the first picture read to the last file written."""
    members: int = 1
    """Networks to train, which then answer as one: their mean is steadier and better than each, for as many times the work."""
    distill: OnOff = "off"
    """After the `members`, train one more that learns what they answer together; it alone is the model, as fast as one."""
    folds: int = 1
    """Cross-validation: as many networks that answer as one, each trained without one part of the pictures and judged on it."""
    weights: str = ""
    """Weights to start from: a file of tensors, or "pretrained" for those that torchvision fetches for a torchvision:NAME."""

    unlabelled: str = ""
    """Folder or archive of pictures without labels: a first network guesses them for a second. Compare such runs alone."""

    calibrate: Auto | OnOff = "auto"
    """Temper probabilities by the validation pictures to mean what they say; "auto": not with the recipes notes and paper."""
    unreadable: float = 0.1
    """Largest share of the files that may give no picture: beyond it something is wrong, and the training does not begin."""
    numbers: str = "auto"
    """Use only files whose name's last number lies in a range, such as 0-250; "all" for every file."""
    split: Literal["auto", "notes"] = "auto"
    """"auto": stratified, or the split that the data come with. "notes": the study notes' 400 / rest / last 10."""
    val: float = 0.2
    """Share of the pictures kept for validation, where the data come without a split."""
    test: float = 0.0
    """Share of the pictures kept for a final test, where the data come without a split."""

    size: Auto | int = "auto"
    """Side of the square that the network sees, in pixels."""
    start_size: Auto | int = "auto"
    """Side with which a training begins; it grows to `size` in steps. The same as `size`: no growth."""
    fit: Auto | Fit = "auto"
    """How a picture becomes a square: cut its middle out, pad it, put it into the middle unenlarged, or squash it."""
    crop_area: Auto | float = "auto"
    """Smallest share of a picture's area that a training crop shows (1 = no random crops)."""
    crops: Auto | Literal["resized", "shifted"] = "auto"
    """Random crops: parts of any size resized, or squares of one size anywhere in the picture (Krizhevsky et al. 2012)."""
    flip: Auto | OnOff = "auto"
    """Mirror half of the training pictures."""
    jitter: Auto | float = "auto"
    """Strength of random brightness, contrast and saturation in training, 0 to 1."""
    rotate: Auto | float = "auto"
    """Largest random rotation in training, in degrees."""
    warp: Auto | float = "auto"
    """Strength of random shifts, scaling, squeezing and shearing in training (LeCun et al. 1998); such as 0.1; 0 = off."""
    pca: Auto | float = "auto"
    """Strength of random colour shifts along the pictures' principal colours (Krizhevsky et al. 2012: 0.1); 0 = off."""
    turn: Auto | float = "auto"
    """Share of the training pictures turned by 90, 180 or 270 degrees, which the network has to recognise beside the class."""
    erase: Auto | float = "auto"
    """Share of the training pictures that get a random rectangle painted over."""
    mixup: Auto | float = "auto"
    """Strength (alpha) of mixing two training pictures; 0 = off."""
    cutmix: Auto | float = "auto"
    """Strength (alpha) of pasting parts of training pictures into others; 0 = off. With mixup, each batch has one of them."""
    balance: Auto | OnOff = "auto"
    """Show the pictures of small classes more often, so that an epoch holds as many of each class."""

    epochs: Auto | int = "auto"
    """Passes over the training pictures."""
    batch: Auto | int = "auto"
    """Pictures a training step."""
    micro_batch: Auto | int = "auto"
    """Pictures of a step computed at once, to take less memory. "auto": all or, when memory runs out, half as many."""
    optimizer: Auto | Literal["sgd", "adamw", "muon"] = "auto"
    """SGD with momentum 0.9, AdamW, or Muon for convolutions with AdamW for the rest."""
    lr: Auto | float = "auto"
    """Highest learning rate."""
    schedule: Auto | Literal["constant", "cosine", "steps"] = "auto"
    """How the learning rate falls: not at all, warm-up and then a half cosine to zero, or three times to a tenth."""
    weight_decay: Auto | float = "auto"
    """Weight decay."""
    label_smoothing: Auto | float = "auto"
    """Share of the label spread over all classes."""
    ema: Auto | float = "auto"
    """Averaging of the weights over the steps (decay, such as 0.99); 0 = off."""
    rescue: Auto | OnOff = "auto"
    """Begin again with a quarter of the learning rate when a training turns out not to learn."""
    keep: Auto | Literal["best", "last"] = "auto"
    """Which epoch's weights become the model: the best on validation, or the last."""
    views: Auto | Views = "auto"
    """What prediction averages over: one view of a picture, it and its mirror image, or ten (corners, middle, mirrored)."""

    seed: int = 0
    """Seed of everything random. The same seed on the same machine gives the same model to the bit."""
    device: str = "auto"
    """Where to train: auto (an accelerator if there is one), cpu, mps, cuda, cuda:1; for alexnet-2012 also cuda:0,cuda:1."""
    precision: Literal["auto", "float32", "mixed"] = "auto"
    """"mixed": half precision. "auto": so on CUDA and processors made for bfloat16, not with recipes notes and paper."""
    fast: OnOff = "on"
    """Compute the same in a faster way (layers in another order, two as one, memory kept, fused updates); "off" to compare."""
    cache: OnOff = "on"
    """Keep the decoded pictures in your cache folder for the next time (never in the picture folder)."""
    tensorboard: OnOff = "off"
    """Write TensorBoard's event files into the run folder too (extra track)."""

    @property
    def trainings(self) -> float:
        """How much work is asked for, in trainings of one network."""
        return max(self.members, self.folds) + (work_of_pupil(self.members) if self.distill == "on" else 0)

    def __post_init__(self) -> None:
        """Refuse values that no training can use, whether they came from a flag, a file or a call."""
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not isinstance(value, str) and not low <= value <= high:
                raise UserError(f"{name} is {value}: expected a number from {low:,} to {high:,}.")
        if self.folds > 1 and (self.members > 1 or self.unlabelled or self.split == "notes"):
            other = "members" if self.members > 1 else "unlabelled" if self.unlabelled else "split notes"
            raise UserError(f"folds {self.folds} with {other}: expected one or the other. Leave one of them out.")
        if self.distill == "on" and self.members == 1:
            raise UserError("distill on with members 1: expected two or more members to learn from, such as --members 5.")
        if self.val + self.test >= 1:
            raise UserError(f"val {self.val} and test {self.test} leave no pictures to train on: their sum must be below 1.")


_RANGES = (
    ("minutes", 0.01, 100_000),
    ("members", 1, 100),
    ("folds", 1, 100),
    ("unreadable", 0, 1),
    ("val", 0.01, 0.9),
    ("test", 0, 0.9),
    ("size", 1, 4096),
    ("start_size", 1, 4096),
    ("crop_area", 0.05, 1),
    ("jitter", 0, 1),
    ("rotate", 0, 180),
    ("turn", 0, 1),
    ("erase", 0, 1),
    ("warp", 0, 1),
    ("pca", 0, 10),
    ("mixup", 0, 10),
    ("cutmix", 0, 10),
    ("epochs", 1, 1_000_000),
    ("batch", 1, 65_536),
    ("micro_batch", 1, 65_536),
    ("lr", 1e-9, 100),
    ("weight_decay", 0, 100),
    ("label_smoothing", 0, 0.9),
    ("ema", 0, 0.999999),
    ("seed", 0, 2**63 - 1),
)


@dataclass(frozen=True)
class Recipe:
    """What a training does: the fields of `Settings` of the same names, every "auto" decided."""

    model: str
    size: int
    start_size: int
    fit: Fit
    crop_area: float
    crops: Literal["resized", "shifted"]
    flip: OnOff
    jitter: float
    rotate: float
    warp: float
    pca: float
    turn: float
    erase: float
    mixup: float
    cutmix: float
    balance: OnOff
    epochs: int
    batch: int
    micro_batch: int
    optimizer: Literal["sgd", "adamw", "muon"]
    lr: float
    schedule: Literal["constant", "cosine", "steps"]
    weight_decay: float
    label_smoothing: float
    ema: float
    rescue: OnOff
    keep: Literal["best", "last"]
    views: Views


def work_of_pupil(teachers: int) -> float:
    """How many trainings of one network it is to learn from so many: each goes forward beside it, a third of a step's work."""
    return 1 + teachers / 3


def decide(settings: Settings, choices: Mapping[str, Any]) -> Recipe:
    """The recipe in which every "auto" of `settings` is replaced by its value in `choices`."""
    values = {}
    for field in dataclasses.fields(Recipe):
        asked = getattr(settings, field.name)
        values[field.name] = choices[field.name] if asked == "auto" else asked
    return Recipe(**values)


def settings_from(values: Mapping[str, Any], where: str) -> Settings:
    """Settings from names and values; `where` names their source in an error message.

    >>> settings_from({"epochs": 3}, "settings.toml").epochs
    3

    Raises:
        UserError: an unknown name, or a value that the setting cannot have.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in values:
        if name not in known:
            raise UserError(f"{where}: unknown setting '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return Settings(**values)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file: its table `[asked]` if it has one (as a run's settings.toml does), else its top level."""
    values = read_table(path, "asked")
    settings_from(values, str(path))
    return values


def read_table(path: Path, title: str) -> dict[str, Any]:
    """The table `title` of a TOML file, or its top level if it has none of that name.

    Raises:
        UserError: the file cannot be read, or is no TOML.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"could not read the settings file {path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a TOML file: {error}.") from error
    return found.get(title, found)


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML text of named tables of strings, numbers and booleans."""
    lines: list[str] = []
    for title, table in tables.items():
        lines += [f"[{title}]", *(f"{name} = {_toml_value(value)}" for name, value in table.items()), ""]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped, and names of odd bytes, which it cannot hold.
        return json.dumps(as_written(value), ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _check_type(name: str, value: Any, hint: Any) -> None:
    """One sentence for a value of the wrong kind; tyro has checked flags already, files and calls come through here."""
    options = get_args(hint) if get_origin(hint) not in (None, Literal) else (hint,)
    words: list[str] = []
    for option in options:
        if get_origin(option) is Literal:
            words += [str(word) for word in get_args(option)]
            if value in get_args(option):
                return
        elif option is float:
            words.append("a number")
            if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
                return
        elif option is int:
            words.append("a whole number")
            if isinstance(value, int) and not isinstance(value, bool):
                return
        elif isinstance(value, option):
            return
        else:
            words.append({str: "a text"}.get(option, option.__name__))
    raise UserError(f"{name} is {value!r}: expected {' or '.join(words)}.")
