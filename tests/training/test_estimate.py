import copy
import time

import pytest
import torch

from tapetum import models
from tapetum.config import Settings
from tapetum.training import estimate, recipes
from tapetum.training.optim import loss, make_optimizer

RECIPE, _ = recipes.choose(Settings(model="compact", size=48, batch=16), recipes.Facts(400, 2, 300, False))


def test_the_estimate_is_near_what_steps_really_take_and_changes_nothing():
    torch.manual_seed(0)
    network = models.build("compact", 2, 48).train()
    before = copy.deepcopy(network.state_dict())
    told = estimate.seconds_per_step(network, RECIPE, torch.device("cpu"))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

    optimizer = make_optimizer(network, RECIPE)
    images, targets = torch.rand(16, 3, 48, 48), torch.full((16, 2), 0.5)
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        loss(network(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    # A guess, on a machine that may be busy with something else.
    assert min(seconds) / 10 < told < max(seconds) * 10


def test_the_memory_of_the_notes_networks_is_in_the_right_region():
    for name, low, high in (("lenet-textbook", 1.0e9, 3e9), ("compact", 0.4e9, 1.5e9)):
        recipe, _ = recipes.choose(Settings(recipe="notes", model=name), recipes.Facts(400, 2, 300, False))
        assert low < estimate.memory_bytes(models.build_on_meta(name, 2, recipe.size), recipe) < high


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_wider_optimizer_costs_a_copy_more(optimizer):
    recipe, _ = recipes.choose(Settings(model="lenet", optimizer=optimizer, ema=0.0), recipes.Facts(400, 2, 300, False))
    network = models.build_on_meta("lenet", 2, recipe.size)
    weights = 4 * sum(p.numel() for p in network.parameters())
    averaged, _ = recipes.choose(Settings(model="lenet", optimizer=optimizer, ema=0.9), recipes.Facts(400, 2, 300, False))
    assert estimate.memory_bytes(network, averaged) - estimate.memory_bytes(network, recipe) == weights
