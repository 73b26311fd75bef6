"""torchvision's networks by name, and weights from files; nothing is fetched."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tapetum import models
from tapetum.errors import UserError


@pytest.mark.parametrize("short", ["resnet18", "mobilenet_v3_small", "vit_b_16", "googlenet", "regnet_y_400mf"])
def test_they_are_built_for_the_classes_and_prepared_as_torchvision_says(short):
    name = f"torchvision:{short}"
    entry = models.entry(name)
    prepared = torchvision.models.get_model_weights(short).DEFAULT.transforms()
    assert (entry.size, entry.resize) == (prepared.crop_size[0], prepared.resize_size[0])
    assert (entry.mean, entry.std) == (tuple(prepared.mean), tuple(prepared.std))
    network = models.build_on_meta(name, 7).eval()
    assert network(torch.empty(2, 3, entry.size, entry.size, device="meta")).shape == (2, 7)


def test_the_largest_takes_no_memory_for_shapes():
    # A model file may name any network; before its tensors are compared, none is made.
    network = models.entry("torchvision:regnet_y_128gf")
    with torch.device("meta"):
        parameters = list(network.build(2, 32).parameters())
    assert {parameter.device.type for parameter in parameters} == {"meta"}
    assert sum(parameter.numel() for parameter in parameters) > 6e8


def test_the_network_is_torchvisions():
    torch.manual_seed(0)
    ours = models.build("torchvision:resnet18", 5, 64).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_a_name_or_size_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no network 'resnet19'. Did you mean 'resnet18'"):
        models.entry("torchvision:resnet19")
    with pytest.raises(UserError, match="the smallest size that fits is 112"):
        models.build("torchvision:vit_b_16", 2, 100)
    with pytest.raises(UserError, match=r"torchvision:NAME"):
        models.entry("resnet18")


def test_networks_of_one_size_get_pictures_of_that_size():
    """Patches and windows that do not tile a picture: Vision Transformers, MaxViT."""
    for name, other in (("vit_b_32", 112), ("maxvit_t", 28)):
        assert not models.takes(f"torchvision:{name}", 224, other)
    assert not models.fits("torchvision:maxvit_t", 28)
    assert models.takes("torchvision:resnet18", 224, 112)
    with pytest.raises(UserError, match="it takes no pictures of 28 x 28 .*; use its own size, 224"):
        models.build("torchvision:maxvit_t", 2, 28)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_from_a_file_keep_all_but_the_last_layer(tmp_path, ending):
    torch.manual_seed(1)
    trained = torchvision.models.resnet18()  # 1,000 classes, as torchvision's own weights have
    file = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save(trained.state_dict(), file)
    else:
        save_file(trained.state_dict(), file)
    network = models.build("torchvision:resnet18", 2)
    before = network.fc.weight.clone()
    sentence = models.take_weights(network, "torchvision:resnet18", str(file))
    assert sentence.endswith("new: fc.weight, fc.bias")
    for name, tensor in network.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(tensor, trained.state_dict()[name]), name
    assert torch.equal(network.fc.weight, before)


def test_what_is_no_file_of_fitting_tensors_is_refused(tmp_path):
    network = models.build("torchvision:resnet18", 2)
    (tmp_path / "a.pth").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read as tensors"):
        models.take_weights(network, "torchvision:resnet18", str(tmp_path / "a.pth"))
    save_file({"x": torch.zeros(3)}, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="0 of the 122 tensors"):
        models.take_weights(network, "torchvision:resnet18", str(tmp_path / "b.safetensors"))


class Evil:
    """What a pickle can do when it is let."""

    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


def test_a_file_that_wants_to_execute_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Evil()}, "evil.pth")
    with pytest.raises(UserError, match="cannot be read as tensors"):
        models.take_weights(models.build("torchvision:resnet18", 2), "torchvision:resnet18", "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_pretrained_asks_torchvision_and_says_when_it_cannot_fetch(monkeypatch):
    network = models.build("torchvision:resnet18", 2)
    cls = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(cls, "get_state_dict", lambda self, **options: torchvision.models.resnet18().state_dict())
    assert "new: fc.weight, fc.bias" in models.take_weights(network, "torchvision:resnet18", "pretrained")

    def offline(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(cls, "get_state_dict", offline)
    with pytest.raises(UserError, match="could not be fetched"):
        models.take_weights(network, "torchvision:resnet18", "pretrained")
