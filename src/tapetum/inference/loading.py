"""A classifier from whatever file holds it. What that kind of file needs is imported then, and no more: ONNX needs no torch."""

from pathlib import Path

from tapetum.inference.answers import Answering


def load(path: str | Path, on: str = "auto") -> Answering:
    """The classifier in a run folder, a model file or an ONNX file of `tapetum export`. Nothing in a file can execute.

    Args:
        path: a run folder (`runs/photos`), a model file (`model.safetensors`) or an ONNX file (`photos.onnx`).
        on: the device to compute on: auto, cpu, cuda, ...; an ONNX file is computed on the CPU.

    Raises:
        UserError: there is no such file, it is damaged, or it is not a model.
    """
    if Path(path).suffix.lower() == ".onnx":
        from tapetum.inference.onnx import load_onnx

        return load_onnx(path, on)
    from tapetum.inference import classifier

    return classifier.load(path, on)
