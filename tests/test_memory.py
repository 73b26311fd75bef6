"""Work goes on in halves where memory is refused, and only there."""

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.inference.classifier import features, probabilities
from tapetum.memory import as_memory_allows, ran_out

CPU = torch.device("cpu")


class Greedy(nn.Module):
    """A network that gets no memory for more than `most` pictures at once."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.seen = network, most, []

    def forward(self, images_BCHW):
        found = self.network(images_BCHW)
        self.seen.append(len(images_BCHW))
        if len(images_BCHW) > self.most:
            raise torch.OutOfMemoryError("no memory for so many")
        return found


def test_halves_until_it_suffices():
    asked, undone = [], []

    def work(at_once):
        asked.append(at_once)
        if at_once > 6:
            raise MemoryError
        return "done"

    assert as_memory_allows(work, 50, "", again=lambda: undone.append(asked[-1])) == ("done", 6)
    assert asked == [50, 25, 12, 6]
    assert undone == [50, 25, 12]


def test_what_torch_itself_says_of_a_processors_memory_is_known():
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out(told.value)
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_the_fewest_and_other_errors_end_it():
    def none(at_once):
        raise torch.OutOfMemoryError("none")

    with pytest.raises(UserError, match=r"memory ran out while 3 pictures at once were computed\. Buy some\."):
        as_memory_allows(none, 12, "Buy some.", fewest=3)

    def wrong(at_once):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        as_memory_allows(wrong, 12, "")


def test_predictions_and_features_are_the_same_in_portions():
    torch.manual_seed(0)
    network = models.build("compact", 3, 32).eval()
    prepared = Preprocessing(size=32, fit="crop", resize=36, reduce=64, channels=3, views="mirror")
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, 256, (count, 36, 36, 3), np.uint8) for count in (10, 10, 3)]
    greedy = Greedy(network, 4)
    np.testing.assert_allclose(
        probabilities(greedy, batches, prepared, CPU), probabilities(network, batches, prepared, CPU), rtol=1e-5
    )
    # What was found once is kept: two views of ten are tried twice, then all goes in twos.
    assert greedy.seen == [10, 5, *[2] * 5, *[2] * 5, *[2] * 10, *[2, 1] * 2]
    whole, part = (features(each, batches, prepared, CPU) for each in (network, Greedy(network, 4)))
    np.testing.assert_allclose(part[0], whole[0], rtol=1e-5)
    assert [each.shape for each in part[1]] == [each.shape for each in whole[1]]
    for a, b in zip(part[1], whole[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
