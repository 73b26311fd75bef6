"""Judges: the CSV that the training wrote, onnx's checker, and onnxruntime called as a stranger would call it."""

import copy
import csv
import hashlib
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import tapetum
from tapetum import cli, models, tensorfile
from tapetum.data.prepare import Preprocessing
from tapetum.data.sources import find_pictures
from tapetum.deployment import export, graph, int8
from tapetum.deployment.export import export_onnx
from tapetum.deployment.graph import to_onnx
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier, load
from tapetum.inference.familiarity import Familiar, Known, watched
from tapetum.inference.onnx import from_bytes, load_onnx, sealed
from tapetum.inference.predict import predict_samples
from tapetum.models.ensemble import Ensemble
from tapetum.models.registry import _ENTRIES

RNG = np.random.default_rng(0)


def session(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def validated(run, data):
    """Paths and probabilities of the validation pictures, by hand from the CSV."""
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    return [data / row["path"] for row in rows], np.array([[float(row["p_lying"]), float(row["p_upright"])] for row in rows])


@pytest.fixture(scope="module")
def made():
    """Graphs of the finished run that were made before; each takes seconds."""
    return {}


@pytest.fixture
def once(made, monkeypatch):
    """The graphs of the finished run are made once."""

    def remembered(classifier, uint8=False, familiar=True):
        if (uint8, familiar) not in made:
            made[uint8, familiar] = to_onnx(classifier, uint8, familiar)
        return copy.deepcopy(made[uint8, familiar])

    monkeypatch.setattr(graph, "to_onnx", remembered)


@pytest.fixture
def copied(finished, tmp_path):
    """The run, to be spoilt."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_a_stranger_gets_the_runs_predictions_from_the_file_alone(finished):
    run, data, file = finished
    paths, expected = validated(run, data)
    assert len(paths) == 32
    classifier = load(run)
    squares = np.stack([classifier.prepare(np.asarray(picture)) for picture in map(_decoded, paths)])
    found = session(file.read_bytes())
    for batch in (1, 5, 32):
        some = squares[:batch]
        probabilities, familiarity = found.run(None, {"squares": some})
        np.testing.assert_allclose(probabilities, expected[:batch], atol=1e-4)
        np.testing.assert_allclose(familiarity, classifier.familiar_squares(some)[1], atol=0.01 + 2 / 33)


def _decoded(path):
    from tapetum.data.decode import decode

    return decode(path.read_bytes())


def test_it_is_one_checked_file_of_a_stated_version_with_nothing_of_this_machine(finished):
    run, _, file = finished
    content = file.read_bytes()
    onnx.checker.check_model(content, full_check=True)
    model = onnx.load(file)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert not any(each.data_location or each.external_data for each in model.graph.initializer)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert dimensions[0].dim_param == "N"
    assert [each.dim_value for each in dimensions[1:]] == [32, 32, 3]
    assert str(run.parent).encode() not in content
    assert b".py" not in content


def test_the_metadata_hold_what_the_model_file_says(finished):
    run, _, file = finished
    told = {each.key: json.loads(each.value) for each in onnx.load(file).metadata_props}
    _, about = tensorfile.load(run / "model.safetensors")
    more = told["tapetum"].pop("onnx")
    told["tapetum"].pop("seal")
    assert told["tapetum"] == about
    assert told["classes"] == ["lying", "upright"]
    assert more["model_sha256"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert (more["opset"], more["calibrating"], more["int8"]) == (18, 32, False)
    assert "uint8 (N, 32, 32, 3)" in onnx.load(file).doc_string


def test_normalised_images_go_in_too(once, finished, tmp_path):
    run, data, file = finished
    export_onnx(run, tmp_path / "float.onnx")
    squares = RNG.integers(0, 256, (3, 32, 32, 3), np.uint8)
    prepared = load(run).preprocessing
    grey = squares.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    images = ((grey - prepared.mean[0]) / prepared.std[0]).astype(np.float32)[:, None]
    found = session((tmp_path / "float.onnx").read_bytes()).run(None, {"images": images})[0]
    np.testing.assert_allclose(found, session(file.read_bytes()).run(None, {"squares": squares})[0], atol=1e-5)
    assert "float32 (N, 1, 32, 32)" in onnx.load(tmp_path / "float.onnx").doc_string
    paths = validated(run, data)[0]
    assert load_onnx(tmp_path / "float.onnx").predict(paths) == load(run).predict(paths)


def knowing(name, members, views, temperature, features):
    torch.manual_seed(0)
    networks = [models.build(name, 3, 32).eval() for _ in range(members)]
    known = tuple(Known.of(torch.rand(50, features) + m, RNG.integers(0, 3, 50)) for m in range(members))
    network = Ensemble(networks).eval() if members > 1 else networks[0]
    prepared = Preprocessing(32, "crop", 40, 64, models.entry(name).channels, views=views)
    classifier = Classifier(network, name, ("a", "b", "c"), prepared, temperature, Familiar(known, np.zeros(0)))
    squares = RNG.integers(0, 256, (9, prepared.side, prepared.side, 3), np.uint8)
    with watched(network) as watch, torch.inference_mode():
        network(torch.rand(40, prepared.channels, 32, 32))
    strange = Familiar(known, np.zeros(0)).strangeness([each[None] for each in watch])
    classifier.familiar = Familiar(known, np.sort(strange))
    return classifier, squares


@pytest.mark.parametrize(("members", "views", "temperature", "uint8"), [(2, "ten", 0.5, True), (1, "one", 40.0, False)])
def test_views_members_temperature_and_strangers_are_in_the_graph(members, views, temperature, uint8, tmp_path):
    classifier, squares = knowing("lenet-table", members, views, temperature, 84)
    classifier.save(tmp_path / "m")
    about = graph.about(classifier, tmp_path / "m", int8=False, calibrating=40)
    found = from_bytes(sealed(to_onnx(classifier, uint8), about), "it")
    for ours, theirs in zip(found.familiar_squares(squares, 4), classifier.familiar_squares(squares, 4), strict=True):
        assert len(np.unique(theirs)) > 2
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


FAST = {"lenet5-1998", "lenet-table", "lenet", "lenet-now", "alexnet-2012", "compact"}
SIZES = {"lenet5-1998": 36, "alexnet-2012": 99, "alexnet-table": 99}


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in _ENTRIES])
def test_every_network_exports_and_agrees(name, tmp_path):
    torch.manual_seed(0)
    size = SIZES.get(name, 64 if "alexnet" in name else 32)
    network = models.build(name, 3, size).eval()
    prepared = Preprocessing(size, "crop", size, size, models.entry(name).channels)
    classifier = Classifier(network, name, ("a", "b", "c"), prepared)
    model = to_onnx(classifier)
    onnx.checker.check_model(model, full_check=True)
    images = torch.randn(3, prepared.channels, size, size)
    with torch.inference_mode():
        expected = torch.softmax(network(images), 1)
    (found,) = session(model.SerializeToString()).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_file_that_does_not_repeat_the_run_is_not_written(once, copied, finished, tmp_path):
    data, target = finished[1], tmp_path / "x.onnx"
    lines = (copied / "predictions.csv").read_text(encoding="utf-8").splitlines()
    head, values = lines[5].rsplit(",", 2)[0], [float(v) for v in lines[5].rsplit(",", 2)[1:]]
    for moved, told in ((0.0002, "the labels are the same, and a probability differs by 0.0002"), (1.0, "1 labels are others")):
        shifted = [values[1], values[0]] if moved == 1 else [values[0] + moved, values[1] - moved]
        spoilt = [*lines[:5], ",".join([head, *map(repr, shifted)]), *lines[6:]]
        (copied / "predictions.csv").write_text("\n".join(spoilt) + "\n", encoding="utf-8")
        target.write_bytes(b"old")
        with pytest.raises(UserError, match=told):
            export_onnx(copied, target, data=data)
        assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.onnx"]


def test_a_graph_that_forgets_how_familiar_pictures_are_is_not_written(finished, tmp_path, monkeypatch):
    honest = graph.Answers.forward

    def forgetful(self, given):
        probabilities, familiarity = honest(self, given)
        return probabilities, familiarity * 0 + 1

    monkeypatch.setattr(graph.Answers, "forward", forgetful)
    with pytest.raises(UserError, match="does not repeat how familiar the run's pictures are"):
        export_onnx(finished[0], tmp_path / "x.onnx", uint8=True)
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_are_gone_or_changed_are_said(copied, finished, tmp_path):
    data = tmp_path / "moved"
    with pytest.raises(UserError, match=f"not at {data}: expected them there. Say where they are now with --data"):
        export_onnx(copied, tmp_path / "x.onnx", data=data)
    shutil.copytree(finished[1], data)
    first = validated(copied, data)[0][0]
    whole = first.read_bytes()
    first.write_bytes(whole + b"\0")
    with pytest.raises(UserError, match=rf"1 picture of .* changed since its training \(.*{first.name}\)"):
        export_onnx(copied, tmp_path / "x.onnx", data=data)
    first.write_bytes(b"no picture")
    with pytest.raises(UserError, match="changed since its training"):
        export_onnx(copied, tmp_path / "x.onnx", data=data)
    first.unlink()
    with pytest.raises(UserError, match=rf"lacks 1 of 32 pictures of .* \(.*{first.name}\)"):
        export_onnx(copied, tmp_path / "x.onnx", data=data)
    with pytest.raises(UserError, match="lies inside the pictures"):
        export_onnx(copied, data / "x.onnx", data=data)
    assert not list(tmp_path.rglob("*.onnx"))


def test_int8_is_smaller_and_its_cost_is_that_of_its_own_answers(once, finished, tmp_path):
    run, data, file = finished
    target = tmp_path / "int8.onnx"
    found = export_onnx(run, target, uint8=True, int8=True, max_loss=1)
    assert target.stat().st_size < 0.5 * file.stat().st_size
    paths, _ = validated(run, data)
    true = np.array([path.parent.name for path in paths])
    right = [np.array(each.predict(paths)) == true for each in (load_onnx(file), load_onnx(target))]
    assert found.int8.cost == pytest.approx(right[0].mean() - right[1].mean())
    assert (found.int8.comparison.only_a, found.int8.comparison.only_b) == (
        int((right[0] & ~right[1]).sum()),
        int((right[1] & ~right[0]).sum()),
    )
    kinds = {each.op_type for each in onnx.load(target).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    weights = [each for each in onnx.load(target).graph.initializer if each.data_type == onnx.TensorProto.INT8]
    assert len(weights) >= 5
    with pytest.raises(UserError, match="in int8 strangers cannot be told"):
        load_onnx(target).predict(paths, reject=0.1)
    assert "in place of" in found.text()
    assert found.to_json()["int8"]["milliseconds"]["int8_batch"] > 0


def test_int8_that_costs_too_much_is_refused(once, finished, tmp_path, monkeypatch):
    def spoilt(model, squares, preprocessing):
        assert len(squares) == 48  # all that trained
        found = int8.quantized(model, squares, preprocessing)
        for each in found.graph.initializer:
            if each.data_type == onnx.TensorProto.INT8 and each.raw_data:
                each.raw_data = bytes(len(each.raw_data))
        return found

    monkeypatch.setattr(export, "quantized", spoilt)
    with pytest.raises(UserError, match=r"int8 costs \d+\.\d points of accuracy .*: expected at most 1\. Nothing was written"):
        export_onnx(finished[0], tmp_path / "x.onnx", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_cross_validated_run_repeats_its_classifier(stripes, tmp_path):
    quick = dict(model="lenet-table", size=32, epochs=2, batch=16, turn=0.0, say=lambda line: None)
    run = tapetum.train(stripes, tmp_path / "run", folds=2, **quick).folder
    found = export_onnx(run, tmp_path / "x.onnx")
    assert (found.agreement.part, found.agreement.n) == ("folds", 80)
    pictures = find_pictures([stripes])
    ours, theirs = (predict_samples(tapetum.load(each), pictures) for each in (tmp_path / "x.onnx", run))
    np.testing.assert_allclose(ours.probabilities_NK, theirs.probabilities_NK, atol=1e-6)


def test_a_network_too_large_for_one_file_is_refused_before_any_work(finished, monkeypatch, tmp_path):
    monkeypatch.setattr(graph, "MOST_BYTES", 2**24 + 1000)
    with pytest.raises(UserError, match="lenet-table has 0.0 GB of weights: expected at most 0.0 GB"):
        export_onnx(finished[0], tmp_path / "x.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(finished, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(UserError, match=rf"{missing} is not installed: pip install 'tapetum\[onnx\]'"):
        export_onnx(finished[0], tmp_path / "x.onnx")


def test_the_command(once, finished, tmp_path, capsys):
    run, data, _ = finished
    cli.run(["export", str(run), "--onnx", str(tmp_path / "a.onnx"), "--uint8"])
    said = capsys.readouterr()
    assert "the run's 32 validation pictures get the same labels" in said.out
    assert said.out.splitlines()[-1] == f"next:     tapetum predict {tmp_path / 'a.onnx'} PICTURES"
    assert "making the graph" in said.err
    cli.run(["evaluate", str(tmp_path / "a.onnx"), str(data), "--json"])
    of_onnx = json.loads(capsys.readouterr().out)
    shutil.copy(run / "model.safetensors", tmp_path / "a.safetensors")
    cli.run(["evaluate", str(tmp_path / "a.safetensors"), str(data), "--json"])
    of_run = json.loads(capsys.readouterr().out)
    assert of_onnx["metrics"]["confusion"] == of_run["metrics"]["confusion"]
    for arguments, told in (
        ([], "nothing to export: expected --onnx FILE"),
        (["--onnx", "x.bin"], "x.bin: expected a name that ends in .onnx"),
        (["--onnx", "x.onnx", "--int8", "--max-loss", "2"], "--max-loss 2.0: expected a share"),
    ):
        with pytest.raises(UserError, match=told):
            cli.run(["export", str(run), *arguments])
    with pytest.raises(UserError, match="holds no model.safetensors"):
        cli.run(["export", str(tmp_path), "--onnx", "x.onnx"])
