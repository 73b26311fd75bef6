"""Pictures without labels, as further training pictures: a first network guesses their labels for a second.

The guesses are probabilities, not classes, so that what the first network doubted stays in doubt (self-training; Xie et al.
2020, Noisy Student, without their larger network).
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from tapetum.data.cache import Pictures
from tapetum.data.loader import ValidationLoader
from tapetum.inference.answers import BATCH
from tapetum.inference.classifier import probabilities_of_all
from tapetum.training.loop import Task


@dataclass(frozen=True)
class Together:
    """Two collections of pictures as one: those of the second come after those of the first."""

    first: Pictures
    second: Pictures

    def __getitem__(self, i: int) -> np.ndarray:
        return self.first[i] if i < len(self.first) else self.second[i - len(self.first)]

    def name(self, i: int) -> str:
        """The name of file `i`."""
        return self.first.name(i) if i < len(self.first) else self.second.name(i - len(self.first))


def work(labelled: int, unlabelled: int) -> float:
    """What both trainings take, in trainings of the labelled pictures alone."""
    return 1 + ((labelled + unlabelled) / labelled) ** 0.6


def with_guesses(task: Task, teacher: torch.nn.Module, unlabelled: Pictures, rows: np.ndarray) -> Task:
    """The task with `rows` of the unlabelled pictures beside its own, their targets being the teacher's probabilities.

    Epochs become fewer as they grow longer: with r times as many pictures the work grows as r^0.6, as the recipes' does.
    """
    loader, recipe = task.training, task.recipe
    squares = ValidationLoader(unlabelled, rows, loader.preprocessing, BATCH, once=True)
    guesses_NK = probabilities_of_all(teacher, squares, loader.preprocessing, task.device)
    known_NK = np.eye(loader.num_classes)[loader.labels]
    more = (len(loader.rows) + len(rows)) / len(loader.rows)
    recipe = dataclasses.replace(recipe, epochs=max(1, round(recipe.epochs * more**-0.4)))
    training = dataclasses.replace(
        loader,
        pictures=Together(loader.pictures, unlabelled),  # type: ignore[arg-type]
        rows=np.concatenate([loader.rows, len(loader.pictures) + rows]),
        labels=np.concatenate([loader.labels, guesses_NK.argmax(1)]),
        guesses_NK=np.concatenate([known_NK, guesses_NK]),
        recipe=recipe,
    )
    return dataclasses.replace(task, training=training, recipe=recipe)
