"""Layers and units of networks small enough to know by heart."""

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import models
from tapetum.errors import UserError
from tapetum.looking.maps import drawn_maps, excitements, find_unit, unit_heat


def bright_and_dark():
    """Map 0 is the picture, map 1 its negative; a linear layer then takes the sum of each map. Works in place."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([1.0, -1.0])[:, None, None, None]
        network[4].weight[:], network[4].bias[:] = torch.eye(2) * 16, 0
    return network.eval()


def pictures():
    """One with a bright pixel, one with a dark one, one with two bright ones."""
    found = torch.zeros(3, 1, 4, 4)
    found[0, 0, 1, 2], found[1, 0, 3, 0], found[2, 0, 0, 0], found[2, 0, 2, 2] = 3, -5, 2, 1
    return found


@pytest.mark.parametrize(
    ("layer", "excited"),
    [("0", [[3, 0], [0, 5], [2, 0]]), ("1", [[3, 0], [0, 5], [2, 0]]), ("4", [[3, 0], [0, 5], [3, 0]])],
)
def test_a_unit_is_as_excited_as_its_map_at_its_brightest(layer, excited):
    found = excitements(bright_and_dark(), pictures(), layer)
    np.testing.assert_allclose(found, excited, atol=1e-6)


def test_what_a_layer_said_is_taken_before_the_next_one_works_in_place():
    ones = torch.ones(1, 1, 4, 4)
    assert excitements(bright_and_dark(), ones, "0").tolist() == [[1, -1]]
    assert excitements(bright_and_dark(), ones, "1").tolist() == [[1, 0]]


def test_many_pictures_go_in_batches_and_keep_their_order():
    many = torch.arange(70.0)[:, None, None, None].expand(70, 1, 4, 4)
    assert excitements(bright_and_dark(), many, "0")[:, 0].tolist() == list(range(70))


def test_the_place_that_excites_a_unit_is_hot():
    heat = unit_heat(bright_and_dark(), pictures(), "0", 0)
    assert heat.shape == (3, 4, 4)
    assert np.argwhere(heat[0] > 0).tolist() == [[1, 2]]
    assert heat[0, 1, 2] == 1
    assert heat[1].max() == 0  # nothing there that this unit looks for
    assert (heat[2, 0, 0], heat[2, 2, 2]) == (1, 0.5)
    assert unit_heat(bright_and_dark(), pictures(), "4", 0) is None


def test_a_unit_is_found_by_the_summarys_name_and_the_networks():
    network, picture = models.build("lenet-table", 2).eval(), torch.zeros(1, 32, 32)
    by_summary, by_network = find_unit(network, picture, "Conv2d-4:15"), find_unit(network, picture, "conv2:15")
    assert by_summary[1] == by_network[1] == 15
    assert (by_summary[0].name, by_summary[0].layer) == (by_network[0].name, by_network[0].layer) == ("Conv2d-4", "conv2")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Conv2d-4:16", "Conv2d-4 has 16 units, expected a number from 0 to 15"),
        ("Conv2d-4:x", "has 16 units"),
        ("Conv2d4:1", "Did you mean 'Conv2d-4'"),
        ("7", "expected LAYER:NUMBER"),
    ],
)
def test_a_unit_that_is_none_is_told(text, what):
    with pytest.raises(UserError, match=what):
        find_unit(models.build("lenet-table", 2).eval(), torch.zeros(1, 32, 32), text)


def test_maps_have_one_scale_and_stand_in_rows_of_eight():
    maps = torch.zeros(1, 10, 36, 36)
    maps[0, 9] = 4
    maps[0, 1] = 2
    drawn = drawn_maps(maps)
    assert drawn.shape == (2 * 72 + 2, 8 * 72 + 7 * 2, 3)

    def cell(i):
        return drawn[i // 8 * 74 + 36, i % 8 * 74 + 36].tolist()

    dark, middle, bright = [68, 1, 84], [33, 145, 140], [253, 231, 37]  # the ends and the middle of viridis
    assert cell(0) == dark
    assert np.abs(np.subtract(cell(1), middle)).max() <= 2
    assert cell(9) == bright
    assert drawn[-1, -1].tolist() == [255, 255, 255]  # nothing stands there


def test_units_are_a_bar_code_and_of_many_maps_64_are_drawn():
    units = torch.arange(50.0)[None]
    drawn = drawn_maps(units)
    assert drawn[7, 7].tolist() == [68, 1, 84]
    assert drawn[21, 14 * 7 + 7].tolist() == [253, 231, 37]  # number 49 in rows of 42
    assert drawn_maps(torch.zeros(1, 200, 4, 4)).shape[0] == 8 * 72 + 7 * 2
    assert drawn_maps(units[:, :, None, None]).tolist() == drawn.tolist()
    assert drawn_maps(torch.zeros(1, 2, 3, 4, 5)) is None
    assert drawn_maps(torch.zeros(1, 7)).max() <= 84  # no spread is no error


def test_of_a_layer_that_is_at_work_twice_the_one_that_was_named_is_shown():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu, self.second = nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1)

        def forward(self, images_BCHW):
            return self.relu(self.second(self.relu(self.first(images_BCHW)))).mean((2, 3))

    torch.manual_seed(0)
    network, images = Twice().eval(), torch.rand(5, 1, 6, 6)
    for name, units, judge in (
        ("ReLU-2", 4, network.first(images).relu()),
        ("ReLU-4", 8, network.second(network.first(images).relu()).relu()),
    ):
        call, number = find_unit(network, images[0], f"{name}:1")
        found = excitements(network, images, call.layer, call.before)
        assert found.shape == (5, units)
        np.testing.assert_allclose(found, judge.detach().amax((2, 3)), rtol=1e-6)
        heat = unit_heat(network, images, call.layer, number, call.before)
        assert np.unravel_index(heat[0].argmax(), (6, 6)) == np.unravel_index(judge[0, 1].detach().numpy().argmax(), (6, 6))
