"""What a network looks at and what it has learnt, as PNG files and one self-contained page.

    DIR/
      explain.html             all of it
      01-gradcam.png           where in the first picture the answer comes from; 02-..., and so on
      01-occlusion.png         what of the probability goes when a part is covered
      filters.png              the filters of the first layer, by column where there are two
      maps-01-Conv2d-1.png     what each layer makes of the first picture, named as `tapetum summary` names it
      unit-Conv2d-9-17.png     the pictures that excite a unit most, most first

Of an ensemble, heat maps are those of all members together; filters, maps and units are those of the first.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tapetum.data.reading import read_pictures
from tapetum.data.samples import Samples
from tapetum.errors import UserError, did_you_mean
from tapetum.files import write_atomically
from tapetum.inference.classifier import Classifier
from tapetum.inference.familiarity import members_of
from tapetum.looking import heat
from tapetum.looking.filters import filter_grid
from tapetum.looking.maps import drawn_maps, excitements, find_unit, unit_heat
from tapetum.looking.pages import picture_url, small_url, write_html
from tapetum.models.summary import Call, follow, in_columns, last_convolution
from tapetum.talk import counted

# Pictures among which the most exciting are looked for, how many of them are shown for a unit, and how many units of the last
# convolution are shown where none is asked for. Filters that are drawn; layers beyond which activations are left out.
_SEARCHED, _EXCITING, _UNITS, _FILTERS, _LAYERS = 2000, 6, 4, 256, 60
# Sides of the pictures in the page, in pixels.
_SIDE, _WIDE = 224, 620


@dataclass(frozen=True)
class Looked:
    """One picture, its answer, and where that comes from."""

    name: str
    answer: str
    sure: float
    """Probability of the answer."""
    target: str
    """The class whose heat is shown."""
    sure_of_target: float
    picture: str
    """A data URL, as the next two; `gradcam` is empty where the network has no maps."""
    gradcam: str
    occlusion: str
    lost: float
    """How much of the target's probability goes at most, 0 to 1, when a place is covered."""


@dataclass(frozen=True)
class Shown:
    """A drawing, by its title."""

    title: str
    url: str
    file: str


def explain(
    classifier: Classifier, samples: Samples, out: Path, target: str | None = None, units: Sequence[str] = (), most: int = 6
) -> tuple[Path, list[tuple[str, str]]]:
    """Explain pictures into the folder `out`; the page's path and the files that gave no picture, with reasons, come back.

    Args:
        classifier: the classifier.
        samples: the pictures. All (of the first 2,000) are looked through for those that excite a unit most.
        out: the folder.
        target: the class whose heat is shown; by default each picture's answer.
        units: units such as "Conv2d-9:17"; by default some of the last convolution.
        most: how many pictures get heat maps; the first of them is followed through the layers.

    Raises:
        UserError: captum is not installed, no such class or unit, no picture, or a file that cannot be written.
    """
    heat.refuse_without_captum()
    if target is not None and target not in classifier.classes_:
        known = ", ".join(classifier.classes_[:20])
        raise UserError(f"class '{target}': expected one of {known}.{did_you_mean(target, classifier.classes_)}")
    samples = samples.select(np.arange(min(len(samples), _SEARCHED)))
    names, pictures, unreadable = _read(samples, classifier)
    if not pictures:
        name, reason = unreadable[0]
        raise UserError(f"no picture that can be read among {counted(len(samples), 'file')} ({name}: {reason}).")
    inputs_NCHW = heat.inputs(pictures, classifier.preprocessing, classifier.device)
    network = members_of(classifier.network)[0]
    chosen = [find_unit(network, inputs_NCHW[0], unit) for unit in units]  # a mistake is told before anything is written
    looked = _look(classifier, names[:most], pictures[:most], inputs_NCHW[:most], target, out)
    maps = _maps(network, inputs_NCHW[:1], out)
    if not chosen and len(pictures) > 1:
        chosen = _loudest(network, inputs_NCHW)
    exciting = [_exciting(classifier, pictures, inputs_NCHW, call, number, out) for call, number in chosen]
    page = write_html(
        "explain.html",
        out / "explain.html",
        classifier=classifier,
        looked=looked,
        count=len(pictures),
        window=heat.window(classifier.preprocessing.size),
        filters=_filters(network, classifier, out),
        maps=maps,
        exciting=exciting,
        members=len(members_of(classifier.network)),
    )
    return page, unreadable


def _read(samples: Samples, classifier: Classifier) -> tuple[list[str], list[np.ndarray], list[tuple[str, str]]]:
    """Names and pictures of what can be read, reduced, and name and reason of the rest."""
    names, pictures, unreadable = [], [], []
    for name, reading in zip(samples.names, read_pictures(samples, classifier.preprocessing.reduce), strict=True):
        if reading.picture is None:
            unreadable.append((name, reading.reason))
        else:
            names.append(name)
            pictures.append(reading.picture)
    return names, pictures, unreadable


