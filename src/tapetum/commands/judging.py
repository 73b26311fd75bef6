"""What a run says, and what it is worth: labels, evaluate, compare, predict."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from tapetum import processes as together
from tapetum.commands.common import (
    Batch,
    Data,
    Device,
    Json,
    Numbers,
    Pictures,
    Place,
    Reject,
    Run,
    dumps,
    expect_run,
    quoted,
    tell_written,
    whole_number,
)
from tapetum.commands.launch import Processes, in_processes
from tapetum.errors import UserError
from tapetum.files import refuse_inside, write_csv
from tapetum.talk import counted

# Pictures of a part, unless another number is asked for; of so many at most each answer is shown.
_ROWS, _NAMED = 8192, 10


def labels(
    run: Run,
    /,
    out: Annotated[Place, arg(help="Also write an HTML page with miniatures to this file.")] = None,
    csv: Annotated[Place, arg(help="Also write all of them to this CSV file.")] = None,
    data: Annotated[Place, arg(help="Where the run's pictures are now (default: where they were), for --out.")] = None,
    json: Json = False,
) -> None:
    """Labels that are probably wrong: pictures that networks which did not train on them take for something else.

    The likeliest mistakes come first. Nothing among the pictures is changed.

    Args:
        run: Run folder of `tapetum train DATA --folds 5`.
    """
    expect_run(run, onnx=False)
    from tapetum.evaluation.labels import check_labels
    from tapetum.evaluation.recorded import refuse_unasked, where_pictures

    found = check_labels(run)
    asked, data = data, where_pictures(run, data)
    if out is not None:
        refuse_unasked(run, data, asked)
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
        print(dumps(found.to_json()))
        return
    print(found.text())
    if out is not None:
        print(f"\nlook at:  {out}")
    elif found.suspects:
        print(f"\nsee them: tapetum labels {quoted(run)} --out labels.html")
    print(f"next:     {'mend what you agree with, then ' if found.suspects else ''}tapetum train {quoted(data)}")


def evaluate(
    run: Run,
    data: Data,
    /,
    numbers: Numbers = "all",
    out: Annotated[Place, arg(help="Also write label and prediction of every picture to this CSV file.")] = None,
    reject: Reject = 0.0,
    batch: Batch = 32,
    device: Device = "auto",
    processes: Processes = 1,
    json: Json = False,
) -> None:
    """Accuracy and the rest, with intervals, on labelled pictures.

    Pictures that the run was trained on are recognised by their content and told apart. With --reject the figures are those of
    the pictures that get an answer, and a class "neither" in the data holds pictures that should get none.

    Args:
        run: Run folder, model file or ONNX file.
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    whole_number("batch", batch)
    expect_run(run, data)
    if out is not None:
        refuse_inside(out, data, "CSV file")
    if in_processes(processes):
        return
    from tapetum.evaluation.evaluate import evaluate as run_evaluation

    with together.joined():
        result = run_evaluation(run, data, numbers, batch, device, reject)
        if together.first():
            _tell_evaluation(run, result, out, json)


def _tell_evaluation(run: Path, result: Any, out: Path | None, json: bool) -> None:
    if out is not None:
        from tapetum.inference.predict import write_predictions

        replaced = {out} if out.exists() else set()
        write_predictions(result.predictions, out, result.labels)
    print(dumps(result.to_json()) if json else result.text())
    if not json:
        print()
        if out is not None:
            tell_written([out], replaced)
        print(f"next:     tapetum predict {quoted(run)} PICTURES")


