"""The networks as they are: models, summary."""

from typing import Annotated, Any

from tyro.conf import Positional, arg

from tapetum.commands.common import Json, Place, dumps
from tapetum.errors import UserError


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
        print(dumps({"models": rows}))
        return
    for row in rows:
        print(f"{row['name']}: {row['title']}")
        print(f"    input {row['input']}, {row['parameters']:,} parameters, {row['multiply_adds']:,} multiply-adds (2 classes)")
        print(f"    {row['paper']}")
    print(f"\nnext:     tapetum summary {rows[0]['name']}")


def summary(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    /,
    size: Annotated[
        int | None,
        arg(help="Side of the input in pixels (default: the network's own).", metavar="INT", help_behavior_hint=""),
    ] = None,
    classes: Annotated[int, arg(help="Number of classes.")] = 2,
    svg: Annotated[Place, arg(help="Also draw the network to scale into this SVG file.")] = None,
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

        print(dumps(dataclasses.asdict(found)))
        return
    print(format_summary(found))
    if svg is not None:
        print(f"written:  {svg}")
    print(f"\nnext:     tapetum {'models' if expression.is_expression(model) else f'train DATA --model {model}'}")
