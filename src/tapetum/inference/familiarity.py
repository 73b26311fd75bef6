"""How much a picture is like those that the network knows: the ground for the answer "neither".

A network that has learnt cats and dogs calls a digit a cat or a dog, often surely. What gives strangers away are the features
on which its last layer decides: the directions in which they lie are not those of the known classes. Here they are compared by
Mahalanobis' distance to the nearest class (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
samples", section 2), on features that are rooted and scaled to unit length first (Mueller & Hein 2025, "Mahalanobis++", for the
length). Which distance is strange is read off the validation pictures: `familiarity` is a conformal p-value (Bates et al. 2023,
"Testing for outliers with conformal p-values"), so among new pictures of the known kind a share a has one of a or less.

Letters in names: B pictures of a batch, N all pictures, C features, K classes, D directions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tapetum.faster import own_input
from tapetum.models.ensemble import Ensemble

# Directions in which features vary most, and so together, that are kept.
_DIRECTIONS = 64
# A feature that hardly varies among the known pictures counts as varying by at least this share of the mean.
_LEAST_SCALE = 0.1


@dataclass(frozen=True)
class Known:
    """What one network's features are like, class by class."""

    means_KC: torch.Tensor
    scale_C: torch.Tensor
    """What counts as a distance of 1 along a feature, where it varies by itself."""
    directions_CD: torch.Tensor
    """Orthonormal directions in which the scaled features vary together."""
    weights_D: torch.Tensor
    """What of a squared distance along each direction does not count, since the known pictures vary so, too; below 1."""

    @staticmethod
    def of(features_NC: torch.Tensor, labels_N: np.ndarray) -> "Known":
        """Learn from the features of training pictures and their classes."""
        from sklearn.covariance import ledoit_wolf_shrinkage  # half a second, which prediction need not wait for

        x_NC = _rooted(features_NC).double()
        present = np.unique(labels_N)
        means_KC = torch.stack([x_NC[torch.from_numpy(labels_N == k)].mean(0) for k in present])
        rest_NC = x_NC - means_KC[torch.from_numpy(np.searchsorted(present, labels_N))]
        spread_C = rest_NC.square().mean(0).sqrt()
        scale_C = spread_C.clamp(min=max(float(spread_C.mean()) * _LEAST_SCALE, 1e-9))
        rest_NC = rest_NC / scale_C
        # The covariance that few pictures show is shrunk towards independence (Ledoit & Wolf 2004). Along the directions in
        # which the features vary most it is kept, in all others it is their mean (probabilistic PCA, Tipping & Bishop 1999):
        # its inverse is then the identity but for those few, and need not be built.
        shrinkage = float(ledoit_wolf_shrinkage(rest_NC.numpy(), assume_centered=True))
        _, singular, directions = torch.linalg.svd(rest_NC / len(rest_NC) ** 0.5, full_matrices=False)
        variance_D = singular[:_DIRECTIONS].square()
        others = rest_NC.shape[1] - len(variance_D)
        other = float(rest_NC.square().mean(0).sum() - variance_D.sum()) / others if others else 0.0
        variance_D, other = shrinkage + (1 - shrinkage) * variance_D, max(1e-6, shrinkage + (1 - shrinkage) * other)
        parts = means_KC, scale_C * other**0.5, directions[:_DIRECTIONS].T, 1 - other / variance_D
        return Known(*(each.float().contiguous() for each in parts))

    def strangeness(self, features_BC: torch.Tensor) -> torch.Tensor:
        """Squared distance (B,) to the nearest class, over the number of features; about 1 where nothing is strange."""
        x_BC = _rooted(features_BC)
        nearest_B = torch.full((x_BC.shape[0],), torch.inf)
        for mean_C in self.means_KC:
            away_BC = (x_BC - mean_C) / self.scale_C
            along_BD = away_BC @ self.directions_CD
            distance_B = away_BC.square().sum(1) - (along_BD.square() * self.weights_D).sum(1)
            nearest_B = torch.minimum(nearest_B, distance_B)
        return nearest_B / x_BC.shape[1]


@dataclass(frozen=True)
class Familiar:
    """What a network, or each of several that answer as one, knows, and how strange known pictures are that trained none."""

    known: tuple[Known, ...]
    seen_N: np.ndarray
    """(N,) float64: strangeness of the pictures by which it is calibrated, in rising order."""

    def strangeness(self, features: Sequence[torch.Tensor]) -> np.ndarray:
        """Mean over members and views (N,), of each member's features (V, N, C)."""
        pairs = zip(self.known, features, strict=True)
        found = [torch.stack([known.strangeness(view_NC) for view_NC in seen_VNC]).mean(0) for known, seen_VNC in pairs]
        return torch.stack(found).mean(0).double().numpy()

    def familiarity(self, strangeness_N: np.ndarray) -> np.ndarray:
        """Share (N,) of pictures of the known kind that are at least as strange, above 0 and up to 1.

        >>> Familiar((), np.array([1.0, 2.0, 3.0])).familiarity(np.array([0.0, 2.0, 9.0])).tolist()
        [1.0, 0.75, 0.25]
        """
        at_least_N = len(self.seen_N) - np.searchsorted(self.seen_N, strangeness_N, side="left")
        return (1 + at_least_N) / (1 + len(self.seen_N))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The same as tensors by name, for a file."""
        found = {f"{i}/{name}": tensor for i, each in enumerate(self.known) for name, tensor in vars(each).items()}
        return {**found, "seen": torch.from_numpy(self.seen_N)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor]) -> "Familiar":
        """What `tensors` gave.

        Raises:
            KeyError, ValueError: they are not such tensors.
        """
        known = []
        for i in range(sum(name.endswith("/means_KC") for name in tensors)):
            known.append(Known(*(tensors[f"{i}/{name}"] for name in Known.__dataclass_fields__)))
            features, directions = known[-1].directions_CD.shape
            shapes = known[-1].means_KC.shape[1:], known[-1].scale_C.shape, known[-1].weights_D.shape
            if shapes != ((features,), (features,), (directions,)):
                raise ValueError(f"what is known of features has shapes {shapes}")
        return Familiar(tuple(known), tensors["seen"].double().numpy())


@contextmanager
def watched(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """While it is open, a call of `network` puts the features of its last layer into the list: one (B, C), of an ensemble one
    of each member. In the form for prediction they are the same but for rounding.
    """
    features: list[torch.Tensor] = []

    def keep(layer: nn.Module, inputs: tuple) -> None:
        parts = inputs[0] if isinstance(inputs[0], Sequence) else [own_input(layer, inputs[0])]
        flat = [part.mean((2, 3)) if part.dim() == 4 else part.flatten(1) for part in parts]
        features.append(torch.cat([part.float().cpu() for part in flat], 1))

    handles = [_last_layer(each).register_forward_pre_hook(keep) for each in members_of(network)]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()


def members_of(network: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble, or the one itself."""
    return list(network.members) if isinstance(network, Ensemble) else [network]


def _last_layer(network: nn.Module) -> nn.Module:
    """The last layer that has something to learn or to compare with."""
    return [each for each in network.modules() if [*each.parameters(recurse=False), *each.buffers(recurse=False)]][-1]


def _rooted(features_BC: torch.Tensor) -> torch.Tensor:
    """Roots, which tame the long tails of features, scaled to unit length, which says more of contrast than of kind."""
    roots_BC = features_BC.sign() * features_BC.abs().sqrt()
    return nn.functional.normalize(roots_BC, dim=1)