def compare(
    run_a: Run,
    run_b: Run,
    data: Data,
    /,
    numbers: Numbers = "all",
    out: Annotated[Place, arg(help="Also write the pictures with different answers to this CSV file.")] = None,
    batch: Batch = 32,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Two runs on the same pictures: the difference with its interval, and whether chance alone would do it.

    Pictures that one of them was trained on are left out.

    Args:
        run_a: Run folder, model file or ONNX file.
        run_b: Another of the same classes.
        data: Labelled pictures, in any layout that `tapetum train` takes.
    """
    whole_number("batch", batch)
    expect_run(run_a)
    expect_run(run_b, data)
    if out is not None:
        refuse_inside(out, data, "CSV file")
    from tapetum.evaluation.compare import compare as run_comparison

    found = run_comparison(run_a, run_b, data, numbers, batch, device)
    replaced = {out} if out is not None and out.exists() else set()
    if out is not None:
        write_csv(out, ["path", "label", "a", "b"], found.differing)
    if json:
        print(dumps(found.to_json()))
        return
    print(f"A is {run_a}, B is {run_b}")
    print(found.text() if out is None else found.text(all_of_them=f"all in {out}"))
    print()
    if out is not None:
        tell_written([out], replaced)
    print(f"next:     tapetum predict {quoted(run_b if found.only_b > found.only_a else run_a)} PICTURES")


def predict(
    run: Run,
    pictures: Pictures,
    /,
    out: Annotated[
        Path, arg(help="CSV file to write (or .parquet); a name without a suffix is a folder of parts, for very many pictures.")
    ] = Path("predictions.csv"),
    kind: Annotated[Literal["csv", "parquet"], arg(help="What the parts of a folder are.")] = "csv",
    rows: Annotated[int, arg(help="Pictures of a part, in a folder.")] = _ROWS,
    kaggle: Annotated[bool, arg(help="Write id,label with label = P(dog), sorted by id, as the study notes do.")] = False,
    grid: Annotated[Place, arg(help="Also write a PNG with the first 20 pictures and their predictions.")] = None,
    reject: Reject = 0.0,
    batch: Batch = 32,
    device: Device = "auto",
    processes: Processes = 1,
    json: Json = False,
) -> None:
    """Predict pictures: one row each, with the label, its probability and those of every class.

    With --reject also its familiarity, the share of pictures of the known kind that are at least as strange. Into a folder, the
    same command goes on where it was stopped or killed.

    Args:
        run: Run folder, model file or ONNX file.
        pictures: Pictures, folders or archives of them, shards, or an address of shards.
    """
    whole_number("batch", batch)
    whole_number("rows", rows)
    if out.suffix and (kind, rows) != ("csv", _ROWS):
        raise UserError(f"--kind and --rows are for the parts of a folder: expected --out FOLDER, not {out}.")
    if kaggle and out.suffix == ".parquet":
        raise UserError(f"--kaggle writes CSV: expected --out {out.with_suffix('.csv')}, not {out}.")
    if not out.suffix and (kaggle or grid is not None):
        raise UserError(f"--out {out} is a folder of parts: expected a file with --kaggle or --grid, such as {out}.csv.")
    expect_run(run, *pictures)
    for place in pictures:
        refuse_inside(out, place, "CSV file")
        if grid is not None:
            refuse_inside(grid, place, "grid")
    if in_processes(processes):
        return
    from tapetum.data.sources import find_pictures
    from tapetum.inference.loading import load

    with together.joined():
        classifier = load(run, device)
        samples = find_pictures(pictures)
        if not out.suffix:
            _predict_parts(run, classifier, samples, out, {"kind": kind, "rows": rows, "batch": batch, "reject": reject}, json)
            return
        from tapetum.inference.predict import predict_together

        found = predict_together(classifier, samples, batch, reject)
        if together.first():
            _tell_predictions(run, samples, found, out, kaggle, grid, json)


def _predict_parts(run: Path, classifier: Any, samples: Any, out: Path, options: dict[str, Any], json: bool) -> None:
    from tapetum.inference.parts import MANIFEST, predict_parts

    found = predict_parts(classifier, samples, out, **options)
    if not together.first():
        return
    if json:
        print(dumps({"out": str(out), **{name: found[name] for name in ("files", "unreadable", "labels", "parts")}}))
        return
    print(_answers_in_short(found["files"] - found["unreadable"], found["labels"], found["unreadable"], options["reject"]))
    print(f"written:  {out / MANIFEST} and {counted(len(found['parts']), 'part')}")
    print(f"next:     tapetum evaluate {quoted(run)} DATA")


def _tell_each(found: Any) -> None:
    wide = max(map(len, found.names))
    for name, label, p in zip(found.names, found.labels, found.probabilities_NK.max(1), strict=True):
        # Of a stranger the probability is that of the class that it is not.
        print(f"{name:<{wide}}  {label}" + (f" {p * 100:.1f} %" if label in found.classes else ""))


def _answers_in_short(pictures: int, labels: dict[str, int], unreadable: int, reject: float) -> str:
    """How many pictures got which answer; with `reject` also how many got none, if it is nought."""
    told = {**labels, "neither": labels.get("neither", 0)} if reject else labels
    each = ", ".join(f"{label} {count:,}" for label, count in told.items())
    lost = f"; {counted(unreadable, 'file')} without a picture" if unreadable else ""
    return f"{counted(pictures, 'picture')}: {each}{lost}"


def _tell_predictions(run: Path, samples: Any, found: Any, out: Path, kaggle: bool, grid: Path | None, json: bool) -> None:
    from tapetum.inference.predict import write_kaggle, write_predictions

    if not found.names:
        name, reason = found.unreadable[0]
        raise UserError(f"no picture that can be read among {counted(len(samples), 'file')} ({name}: {reason}).")
    for name, reason in found.unreadable:
        print(f"not predicted: {name}: {reason}", file=sys.stderr)
    places = [out] if grid is None else [out, grid]
    replaced = {place for place in places if place.exists()}
    if kaggle:
        positive, shared = write_kaggle(found.classes, found.names, found.probabilities_NK, out)
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
        prediction_grid(shown, None, found.labels[: len(some)], found.probabilities_NK[: len(some)].max(1), grid)
    counts = dict(Counter(found.labels).most_common())
    if json:
        files = len(found.names) + len(found.unreadable)
        print(dumps({"out": str(out), "files": files, "unreadable": dict(found.unreadable), "labels": counts}))
        return
    if len(found.names) <= _NAMED:
        _tell_each(found)
    print(_answers_in_short(len(found.names), counts, len(found.unreadable), found.reject))
    tell_written(places, replaced)
    print(f"next:     tapetum evaluate {quoted(run)} DATA")
