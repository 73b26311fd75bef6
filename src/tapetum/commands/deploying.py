"""A run for others: export."""

import sys
from typing import Annotated

from tyro.conf import arg

from tapetum.commands.common import Json, Place, Run, dumps, expect_run, quoted
from tapetum.errors import UserError
from tapetum.files import refuse_inside, write_text


def export(
    run: Run,
    /,
    onnx: Annotated[Place, arg(help="ONNX file to write.")] = None,
    uint8: Annotated[bool, arg(help="Let uint8 RGB squares (N, side, side, 3) go in, not normalised float32 images.")] = False,
    int8: Annotated[bool, arg(help="Compute convolutions and linear layers in 8 bits, a quarter of the size.")] = False,
    max_loss: Annotated[float, arg(help="Accuracy that int8 may cost, as a share: 0.01 is one point.")] = 0.01,
    card: Annotated[Place, arg(help="Write a model card (Markdown) to this file.")] = None,
    data: Annotated[Place, arg(help="Where the run's pictures are now (default: where they were).")] = None,
    json: Json = False,
) -> None:
    """A run as one ONNX file, accepted only if it repeats the run's own predictions; and its model card.

    All from squares to probabilities is in the graph: views, ensemble, temperature, and how familiar a picture is. The file
    predicts the validation pictures once more: labels must be the same, probabilities within 1e-4. With --int8 its cost in
    accuracy is measured, and refused above --max-loss.

    Args:
        run: Run folder of a finished training.
    """
    if onnx is None and card is None:
        raise UserError("nothing to export: expected --onnx FILE, --card FILE or both.")
    if onnx is None and (uint8 or int8):
        raise UserError(f"--{'uint8' if uint8 else 'int8'} says how an ONNX file is written: expected --onnx FILE as well.")
    expect_run(run, onnx=False)
    told: dict[str, object] = {}
    text = ""
    if card is not None:  # made before the work, and written after it
        from tapetum.deployment.card import model_card
        from tapetum.evaluation.recorded import where_pictures
        from tapetum.inference.classifier import load

        text = str(model_card(load(run, "cpu")))
        refuse_inside(card, where_pictures(run, data), "model card")
    if onnx is not None:
        from tapetum.deployment.export import export_onnx

        found = export_onnx(
            run, onnx, uint8=uint8, int8=int8, max_loss=max_loss, data=data, say=lambda line: print(line, file=sys.stderr)
        )
        told |= found.to_json()
        if not json:
            print(found.text())
    if card is not None:
        write_text(card, text)
        told["card"] = str(card)
    if json:
        print(dumps(told))
        return
    if card is not None:
        print(f"card:     {card}")
    print(f"next:     tapetum predict {quoted(onnx or run)} PICTURES")
