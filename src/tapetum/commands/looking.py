"""What a run learnt, to look at: report, explain."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from tapetum.commands.common import Device, Json, Pictures, Place, Run, dumps, expect_run, quoted, whole_number
from tapetum.config import read_table
from tapetum.files import refuse_inside
from tapetum.talk import counted


def report(
    run: Run,
    /,
    out: Annotated[Place, arg(help="HTML file to write (default: report.html in the run folder).")] = None,
    lang: Annotated[Literal["en", "ko"], arg(help="Language of the page.")] = "en",
    data: Annotated[Place, arg(help="Where the run's pictures are now (default: where they were).")] = None,
    json: Json = False,
) -> None:
    """One HTML page about a run: its pictures, how good it is, its mistakes, how it learnt, what it cost, how to use it.

    Every training writes it in English. It is made from the run folder alone; where the pictures have gone, it has none.

    Args:
        run: Run folder.
    """
    expect_run(run, onnx=False)
    page = run / "report.html" if out is None else out
    for place in (data, read_table(run / "settings.toml", "about").get("data") if (run / "settings.toml").exists() else None):
        if place:
            refuse_inside(page, Path(place), "page")
    from tapetum.looking.report import write_report

    write_report(run, page, lang, data)
    if json:
        print(dumps({"page": str(page)}))
        return
    print(f"look at:  {page}")
    print(f"next:     tapetum explain {quoted(run)} PICTURES --out explained")


def explain(
    run: Run,
    pictures: Pictures,
    /,
    out: Annotated[Path, arg(help="Folder to write; explain.html is the page.")] = Path("explained"),
    target: Annotated[
        str | None,
        arg(
            name="class",
            help="Show what speaks for this class (default: for the answer).",
            metavar="STR",
            help_behavior_hint="",
        ),
    ] = None,
    unit: Annotated[tuple[str, ...], arg(help="Show which pictures excite these units most, such as Conv2d-9:17.")] = (),
    most: Annotated[int, arg(help="Pictures that get heat maps.")] = 6,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """What a run looks at in pictures, and what its layers have learnt: heat maps, filters, feature maps, exciting pictures.

    Writes PNG files and one HTML page. The first picture is followed through the layers.

    Args:
        run: Run folder or model file.
        pictures: Pictures, folders or archives of them, shards, or an address of shards.
    """
    whole_number("most", most)
    expect_run(run, *pictures, onnx=False)
    for place in pictures:
        refuse_inside(out, place, "folder")
    from tapetum.data.sources import find_pictures
    from tapetum.inference.classifier import load
    from tapetum.looking.explain import explain as run_explanation

    samples = find_pictures(pictures)
    page, unreadable = run_explanation(load(run, device), samples, out, target, unit, most)
    for name, reason in unreadable:
        print(f"not explained: {name}: {reason}", file=sys.stderr)
    if json:
        files = sorted(path.name for path in out.iterdir() if path.suffix == ".png")
        print(dumps({"page": str(page), "files": files, "unreadable": dict(unreadable)}))
        return
    explained = min(most, len(samples) - len(unreadable))
    left_out = f"; {counted(len(unreadable), 'file')} without a picture" if unreadable else ""
    print(f"heat maps of {explained:,} of {counted(len(samples), 'picture')} (--most){left_out}")
    print(f"look at:  {page}")
    print(f"next:     tapetum predict {quoted(run)} PICTURES")
