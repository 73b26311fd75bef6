"""tapetum against others on the same work: how many times faster, and how close to what this machine can do.

    python benchmarks/speed.py [--only W1 W2 ...] [--rounds N] [--quick] [--peers FOLDER] [--data ../shared/data]

    S   cold starts: `import tapetum`, `tapetum --help`, one photo predicted, each beside what it cannot do without
    W1  a training step on one resident batch, in parts, with its page faults
    W2  an epoch from JPEG files, cold (with the building of the cache) and warm
    W3  the study notes' job on 400 photos, from the start of the process to the saved model
    W4  JPEG bytes to label: one at a time, 32 at a time, and 2,000 photos to a CSV file from the start of the process
    W5  from nothing to 80, 90 and 95 % on pictures held back from the zip's 20,000: over an hour, so only if it is asked for
    F   what the machine could do (`speed_floors.py`)

The networks are the notes' LeNet at 224 and AlexNet at 256 pixels. plain: the textbook loop. tuned: the same with channels-last
memory, the fused optimizer, torchvision's second transforms on uint8 and the number of workers that is fastest here. compiled:
tuned, with torch.compile (W1 and W4's bytes to label; skipped without a C++ compiler). timm, fastai and Ultralytics: their
loops, where they are installed; --peers makes an environment for them in FOLDER and uses it.

Every measurement is a process of its own. A round asks everybody once, every second round in the opposite order, so that a
drift of the machine meets all. That the work is the same is checked: W1, the loss of every step within 1e-4; W2, where
everybody draws crops of their own, the mean loss of both epochs within 5 %, and the number of pictures; W3, the mean loss of
the training within 5 %; W4, every probability within 0.02. Rows with other work, or from a noisy machine, are marked.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import speed_figures
from speed_figures import Row
from speed_photos import book_photos, lay_out, unpacked

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "torchvision", "timm", "fastai", "ultralytics", "onnx", "onnxscript", "onnxruntime")
ROUNDS = {"S": 9, "W1": 7, "W2": 5, "W3": 5, "W4": 5, "W5": 1}
SIZES = {"lenet": 224, "alexnet": 256}


@dataclass
class Race:
    """One piece of work, and everybody's command for it."""

    title: str
    commands: dict[str, list[str]]
    metrics: list[str] = field(default_factory=lambda: [""])
    differs: Callable[[dict, dict], str] = lambda ours, theirs: ""
    after: Callable[[str, dict], dict] = lambda who, done: done
    """What is read from the files that a process left; they are gone before the next round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*ROUNDS, "F"], default=["F", "S", "W1", "W2", "W3", "W4"])
    parser.add_argument("--nets", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--against", nargs="+", help="only these, such as: plain tuned")
    parser.add_argument("--rounds", type=int, help=f"instead of {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="one round of tiny work: whether it runs, not how fast")
    parser.add_argument("--peers", type=Path, help="environment with the peers; made if it is not there")
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for speed.json and speed.png")
    args = parser.parse_args()
    if args.peers and Path(sys.prefix).resolve() != args.peers.resolve():
        go_on_in(args.peers)
    if not (args.data / "cats-dogs").exists():
        print(f"{args.data / 'cats-dogs'} is not there: only W1 and F can be measured (name its folder with --data)")
        args.only = [work for work in args.only if work in ("W1", "F")]

    about = speed_figures.machine()
    print(json.dumps(about, indent=1), flush=True)
    absent = [name for name in ("timm", "fastai", "ultralytics", "onnxruntime") if not find_spec(name)]
    if absent:
        print(f"skipped, since not installed here: {', '.join(absent)} (--peers FOLDER installs them)", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    found: list[Row] = []
    told: dict = {"machine": about, "command": " ".join(["python", *sys.argv]), "floors": {}, "raw": {}, "skipped": {}}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for work in args.only:
            if work == "F":
                told["floors"] = floors(args)
                continue
            for race in RACES[work](args, place, told):
                rounds = 1 if args.quick else args.rounds or ROUNDS[work]
                raw, skipped = run(race, rounds, place)
                found += speed_figures.rows(race.title, raw, race.metrics, race.differs)
                told["raw"][race.title] = raw
                told["skipped"].update({f"{race.title}: {who}": why for who, why in skipped.items()})
                told["rows"] = speed_figures.as_json(found)
                (args.out / "speed.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n" + speed_figures.table(found) + "\n")
    print(parts(told))
    if found:
        speed_figures.draw(found, args.out / "speed.png")
    (args.out / "speed.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def go_on_in(folder: Path) -> None:
    """The same command by the Python of an environment that holds the peers."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PACKAGES)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES, "--editable", str(HERE.parent)], check=True)
    os.execv(python, [str(python), *sys.argv])


