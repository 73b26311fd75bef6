"""Judges: torch's own Muon, which takes matrices only, its AdamW, and the singular value decomposition."""

import copy

import pytest
import torch
from torch import nn

from tapetum.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 27), (64, 64), (40, 9)])
def test_the_step_keeps_the_directions_and_evens_their_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T  # diagonal, if the directions are those of the matrix
    torch.testing.assert_close(found, torch.diag(found.diagonal()), rtol=0, atol=2e-3)
    strong = torch.linalg.svdvals(matrix / matrix.norm()) > 0.01
    assert ((found.diagonal()[strong] > 0.6) & (found.diagonal()[strong] < 1.3)).all()
    assert torch.isfinite(orthogonal(torch.zeros(shape))).all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_moves_as_its_matrix_does_under_torchs_muon(layout):
    torch.manual_seed(0)
    ours = nn.Conv2d(3, 8, 3, bias=False).to(memory_format=layout)
    theirs = nn.Parameter(ours.weight.detach().flatten(1).clone())
    mine = Muon([{"params": [ours.weight], "orthogonal": True, "weight_decay": 0.1}], lr=0.001)
    judge = torch.optim.Muon([theirs], lr=0.03, weight_decay=0.1)
    for step in range(5):
        gradient = torch.randn(8, 27, generator=torch.Generator().manual_seed(step))
        ours.weight.grad = gradient.reshape(8, 3, 3, 3).contiguous(memory_format=layout)
        theirs.grad = gradient
        mine.step()
        judge.step()
    # Torch iterates in bfloat16, with two to three digits.
    torch.testing.assert_close(ours.weight.flatten(1), theirs, rtol=0.02, atol=1e-3)


def test_centred_weights_move_as_others_do_but_for_the_mean_of_each_map():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(8, 3, 3, 3)) for _ in range(2)]
    weights[1].data = weights[0].data.clone()
    for weight, centred in zip(weights, (True, False), strict=True):
        weight.grad = torch.ones(8, 3, 3, 3) * torch.arange(8.0)[:, None, None, None] + torch.randn(
            8, 3, 3, 3, generator=torch.Generator().manual_seed(1)
        )
        Muon([{"params": [weight], "orthogonal": True, "centred": centred}], lr=0.01).step()
    mine, plain = (weight.detach() for weight in weights)
    torch.testing.assert_close(mine, plain - plain.mean((1, 2, 3), keepdim=True), rtol=0, atol=1e-6)
    assert plain.mean((1, 2, 3)).abs().max() > 0.01


def test_all_else_moves_as_under_adamw():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    plain = copy.deepcopy(ours)
    convolution = [ours[0].weight]
    others = [parameter for name, parameter in ours.named_parameters() if name != "0.weight"]
    mine = Muon([{"params": convolution, "orthogonal": True}, {"params": others, "weight_decay": 0.1}], lr=0.01)
    judge = torch.optim.AdamW(
        [parameter for name, parameter in plain.named_parameters() if name != "0.weight"], lr=0.01, weight_decay=0.1
    )
    ours(torch.ones(2, 3, 4, 4)).square().sum().backward()
    plain(torch.ones(2, 3, 4, 4)).square().sum().backward()
    mine.step()
    judge.step()
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b) == (name != "0.weight"), name


def test_half_precision_may_scale_the_losses_and_skip_a_step_that_overflows():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    scaled = copy.deepcopy(plain)
    images = torch.randn(8, 3, 4, 4)

    def muon(network):
        return Muon([{"params": [network[0].weight], "orthogonal": True}, {"params": list(network[2].parameters())}], lr=0.01)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for network, optimizer, loss in ((plain, muon(plain), lambda x: x), (scaled, muon(scaled), scaler.scale)):
        for _ in range(3):
            loss(network(images).square().mean()).backward()
            scaler.step(optimizer) if network is scaled else optimizer.step()
            scaler.update() if network is scaled else None
            optimizer.zero_grad()
    for ours, theirs in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)

    before = copy.deepcopy(scaled.state_dict())
    optimizer = muon(scaled)
    scaler.scale(scaled(images).square().mean()).backward()
    scaled[0].weight.grad[0, 0, 0, 0] = torch.inf
    scaler.step(optimizer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in scaled.state_dict().items())
