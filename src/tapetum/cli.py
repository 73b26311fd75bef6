"""The command line: one small function a command. Settings become flags by themselves; torch is imported when a command runs.

Answers go to stdout, talk and progress to stderr; `--json` prints one JSON object. Every command ends by naming the next one.
"""

import json
import locale
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from tapetum import __version__
from tapetum.config import Settings, read_settings, read_table
from tapetum.errors import UserError
from tapetum.files import refuse_inside, write_csv

Json = Annotated[bool, arg(help="Print one JSON object in place of text.")]


def demo(folder: Path = Path("tapetum-demo"), json: Json = False) -> None:
    """The main job end to end in under a minute, on 1,797 handwritten digits that scikit-learn ships.

    Args:
        folder: Where the pictures and the run go.
    """
    from tapetum.demo import demo as run_demo

    _answer(run_demo(folder), json)


def train(
    data: Positional[Path],
    /,
    out: Annotated[Path | None, arg(help="Run folder to write (default: a new folder runs/NAME).")] = None,
    resume: Annotated[bool, arg(help="Go on from the newest checkpoint in the run folder, with that run's settings.")] = False,
    overwrite: Annotated[bool, arg(help="Replace the run that is in the run folder.")] = False,
    asked: Annotated[Settings, arg(name="")] = Settings(),  # noqa: B008 - frozen, and tyro reads the defaults from it
    json: Json = False,
) -> None:
    """Train a classifier from labelled pictures, and evaluate it on pictures that it did not train on.

    DATA is any of: DATA/CLASS/*.jpg; DATA/train/CLASS/* with val and test beside it; a folder of files whose names begin with
    their class (dog.113.jpg); a CSV with the columns path, label and perhaps split; a zip or tar of one of these. Which one it
    is is recognised, and said. --settings FILE takes settings from a TOML file, such as a run's settings.toml; flags win.

    Args:
        data: Folder, CSV file or archive of labelled pictures.
    """
    from tapetum import run
    from tapetum.training.signals import Interrupted

    try:
        result = run.train(data, out, resume=resume, overwrite=overwrite, settings=asked)
    except Interrupted as stop:
        print(
            f"tapetum: {stop}; go on with: tapetum train {_quoted(data)} --out {_quoted(stop.folder)} --resume", file=sys.stderr
        )
        sys.exit(stop.exit_code)
    _answer(result, json)


def _answer(result: Any, as_json: bool) -> None:
    """A run's metrics on stdout, and what to do next."""
    from tapetum.evaluation.text import format_metrics

    if as_json:
        found = {split: metrics.to_json() for split, metrics in result.metrics.items()}
        print(json.dumps({"folder": str(result.folder), "metrics": found}, ensure_ascii=False))
        return
    for split, metrics in result.metrics.items():
        print(f"{ {'folds': 'cross-validation', 'val': 'validation', 'test': 'test'}[split] }: {format_metrics(metrics)}\n")
    print(f"look at:  {result.folder / 'report.html'}")
    print(f"next:     tapetum predict {_quoted(result.folder)} PICTURES")


