"""Judges: numpy's rot90, the plain network with the same weights, and a training that has to tell turned pictures apart."""

import copy

import numpy as np
import pytest
import torch

from tapetum import models
from tapetum.data import augment
from tapetum.errors import UserError
from tapetum.training import turning


def test_pictures_are_turned_as_their_targets_say():
    images = torch.arange(6 * 2 * 3 * 3).reshape(6, 2, 3, 3).float()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    u_BN = np.zeros((6, augment.NUM_RANDOMS))
    u_BN[:, -1] = [0.99, 0.61, 0.59, 0.39, 0.19, 0.0]  # of a share of 0.6, thirds of 0.2
    turned, targets = augment.turn(images, torch.nn.functional.one_hot(labels, 3).float(), 0.6, u_BN)
    turns = [0, 0, 3, 2, 1, 1]
    for image, before, k in zip(turned, images, turns, strict=True):
        np.testing.assert_array_equal(image.numpy(), np.rot90(before.numpy(), k, axes=(1, 2)))
    assert targets.shape == (6, 12)
    assert (targets.argmax(1) == torch.tensor(turns) * 3 + labels).all()
    assert (targets.sum(1) == 1).all()


def test_every_turn_comes_as_often_and_no_share_changes_nothing():
    u_BN = np.stack([augment.randoms(0, 0, i) for i in range(3000)])
    _, targets = augment.turn(torch.zeros(3000, 1, 1, 1), torch.ones(3000, 1), 0.75, u_BN)
    assert targets.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    images, ones = torch.rand(2, 3, 4, 4), torch.ones(2, 1)
    assert augment.turn(images, ones, 0.0, u_BN[:2]) == (images, ones)


@pytest.mark.parametrize("name", ["compact", "lenet-table", "alexnet-now", "torchvision:resnet18"])
def test_a_network_answers_for_turns_in_training_only_and_ends_as_it_was(name):
    network = models.build(name, 3, 64)
    plain = copy.deepcopy(network).eval()
    turning.widen(network, name)
    images = torch.rand(2, models.entry(name).channels, 64, 64)
    assert network.train()(images).shape == (2, 12)
    network.load_state_dict(plain.state_dict() | {k: v for k, v in network.state_dict().items() if v.shape[:1] == (12,)})
    torch.testing.assert_close(network.eval()(images), plain(images))
    turning.narrow(network)
    assert [(k, v.shape) for k, v in network.state_dict().items()] == [(k, v.shape) for k, v in plain.state_dict().items()]
    torch.testing.assert_close(network(images), plain(images))


def test_a_network_without_a_last_linear_layer_is_refused():
    with pytest.raises(UserError, match="turn with lenet5-1998: expected a network that ends in a linear layer"):
        turning.widen(models.build("lenet5-1998", 10, 32), "lenet5-1998")
