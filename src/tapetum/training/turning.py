"""Turned pictures: while it trains, a network also has to say which way up a picture is.

A share of the training pictures is turned by a quarter, a half or three quarters, and the last layer answers class and turn
together: K outputs for each of the four turns. Lee, Hwang & Shin 2020, "Self-supervised label augmentation via input
transformations" (section 3; there all four turns of each picture are shown). To tell how an animal is turned one must see
where its head and legs are, and the labels of that cost nothing. Afterwards only the outputs of the unturned stay: the network
is the one that it would be without.
"""

import torch
from torch import nn

from tapetum.errors import UserError

TURNS = 4


class TurnedLinear(nn.Linear):
    """A last layer that answers (B, 4 K) in training, turn by turn, and (B, K) for unturned pictures in evaluation."""

    def forward(self, features_BF: torch.Tensor) -> torch.Tensor:
        """Logits."""
        outputs = super().forward(features_BF)
        return outputs if self.training else outputs[:, : self.out_features // TURNS]


def widen(network: nn.Module, name: str) -> None:
    """Give the last linear layer of `network` outputs for every turn; those of the unturned keep their weights.

    Raises:
        UserError: the network ends in something else. `name` is what to call it.
    """
    place, last = list(network.named_modules())[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(f"turn with {name}: expected a network that ends in a linear layer. Use --turn 0.")
    wide = TurnedLinear(last.in_features, TURNS * last.out_features, bias=last.bias is not None).to(last.weight.device)
    nn.init.normal_(wide.weight, std=0.01)
    _copy(last, wide)
    network.set_submodule(place, wide)


def answer_turned(network: nn.Module) -> None:
    """Let a widened network that is evaluated answer for every turn, as it does in training."""
    for layer in network.modules():
        if isinstance(layer, TurnedLinear):
            layer.train()


def narrow(network: nn.Module) -> None:
    """Put the plain layer back in place of every one that `widen` made, with the weights for unturned pictures."""
    for place, layer in list(network.named_modules()):
        if isinstance(layer, TurnedLinear):
            plain = nn.Linear(layer.in_features, layer.out_features // TURNS, bias=layer.bias is not None)
            plain = plain.to(layer.weight.device)
            _copy(layer, plain)
            network.set_submodule(place, plain)


@torch.no_grad()
def _copy(source: nn.Linear, target: nn.Linear) -> None:
    """The weights of the outputs that both have; the target's other biases become zero."""
    both = min(source.out_features, target.out_features)
    target.weight[:both] = source.weight[:both]
    if target.bias is not None:
        target.bias.zero_()
        target.bias[:both] = source.bias[:both]