def check(
    data: Positional[Path],
    /,
    out: Annotated[Path | None, arg(help="Also write an HTML page with miniatures to this file.")] = None,
    numbers: Annotated[str, arg(help='Only files whose last number is in a range, such as 0-250; or "all".')] = "all",
    strict: Annotated[bool, arg(help="Exit with 1 if something serious is found.")] = False,
    json: Json = False,
) -> None:
    """Look through labelled pictures before a training: what would spoil it or its figures, by name and reason.

    Unreadable files, the same picture twice, under two labels or in two parts, names that collide on other systems, content
    that belies its name, blank, odd and turned pictures, small and uneven classes. Nothing among the pictures is changed.

    Args:
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.run import check as run_check

    if out is not None:
        refuse_inside(out, data, "page")
    found = run_check(data, numbers)
    if out is not None:
        from tapetum.looking.check_page import write_check

        write_check(found, out)
    if json:
        print(_dumps(found.to_json()))
    else:
        print(found.text())
        print(f"\nlook at:  {out}" if out is not None else f"\nsee them: tapetum check {_quoted(data)} --out check.html")
        print(f"next:     tapetum train {_quoted(data)}")
    if strict and any(each.harm == "serious" for each in found.findings):
        sys.exit(1)


def labels(
    run: Positional[Path],
    /,
    out: Annotated[Path | None, arg(help="Also write an HTML page with miniatures to this file.")] = None,
    csv: Annotated[Path | None, arg(help="Also write all of them to this CSV file.")] = None,
    data: Annotated[Path | None, arg(help="Where the run's pictures are now (default: where they were), for --out.")] = None,
    json: Json = False,
) -> None:
    """Labels that are probably wrong: pictures that networks which did not train on them take for something else.

    The likeliest mistakes come first. Nothing among the pictures is changed.

    Args:
        run: Run folder of `tapetum train DATA --folds 5`.
    """
    from tapetum.evaluation.labels import check_labels

    found = check_labels(run)
    data = Path(read_table(run / "settings.toml", "about")["data"]) if data is None else data
    for path, what in ((out, "page"), (csv, "CSV file")):
        if path is not None:
            refuse_inside(path, data, what)
    if csv is not None:
        found.write(csv)
    if out is not None:
        from tapetum.data.sources import find_samples
        from tapetum.looking.labels_page import write_labels

        write_labels(found, find_samples(data), out)
    if json:
        print(_dumps(found.to_json()))
        return
    print(found.text())
    print(f"\nlook at:  {out}" if out is not None else f"\nsee them: tapetum labels {_quoted(run)} --out labels.html")
    print(f"next:     mend what you agree with, then tapetum train {_quoted(data)}")


def textbook(
    data: Positional[Path],
    /,
    out: Annotated[Path, arg(help="Folder to write; index.html is the page.")] = Path("textbook"),
    lang: Annotated[Literal["auto", "ko", "en"], arg(help="Language of the page (auto: the system's).")] = "auto",
    quick: Annotated[bool, arg(help="A short tour of about two minutes: one seed, no single mends.")] = False,
    seeds: Annotated[int, arg(help="Trainings of each variant (AlexNet: at most 3).")] = 5,
    device: Annotated[str, arg(help="auto, cpu, cuda, ...")] = "auto",
    json: Json = False,
) -> None:
    """The study notes' story on your own photos: both networks as written, then each mistake mended, and what it costs.

    Writes one HTML page. Finished trainings are kept, so the same command goes on after an interruption.

    Args:
        data: Photos, in any layout that `tapetum train` takes; the book's are cat and dog 0 to 250 of Kaggle's Dogs vs Cats.
    """
    from tapetum import textbook as tour
    from tapetum.training.signals import Interrupted

    if lang == "auto":
        lang = "ko" if (locale.getlocale()[0] or os.environ.get("LANG", "")).lower().startswith("ko") else "en"
    try:
        page, ledger = tour.textbook(data, out, lang=lang, quick=quick, seeds=seeds, device=device)
    except Interrupted as stop:
        flags = (" --quick" if quick else "") + (f" --seeds {seeds}" if seeds != 5 else "")
        command = f"tapetum textbook {_quoted(data)} --out {_quoted(out)} --lang {lang}{flags}"
        print(f"tapetum: {stop}; the same command goes on with it: {command}", file=sys.stderr)
        sys.exit(stop.exit_code)
    if json:
        lines = {
            line.variant: {
                "accuracy": line.accuracy.to_json(),
                "seeds": line.seeds,
                "gain": line.gain.to_json() if line.gain else None,
            }
            for line in ledger
        }
        print(_dumps({"page": str(page), "ledger": lines}))
        return
    for line in ledger:
        gain = line.gain and f", gain {line.gain.value * 100:+.1f} ({line.gain.low * 100:+.1f} to {line.gain.high * 100:+.1f})"
        print(f"{line.variant:<16} {line.accuracy}{gain or ''}")
    print(f"\nlook at:  {page}")
    print(f"next:     tapetum train {_quoted(data)}")


def evaluate(
    run: Positional[Path],
    data: Positional[Path],
    /,
    numbers: Annotated[str, arg(help='Only files whose last number is in a range, such as 251-1000; or "all".')] = "all",
    out: Annotated[Path | None, arg(help="Also write the predictions of every picture to this CSV file.")] = None,
    batch: Annotated[int, arg(help="Pictures computed at once.")] = 32,
    device: Annotated[str, arg(help="auto, cpu, cuda, ...")] = "auto",
    json: Json = False,
) -> None:
    """Accuracy and the rest, with intervals, on labelled pictures.

    Pictures that the run was trained on are recognised by their content and told apart.

    Args:
        run: Run folder or model file.
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.evaluation.evaluate import evaluate as run_evaluation

    _whole_number("batch", batch)
    if out is not None:
        refuse_inside(out, data, "CSV file")
    result = run_evaluation(run, data, numbers, batch, device)
    if out is not None:
        from tapetum.inference.predict import write_predictions

        write_predictions(result.predictions, out)
    print(_dumps(result.to_json()) if json else result.text())
    if not json:
        print(f"\nnext:     tapetum predict {_quoted(run)} PICTURES")


