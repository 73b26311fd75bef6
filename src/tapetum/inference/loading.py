"""A classifier from whatever file holds it. What that kind of file needs is imported then, and no more: ONNX needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from tapetum.data.decode import is_picture
from tapetum.errors import UserError
from tapetum.inference.answers import Answering
from tapetum.inference.description import MODEL_FILE, model_file


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


def refuse_what_is_no_run(path: Path, after: Sequence[Path] = (), onnx: bool = True) -> None:
    """Raise a UserError that says what stands where a run is expected, or that nothing does.

    Args:
        path: what was named as the run.
        after: what was named after it, where pictures are expected: a run among them tells that the order is wrong.
        onnx: whether an ONNX file will do.
    """
    if path.suffix.lower() == ".onnx" and path.is_file() and not onnx:
        raise UserError(f"{path} is an ONNX file, which only answers: expected the run folder that it was exported from.")
    run = next((other for other in after if is_run(other)), None)
    if is_run(path) or (path.is_dir() and run is None):  # a folder may be a run that is not finished
        return
    if run is not None and path.exists():
        raise UserError(f"{path} is no run, but {run} is: expected the run first, and then the pictures.")
    with model_file(path).open("rb") as file:
        if is_picture(file.read(64)):
            raise UserError(f"{path} is a picture, not a run: expected the folder that `tapetum train` wrote.")


def refuse_runs(places: Sequence[Path]) -> None:
    """Raise a UserError where a run stands among pictures."""
    for place in places:
        if is_run(place):
            raise UserError(f"{place} is a run, not pictures: expected files, folders or archives of pictures.")


def is_run(path: Path) -> bool:
    """Whether a run folder, a model file or an ONNX file is there, by its name alone."""
    return (path / MODEL_FILE).is_file() or (path.suffix.lower() in (".onnx", Path(MODEL_FILE).suffix) and path.is_file())
