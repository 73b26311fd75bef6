"""Accuracy on a track: networks and seeds, trained and then judged on pictures that neither trained nor chose anything.

    python benchmarks/accuracy.py T400 --networks lenet compact --seeds 5
    python benchmarks/accuracy.py T400 --networks compact --set members=5 --seeds 3
    python benchmarks/accuracy.py T400 --networks auto --set minutes=1 --seeds 3
    python benchmarks/accuracy.py T400 --networks compact --set epochs=110 --method alternating-flip --seeds 3
    python benchmarks/accuracy.py MNIST --networks lenet5-1998 --set recipe=paper warp=0.1 epochs=40
    python benchmarks/accuracy.py FOLDER --judge OTHER_FOLDER --networks auto
    python benchmarks/accuracy.py T400 --networks compact --set epochs=60 --paired
    python benchmarks/accuracy.py Z400 --networks compact --set epochs=60 --unlabelled 2000 --seeds 3
    python benchmarks/accuracy.py --table

A track trains on one set of pictures and is judged on another:

    T400    the study book's 400 photos (its own split of cat and dog 0 to 250); judged on 251 to 1000, 1,500 photos
    Z400    cat and dog 0 to 199 of the 180-pixel collection; judged as T2000; --unlabelled adds some of 2500 to 4000
    T2000   cat and dog 0 to 999 of the 180-pixel collection; judged on 1500 to 2499, 2,000 photos (Chollet's test photos)
    T20k    all of the 180-pixel collection but 1500 to 1999 and their twins; judged on these, 1,000 photos
    MNIST   57,000 of the 60,000 training digits; judged on the 10,000 test digits

Every run is appended to accuracy.jsonl, with its settings, seconds, machine and versions; `--table` puts the means over seeds,
of each seed its newest run, into RESULTS.md (Student's t); `--paired` prints what each further setting changed, seed by seed.
`lenet-textbook` and `alexnet-textbook` get the notes' recipe, and with it their best epoch.
"""

import argparse
import contextlib
import dataclasses
import json
import platform
import shutil
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import networks_tried  # noqa: F401 - registers them
import tapetum
from methods_tried import METHODS
from tapetum.evaluation import metrics
from tapetum.evaluation.evaluate import evaluate
from tapetum.evaluation.metrics import mean_interval

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data"
RUNS, RESULTS = HERE / "accuracy.jsonl", HERE / "RESULTS.md"
MARKS = "<!-- accuracy: written by benchmarks/accuracy.py --table -->", "<!-- end of accuracy -->"
# The same photos as some of 1500 to 2499 under other numbers (shared/data/README.md).
TWINS = {("Cat", 10052), ("Cat", 10273), ("Cat", 12408), ("Dog", 8087), ("Dog", 3082)}
# Below which number the photos of the zip train; from which on they are shown without labels.
TRAINED, UNLABELLED_FROM = {"Z400": 200, "T2000": 1000, "T20k": 1_000_000}, 2500
ORDER = ["T400", "Z400", "T2000", "T20k", "MNIST"]
# Judged photos that also stand in the training's validation part, where only the log sees them.
WATCHED = 200


