"""Judges: torch's own softmax on torchvision-prepared input; the file system; damaged and foreign files."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import tapetum
from conftest import encoded
from tapetum import models, tensorfile
from tapetum.data.decode import decode
from tapetum.data.prepare import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tapetum.errors import UserError
from tapetum.inference.classifier import Classifier

PREPARED = Preprocessing(size=32, fit="crop", resize=36, reduce=64, channels=3)
RNG = np.random.default_rng(0)
CUT = encoded(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8)), "JPEG")[:700]


def classifier(views="one", classes=("고양이", "dog")):
    torch.manual_seed(0)
    prepared = dataclasses.replace(PREPARED, views=views)
    return Classifier(models.build("lenet", len(classes), 32).eval(), "lenet", classes, prepared)


@pytest.fixture
def files(tmp_path):
    paths = []
    for n in range(7):
        small = Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8))
        paths.append(tmp_path / f"{n}.png")
        small.resize((50 + n, 44)).save(paths[-1])
    return paths


def test_probabilities_are_the_softmax_of_the_network_on_torchvisions_input(files):
    ours = classifier()
    prepare = transforms.Compose(
        [
            transforms.Resize(36),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    with torch.no_grad():
        expected = torch.softmax(ours.network(torch.stack([prepare(Image.open(f)) for f in files])), 1)
    found = ours.predict_proba(files)
    assert found.dtype == np.float64
    assert found.shape == (7, 2)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    # The two resize filters round differently by one grey level in places.
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_every_form_of_a_picture_gives_the_same(files):
    ours = classifier()
    path = files[0]
    array = np.array(Image.open(path))
    forms = [path, str(path), path.read_bytes(), Image.open(path), array]
    alone = ours.predict_proba(path)
    for form in forms:
        assert (ours.predict_proba([form]) == alone).all()
    # Together, a picture's place in the batch may change the last bit.
    np.testing.assert_allclose(ours.predict_proba(forms), alone.repeat(5, 0), atol=1e-6)
    assert ours.predict(forms) == [ours.classes_[alone.argmax()]] * 5


def test_the_batch_size_changes_only_rounding(files):
    ours = classifier()
    for batch in (1, 2, 3, 64):
        np.testing.assert_allclose(ours.predict_proba(files, batch=batch), ours.predict_proba(files), atol=1e-5)


def test_mirror_views_are_the_mean_over_both_forms(files):
    array = np.array(Image.open(files[0]))
    pair = classifier().predict_proba([array, array[:, ::-1].copy()])
    np.testing.assert_allclose(classifier("mirror").predict_proba([array])[0], pair.mean(0), atol=1e-6)


def test_ten_views_are_those_of_torchvisions_ten_crop(files):
    ten = transforms.Compose(
        [
            transforms.Resize(36),
            transforms.CenterCrop(36),
            transforms.TenCrop(32),
            transforms.Lambda(lambda crops: torch.stack([transforms.functional.to_tensor(crop) for crop in crops])),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    ours = classifier("ten")
    with torch.no_grad():
        expected = [torch.softmax(ours.network(ten(Image.open(file))), 1).mean(0) for file in files]
    np.testing.assert_allclose(ours.predict_proba(files), torch.stack(expected).numpy(), atol=2e-3)


def test_a_saved_classifier_comes_back_to_the_bit(files, tmp_path):
    ours = classifier("mirror")
    ours.about = {"metrics": {"val": {"accuracy": 0.5}}}
    ours.save(tmp_path / "run" / "model.safetensors")
    for place in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        again = tapetum.load(place)
        assert again.classes_ == ("고양이", "dog")
        assert again.preprocessing == ours.preprocessing
        assert again.about["metrics"] == ours.about["metrics"]
        assert (again.predict_proba(files) == ours.predict_proba(files)).all()


def test_no_pictures_give_no_rows():
    assert classifier().predict_proba([]).shape == (0, 2)
    assert classifier().predict([]) == []


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        ("nowhere.jpg", "nowhere.jpg is not a picture that can be read: No such file"),
        (b"text", r"picture 0 \(bytes\) is not a picture that can be read"),
        ("a\0b.png", "is not a picture that can be read: embedded null byte"),
        (Image.open(io.BytesIO(CUT)), r"picture 0 \(PIL\) is not a picture that can be read: damaged"),
        (Image.fromarray(np.full((4, 4), -5, np.float32)), r"picture 0 \(PIL\) is not a picture that can be read"),
        (np.zeros((4, 4, 3)), r"picture 0 is a float64 array of shape \(4, 4, 3\): expected"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\): expected"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (7, "picture 0 is 7: expected a path"),
    ],
)
def test_what_is_no_picture_is_named(picture, sentence):
    with pytest.raises(UserError, match=sentence):
        classifier().predict_proba([picture])


def test_many_files_are_answered_in_their_order_and_the_first_that_is_none_is_named(files):
    ours, many = classifier(), [*files] * 6
    one_by_one = ours.from_squares(ours.prepare(decode(Path(each).read_bytes())) for each in many)
    assert (ours.predict_proba(many) == one_by_one).all()
    # The second is refused sooner: it is not even read.
    broken = [*many[:20], many[0].read_bytes()[:40], *many[:9], "nowhere.jpg"]
    with pytest.raises(UserError, match=r"picture 20 \(bytes\) is not a picture"):
        ours.predict_proba(broken)


def test_pil_pictures_of_every_mode_are_taken():
    plain = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8))
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        assert classifier().predict_proba([plain.convert(mode)]).shape == (1, 2)


def change(about, **values):
    return {**about, **values}


@pytest.mark.parametrize(
    "values",
    [
        {"network": "os.system"},
        {"network": "alexnet"},
        {"classes": ["one"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", "b", "c"]},
        {"classes": None},
        {"format": 1},
        {"preprocessing": {"views": "many"}},
        {"preprocessing": {}},
        {"preprocessing": {"size": 10**9}},
        {"preprocessing": {"reduce": -1}},
        {"preprocessing": {"fit": "cut"}},
        {"preprocessing": {"mean": [1e400, 0, 0]}},
        {"preprocessing": {"std": [0, 1, 1]}},
        {"preprocessing": {"channels": 4}},
        {"preprocessing": {"code": "x"}},
        {"preprocessing": {"std": [True, True, True]}},
        {"preprocessing": {"size": 4, "resize": 4}},
        {"preprocessing": []},
        {"network": 7},
        {"network": ["lenet"]},
        {"network": "torchvision:inception_v3"},
        {"classes": ["a", "b", "a"]},
        {"classes": [["a"], "b"]},
        {"members": 2},
        {"members": 100, "network": "torchvision:vit_h_14"},
        {"temperature": True},
    ],
)
def test_a_sealed_file_with_a_strange_content_is_refused(tmp_path, values):
    path = tmp_path / "model.safetensors"
    classifier().save(path)
    tensors, about = tensorfile.load(path)
    if values.get("preprocessing"):
        values = {"preprocessing": {**about["preprocessing"], **values["preprocessing"]}}
    changed = json.loads(json.dumps(change(about, **values)).replace("Infinity", "1e400"))
    try:
        tensorfile.save(path, tensors, changed)
    except ValueError:
        return  # JSON has no infinity: such a file cannot even be written
    with pytest.raises(UserError):
        tapetum.load(path)


def test_missing_and_foreign_files_are_said(tmp_path):
    with pytest.raises(UserError, match=r"holds no model.safetensors"):
        tapetum.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        tapetum.load(tmp_path / "none")
    (tmp_path / "cat.jpg").write_bytes(encoded(Image.new("RGB", (9, 9)), "JPEG"))
    with pytest.raises(UserError, match="is not a tapetum file"):
        tapetum.load(tmp_path / "cat.jpg")


def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    classifier().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device.*old file is unchanged"):
        classifier(classes=("a", "b")).save(path)
    assert path.read_bytes() == before


def test_a_picture_that_may_not_be_written_to_is_taken(files):
    picture = np.asarray(Image.open(files[0]))
    assert not picture.flags.writeable
    assert (classifier().predict_proba(picture) == classifier().predict_proba(picture.copy())).all()


def test_the_faster_network_follows_when_weights_change():
    torch.manual_seed(0)
    network = models.build("lenet-textbook-logits", 2, 32)
    prepared = Preprocessing(size=32, fit="crop", resize=32, reduce=64, channels=3)
    classifier = Classifier(network.eval(), "lenet-textbook-logits", ("a", "b"), prepared)
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    plain = Classifier(network, "lenet-textbook-logits", ("a", "b"), prepared, fast=False)
    assert np.allclose(classifier.predict_proba(picture), plain.predict_proba(picture), atol=1e-6)
    with torch.no_grad():
        network.fc1.weight.mul_(-3)
    assert np.allclose(classifier.predict_proba(picture), plain.predict_proba(picture), atol=1e-6)
