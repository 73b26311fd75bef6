"""Judges: torch's own optimizers and losses used plainly, and hand-computed averages."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.config import Recipe
from tapetum.training.optim import Average, learning_rate, loss, make_optimizer, picture_size

NOTES = Recipe(
    model="lenet", size=32, fit="crop", crop_area=0.5, flip="on", jitter=0.0, rotate=0.0, erase=0.0, mixup=0.0, epochs=10,
    start_size=32, cutmix=0.0, turn=0.0, balance="off", rescue="off",
    crops="resized", warp=0.0, pca=0.0, views="one",
    batch=32, micro_batch=32, optimizer="sgd", lr=0.001, schedule="constant", weight_decay=0.0, label_smoothing=0.0, ema=0.0,
    keep="best",
)  # fmt: skip


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_notes_optimizer_is_torchs_sgd_with_momentum(layout):
    ours, plain = small_network().to(memory_format=layout), small_network()
    mine = make_optimizer(ours, dataclasses.replace(NOTES, lr=0.1))
    theirs = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        for network, optimizer in ((ours, mine), (plain, theirs)):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_weight_decay_spares_biases_and_batchnorm():
    network = small_network()
    groups = make_optimizer(network, dataclasses.replace(NOTES, optimizer="adamw", weight_decay=0.1)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1, 0.0]
    assert [{p.ndim for p in group["params"]} for group in groups] == [{4}, {2}, {1}]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_muon_calms_networks_without_batchnorm_and_leaves_others_alone():
    muon = dataclasses.replace(NOTES, optimizer="muon", weight_decay=0.1)
    groups = make_optimizer(small_network(), muon).param_groups
    assert [(len(group["params"]), group["orthogonal"], group["centred"]) for group in groups] == [
        (1, True, False), (1, False, False), (4, False, False),
    ]  # fmt: skip
    network = models.build("alexnet", 2, 63)
    groups = make_optimizer(network, muon).param_groups
    assert [parameter for group in groups if group["centred"] for parameter in group["params"]] == [
        network.features[i].weight for i in (3, 6, 8, 10)
    ]
    columns = make_optimizer(models.build("alexnet-2012", 2), muon).param_groups
    assert [len(group["params"]) for group in columns if group["orthogonal"]] == [2, 8]  # each column's first sees pixels
    rates = {id(group["params"][0]): group.get("rate", 1.0) for group in groups}
    assert [rates[id(network.classifier[i].weight)] for i in (1, 4, 6)] == [256 / 9216, 256 / 4096, 256 / 512]
    assert rates[id(network.features[3].weight)] == 1
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert {group["weight_decay"] for group in groups if group["params"][0].ndim > 1} == {0.1}


def test_the_relus_of_a_calmed_network_sink_less_in_its_first_steps():
    # Noise in which nothing is to be learnt: a network can only lose by it.
    def alive(centred, seed):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
        for _ in range(5):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
        optimizer = make_optimizer(network, dataclasses.replace(NOTES, optimizer="muon", lr=0.003))
        for group in optimizer.param_groups:
            group["centred"] = group["centred"] and centred
        for _ in range(30):
            x, y = torch.randn(16, 3, 8, 8), torch.randint(0, 2, (16,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        return (network[:-3](torch.randn(16, 3, 8, 8)) > 0).float().mean().item()

    calmed, plain = (sum(alive(centred, seed) for seed in range(4)) / 4 for centred in (True, False))
    assert calmed > plain + 0.03


def test_the_loss_is_torchs_cross_entropy_and_that_of_parts_adds_up_to_it():
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    targets = nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(loss(outputs, targets), nn.functional.cross_entropy(outputs, labels))
    parts = [loss(outputs[part], targets[part], whole=6) for part in (slice(0, 4), slice(4, 6), slice(6, 6))]
    torch.testing.assert_close(sum(parts), nn.functional.cross_entropy(outputs, labels))
    smooth = targets * 0.9 + 0.1 / 3
    torch.testing.assert_close(loss(outputs, smooth), nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1))


def test_a_cosine_rises_once_and_falls_to_zero():
    recipe = dataclasses.replace(NOTES, schedule="cosine", lr=1.0)
    rates = [learning_rate(recipe, p / 1000) for p in range(1001)]
    top = rates.index(max(rates))
    assert top == 50
    assert rates[top] == 1
    assert rates[:51] == sorted(rates[:51])
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[525] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert {learning_rate(NOTES, p) for p in (0, 0.3, 1)} == {0.001}


def test_the_average_follows_its_formula_and_takes_batchnorms_statistics():
    network = small_network()
    average = Average(network, 0.9)
    expected = copy.deepcopy(network.state_dict())
    for step in range(30):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        network[1].running_mean.add_(1)
        network[1].num_batches_tracked.add_(1)
        average.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            floating = value.is_floating_point()
            expected[name] = expected[name] * decay + value * (1 - decay) if floating else value.clone()
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)
    assert average.network[1].num_batches_tracked == 30


def test_without_averaging_there_is_no_second_network():
    network = small_network()
    assert Average(network, 0.0).network is network
    assert math.isfinite(sum(p.sum().item() for p in network.parameters()))


def test_the_loss_with_rubbish_is_equation_9_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(5, 4, generator=generator, dtype=torch.double) * 40
    labels = torch.tensor([0, 1, 2, 3, 0])
    j = 15.0
    wanted = distances[range(5), labels] + torch.log(math.exp(-j) + torch.exp(-distances).sum(1))
    found = loss(-distances, torch.eye(4, dtype=torch.double)[labels], rubbish=-j)
    assert found.item() == pytest.approx(wanted.mean().item(), rel=1e-9)


def test_steps_divide_the_rate_by_ten_three_times():
    recipe = dataclasses.replace(NOTES, schedule="steps", lr=0.01)
    rates = [learning_rate(recipe, k / 100) for k in range(100)]
    assert sorted({round(rate, 9) for rate in rates}) == [1e-5, 1e-4, 1e-3, 1e-2]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("start", "end", "between"), [(64, 128, 96), (96, 96, 96), (50, 97, 80), (32, 33, 33), (48, 112, 80)])
def test_pictures_grow_to_their_size_in_two_steps(start, end, between):
    recipe = dataclasses.replace(NOTES, start_size=start, size=end)
    assert [picture_size(recipe, share) for share in (0, 0.49, 0.5, 0.84, 0.85, 1)] == [
        start,
        start,
        between,
        between,
        end,
        end,
    ]
