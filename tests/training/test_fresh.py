"""What a training begins with: hand counts of made pictures, and the seed's own network."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.config import Settings
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.training import fresh, recipes

CPU = torch.device("cpu")


def shades(folder, values, sides):
    """Pictures of one shade each, with a little noise."""
    folder.mkdir(parents=True)
    for number, value in enumerate(values):
        noise = np.random.default_rng(1000 * value + number).integers(0, 3, (sides[1], sides[0], 1), np.uint8)
        Image.fromarray(np.repeat(value + noise, 3, 2)).save(folder / f"{number}.png")


def test_facts_are_those_of_the_pictures(tmp_path):
    for label, values, sides in (("a", (50, 51), (60, 30)), ("b", (90,) * 6, (41, 300)), ("c", (7,) * 3, (44, 44))):
        shades(tmp_path / "photos" / label, values, sides)
    samples = find_samples(tmp_path / "photos")
    assert fresh.facts(samples, 7, Settings(), None) == recipes.Facts(7, 3, 41, True, 6 / 2, None, True)
    Image.new("RGB", (44, 44), (200, 0, 0)).save(tmp_path / "photos" / "c" / "1.png")
    without_a = samples.select(samples.labels > 0)  # its class is still one to tell apart
    assert fresh.facts(without_a, 7, Settings(), None) == recipes.Facts(7, 3, 41, False, 6 / 3, None)
    assert fresh.facts(samples, 7, Settings(), CPU).speed > 1


def recipe(**options):
    return recipes.choose(Settings(model="lenet-now", size=32, **options), recipes.Facts(400, 2, 32, False))[0]


def test_the_network_is_the_seeds():
    settings = Settings(seed=3)
    one, again, other = (
        fresh.network(dataclasses.replace(settings, seed=seed), recipe(), 2, [CPU]).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert not all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_network_that_compares_the_pictures_of_a_batch_gets_no_batch_of_one():
    with pytest.raises(UserError, match="batch 1 with lenet-now: its BatchNorm compares"):
        fresh.network(Settings(), recipe(batch=1), 2, [CPU])


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("auto", "mixed", True),
        ("auto", "float32", False),
        ("notes", "auto", False),
        ("paper", "auto", False),
        ("notes", "mixed", True),
    ],
)
def test_the_notes_and_the_papers_compute_as_they_did_unless_asked(name, precision, expected):
    assert fresh.mixed(Settings(recipe=name, precision=precision), CPU) is expected