def _look(
    classifier: Classifier,
    names: Sequence[str],
    pictures: Sequence[np.ndarray],
    inputs_BCHW: torch.Tensor,
    target: str | None,
    out: Path,
) -> list[Looked]:
    """Grad-CAM and occlusion of each picture, written and shown."""
    classes, preprocessing = classifier.classes_, classifier.preprocessing
    p_BK = classifier.from_squares(classifier.prepare(picture) for picture in pictures)
    numbers = [classes.index(target) if target is not None else int(p_K.argmax()) for p_K in p_BK]
    has_maps = last_convolution(members_of(classifier.network)[0], preprocessing.channels, preprocessing.size)
    heats = heat.gradcam(classifier.network, inputs_BCHW, numbers) if has_maps else [None] * len(names)
    found = []
    for i, (name, picture, number, heat_HW) in enumerate(zip(names, pictures, numbers, heats, strict=True)):
        view = heat.shown(picture, preprocessing)
        lost_HW = heat.occlusion(classifier.computing(), inputs_BCHW[i], number)
        lost = max(0.0, float(lost_HW.max()))
        covered = heat.painted(view, lost_HW / max(lost, 1e-12))
        _write(covered, out / f"{i + 1:02d}-occlusion.png")
        seen = heat.painted(view, heat_HW) if heat_HW is not None else None
        if seen is not None:
            _write(seen, out / f"{i + 1:02d}-gradcam.png")
        found.append(
            Looked(
                name=name,
                answer=classes[p_BK[i].argmax()],
                sure=float(p_BK[i].max()),
                target=classes[number],
                sure_of_target=float(p_BK[i, number]),
                picture=small_url(view, _SIDE),
                gradcam=small_url(seen, _SIDE) if seen is not None else "",
                occlusion=small_url(covered, _SIDE),
                lost=lost,
            )
        )
    return found


def _filters(network: torch.nn.Module, classifier: Classifier, out: Path) -> Shown | None:
    """The filters of the first convolution, if it sees the picture itself."""
    preprocessing = classifier.preprocessing
    blank = torch.zeros(1, preprocessing.channels, preprocessing.size, preprocessing.size, device=classifier.device)
    calls = [call for call in follow(network, blank) if isinstance(call.module, torch.nn.Conv2d)]
    layers = in_columns(calls[0].layer, [call.layer for call in calls]) if calls else []
    weights = [network.state_dict()[f"{layer}.weight"].float().cpu().numpy()[:_FILTERS] for layer in layers]
    if not layers or weights[0].shape[1] != preprocessing.channels:
        return None
    height, width = weights[0].shape[2:]
    names = {call.layer: _called(call) for call in calls}
    titles = [f"{names[layer]}: {len(each)} filters of {height}x{width}" for layer, each in zip(layers, weights, strict=True)]
    # A grey filter is one that takes as much of each colour.
    path = filter_grid([np.repeat(each, 3, 1) if each.shape[1] == 1 else each for each in weights], titles, out / "filters.png")
    return Shown("; ".join(titles), picture_url(path), path.name)


def _maps(network: torch.nn.Module, input_1CHW: torch.Tensor, out: Path) -> list[Shown]:
    """What each layer makes of a picture; in a deep network convolutions and linear layers alone."""
    calls = follow(network, input_1CHW)
    if len(calls) > _LAYERS:
        calls = [call for call in calls if "Conv" in call.name or "Linear" in call.name]
    found = []
    for i, call in enumerate(calls):
        picture = drawn_maps(call.output)
        if picture is None:
            continue
        count, sides = call.output.shape[1], "x".join(map(str, call.output.shape[2:]))
        what = (
            f"{count:,} maps of {sides}"
            if call.output.ndim == 4
            else f"{count:,} rows of {sides}"
            if sides
            else f"{count:,} units"
        )
        least, largest = float(call.output.min()), float(call.output.max())
        path = out / f"maps-{i + 1:02d}-{call.name}.png"
        _write(picture, path)
        title = f"{_called(call)}: {what}, from {least:.3g} (dark) to {largest:.3g} (bright)"
        found.append(Shown(title, small_url(picture, min(_WIDE, max(picture.shape))), path.name))
    return found


def _loudest(network: torch.nn.Module, inputs_NCHW: torch.Tensor) -> list[tuple[Call, int]]:
    """The units of the last convolution that some picture excites most."""
    layers = last_convolution(network, inputs_NCHW.shape[1], inputs_NCHW.shape[-1])
    if not layers:
        return []
    strongest_M = excitements(network, inputs_NCHW, layers[0]).max(0)
    return [find_unit(network, inputs_NCHW[0], f"{layers[0]}:{number}") for number in np.argsort(-strongest_M)[:_UNITS]]


def _exciting(
    classifier: Classifier, pictures: Sequence[np.ndarray], inputs_NCHW: torch.Tensor, call: Call, number: int, out: Path
) -> Shown:
    """The pictures that excite a unit most, side by side, with the place where they do."""
    network = members_of(classifier.network)[0]
    excited_N = excitements(network, inputs_NCHW, call.layer, call.before)[:, number]
    rows = np.argsort(-excited_N, kind="stable")[:_EXCITING]
    views = [heat.shown(pictures[i], classifier.preprocessing) for i in rows]
    heats = unit_heat(network, inputs_NCHW[torch.from_numpy(rows.copy())], call.layer, number, call.before)
    if heats is not None:
        views = [heat.painted(view, each) for view, each in zip(views, heats, strict=True)]
    gap = np.full((views[0].shape[0], 6, 3), 255, np.uint8)
    strip = np.concatenate([part for view in views for part in (view, gap)][:-1], 1)
    path = out / f"unit-{call.name}-{number}.png"
    _write(strip, path)
    told = ", ".join(f"{excited_N[i]:.3g}" for i in rows)
    return Shown(f"{_called(call)}, unit {number}: {told}", small_url(strip, 3 * _WIDE // 2), path.name)


def _called(call: Call) -> str:
    """A layer by its name in `tapetum summary`, and the network's own name for it where that is more than a number."""
    return call.name if call.layer[:1].isdigit() else f"{call.name} ({call.layer})"


def _write(picture_HWC: np.ndarray, path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, "PNG")
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
