"""No network: a local folder, and a Hub that is played at the level of its API. Judge: the run's own answers."""

import json
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import safetensors
from huggingface_hub import hub_mixin

import tapetum
from tapetum.deployment.hub import HubClassifier
from tapetum.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Every look at the network fails, and there is no token of the user's."""

    def refused(*arguments, **options):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before it tries once more
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def test_a_folder_comes_back_to_the_bit_and_holds_no_pickle(finished, tmp_path):
    run, data, _ = finished
    HubClassifier(tapetum.load(run)).save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    with safetensors.safe_open(tmp_path / "model" / "model.safetensors", "np") as file:
        assert list(file.keys())
    assert json.loads((tmp_path / "model" / "config.json").read_text())["classes"] == ["lying", "upright"]
    again = HubClassifier.from_pretrained(tmp_path / "model").classifier
    pictures = sorted((data / "upright").iterdir())[:5]
    assert (again.predict_proba(pictures) == tapetum.load(run).predict_proba(pictures)).all()
    assert again.predict(pictures, reject=0.1) == tapetum.load(run).predict(pictures, reject=0.1)


def test_a_card_that_is_there_stays(finished, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("mine")
    HubClassifier(tapetum.load(finished[0])).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "mine"


def test_pushing_makes_the_repository_and_uploads_the_same_folder(finished, monkeypatch):
    told = {}

    class Hub:
        def __init__(self, token):
            told["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            told["repo"] = repo_id, private, exist_ok
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **options):
            told["files"] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return f"https://hub.test/{repo_id}/commit/1"

    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    address = HubClassifier(tapetum.load(finished[0])).push_to_hub("me/stripes", token="t", private=True)
    assert address == "https://hub.test/me/stripes/commit/1"
    assert (told["token"], told["repo"]) == ("t", ("me/stripes", True, True))
    assert set(told["files"]) == {"model.safetensors", "config.json", "README.md"}
    assert told["files"]["model.safetensors"] == (finished[0] / "model.safetensors").read_bytes()


def test_without_a_token_or_a_network_a_sentence_says_so(finished):
    ours = HubClassifier(tapetum.load(finished[0]))
    with pytest.raises(UserError, match=r"no token with which me/stripes could be written.*hf auth login"):
        ours.push_to_hub("me/stripes")
    with pytest.raises(UserError, match="me/stripes could not be written to the Hub: "):
        ours.push_to_hub("me/stripes", token="hf_x")
    with pytest.raises(UserError, match="no folder here, and the Hub does not give it: "):
        HubClassifier.from_pretrained("me/stripes")
    with pytest.raises(UserError, match="could not be written to the Hub"):
        ours.push_to_hub("a/b/c/d", token="hf_x")


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="holds no model.safetensors"):
        HubClassifier.from_pretrained(tmp_path)
