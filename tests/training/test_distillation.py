"""One network that learns what several answer together."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import tapetum
from conftest import interrupted_in_step
from tapetum import models
from tapetum.config import Settings, settings_from, work_of_pupil
from tapetum.errors import UserError
from tapetum.looking.story import read_story
from tapetum.models.ensemble import Ensemble
from tapetum.training import distillation, loop, turning

QUICK = dict(model="lenet-now", size=32, start_size=32, batch=16, crop_area=0.8, mixup=0.0, erase=0.0, turn=0.0)


def silent(line):
    pass


def taught(data, out, **options):
    return tapetum.train(data, out, say=silent, **{**QUICK, "members": 2, "distill": "on", "epochs": 2, **options})


def wide(seed):
    torch.manual_seed(seed)
    network = models.build("lenet-now", 3, 32)
    turning.widen(network, "lenet-now")
    last = list(network.modules())[-1]
    torch.nn.init.normal_(last.weight)  # or all turns would answer alike
    return network


def test_the_targets_are_the_mean_of_the_teachers_for_every_turn():
    networks = [wide(seed) for seed in (0, 1)]
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        alone = []
        for network in networks:
            network.eval()
            seen = []
            last = list(network.modules())[-1]
            with last.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0])):
                network(images)
            alone.append(torch.softmax(seen[0] @ last.weight.T + last.bias, 1))
    found = distillation.targets(distillation.as_teacher(Ensemble(networks)), images)
    assert found.shape == (5, 12)
    torch.testing.assert_close(found, torch.stack(alone).mean(0))
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    assert not any(parameter.requires_grad for network in networks for parameter in network.parameters())


def test_the_pupil_is_the_model(stripes, tmp_path):
    run = taught(stripes, tmp_path / "run", turn=0.5)
    network = tapetum.load(run.folder).network
    assert not isinstance(network, Ensemble)
    plain = models.build("lenet-now", 2, 32)
    assert {name: each.shape for name, each in network.state_dict().items()} == {
        name: each.shape for name, each in plain.state_dict().items()
    }
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [(entry.get("stage"), entry.get("member"), entry["epoch"]) for entry in log] == [
        *(("teacher", member, epoch) for member in (1, 2) for epoch in (1, 2)),
        (None, None, 1),
        (None, None, 2),
    ]
    assert read_story(run.folder).history == log[-2:]
    about = run.classifier.about["training"]
    assert (about["members"], about["teachers"]) == (1, 2)
    assert "learnt what they answer together" in (run.folder / "report.html").read_text()


def test_it_learns_from_its_teachers_and_not_from_the_labels(stripes, tmp_path, monkeypatch):
    """With teachers that always answer "upright", so does the pupil, whatever the labels say."""

    def stubborn(network):
        return lambda images: torch.tensor([[-4.0, 4.0]]).expand(len(images), 2)

    monkeypatch.setattr(distillation, "as_teacher", stubborn)
    monkeypatch.setattr(loop, "_learns_nothing", lambda *_: False)
    run = taught(stripes, tmp_path / "run", epochs=4, lr=0.01, calibrate="off")
    found = run.classifier.predict_proba(sorted(map(str, stripes.rglob("*.png"))))
    assert np.asarray(found)[:, 1].min() > 0.6


def test_a_pupil_that_was_stopped_goes_on_to_the_same_bits(stripes, tmp_path):
    whole = taught(stripes, tmp_path / "whole")
    with interrupted_in_step(19):  # eight steps each: in the third network
        taught(stripes, tmp_path / "broken")
    resumed = tapetum.train(stripes, tmp_path / "broken", resume=True, say=silent)
    ours, theirs = (run.classifier.network.state_dict() for run in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_distilling_needs_several_members(tmp_path):
    with pytest.raises(UserError, match="distill on with members 1: expected two or more members to learn from"):
        settings_from({"distill": "on"}, "here")


def test_the_work_of_teachers_and_pupil_is_shared_out():
    """A step is a pass forward and two back (Kaplan et al. 2020); three teachers add three thirds."""
    assert work_of_pupil(3) == pytest.approx((3 + 3) / 3)
    assert Settings(members=3, distill="on").trainings == pytest.approx(3 + 2)
    assert Settings(members=3).trainings == 3
    assert dataclasses.replace(Settings(), folds=5).trainings == 5
