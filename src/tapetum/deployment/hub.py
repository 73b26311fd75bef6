"""A classifier as a repository of the Hugging Face Hub, or as a folder of the same form.

    HubClassifier(tapetum.load("runs/photos")).save_pretrained("photos-model")
    HubClassifier(tapetum.load("runs/photos")).push_to_hub("me/photos")
    HubClassifier.from_pretrained("me/photos").classifier.predict(["a.jpg"])

A repository holds model.safetensors, the run's own model file, which can execute nothing; README.md, the model card; and
config.json, by which the Hub knows the network and the classes. Only `push_to_hub`, and `from_pretrained` of what is no folder,
ask the network.
"""

import json
from pathlib import Path
from typing import Any

from tapetum.deployment.card import model_card
from tapetum.errors import UserError, reason_of
from tapetum.files import write_text
from tapetum.inference.classifier import Classifier, load
from tapetum.inference.description import MODEL_FILE

try:
    import huggingface_hub
    from huggingface_hub import ModelCard, ModelHubMixin
except ImportError:
    raise UserError(
        "repositories of models are made with huggingface_hub, which is not installed: pip install 'tapetum[hub]'."
    ) from None


class HubClassifier(ModelHubMixin, library_name="tapetum"):
    """A classifier with huggingface_hub's own words: `save_pretrained`, `push_to_hub`, `from_pretrained`."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card; where a folder has a README.md already, it stays."""
        return model_card(self.classifier)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload it as the repository `repo_id` ("me/photos"), in one commit, whose address comes back.

        Args:
            repo_id: owner and name; made if it is not there.
            options: those of `huggingface_hub.ModelHubMixin.push_to_hub`, such as `private=True` or `token`.

        Raises:
            UserError: there is no token to write with, the Hub cannot be reached, or it refuses.
        """
        if not (options.get("token") or huggingface_hub.get_token()):
            raise UserError(
                f"there is no token with which {repo_id} could be written: expected one of huggingface.co/settings/tokens. Log "
                "in with `hf auth login`, set HF_TOKEN, or give token=."
            )
        try:
            return super().push_to_hub(repo_id, **options)
        except UserError:
            raise
        except (
            Exception
        ) as error:  # the Hub's client lets out what its network library raises, which is not always the same one
            raise UserError(
                f"{repo_id} could not be written to the Hub: {reason_of(error)}. Nothing here was changed."
            ) from error

    def _save_pretrained(self, save_directory: Path) -> None:
        self.classifier.save(save_directory / MODEL_FILE)
        told = {name: self.classifier.to_json()[name] for name in ("network", "classes", "preprocessing")}
        write_text(
            save_directory / "config.json", json.dumps({"library": "tapetum", **told}, ensure_ascii=False, indent=2) + "\n"
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "HubClassifier":
        """Read a folder, or a repository of the Hub ("me/photos"); hash and content are checked as those of any model file.

        Args:
            pretrained_model_name_or_path: the folder or repository.
            options: those of `huggingface_hub.ModelHubMixin.from_pretrained`, such as `revision` or `token`.

        Raises:
            UserError: neither is there, the Hub cannot be reached, or what is there is no model.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except UserError:
            raise
        except Exception as error:  # as above
            raise UserError(
                f"{pretrained_model_name_or_path} is no folder here, and the Hub does not give it: {reason_of(error)}. "
                "Expected the folder or repository of a tapetum model."
            ) from error

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubClassifier":
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        if Path(model_id).is_dir():
            return cls(load(model_id))
        how = {name: options[name] for name in known if name in options}
        return cls(load(huggingface_hub.hf_hub_download(model_id, MODEL_FILE, **how)))
