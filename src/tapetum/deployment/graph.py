"""A classifier as one ONNX graph: what goes in are squares, what comes out are its probabilities and how familiar each is.

Everything that `Classifier.answers` does is in the graph: the normalisation (if squares go in as they are), the views and their
mean, all networks of an ensemble, the temperature, and the familiarity. So whoever computes the graph, with whatever program,
gets the answers that were measured.

Letters in names: B pictures of a batch, K classes, V views.
"""

import hashlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import tapetum
from tapetum.data.prepare import to_input, views
from tapetum.deployment.words import steps
from tapetum.errors import UserError
from tapetum.inference.answers import NEITHER
from tapetum.inference.classifier import Classifier
from tapetum.inference.familiarity import watched
from tapetum.inference.onnx import FAMILIARITY, IMAGES, MOST_BYTES, PROBABILITIES, SQUARES, input_shape

if TYPE_CHECKING:
    from onnx import ModelProto

# The version of ONNX's operators: what torch's exporter writes, and every runtime of the last years reads.
OPSET = 18
# Beside its weights a graph takes this much of the two gigabytes that a protobuf file can hold.
_ROOM = 2**24


class Answers(nn.Module):
    """`Classifier.answers` as a network, in float32."""

    def __init__(self, classifier: Classifier, uint8: bool, familiar: bool) -> None:
        super().__init__()
        self.network, self.preprocessing = classifier.network, classifier.preprocessing
        self.temperature, self.uint8 = classifier.temperature, uint8
        self.familiar = classifier.familiar if familiar else None

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Probabilities (B, K) and perhaps familiarity (B,) of squares (B, side, side, 3) or images (B, C, side, side)."""
        images_BCHW = to_input(given, self.preprocessing) if self.uint8 else given
        cut = views(images_BCHW, self.preprocessing)
        with watched(self.network) as features:  # all views at once: the graph holds each network once
            logs_VBK = torch.log_softmax(self.network(torch.cat(cut)).float(), 1).unflatten(0, (len(cut), -1))
        # The logarithm of the mean probability, over T: in float32 powers of small probabilities would be lost.
        mean_BK = torch.logsumexp(logs_VBK, 0) - math.log(len(cut))
        probabilities_BK = torch.softmax(mean_BK / self.temperature, 1)
        if self.familiar is None:
            return (probabilities_BK,)
        pairs = zip(self.familiar.known, features, strict=True)
        strange_MB = [known.strangeness(each).unflatten(0, (len(cut), -1)).mean(0) for known, each in pairs]
        strange_B = torch.stack(strange_MB).mean(0)
        known_N = torch.from_numpy(self.familiar.seen_N).float()
        at_least_B = (known_N >= strange_B[:, None]).sum(1)
        return probabilities_BK, (1 + at_least_B).float() / (1 + known_N.shape[0])


def to_onnx(classifier: Classifier, uint8: bool = False, familiar: bool = True) -> "ModelProto":
    """The classifier, on the CPU, as an ONNX model of any batch size, with nothing of this machine in it.

    Args:
        classifier: what is to be computed.
        uint8: uint8 RGB squares go in (the input `squares`); otherwise normalised float32 images (`images`).
        familiar: familiarity comes out too, if the classifier has learnt it.

    Raises:
        UserError: it is too large for one file, or the packages that make ONNX are not installed.
    """
    if classifier.device.type != "cpu":
        raise ValueError(f"a classifier on {classifier.device}: expected one on the CPU")
    refuse_missing()
    refuse_large(classifier)
    name = SQUARES if uint8 else IMAGES
    answers = Answers(classifier, uint8, familiar and knows_strangers(classifier)).eval()
    shape = input_shape(classifier.preprocessing, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        program = torch.onnx.export(
            answers,
            (torch.zeros(2, *shape, dtype=torch.uint8 if uint8 else torch.float32),),
            input_names=[name],
            output_names=[PROBABILITIES, FAMILIARITY][: 1 if answers.familiar is None else 2],
            dynamic_shapes=[{0: torch.export.Dim("N")}],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return _cleaned(program.model_proto, classifier, uint8)


def _cleaned(model: "ModelProto", classifier: Classifier, uint8: bool) -> "ModelProto":
    """The model without the exporter's notes, which name files of this machine, and with words for its user."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.producer_name, model.producer_version = "tapetum", tapetum.__version__
    model.graph.name = classifier.network_name
    out = [f"{PROBABILITIES} (N, {len(classifier.classes_)}): a column for each class, in the order of the key `classes`."]
    if len(model.graph.output) > 1:
        told = "the share of pictures of the known kind that are at least as strange. Who answers 'neither' at 0.05 or less"
        out.append(f"{FAMILIARITY} (N): {told}, does so for 5 % of the known kind.")
    model.doc_string = "\n".join(("What goes in:", *steps(classifier.preprocessing, uint8), "What comes out:", *out))
    return model


def about(classifier: Classifier, model_file: Path, **onnx: Any) -> dict[str, Any]:
    """The JSON object of an ONNX file: all that the model file's holds, and under `onnx` what is true of this form.

    Args:
        classifier: what the graph computes.
        model_file: the file that it came from; its SHA-256 is kept.
        onnx: what else is to be said of this form.
    """
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    return {**classifier.to_json(), "onnx": {"opset": OPSET, "model_sha256": digest, **onnx}}


def knows_strangers(classifier: Classifier) -> bool:
    """Whether the graph can say how familiar a picture is."""
    return classifier.familiar is not None and NEITHER not in classifier.classes_


def refuse_large(classifier: Classifier) -> None:
    """Raise a UserError if the classifier's weights do not fit one ONNX file."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in classifier.network.state_dict().values())
    if size > MOST_BYTES - _ROOM:
        raise UserError(
            f"{classifier.network_name} has {size / 1e9:.1f} GB of weights: expected at most "
            f"{(MOST_BYTES - _ROOM) / 1e9:.1f} GB, all that one file holds. Use the model file, or train a smaller network."
        )


def refuse_missing() -> None:
    """Raise a UserError if a package that makes or computes ONNX is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX is made with onnx, onnxscript and onnxruntime; {error.name} is not installed: pip install 'tapetum[onnx]'."
        ) from None
