"""What a run learnt, to look at: report, explain."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tapetum.commands.common import Json, dumps, quoted
from tapetum.config import read_table
from tapetum.files import refuse_inside


def report(
    run: Positional[Path],
    /,
    out: Annotated[Path | None, arg(help="HTML file to write (default: report.html in the run folder).")] = None,
    lang: Annotated[Literal["en", "ko"], arg(help="Language of the page.")] = "en",
    data: Annotated[Path | None, arg(help="Where the run's pictures are now (default: where they were).")] = None,
    json: Json = False,
) -> None:
    """One HTML page about a run: its pictures, how good it is, its mistakes, how it learnt, what it cost, how to use it.

    Every training writes it in English. It is made from the run folder alone; where the pictures have gone, it has none.

    Args:
        run: Run folder.
    """
    from tapetum.looking.report import write_report

    page = run / "report.html" if out is None else out
    for place in (data, read_table(run / "settings.toml", "about").get("data") if (run / "settings.toml").exists() else None):
        if place:
            refuse_inside(page, Path(place), "page")
    write_report(run, page, lang, data)
    if json:
        print(dumps({"page": str(page)}))
        return
    print(f"look at:  {page}")
    print(f"next:     tapetum explain {quoted(run)} PICTURES --out explained")