def compare(
    run_a: Positional[Path],
    run_b: Positional[Path],
    data: Positional[Path],
    /,
    numbers: Annotated[str, arg(help='Only files whose last number is in a range, such as 251-1000; or "all".')] = "all",
    out: Annotated[Path | None, arg(help="Also write the pictures with different answers to this CSV file.")] = None,
    batch: Annotated[int, arg(help="Pictures computed at once.")] = 32,
    device: Annotated[str, arg(help="auto, cpu, cuda, ...")] = "auto",
    json: Json = False,
) -> None:
    """Two runs on the same pictures: the difference with its interval, and whether chance alone would do it.

    Pictures that one of them was trained on are left out.

    Args:
        run_a: Run folder or model file.
        run_b: Another of the same classes.
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    from tapetum.evaluation.compare import compare as run_comparison

    _whole_number("batch", batch)
    if out is not None:
        refuse_inside(out, data, "CSV file")
    found = run_comparison(run_a, run_b, data, numbers, batch, device)
    if out is not None:
        write_csv(out, ["path", "label", "a", "b"], found.differing)
    print(_dumps(found.to_json()) if json else found.text())
    if not json:
        print(f"\nnext:     tapetum predict {_quoted(run_b if found.only_b > found.only_a else run_a)} PICTURES")


def predict(
    run: Positional[Path],
    pictures: Positional[tuple[Path, ...]],
    /,
    out: Annotated[Path, arg(help="CSV file to write.")] = Path("predictions.csv"),
    kaggle: Annotated[bool, arg(help="Write id,label with label = P(dog), sorted by id, as the study notes do.")] = False,
    grid: Annotated[Path | None, arg(help="Also write a PNG with the first 20 pictures and their predictions.")] = None,
    batch: Annotated[int, arg(help="Pictures computed at once.")] = 32,
    device: Annotated[str, arg(help="auto, cpu, cuda, ...")] = "auto",
    json: Json = False,
) -> None:
    """Predict pictures: one row each, with the label, its probability and those of every class.

    Args:
        run: Run folder or model file.
        pictures: Pictures, folders or archives of them.
    """
    from tapetum.data.sources import find_pictures
    from tapetum.inference.classifier import load
    from tapetum.inference.predict import predict_samples, write_kaggle, write_predictions

    _whole_number("batch", batch)
    if not pictures:
        raise UserError("no pictures given: expected files, folders or archives after the run folder.")
    for place in pictures:
        refuse_inside(out, place, "CSV file")
        if grid is not None:
            refuse_inside(grid, place, "grid")
    classifier = load(run, device)
    samples = find_pictures(pictures)
    found = predict_samples(classifier, samples, batch)
    if not found.names:
        name, reason = found.unreadable[0]
        raise UserError(f"none of the {len(samples):,} files is a picture that can be read ({name}: {reason}).")
    for name, reason in found.unreadable:
        print(f"not predicted: {name}: {reason}", file=sys.stderr)
    if kaggle:
        positive, shared = write_kaggle(found, out)
        print(f"label is the probability of {positive}", file=sys.stderr)
        if shared:
            print(f"{shared:,} ids stand more than once: the id drops the class, as in the notes", file=sys.stderr)
    else:
        write_predictions(found, out)
    if grid is not None:
        from tapetum.data.decode import decode
        from tapetum.looking.grids import prediction_grid

        some = range(min(20, len(found.names)))
        shown = [decode(samples.read(int(found.rows[i]))) for i in some]
        best = found.probabilities_NK.argmax(1)
        prediction_grid(
            shown, None, [found.classes[best[i]] for i in some], [found.probabilities_NK[i, best[i]] for i in some], grid
        )
    counts = found.frame()["label"].value_counts()
    if json:
        summary = {"out": str(out), "predicted": len(found.names), "unreadable": dict(found.unreadable)}
        print(_dumps({**summary, "labels": {str(k): int(v) for k, v in counts.items()}}))
        return
    each = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    print(f"{len(found.names):,} pictures: {each}; {len(found.unreadable):,} files without a picture")
    print(f"written:  {out}" + (f", {grid}" if grid is not None else ""))
    print(f"next:     tapetum evaluate {_quoted(run)} LABELLED_PICTURES")


def models(json: Json = False) -> None:
    """Every network: paper, input, parameters, multiply-adds."""
    from tapetum import models as zoo
    from tapetum.models.summary import summarize

    rows: list[dict[str, Any]] = []
    for name in zoo.names():
        entry = zoo.entry(name)
        found = summarize(zoo.build_on_meta(name, 2), entry.channels, entry.size)
        rows.append(
            {
                "name": name,
                "input": f"{entry.channels}x{entry.size}x{entry.size}",
                "parameters": found.params,
                "multiply_adds": found.multiply_adds,
                "title": entry.title,
                "paper": entry.paper,
            }
        )
    if json:
        print(_dumps({"models": rows}))
        return
    for row in rows:
        print(f"{row['name']}: {row['title']}")
        print(f"    input {row['input']}, {row['parameters']:,} parameters, {row['multiply_adds']:,} multiply-adds (2 classes)")
        print(f"    {row['paper']}")
    print(f"\nnext:     tapetum summary {rows[0]['name']}")


def summary(
    model: Positional[str],
    /,
    size: Annotated[int | None, arg(help="Side of the input in pixels (default: the network's own).")] = None,
    classes: Annotated[int, arg(help="Number of classes.")] = 2,
    svg: Annotated[Path | None, arg(help="Also draw the network to scale into this SVG file.")] = None,
    json: Json = False,
) -> None:
    """A network layer by layer: output shape, parameters, and the size formula with its numbers put in.

    Where a division leaves a remainder, the exact number is shown before the one that is rounded down, and what is dropped.

    Args:
        model: Network, a name from `tapetum models`; or one layer, such as "AvgPool2d((3, 2), stride=(2, 1))".
    """
    from tapetum import models as zoo
    from tapetum.models import expression
    from tapetum.models.summary import format_summary, summarize

    if expression.is_expression(model):
        if size is None:
            raise UserError(f"'{model}' has no size of its own: expected --size, the side of its input, such as --size 7.")
        network, channels = expression.layer(model, size)
    else:
        channels = zoo.entry(model).channels
        network = zoo.build_on_meta(model, classes, size)
    side = zoo.entry(model).size if size is None else size
    found = summarize(network, channels, side)
    if svg is not None:
        from tapetum.looking.drawing import write_svg

        write_svg(found, channels, side, model, svg, crossings=getattr(network, "crossings", ()))
    if json:
        import dataclasses

        print(_dumps(dataclasses.asdict(found)))
        return
    print(format_summary(found))
    if svg is not None:
        print(f"written:  {svg}")
    print(f"\nnext:     tapetum {'models' if expression.is_expression(model) else f'train DATA --model {model}'}")


_COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "check": check,
    "train": train,
    "textbook": textbook,
    "labels": labels,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "models": models,
    "summary": summary,
}

_DESCRIPTION = (
    "Image classifiers that see well in little light: from few pictures, on small machines. A folder of pictures goes in; a "
    "trained, honestly evaluated classifier comes out. Begin with: tapetum demo. --traceback shows where a mistake happened."
)


def run(arguments: Sequence[str]) -> None:
    """Run the command that `arguments` name (without the program's own name)."""
    if list(arguments) in (["--version"], ["-V"]):
        print(f"tapetum {__version__}")
        return
    tyro.extras.subcommand_cli_from_dict(
        _COMMANDS, prog="tapetum", description=_DESCRIPTION, args=_with_settings(list(arguments))
    )


def _with_settings(arguments: list[str]) -> list[str]:
    """`--settings FILE` replaced by the flags that the file stands for, before the given ones, so that those win.

    A training that is resumed takes the settings of its run folder.
    """
    if "--settings" not in arguments and arguments[:1] == ["train"] and "--resume" in arguments and "--out" in arguments[:-1]:
        file = Path(arguments[arguments.index("--out") + 1]) / "settings.toml"
        arguments = [*arguments, "--settings", str(file)] if file.exists() else arguments
    if "--settings" not in arguments:
        return arguments
    at = arguments.index("--settings")
    if at + 1 >= len(arguments) or at == 0:
        raise UserError("--settings needs a file: expected tapetum train DATA --settings FILE.")
    values = read_settings(Path(arguments[at + 1]))
    given = arguments[1:at] + arguments[at + 2 :]
    names = {flag.split("=")[0].lstrip("-").replace("-", "_") for flag in given if flag.startswith("--")}
    flags: list[str] = []
    for name, value in values.items():
        if name not in names:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return [arguments[0], *flags, *given]


def _whole_number(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"--{name} is {value}: expected a whole number from 1.")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted(path: Path) -> str:
    """A path as a shell takes it, so that a command that is shown can be run."""
    return shlex.quote(str(path))