def run(race: Race, rounds: int, place: Path) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Everybody's results round by round, and why somebody is missing."""
    found: dict[str, list[dict]] = {who: [] for who in race.commands}
    skipped: dict[str, str] = {}
    for number in range(rounds):
        order = [who for who in race.commands if who not in skipped]
        for who in order[:: 1 if number % 2 == 0 else -1]:
            done = measure(race.commands[who], place)
            if "failed" in done:
                skipped[who] = done["failed"]
                print(f"{race.title}: {who} skipped: {done['failed']}", flush=True)
                continue
            found[who].append(race.after(who, done))
            print(f"{race.title}: round {number + 1}: {who} {json.dumps(found[who][-1]['seconds'])}", flush=True)
    return {who: results for who, results in found.items() if who not in skipped}, skipped


def measure(command: list[str], place: Path) -> dict:
    """Run a process to its end: its own last line of JSON, else the seconds from its start to its end, and what it took."""
    steal, begun = steal_and_all(), time.perf_counter()
    cache = tempfile.mkdtemp(dir=place)
    with (place / "stdout").open("w") as output, (place / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, "TAPETUM_CACHE": cache})
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    stolen, whole = (after - before for after, before in zip(steal_and_all(), steal, strict=True))
    shutil.rmtree(cache)
    text = (place / "stdout").read_text(errors="replace")
    if process.returncode:
        lines = (place / "stderr").read_text(errors="replace").strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit code {process.returncode}"}
    last = text.strip().splitlines()[-1:] or [""]
    own = json.loads(last[0]) if last[0].startswith('{"') else {}
    general = {"seconds": seconds, "faults": used.ru_minflt, "memory_mb": used.ru_maxrss // 1024, "stdout": text}
    return {**general, **own, "steal": stolen / max(1, whole), "process_seconds": seconds}


def steal_and_all() -> tuple[int, int]:
    """Ticks that the host of this machine gave to others, and all ticks (0 where the system does not tell)."""
    if not Path("/proc/stat").exists():
        return 0, 0
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


def child(work: str, who: str, net: str, **more: object) -> list[str]:
    return [sys.executable, str(HERE / "speed_child.py"), json.dumps({"work": work, "who": who, "net": net, **more})]


def chosen(args: argparse.Namespace, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not args.against or name in (*args.against, "tapetum")]


LOOPS = ("plain", "tuned", "tapetum")
PROGRAMS = (*LOOPS, "timm", "fastai", "ultralytics")


def present(args: argparse.Namespace, names: tuple[str, ...]) -> list[str]:
    """Those of the programs that are installed and asked for."""
    return [name for name in chosen(args, names) if name in (*LOOPS, "compiled") or find_spec(name)]


def floors(args: argparse.Namespace) -> dict:
    found = {}
    for net in args.nets:
        with tempfile.TemporaryDirectory() as place:
            done = measure(child("floors", "floors", net, steps=1 if args.quick else 10, batch=batch(args)), Path(place))
        found[net] = {key: value for key, value in done.items() if key != "stdout"}
    return found


def batch(args: argparse.Namespace) -> int:
    return 2 if args.quick else 32


def starts(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """S."""
    python, tapetum = [sys.executable, "-c"], [sys.executable, "-m", "tapetum"]
    races = [
        Race("S import tapetum", {"python": [*python, "pass"], "tapetum": [*python, "import tapetum"]}),
        Race("S tapetum --help", {"import tyro": [*python, "import tyro"], "tapetum": [*tapetum, "--help"]}),
    ]
    photo = next(lay_out(book_photos(args.data, 2), place / "one").rglob("*.jpg"))
    for net in args.nets:
        measure(child("prepare", "prepare", net, model=str(place / "S")), place)
        ours = [*tapetum, "predict", str(place / "S" / f"{net}-run"), str(photo), "--out", str(place / "one.csv")]
        bare = [*python, "import torch, torchvision"]
        races.append(Race(f"S {net}: one photo predicted", {"import torch, torchvision": bare, "tapetum": ours}))
    return races


def steps(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """W1."""
    photos = lay_out(book_photos(args.data, 8), place / "few") if (args.data / "cats-dogs").exists() else ""
    job = {"steps": 6 if args.quick else 12, "batch": batch(args), "photos": str(photos)}
    return [
        Race(
            f"W1 {net} {SIZES[net]}: a step",
            {who: child("step", who, net, **job) for who in present(args, (*PROGRAMS, "compiled"))},
            differs=functools.partial(losses_differ, by=1e-4),
        )
        for net in args.nets
    ]


def epochs(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """W2."""
    count = 16 if args.quick else 400
    sources = {"original": book_photos(args.data, count)}
    if (args.data / "PetImages-180px.zip").exists():
        sources["180 px"] = unpacked(args.data / "PetImages-180px.zip", count, place / "unpacked")
    races = []
    for source, files in sources.items():
        job = {"photos": str(lay_out(files, place / source)), "batch": batch(args)}
        for net in args.nets:
            workers = best_workers(net, job, args, place)
            told.setdefault("workers", {})[f"{net} {source}"] = workers
            names = present(args, PROGRAMS if source == "original" else LOOPS)
            commands = {who: child("epoch", who, net, workers=0 if who == "plain" else workers, **job) for who in names}
            same = functools.partial(losses_differ, by=0.05)
            races.append(Race(f"W2 {net}, {count} photos, {source}: epoch", commands, ["cold", "warm"], same))
    return races


def best_workers(net: str, job: dict, args: argparse.Namespace, place: Path) -> int:
    """The number of worker processes with which the tuned loop's second epoch is shortest."""
    if args.quick:
        return 0
    tried = {count: measure(child("epoch", "tuned", net, workers=count, **job), place) for count in (0, 1, 2)}
    return min(tried, key=lambda count: tried[count]["seconds"]["warm"] if "failed" not in tried[count] else float("inf"))


def notes_job(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """W3."""
    data, races = args.data / "cats-dogs", []
    for net in args.nets:
        count = "1" if args.quick else "10"
        run_folder = place / f"W3-{net}"
        script = [sys.executable, str(HERE / "plain_loop.py"), str(data), "--net", net, "--epochs", count]
        script += ["--save", str(place / "W3.pt")]
        ours = [sys.executable, "-m", "tapetum", "train", str(data), "--recipe", "notes", "--split", "notes", "--epochs", count]
        ours += ["--model", f"{net}-textbook", "--out", str(run_folder), "--overwrite"]
        commands = {"plain": script, "tuned": [*script, "--tuned"], "tapetum": ours}
        told["skipped"][f"W3 {net}: timm, fastai, ultralytics"] = "they do not run the notes' script"
        races.append(
            Race(
                f"W3 {net}: the notes' job",
                {who: commands[who] for who in present(args, LOOPS)},
                differs=functools.partial(losses_differ, by=0.05),
                after=functools.partial(training_losses, run_folder=run_folder),
            )
        )
    return races


def training_losses(who: str, done: dict, run_folder: Path) -> dict:
    """Seconds of the whole process, and the mean training loss of its epochs."""
    if who == "tapetum":
        losses = [json.loads(line)["train_loss"] for line in (run_folder / "log.jsonl").read_text().splitlines()]
    else:
        losses = [float(line.split("loss ")[1].split()[0]) for line in done["stdout"].splitlines() if " train loss " in line]
    return {**done, "seconds": done["process_seconds"], "losses": [sum(losses) / len(losses)], "stdout": ""}


def answers(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """W4."""
    few = lay_out(book_photos(args.data, 8 if args.quick else 128), place / "answers")
    photos = few if args.quick else args.data / "cats-dogs"
    races = []
    for net in args.nets:
        done = measure(child("prepare", "prepare", net, model=str(place)), place)
        told["onnx"] = done.get("onnx", done.get("failed"))
        print(f"W4 {net}: {told['onnx']}", flush=True)
        names = [who for who in chosen(args, (*LOOPS, "compiled", "onnx")) if who != "onnx" or find_spec("onnxruntime")]
        job = {"photos": str(few), "model": str(place), "batch": batch(args)}
        commands = {who: child("answer", who, net, **job) for who in names}
        same = functools.partial(losses_differ, by=0.02, relative=False)
        races.append(Race(f"W4 {net}: bytes to label,", commands, ["one p50", "one p95", "of 32 each"], same))
        run_folder, csv = place / f"{net}-run", place / "tapetum.csv"
        commands = {
            "plain": child("folder", "plain", net, photos=str(photos), model=str(place)),
            "tapetum": [sys.executable, "-m", "tapetum", "predict", str(run_folder), str(photos), "--out", str(csv)],
        }
        after = functools.partial(written_probabilities, folder=place)
        races.append(Race(f"W4 {net}: folder to CSV", commands, differs=same, after=after))
    return races


def written_probabilities(who: str, done: dict, folder: Path) -> dict:
    """Seconds of the whole process, and each photo's probability of being a dog."""
    import pandas as pd

    frame = pd.read_csv(folder / f"{who}.csv")
    name, probability = ("id", "label") if who == "plain" else ("path", "p_Dog")
    found = {Path(photo).name: p for photo, p in zip(frame[name], frame[probability], strict=True)}
    return {**done, "seconds": done["process_seconds"], "losses": [found[name] for name in sorted(found)], "stdout": ""}


def accuracies(args: argparse.Namespace, place: Path, told: dict) -> list[Race]:
    """W5: tapetum's time to 80, 90 and 95 % against the notes' ten epochs of LeNet on 400 photos."""
    script = [
        sys.executable,
        str(HERE / "plain_loop.py"),
        str(args.data / "cats-dogs"),
        "--epochs",
        "1" if args.quick else "10",
    ]
    ours = [sys.executable, str(HERE / "speed_accuracy.py"), str(args.data / "PetImages-180px.zip"), str(place / "W5")]

    def after(who: str, done: dict) -> dict:
        whole = dict.fromkeys(("80 %", "90 %", "95 %"), done["process_seconds"])
        return {**done, "seconds": done["seconds"] if who == "tapetum" else whole, "stdout": ""}

    return [
        Race("W5 the notes' LeNet job / our time to", {"plain": script, "tapetum": ours}, ["80 %", "90 %", "95 %"], after=after)
    ]


def losses_differ(ours: dict, theirs: dict, by: float, relative: bool = True) -> str:
    """The largest difference of two curves if it is larger than `by`."""
    a, b = ours.get("losses", []), theirs.get("losses", [])
    if len(a) != len(b):
        return f"{len(b)} steps, not {len(a)}"
    worst = max((abs(x - y) / (abs(y) if relative else 1) for x, y in zip(a, b, strict=True)), default=0)
    return f"losses or probabilities differ by {worst:.2g}" if worst > by else ""


def parts(told: dict) -> str:
    """What the table of ratios does not tell: the parts of a step, loading's share of an epoch, the distance to the floors."""
    import statistics

    lines = []
    for title, raw in told["raw"].items():
        ours = raw.get("tapetum", [])
        if not title.startswith("W1") or not ours:
            continue
        net = title.split()[1]
        for who, rounds in raw.items():
            means = {part: statistics.median(done["parts"][part] for done in rounds) for part in rounds[0]["parts"]}
            told.setdefault("parts", {})[f"{net} {who}"] = means
            lines.append(f"{title} by {who}: " + ", ".join(f"{part} {speed_figures.time(s)}" for part, s in means.items()))
        step_seconds = statistics.median(done["seconds"] for done in ours)
        floor = told["floors"].get(net, {})
        if "f2" in floor:
            lines.append(
                f"{title}: F1 / T {floor['f1'] / step_seconds:.2f}, F2 / T {floor['f2'] / step_seconds:.2f} (F1 "
                f"{speed_figures.time(floor['f1'])}, F2 {speed_figures.time(floor['f2'])}, and the update at least "
                f"{speed_figures.time(floor['update'])}; {floor['gflops']:.0f} GFLOP/s, {floor['gigabytes_a_second']:.1f} GB/s)"
            )
        for other, loaded in told["raw"].items():
            if other.startswith(f"W2 {net},") and loaded.get("tapetum"):
                warm = statistics.median(done["seconds"]["warm"] for done in loaded["tapetum"])
                count = int(other.split(", ")[1].split()[0])
                over = warm / (step_seconds * count / loaded["tapetum"][0]["job"]["batch"]) - 1
                lines.append(f"{other} warm: {over:+.1%} over the same pictures at W1's speed")
    told["told"] = lines
    return "\n".join(lines)


RACES = {"S": starts, "W1": steps, "W2": epochs, "W3": notes_job, "W4": answers, "W5": accuracies}

if __name__ == "__main__":
    main()
