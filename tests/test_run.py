"""The main job from end to end on small pictures made for the test: what it writes, what it refuses, what it repeats."""

import csv
import json
import os
import re
import shutil
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tapetum
from conftest import interrupted_in_step, write_stripes
from tapetum.config import Settings, read_settings, settings_from
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError
from tapetum.evaluation.evaluate import evaluate
from tapetum.inference.predict import predict_samples
from tapetum.talk import duration

QUICK = dict(model="compact", size=32, epochs=6, batch=16, crop_area=0.8, rotate=0.0, mixup=0.0, turn=0.0, erase=0.0, flip="on")


def silent(line):
    """Talk goes nowhere."""


def quick(data, out, **options):
    return tapetum.train(data, out, say=silent, **{**QUICK, **options})


def tensors(run):
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(run.folder / "model.safetensors").items()}


def tree(folder):
    return {p.relative_to(folder): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_learns_and_leaves_everything_that_it_promises(stripes, tmp_path):
    (stripes / "lying" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = tree(stripes)
    run = quick(stripes, tmp_path / "run", test=0.2)

    assert tree(stripes) == before, "the picture folder was touched"
    assert run.metrics["val"].accuracy.value > 0.9
    assert {p.name for p in run.folder.iterdir()} >= {
        "model.safetensors", "settings.toml", "log.jsonl", "splits.csv", "left_out.csv", "predictions.csv", "metrics.json",
        "grid.png", "curves.png", "report.html", "cost.json",
    }  # fmt: skip
    assert rows(run.folder / "left_out.csv")[0]["path"] == "lying/broken.png"
    splits = rows(run.folder / "splits.csv")
    assert [sum(row["split"] == part for row in splits) for part in ("train", "val", "test")] == [48, 16, 16]
    predictions = rows(run.folder / "predictions.csv")
    right = [row["right"] == "yes" for row in predictions if row["split"] == "test"]
    assert np.mean(right) == run.metrics["test"].accuracy.value
    assert json.loads((run.folder / "metrics.json").read_text())["test"]["accuracy"]["n"] == 16
    assert len((run.folder / "log.jsonl").read_text().splitlines()) == 6
    settings = tomllib.loads((run.folder / "settings.toml").read_text(encoding="utf-8"))
    assert settings["asked"]["lr"] == "auto"
    assert isinstance(settings["decided"]["lr"], float)
    for name in ("grid.png", "curves.png"):
        assert Image.open(run.folder / name).size[0] > 300


def test_a_run_that_is_replaced_leaves_nothing_out_that_the_new_one_has(stripes, tmp_path):
    broken = stripes / "lying" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    quick(stripes, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "left_out.csv").exists()
    broken.unlink()
    quick(stripes, tmp_path / "run", epochs=1, overwrite=True)
    assert not (tmp_path / "run" / "left_out.csv").exists()


def test_of_a_run_that_is_replaced_nothing_stands_beside_the_new_one(stripes, tmp_path, monkeypatch):
    run = quick(stripes, tmp_path / "run", epochs=1)
    (run.folder / "kaggle.csv").write_text("of a run with the notes' split")
    before = tree(run.folder)
    with pytest.raises(UserError, match="nowhere"):
        quick(tmp_path / "nowhere", run.folder, overwrite=True)
    assert tree(run.folder) == before  # a mistake costs nothing
    with monkeypatch.context() as patch:
        patch.setattr(tapetum.run, "_say_estimate", lambda *_: pytest.fail("stop here"))
        with pytest.raises(pytest.fail.Exception):
            quick(stripes, run.folder, seed=1, overwrite=True)
    assert sorted(path.name for path in run.folder.iterdir()) == ["settings.toml", "splits.csv"]


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_pictures_too_few_to_be_shared_out_are_refused_in_words(tmp_path, share):
    with pytest.raises(UserError, match="expected"):
        quick(write_stripes(tmp_path / "four", count=2), tmp_path / "run", val=share, test=0.99 - share)


def test_the_report_needs_no_network_and_escapes_names(tmp_path, stripes):
    (stripes / "lying").rename(stripes / "<img src=x onerror=alert(1)>")
    run = quick(stripes, tmp_path / "run", epochs=1)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_the_same_seed_gives_the_same_model_to_the_bit_with_cold_and_warm_cache(stripes, tmp_path, own_cache):
    first = quick(stripes, tmp_path / "a")
    warm = quick(stripes, tmp_path / "b")
    off = quick(stripes, tmp_path / "c", cache="off")
    other = quick(stripes, tmp_path / "d", seed=1)
    assert list(own_cache.glob("*.u8"))
    assert tensors(first) == tensors(warm) == tensors(off)
    assert tensors(first) != tensors(other)


def test_two_devices_train_the_two_columns_to_the_same_weights(stripes, tmp_path):
    options = dict(model="alexnet-2012", recipe="paper", size=67, epochs=1, batch=8, lr=0.001)
    one = tapetum.train(stripes, tmp_path / "one", say=silent, **options)
    two = tapetum.train(stripes, tmp_path / "two", say=silent, **options, device="cpu,cpu")
    assert one.classifier.preprocessing.views == "ten"
    for (name, a), b in zip(
        one.classifier.network.state_dict().items(), two.classifier.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_evaluation_prediction_and_the_runs_own_predictions_agree_to_the_bit(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run")
    classifier = tapetum.load(run.folder)
    predicted = predict_samples(classifier, find_pictures([stripes]))
    evaluated = evaluate(run.folder, stripes)
    assert predicted.names == evaluated.predictions.names
    assert (predicted.probabilities_NK == evaluated.predictions.probabilities_NK).all()

    own = {row["path"]: float(row["p_upright"]) for row in rows(run.folder / "predictions.csv")}
    validated = [i for i, name in enumerate(predicted.names) if name in own]
    again = classifier.predict_proba([stripes / predicted.names[i] for i in validated])
    assert again[:, 1].tolist() == [own[predicted.names[i]] for i in validated]


def test_evaluation_tells_trained_pictures_apart(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run")
    found = evaluate(run.folder, stripes)
    assert found.metrics.accuracy.n == 16
    assert found.trained_on.accuracy.n == 64
    assert "64 of the 80 pictures were in its training" in found.note
    assert found.metrics.accuracy.value == run.metrics["val"].accuracy.value


def test_evaluation_maps_classes_by_name_and_names_strangers(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", epochs=1)
    (stripes / "upright").rename(stripes / "UPRIGHT")
    assert evaluate(run.folder, stripes).metrics.accuracy.n == 16
    (stripes / "UPRIGHT").rename(stripes / "oblique")
    with pytest.raises(UserError, match="class 'oblique' of the data was not in the training, which knew lying, upright"):
        evaluate(run.folder, stripes)


def test_a_model_file_works_where_its_run_and_its_data_are_not(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", epochs=1)
    picture = (stripes / "lying" / "lying.0.png").read_bytes()
    expected = run.classifier.predict_proba(picture)
    lonely = tmp_path / "elsewhere.safetensors"
    (run.folder / "model.safetensors").rename(lonely)
    for folder in (stripes, run.folder):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    assert (tapetum.load(lonely).predict_proba(picture) == expected).all()


def test_a_time_budget_ends_a_run(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", minutes=0.15, epochs=100_000)
    assert run.classifier.about["training"]["epochs"] < 100_000


def test_the_notes_recipe_and_split_scale_down(stripes, tmp_path):
    run = tapetum.train(stripes, tmp_path / "run", say=silent, split="notes", recipe="notes", model="lenet", size=32, epochs=1)
    decided = run.classifier.about["settings"]["decided"]
    assert (decided["optimizer"], decided["lr"], decided["batch"], decided["crop_area"]) == ("sgd", 0.001, 32, 0.5)
    assert run.classifier.about["data"]["counts"] == {"train": 64, "val": 14, "test": 2}


def test_a_class_without_readable_pictures_is_named_with_a_reason(stripes, tmp_path):
    for path in (stripes / "upright").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"class 'upright' has no readable picture \(upright/upright.0.png: empty file\)"):
        quick(stripes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["run", "upright/run", "."])
def test_no_run_is_written_into_the_pictures(stripes, where):
    before = tree(stripes)
    with pytest.raises(UserError, match="lies inside the pictures"):
        quick(stripes, stripes / where)
    assert tree(stripes) == before


def test_a_run_folder_is_never_overwritten_by_accident(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", epochs=1)
    model = (run.folder / "model.safetensors").read_bytes()
    with pytest.raises(
        UserError, match="holds a run already, and it is finished. Use --overwrite to replace it, or another --out"
    ):
        quick(stripes, tmp_path / "run", epochs=1, seed=1)
    with pytest.raises(
        UserError, match="run is finished: nothing is left to resume. Use --overwrite to train anew, or another"
    ):
        quick(stripes, tmp_path / "run", epochs=1, resume=True)
    assert (run.folder / "model.safetensors").read_bytes() == model
    quick(stripes, tmp_path / "run", epochs=1, seed=1, overwrite=True)
    assert (run.folder / "model.safetensors").read_bytes() != model
    with pytest.raises(UserError, match="holds files of another kind"):
        quick(stripes, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file: expected a folder"):
        quick(stripes, tmp_path / "file")


def test_what_was_stopped_before_its_first_checkpoint_is_begun_anew(stripes, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tapetum.run, "_say_estimate", lambda *_: pytest.fail("stop here"))
        with pytest.raises(pytest.fail.Exception):
            quick(stripes, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "settings.toml").exists()
    with pytest.raises(UserError, match="holds no checkpoint to resume from. Leave --resume out to start"):
        quick(stripes, tmp_path / "run", epochs=1, resume=True)
    assert quick(stripes, tmp_path / "run", epochs=1, seed=3).folder == tmp_path / "run"


def test_without_a_name_every_run_gets_its_own_folder(stripes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [quick(stripes, None, epochs=1).folder.as_posix() for _ in range(2)]
    assert folders == ["runs/stripes", "runs/stripes-2"]


def test_odd_pictures_are_used_or_listed(stripes, tmp_path):
    from conftest import encoded

    odd = stripes / "upright"
    plain = Image.new("RGB", (40, 48), "red")
    (odd / "png called.jpg").write_bytes(encoded(plain))
    (odd / "cmyk.jpg").write_bytes(encoded(plain.convert("CMYK"), "JPEG"))
    (odd / "palette.png").write_bytes(encoded(plain.convert("P"), transparency=0))
    (odd / "16 bit.png").write_bytes(encoded(Image.fromarray(np.full((9, 9), 40_000, np.uint16))))
    (odd / "one pixel.png").write_bytes(encoded(Image.new("RGB", (1, 1))))
    (odd / "animated.gif").write_bytes(encoded(plain, "GIF", save_all=True, append_images=[plain.rotate(90)]))
    (odd / "truncated.jpg").write_bytes(encoded(plain, "JPEG")[:-40])
    (odd / "text.jpg").write_text("I am no picture")
    (odd / "empty.jpg").write_bytes(b"")
    (odd / "giant.png").write_bytes(encoded(Image.new("1", (8_000, 8_000))))
    run = quick(stripes, tmp_path / "한글 and space", epochs=1)
    left_out = {row["path"].split("/")[1] for row in rows(run.folder / "left_out.csv")}
    assert left_out == {"truncated.jpg", "text.jpg", "empty.jpg", "giant.png"}
    assert len(rows(run.folder / "splits.csv")) == len(find_samples(stripes)) - 4


def test_the_notes_experiment_on_the_books_photos(shared, tmp_path):
    run = tapetum.train(
        shared / "cats-dogs", tmp_path / "run", say=silent, split="notes", recipe="notes", model="lenet-textbook", epochs=1
    )
    assert run.classifier.about["data"]["counts"] == {"train": 400, "val": 92, "test": 10}
    assert run.metrics["test"].confusion_KK.sum(1).tolist() == [7, 3]
    ids = [int(line.split(",")[0]) for line in (run.folder / "kaggle.csv").read_text().splitlines()[1:]]
    assert len(ids) == 10
    assert ids == sorted(ids)
    # A softmax on top of the net's own holds two classes within these bounds.
    probabilities = [float(row["p_Dog"]) for row in rows(run.folder / "predictions.csv")]
    assert 0.2689 < min(probabilities) <= max(probabilities) < 0.7311


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_photos_without_any_flag_are_learnt(shared, tmp_path):
    run = tapetum.train(shared / "cats-dogs", tmp_path / "run", say=silent)
    assert run.metrics["val"].accuracy.value > 0.75


def test_members_answer_as_their_mean_and_survive_the_file(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", members=3, epochs=2, seed=4)
    singles = [quick(stripes, tmp_path / f"single-{seed}", epochs=2, seed=seed) for seed in (4, 5, 6)]
    pictures = sorted(str(path) for path in stripes.rglob("*.png"))[:12]
    # The split follows the run's seed, so only the first single training saw the same pictures as the first member.
    first = run.classifier.network.members[0].state_dict()
    assert all(torch.equal(first[name], tensor) for name, tensor in singles[0].classifier.network.state_dict().items())
    loaded = tapetum.load(run.folder)
    together = loaded.predict_proba(pictures)
    each = []
    for member in loaded.network.members:
        alone = tapetum.load(run.folder)
        alone.network = member
        each.append(alone.predict_proba(pictures))
    # Averaging over mirror images and over members are both means.
    assert together == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [(entry["member"], entry["epoch"]) for entry in log] == [(m, e) for m in (1, 2, 3) for e in (1, 2)]


def test_members_are_resumed_where_they_stopped(stripes, tmp_path):
    whole = quick(stripes, tmp_path / "whole", members=3, epochs=2)
    with interrupted_in_step(11):  # in the second of three networks, which have 8 steps each
        quick(stripes, tmp_path / "broken", members=3, epochs=2)
    resumed = tapetum.train(stripes, tmp_path / "broken", resume=True, say=silent)
    assert tensors(whole) == tensors(resumed)
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (r.folder / "log.jsonl").read_text().splitlines()
        ]
        for r in (whole, resumed)
    ]
    assert logs[0] == logs[1]
    fewer = tapetum.train(stripes, tmp_path / "broken", resume=True, members=2, say=silent)
    assert tomllib.loads((fewer.folder / "settings.toml").read_text())["asked"]["members"] == 2
    assert fewer.classifier.about["training"]["members"] == 2


def test_a_run_is_resumed_with_as_many_threads_as_it_began_with(stripes, tmp_path):
    """One thread sums in another order than two, so the bits would differ; the machine of this test may have but one core."""
    now = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        whole = quick(stripes, tmp_path / "whole", epochs=2)
        with interrupted_in_step(5):
            quick(stripes, tmp_path / "broken", epochs=2)
        torch.set_num_threads(1)
        resumed = tapetum.train(stripes, tmp_path / "broken", resume=True, say=silent)
        assert torch.get_num_threads() == 1
        assert tensors(whole) == tensors(resumed)
        torch.set_num_threads(1)
        assert tensors(whole) != tensors(quick(stripes, tmp_path / "one", epochs=2))
    finally:
        torch.set_num_threads(now)


def test_a_recipe_counts_the_pictures_that_will_train(stripes):
    from tapetum.run import _look

    def count(splits, **settings):
        return _look(find_samples(stripes).with_splits(np.array(splits)), Settings(**settings), torch.device("cpu")).count

    assert count([""] * 80) == count(["train"] * 80) == 64
    assert count([""] * 80, test=0.3) == count(["train"] * 80, val=0.5) == 40
    assert count([""] * 40 + ["test"] * 40, test=0.3) == count(["train"] * 40 + ["test"] * 40) == 32
    assert count(["train", "", "val", "test"] * 20) == 40
    assert count(["train"] * 60 + ["test"] * 20, folds=5) == 48


def test_the_time_told_beforehand_counts_validations_and_the_budget_keeps_time_for_them(stripes, tmp_path, monkeypatch):
    from tapetum.training import estimate

    monkeypatch.setattr(estimate, "seconds_per_step", lambda *_, **__: 1.0)
    monkeypatch.setattr("tapetum.training.team.seconds_to_add_gradients", lambda _: 0.0)
    # Of a step of 16 pictures a picture's forward pass is a 48th; 30 validate, in 50 validations of 50 epochs of 4 steps each.
    from tapetum import run as module

    told, tasks = [], []
    splits = np.array(["train"] * 25 + ["val"] * 15 + ["train"] * 25 + ["val"] * 15)
    samples = find_samples(stripes).with_splits(splits)
    options = {**QUICK, "epochs": 50, "batch": 16, "views": "one", "start_size": 32, "size": 32}
    monkeypatch.setattr(module, "_train", lambda job, *_: tasks.append(job.task))
    tapetum.train(samples, tmp_path / "run", **{**options, "say": told.append, "minutes": 5})
    seconds = 50 * (4 + 30 / 48)
    assert any(f"about {duration(seconds)}" in line for line in told), told
    # 2 % and 4 seconds or more are kept, and the time for answers on 30 validation and 50 training pictures.
    assert tasks[0].deadline == pytest.approx(300 * 0.98 - 80 / 48 - 8, abs=6)


def test_a_budgets_recipe_is_not_chosen_anew_when_it_is_resumed(stripes, tmp_path, monkeypatch):
    from tapetum.training import estimate

    monkeypatch.setattr(estimate, "pictures_per_second", lambda *_: 500.0)
    options = dict(minutes=0.3, size=32, model="compact", crop_area=0.8)
    first = tapetum.train(stripes, tmp_path / "run", say=silent, **options)
    decided = tomllib.loads((first.folder / "settings.toml").read_text(encoding="utf-8"))["decided"]
    monkeypatch.setattr(estimate, "pictures_per_second", lambda *_: 50.0)
    from tapetum.config import read_settings, settings_from
    from tapetum.runfolder import recipe_of

    asked = settings_from(read_settings(first.folder / "settings.toml"), "file")
    recipe, why = recipe_of(first.folder, asked)
    assert recipe.epochs == decided["epochs"]
    assert "training pictures" in why


def test_weights_to_start_from(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run")
    said = []
    again = tapetum.train(
        stripes, tmp_path / "again", say=said.append, weights=str(run.folder / "model.safetensors"), **{**QUICK, "epochs": 1}
    )
    assert any("weights from" in line and line.endswith("new: none") for line in said)
    assert again.metrics["val"].accuracy.value > 0.9
    with pytest.raises(UserError, match="expected a file of tensors"):
        quick(stripes, tmp_path / "x", weights="nowhere.safetensors")
    with pytest.raises(UserError, match="expected torchvision:NAME"):
        quick(stripes, tmp_path / "x", weights="pretrained")
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_folders_whose_names_are_no_utf8_are_trained_from(stripes, tmp_path):
    """As old archives leave them: Hangul in CP949, accents in Latin-1."""
    data = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(stripes / "lying", os.fsdecode(os.fsencode(data) + b"/\xb0\xb3"))
    shutil.copytree(stripes / "upright", os.path.join(data, "upright"))
    run = quick(data, tmp_path / "run", epochs=1)
    assert run.classifier.classes_ == ("\\udcb0\\udcb3", "upright")
    assert (run.folder / "report.html").exists()
    again = tapetum.train(
        data, tmp_path / "run", overwrite=True, settings=settings_from(read_settings(run.folder / "settings.toml"), "")
    )
    assert tensors(again) == tensors(run)
    assert evaluate(run.folder, data).metrics.accuracy.n > 0


def test_networks_that_compare_the_pictures_of_a_batch_never_get_one_alone(stripes, tmp_path):
    run = quick(stripes, tmp_path / "run", model="lenet-now", batch=21, epochs=1)  # 64 = 3 * 21 + 1
    assert run.folder.exists()
    with pytest.raises(UserError, match="batch 1 with lenet-now: .* Expected 2 or more"):
        quick(stripes, tmp_path / "other", model="lenet-now", batch=1)


def test_what_would_spoil_a_training_is_told_before_it(stripes, tmp_path):
    shutil.copy(stripes / "lying" / "lying.3.png", stripes / "upright" / "same.png")
    told = []
    tapetum.train(stripes, tmp_path / "run", say=told.append, **{**QUICK, "epochs": 1})
    (serious,) = [line for line in told if line.startswith("serious: ")]
    assert "tapetum check shows them" in serious
    assert "label" in serious


def test_too_many_files_without_a_picture_stop_before_anything_is_written(stripes, tmp_path):
    for number in range(20):  # of 80
        (stripes / "lying" / f"broken {number}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"20 of 100 files give no picture \(20%\): expected at most 10%.*--unreadable"):
        quick(stripes, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(rows(quick(stripes, tmp_path / "run", epochs=1, unreadable=0.2).folder / "left_out.csv")) == 20


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: shutil.copy(data / "lying/lying.3.png", data / "lying/=new.png"), r"1 new \('?lying/=new.png\)"),
        (lambda data: (data / "lying/lying.3.png").unlink(), r"1 gone \(lying/lying.3.png\)"),
        (lambda data: shutil.copy(data / "upright/upright.1.png", data / "lying/lying.3.png"), "1 with other content"),
        (lambda data: (data / "lying").rename(data / "flat"), r"40 new \(flat/lying.0.png\), 40 gone"),
        (lambda data: (data / "lying/lying.3.png").rename(data / "upright/lying.3.png"), "1 new .*1 gone"),
    ],
)
def test_a_run_is_not_resumed_on_other_pictures(stripes, tmp_path, change, told):
    folder = tmp_path / "run"
    with interrupted_in_step(2):
        quick(stripes, folder)
    change(stripes)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(UserError, match=f"cannot be resumed, its pictures have changed: .*{told}"):
        tapetum.train(stripes, folder, resume=True, say=silent)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"} == kept
