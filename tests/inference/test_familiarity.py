"""Judges: scikit-learn's covariance, counts over simulated pictures, and the networks' own last layers."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import LedoitWolf

import tapetum
from conftest import write_stripes
from tapetum import models
from tapetum.data.decode import decode
from tapetum.data.prepare import Preprocessing
from tapetum.errors import UserError
from tapetum.evaluation.evaluate import evaluate
from tapetum.faster import for_inference
from tapetum.inference.classifier import features, probabilities
from tapetum.inference.familiarity import Familiar, Known, watched
from tapetum.models.ensemble import Ensemble

RNG = np.random.default_rng(0)


def rooted(features):
    roots = np.sign(features) * np.sqrt(np.abs(features))
    return roots / np.linalg.norm(roots, axis=1, keepdims=True)


def test_strangeness_is_mahalanobis_distance_with_scikit_learns_covariance():
    """As many directions as features are kept here, so nothing is left out."""
    mixing, labels = RNG.normal(size=(12, 12)), RNG.integers(0, 3, 200)
    features = np.abs(RNG.normal(size=(200, 12)) @ mixing + 2 * labels[:, None])
    others = np.abs(RNG.normal(size=(9, 12)) * 3)
    x, y = rooted(features), rooted(others)
    means = np.stack([x[labels == k].mean(0) for k in range(3)])
    rest = x - means[labels]
    scale = rest.std(0)
    precision = LedoitWolf(assume_centered=True).fit(rest / scale).precision_
    away = (y[:, None] - means) / scale
    expected = np.einsum("nkc,cd,nkd->nk", away, precision, away).min(1) / 12
    found = Known.of(torch.from_numpy(features).float(), labels).strangeness(torch.from_numpy(others).float())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)


def test_of_the_known_kind_a_share_of_a_is_as_unfamiliar_as_a():
    """Whatever the strangeness is distributed like, and however few pictures calibrate it (Bates et al. 2023)."""
    for calibrating in (20, 92):
        shares = []
        for _ in range(300):
            known, new = RNG.exponential(size=calibrating) ** 2, RNG.exponential(size=50) ** 2
            shares.append((Familiar((), np.sort(known)).familiarity(new) <= 0.1).mean())
        standard_error = np.std(shares) / len(shares) ** 0.5
        assert 0.1 - 1 / (1 + calibrating) - 3 * standard_error <= np.mean(shares) <= 0.1 + 3 * standard_error


@pytest.mark.parametrize("name", models.names())
def test_the_features_of_every_network_are_what_its_last_layer_gets(name):
    torch.manual_seed(0)
    network = models.build(name, 3, models.entry(name).size).eval()
    side, channels = models.entry(name).size, models.entry(name).channels
    images = torch.rand(2, channels, side, side)
    with torch.inference_mode():
        with watched(network) as seen:
            logits = network(images)
        network(images)  # nothing is watched any more
        (features,) = seen
        assert features.shape[0] == 2
        assert features.dim() == 2
        last = [each for each in network.modules() if isinstance(each, torch.nn.Linear)]
        if last and "textbook" not in name and "1998" not in name:  # in these something else comes after it
            np.testing.assert_allclose(last[-1](features), logits, atol=1e-4, rtol=1e-3)


def test_each_member_of_an_ensemble_is_watched():
    network = Ensemble([models.build("lenet-table", 2, 32) for _ in range(3)])
    with torch.inference_mode(), watched(network) as seen:
        network.eval()(torch.rand(4, 1, 32, 32))
    assert [tuple(each.shape) for each in seen] == [(4, 84)] * 3


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """A run on stripes, its data, and pictures of other kinds: noise and single colours."""
    root = tmp_path_factory.mktemp("familiarity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPETUM_CACHE", str(root / "cache"))
        data = write_stripes(root / "stripes", 60)
        quick = dict(model="compact", size=32, epochs=12, batch=16, crop_area=0.8, rotate=0.0, mixup=0.0, turn=0.0, erase=0.0)
        run = tapetum.train(data, root / "run", val=0.4, say=lambda line: None, **quick)
        yield run, data, write_strangers(root / "strangers")


def write_strangers(folder):
    folder.mkdir()
    for i in range(20):
        Image.fromarray(RNG.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"noise {i}.png")
        Image.new("RGB", (40, 48), tuple(int(v) for v in RNG.integers(0, 256, 3))).save(folder / f"flat {i}.png")
    return folder


def test_strangers_get_no_answer_and_most_others_get_one(knowing, tmp_path):
    run, _, strangers = knowing
    known = write_stripes(tmp_path / "new", 60, seed=1)
    found, others = (tapetum.predict(run.folder, [where], reject=0.05) for where in (known, strangers))
    assert (found["label"] == "neither").mean() < 0.15  # 5 % are meant, of 120, by 48 that calibrate
    assert (others["label"] == "neither").mean() > 0.9
    assert ((found["familiarity"] <= 0.05) == (found["label"] == "neither")).all()
    assert "neither" not in set(tapetum.predict(run.folder, [strangers])["label"])
    paths = sorted(strangers.iterdir())[:3]
    assert run.classifier.predict(paths, reject=0.05) == list(tapetum.predict(run.folder, paths, reject=0.05)["label"])


def test_what_is_known_is_in_the_model_file_to_the_bit(knowing):
    run, data, _ = knowing
    pictures = sorted((data / "lying").iterdir())[:9]
    loaded, squares = tapetum.load(run.folder), [run.classifier.prepare(decode(p.read_bytes())) for p in pictures]
    for ours, theirs in zip(run.classifier.familiar_squares(squares), loaded.familiar_squares(squares), strict=True):
        assert (ours == theirs).all()
    assert (loaded.familiar_squares(squares)[0] == loaded.from_squares(squares)).all()


def test_evaluation_counts_answers_and_strangers(knowing, tmp_path):
    run, _, strangers = knowing
    mixed = write_stripes(tmp_path / "mixed", 30, seed=2)
    strangers.rename(mixed / "neither")
    try:
        found = evaluate(run.folder, mixed, reject=0.05)
        with pytest.raises(UserError, match=r"class 'neither' of the data was not in the training.*evaluate --reject tells"):
            evaluate(run.folder, mixed)
    finally:
        (mixed / "neither").rename(strangers)
    assert found.answered.n == 60
    assert found.metrics.accuracy.n == round(found.answered.value * 60)
    assert found.strangers.n == 40
    assert found.strangers.value > 0.9
    assert found.to_json()["strangers"]["n"] == 40
    assert "called 'neither'" in found.text()


def test_few_validation_pictures_teach_no_strangers(stripes, tmp_path):
    run = tapetum.train(stripes, tmp_path / "run", model="compact", size=32, epochs=1, val=0.1, say=lambda line: None)
    assert run.classifier.familiar is None
    with pytest.raises(UserError, match="has not learnt what strangers are"):
        tapetum.predict(run.folder, [stripes], reject=0.05)
    assert "familiarity" not in tapetum.predict(run.folder, [stripes / "lying"])


@pytest.mark.parametrize(
    ("reject", "told"), [(1.0, "from 0 to below 1"), (-0.1, "from 0 to below 1"), (0.001, "48 validation pictures cannot tell")]
)
def test_shares_that_cannot_be_are_refused(knowing, reject, told):
    run, data, _ = knowing
    with pytest.raises(UserError, match=told):
        tapetum.predict(run.folder, [data], reject=reject)


def test_folds_and_members_know_strangers_too(stripes, knowing, tmp_path):
    strangers = knowing[2]
    for how in ({"folds": 3}, {"members": 2, "val": 0.4}):
        run = tapetum.train(stripes, tmp_path / str(how), model="compact", size=32, epochs=8, say=lambda line: None, **how)
        assert len(run.classifier.familiar.known) == how.get("folds", 2)
        assert len(run.classifier.familiar.seen_N) == (80 if "folds" in how else 32)
        assert (tapetum.predict(run.folder, [strangers], reject=0.05)["label"] == "neither").mean() > 0.8


@pytest.mark.parametrize("name", ["lenet-textbook", "alexnet-textbook", "lenet", "compact", "lenet-now"])
def test_the_form_for_prediction_gives_the_same_features(name):
    """To the bit, but where BatchNorm has gone into the convolution before it."""
    torch.manual_seed(0)
    network = models.build(name, 2, 64).train()
    network(torch.rand(8, 3, 64, 64) * 3 + 1)  # BatchNorm's averages are no longer those of a fresh network
    network.eval()
    preprocessing, cpu = Preprocessing(64, "crop", 64, 64, 3, views="mirror"), torch.device("cpu")
    batches = [RNG.integers(0, 256, (size, 64, 64, 3), np.uint8) for size in (5, 3)]
    quick = for_inference(network)
    (found_NK, (fast,)), (_, (plain,)) = (features(each, batches, preprocessing, cpu) for each in (quick, network))
    assert fast.shape == plain.shape
    assert fast.shape[:2] == (2, 8)
    if any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules()):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(fast, plain)
    # Whoever asks for features gets the very probabilities of the others, and features of some are rows of those of all.
    assert (found_NK == probabilities(quick, batches, preprocessing, cpu)).all()
    (part,) = features(quick, batches, preprocessing, cpu, np.array([1, 4, 6]))[1]
    assert torch.equal(part, fast[:, [1, 4, 6]])
