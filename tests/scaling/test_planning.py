"""Judges: times shared out by hand, and what the recipes themselves want to read."""

import dataclasses
import itertools
import re
import time

import pytest

from conftest import write_stripes
from tapetum.config import Settings
from tapetum.data.sources import find_samples
from tapetum.errors import UserError
from tapetum.scaling import fitting, planning
from tapetum.training import estimate, recipes

FACTS = recipes.Facts(64, 2, 375, False)


def recipe(**options):
    return recipes.choose(Settings(**options), FACTS)[0]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return find_samples(write_stripes(tmp_path_factory.mktemp("photos") / "줄 무늬"))


@pytest.fixture(scope="module")
def table(samples):
    return fitting.read(samples, 64, Settings(cache="off"), 3, 0.2, lambda line: None)


def planned(table, seconds, settings=None):
    """A plan for so many seconds, where each of the default's hundred epochs takes half a second."""
    default = planning.Default(recipe(epochs=100), dataclasses.replace(FACTS, speed=300.0), 0.5)
    return planning.plan(table, default, 3, settings or Settings(), time.monotonic() + seconds)


@pytest.mark.parametrize(
    ("seconds", "final", "epochs"),
    [
        # Each final gets what it needs, 1.2 * 100 * 0.5 + 8 s; a trial a sixteenth of the rest less 5 s, 0.353 s an epoch.
        (2000, 68, 100),
        (400, 68, 45),
        (200, 40, 20),  # or a fifth of the time each
        (60, 12, 6),  # a sixteenth would be 5 epochs
    ],
)
def test_the_time_is_shared_out_between_trials_and_final_trainings(table, seconds, final, epochs):
    plan = planned(table, seconds)
    assert plan.final_minutes * 60 == pytest.approx(final, rel=0.01)
    assert plan.recipe.epochs == epochs
    assert plan.fold_seconds == pytest.approx(epochs * (0.5 * 2 / 3 + 0.02))
    assert ({"size", "turn"} <= set(plan.space)) == (epochs >= 50)
    assert plan.facts.speed is None  # another process's machine is another
    assert (plan.recipe.keep, plan.folds, plan.data) == ("last", 3, table.fingerprint())


def test_the_minutes_that_are_said_to_be_needed_are_enough_also_where_some_have_gone(table):
    with pytest.raises(UserError, match=r"minutes 10 are too short for one trial of 3 folds and two final") as refused:
        planned(table, 30, Settings(minutes=10.0))
    (needed,) = re.findall(r"about ([\d.]+) or more", str(refused.value))
    assert needed == "11.5"  # a final training takes 8 + 6 * 0.5 s, a fifth of 55 s; 570 s have gone, and a tenth is added
    assert planned(table, 60 * float(needed) - 570).recipe.epochs >= 6
    with pytest.raises(UserError, match="minutes 60 are too short"):
        planned(table, 54)


def test_where_everything_is_named_nothing_is_left_to_search(table):
    named = Settings(lr=0.001, weight_decay=0.05, batch=16, mixup=0.2, crop_area=0.5, turn=0.0, size=64)
    with pytest.raises(UserError, match="every setting that is searched was named: .* Leave some of them out"):
        planned(table, 2000, named)
    assert set(planned(table, 2000, dataclasses.replace(named, mixup="auto")).space) == {"mixup"}
    sized = dataclasses.replace(named, size="auto")
    assert set(planned(table, 2000, sized).space) == {"size"}
    with pytest.raises(UserError, match="every setting that is searched was named"):
        planned(table, 2000, dataclasses.replace(sized, start_size=32))


@pytest.mark.parametrize("options", [{}, {"size": 64, "crop_area": 0.9}, {"model": "alexnet"}, {"fit": "squash"}])
def test_pictures_are_read_as_large_as_the_trial_that_needs_them_largest(options):
    own = recipe(**options)
    found = planning.space(own, Settings(), 400, whole=True)
    tried = itertools.product(found["size"]["options"], found["crop_area"]["options"])
    needed = [recipes.preprocessing(dataclasses.replace(own, size=size, crop_area=area)).reduce for size, area in tried]
    assert max(recipes.preprocessing(each).reduce for each in planning.largest(own)) == max(needed)


@pytest.mark.parametrize(
    ("seconds", "settings", "aside", "count", "epochs"),
    [
        (50, Settings(), 0, 64, 4),  # (50 / 5 - 8) / 0.5
        (80, Settings(), 0, 64, 16),
        (5, Settings(), 0, 64, 1),
        (60_000, Settings(minutes=1000.0, folds=5), 0, 64, None),
        (60_000, Settings(test=0.5), 0, 40, None),
        (60_000, Settings(test=0.5), 7, 73, None),  # those that the data put aside
    ],
)
def test_the_default_is_the_recipe_for_the_pictures_not_put_aside_as_far_as_a_fifth_of_the_time_goes(
    samples, monkeypatch, seconds, settings, aside, count, epochs
):
    asked = set()
    monkeypatch.setattr(estimate, "pictures_per_second", lambda where, mixed: 300.0)
    monkeypatch.setattr(fitting, "seconds_per_epoch", lambda recipe, classes, count, settings: asked.add(count) or 0.5)
    parts = samples.splits.copy()
    parts[:aside] = "test"
    found = planning.base(samples.with_splits(parts), settings, seconds)
    assert asked == {found.facts.count} == {count}
    natural, _ = recipes.choose(Settings(), dataclasses.replace(found.facts, speed=None))
    assert found.recipe.epochs == (epochs or natural.epochs)
    assert epochs or found.recipe == natural
