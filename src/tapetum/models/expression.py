"""A single layer from its text, as notes and books write it: `nn.AvgPool2d((3, 2), stride=(2, 1))`. Nothing is executed."""

import ast

import torch
from torch import nn

from tapetum.errors import UserError, did_you_mean, reason_of
from tapetum.models.registry import refuse_size

_KINDS = {kind.__name__: kind for kind in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)}


def is_expression(text: str) -> bool:
    """Whether `text` is meant as a layer rather than a name: it has a bracket."""
    return "(" in text


def layer(text: str, size: int) -> tuple[nn.Module, int]:
    """The layer that `text` describes, without memory for weights, and the number of maps that it takes (1 for pools).

    >>> layer("nn.AvgPool2d((3, 2), stride=(2, 1))", size=7)
    (AvgPool2d(kernel_size=(3, 2), stride=(2, 1), padding=0), 1)

    Raises:
        UserError: not one call of a known layer with plain numbers, or one that does not take maps of size x size.
    """
    refuse_size(size)
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"'{text}' cannot be read ({error}): expected a layer such as MaxPool2d(2).") from error
    name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
    if not isinstance(call, ast.Call) or name not in _KINDS:
        raise UserError(f"'{text}' is no layer that we know.{did_you_mean(name, _KINDS)} Known: {', '.join(_KINDS)}.")
    try:
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in call.keywords}
        with torch.device("meta"):
            found = _KINDS[name](*arguments, **named)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"'{text}' cannot be built ({reason_of(error)}): expected numbers that {name} takes.") from error
    channels = getattr(found, "in_channels", 1)
    try:
        found(torch.empty(1, channels, size, size, device="meta"))
    except RuntimeError as error:
        raise UserError(f"'{text}' does not fit maps of {size}x{size} ({reason_of(error)}): use a larger --size.") from error
    return found, channels