@dataclass(frozen=True)
class Track:
    """What trains, how, and what judges."""

    train: Path
    options: dict[str, Any]
    judge: Path | None
    """None: the data's own test part."""
    numbers: str = "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track", nargs="?", help="T400, Z400, T2000, T20k, MNIST, or a folder of labelled pictures")
    parser.add_argument("--judge", type=Path, help="labelled pictures that judge (with a folder as track)")
    parser.add_argument("--networks", nargs="+", default=["auto"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings, as of tapetum train")
    parser.add_argument("--method", choices=METHODS, help="a method that the package does not have (methods_tried.py)")
    parser.add_argument("--unlabelled", type=int, default=0, help="how many photos without labels (a track of its own: Z400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="how many, from 0; or first and last")
    parser.add_argument("--note", default="", help="a word kept with the runs, such as what they are compared with")
    parser.add_argument("--keep", type=Path, help="a folder for each run's probabilities, for --together")
    parser.add_argument("--together", action="store_true", help="judge the mean of the kept runs of each network, as members=N")
    parser.add_argument("--paired", action="store_true", help="compare runs with further settings with those of --set alone")
    parser.add_argument("--table", action="store_true", help="write the means into RESULTS.md and stop")
    args = parser.parse_args()
    if args.table:
        write_table()
        return
    if args.track is None:
        sys.exit("expected a track: T400, Z400, T2000, T20k, MNIST or a folder")
    options = dict(value(pair) for pair in args.set)
    if args.paired:
        for network in args.networks:
            tell_pairs(args.track, network, options)
        return
    if args.together:
        for network in args.networks:
            append(together(args.track, network, options, args.keep))
        return
    first, last = (0, args.seeds[0] - 1) if len(args.seeds) == 1 else args.seeds
    with tempfile.TemporaryDirectory() as scratch:
        track = find_track(args.track, args.judge, Path(scratch))
        if args.unlabelled:
            track = with_unlabelled(track, args.unlabelled, Path(scratch))
        for network in args.networks:
            for seed in range(first, last + 1):
                with METHODS[args.method]() if args.method else contextlib.nullcontext():
                    entry = one_run(args.track, track, network, seed, options, Path(scratch) / "run", args.keep)
                added = {"method": args.method, "unlabelled": args.unlabelled}
                told = {**options, **{name: chosen for name, chosen in added.items() if chosen}}
                append({**entry, "options": told, "note": args.note})


def append(entry: dict[str, Any]) -> None:
    """Keep a run, and say what came of it."""
    with RUNS.open("a", encoding="utf-8") as file:
        print(json.dumps(entry), file=file)
    told = f"{entry['network']} seed {entry['seed']} {entry['options']}: {entry['accuracy']:.2%}"
    print(f"{told}, {entry['training_seconds']:.0f} s", flush=True)


def value(pair: str) -> tuple[str, Any]:
    """A setting's name and value from NAME=VALUE; numbers become numbers.

    >>> value("epochs=3"), value("model=lenet")
    (('epochs', 3), ('model', 'lenet'))
    """
    name, text = pair.split("=", 1)
    for kind in (int, float):
        try:
            return name, kind(text)
        except ValueError:
            pass
    return name, text


def find_track(name: str, judge: Path | None, scratch: Path) -> Track:
    """The track called `name`, or one of the caller's folders; collections are laid out anew in `scratch`."""
    if name == "T400":
        return Track(DATA / "cats-dogs", {"split": "notes"}, DATA / "cats-dogs", "251-1000")
    if name in TRAINED:
        first, last = (1500, 1999) if name == "T20k" else (1500, 2499)
        lay_out(TRAINED[name], first, last, scratch)
        return Track(scratch / "train", {}, scratch / "judge")
    if name == "MNIST":
        return Track(DATA / "mnist", {"val": 0.05}, None)
    return Track(Path(name), {}, judge)


def with_unlabelled(track: Track, count: int, scratch: Path) -> Track:
    """The track with so many photos of the zip beside it whose labels nobody is told; their numbers neither train nor judge."""
    folder = scratch / "more"
    folder.mkdir()
    with zipfile.ZipFile(DATA / "PetImages-180px.zip") as archive:
        for i in range(count):
            kind, number = ("Cat", "Dog")[i % 2], UNLABELLED_FROM + i // 2
            (folder / f"{i}.jpg").write_bytes(archive.read(f"PetImages/{kind}/{number}.jpg"))
    return dataclasses.replace(track, options={**track.options, "unlabelled": str(folder)})


def lay_out(trained: int, first: int, last: int, scratch: Path) -> None:
    """The photos of the zip as class folders `train/train`, `train/val` and `judge`."""
    with zipfile.ZipFile(DATA / "PetImages-180px.zip") as archive:
        for member in archive.infolist():
            path = Path(member.filename)
            if path.suffix != ".jpg" or not member.file_size:
                continue
            label, number = path.parent.name, int(path.stem)
            judged = first <= number <= last
            places = [f"judge/{label}"] if judged else []
            if judged and number < first + WATCHED // 2:
                places.append(f"train/val/{label}")
            if not judged and number < trained and (label, number) not in TWINS:
                places.append(f"train/train/{label}")
            for place in places:
                (scratch / place).mkdir(parents=True, exist_ok=True)
                (scratch / place / path.name).write_bytes(archive.read(member))


def one_run(
    name: str, track: Track, network: str, seed: int, options: dict[str, Any], folder: Path, keep: Path | None
) -> dict[str, Any]:
    """Train and judge once; what is worth keeping of it."""
    begun, spent = time.monotonic(), time.process_time()
    settings = {"recipe": "notes" if "-textbook" in network else "auto", **track.options, **options}
    run = tapetum.train(track.train, folder, model=network, seed=seed, say=lambda line: None, **settings)
    wall, spent = time.monotonic() - begun, time.process_time() - spent
    if track.judge is None:
        found = run.metrics["test"]
    else:
        evaluation = evaluate(folder, track.judge, numbers=track.numbers)
        found, predictions = evaluation.metrics, evaluation.predictions
    about = run.classifier.about
    entry = {
        "track": name,
        "network": network,
        "options": options,
        "seed": seed,
        "accuracy": found.accuracy.value,
        "n": found.accuracy.n,
        "log_loss": found.log_loss,
        "decided": about["settings"]["decided"],
        "epochs": about["training"]["epochs"],
        "training_seconds": training_seconds(folder / "log.jsonl"),
        "seconds": round(wall, 1),
        "processor_seconds": round(spent, 1),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"tapetum": tapetum.__version__, "torch": torch.__version__},
    }
    shutil.rmtree(folder)
    if keep is not None and track.judge is not None:
        keep.mkdir(parents=True, exist_ok=True)
        labels = np.array([predictions.classes.index(Path(each).parent.name) for each in predictions.names])
        np.savez(keep / f"{name}-{network}-{seed}.npz", labels=labels, p=predictions.probabilities_NK, entry=json.dumps(entry))
    return entry


def together(name: str, network: str, options: dict[str, Any], keep: Path) -> dict[str, Any]:
    """The kept runs of a network as one ensemble: what `members=N` gives where the data come with their split."""
    kept = [np.load(file) for file in sorted(keep.glob(f"{name}-{network}-[0-9]*.npz"))]
    entries = [json.loads(str(each["entry"])) for each in kept]
    labels, mean_NK = kept[0]["labels"], np.mean([each["p"] for each in kept], axis=0)
    found = metrics.evaluate(labels, mean_NK, tuple(map(str, range(mean_NK.shape[1]))))
    seconds = sum(entry["training_seconds"] for entry in entries)
    return {
        **entries[0],
        "options": {**options, "members": len(kept)},
        "accuracy": found.accuracy.value,
        "log_loss": found.log_loss,
        "training_seconds": seconds,
        "note": "mean of the probabilities of the single runs",
    }


def training_seconds(log: Path) -> float:
    """Seconds that the training took, its validations included; of several networks their sum."""
    entries = map(json.loads, log.read_text().splitlines())
    last = {(entry.get("stage"), entry.get("member")): entry["seconds"] for entry in entries}
    return round(sum(last.values()), 1)


def minutes(entries: list[dict[str, Any]], name: str) -> str:
    """The mean of what the runs kept under `name`, which older ones may not have."""
    known = [entry[name] for entry in entries if entry.get(name) is not None]
    return f"{np.mean(known) / 60:.1f} min" if known else "-"


def in_words(options: dict[str, Any]) -> str:
    """Settings as they are given to --set."""
    return " ".join(f"{name}={chosen}" for name, chosen in options.items())


def tell_pairs(track: str, network: str, base: dict[str, Any]) -> None:
    """What each setting added to `base` changes: the mean of the differences between runs of one seed, and its interval."""
    groups: dict[str, dict[int, float]] = defaultdict(dict)
    for entry in (entry for runs in newest_runs().values() for entry in runs.values()):
        if (entry["track"], entry["network"]) == (track, network) and base.items() <= entry["options"].items():
            added = {name: chosen for name, chosen in entry["options"].items() if name not in base}
            groups[in_words(added)][entry["seed"]] = entry["accuracy"]
    if "" not in groups:
        sys.exit(f"no runs of {network} on {track} with {base} alone: run these first")
    print("| changed | mean accuracy | points more | 95 % interval | seeds |\n|---|---|---|---|---|")
    for added, found in sorted(groups.items()):
        seeds = sorted(found.keys() & groups[""].keys())
        differences = 100 * np.array([found[seed] - groups[""][seed] for seed in seeds])
        told = "- | -"
        if added and len(seeds) > 1:
            mean = mean_interval(differences)
            told = f"{mean.value:+.1f} | {mean.low:+.1f} to {mean.high:+.1f}"
        print(f"| {added or 'nothing'} | {np.mean([found[seed] for seed in seeds]):.1%} | {told} | {len(seeds)} |")


def newest_runs() -> dict[tuple[str, str, str], dict[int, dict[str, Any]]]:
    """The runs of each track, network and settings, by their seeds; of a seed that ran more than once the newest."""
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for entry in map(json.loads, RUNS.read_text(encoding="utf-8").splitlines()):
        groups[entry["track"], entry["network"], in_words(entry["options"])][entry["seed"]] = entry
    return groups


def write_table() -> None:
    """The means over seeds of all runs, as a table in RESULTS.md between its two marks."""
    groups = newest_runs()
    rows = [
        "| track | network | settings | mean accuracy | sd | 95 % interval of the mean | seeds | n | training | processor "
        "| threads |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    tracks = [*ORDER, *sorted({track for track, _, _ in groups} - set(ORDER))]
    # A track's runs without a setting come first.
    for track, network, options in sorted(groups, key=lambda group: (tracks.index(group[0]), group[2] != "", *group[1:])):
        entries = list(groups[track, network, options].values())
        accuracies = np.array([entry["accuracy"] for entry in entries])
        digits = 2 if track == "MNIST" else 1
        if len(entries) > 1:
            mean = mean_interval(accuracies)
            spread = f"{accuracies.std(ddof=1) * 100:.{digits}f} | {mean.low:.{digits}%} to {mean.high:.{digits}%}"
        else:
            spread = "- | -"
        training, processor = (minutes(entries, name) for name in ("training_seconds", "processor_seconds"))
        threads = "/".join(str(count) for count in sorted({entry["threads"] for entry in entries}))
        rows.append(
            f"| {track} | `{network}` | {options} | {accuracies.mean():.{digits}%} | {spread} | {len(entries)} "
            f"| {entries[0]['n']:,} | {training} | {processor} | {threads} |"
        )
    text = RESULTS.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    RESULTS.write_text("\n".join([before + MARKS[0], "", *rows, "", MARKS[1] + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
