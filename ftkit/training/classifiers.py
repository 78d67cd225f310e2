"""Classifiers while they are trained: their predictions, their scores on fixed samples, and the best step.

A classifier is looked at on fixed samples, stratified by class and the same at every look: one batch, or rows of a set
that is sorted by label, would say little (lessons 07/015 to 07/019).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import LabelledTexts
from ftkit.errors import ModelError
from ftkit.memory import memory_phase
from ftkit.models import class_names, problem_type, reads_both_ways, virtual_tokens
from ftkit.runs import RunFolder
from ftkit.training.datasets import pad_rows
from ftkit.training.logs import Scores
from ftkit.training.objectives import Batch

__all__ = ["BestStep", "ClassSamples", "Predictions", "predict_classes", "predict_outputs", "text_batches"]


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of texts whose class is known."""

    log_probabilities: np.ndarray
    """Natural logarithms, float64 [texts, classes]."""
    labels: np.ndarray
    """The true classes, int64 [texts]."""

    @property
    def nats(self) -> np.ndarray:
        """Loss of each text: minus the logarithm of what its true class was given."""
        given: np.ndarray = self.log_probabilities[np.arange(len(self.labels)), self.labels]
        return -given

    @property
    def right(self) -> np.ndarray:
        """Whether the likeliest class is the true one, for each text."""
        found: np.ndarray = self.log_probabilities.argmax(1) == self.labels
        return found


def predict_classes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    batch_rows: int = 64,
) -> np.ndarray:
    """Return how likely a classifier thinks each class, where every text has one class.

    Args:
        model: A sequence classifier; it is left in the mode it was in.
        tokenizer: Its tokenizer.
        texts: The texts.
        max_tokens: Longer texts are cut here.
        batch_rows: Texts in a forward pass.

    Returns:
        Logarithms of probabilities, float64 [texts, classes].
    """
    logits = _class_logits(model, tokenizer, texts, max_tokens, batch_rows)
    return logits.log_softmax(-1).numpy()


def predict_outputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    batch_rows: int = 64,
) -> np.ndarray:
    """Return what a classifier's outputs mean, by its ``problem_type``.

    Args:
        model: A sequence classifier of any kind; it is left in the mode it was in.
        tokenizer: Its tokenizer.
        texts: The texts.
        max_tokens: Longer texts are cut here.
        batch_rows: Texts in a forward pass.

    Returns:
        float64 [texts, outputs]: probabilities that add up to 1 where a text has one class, one probability for each
        label where it may have several (sigmoid), and the values themselves for a regression.

    Raises:
        ModelError: The head has another number of outputs than its configuration names.
    """
    logits, names = _class_logits(model, tokenizer, texts, max_tokens, batch_rows), class_names(model.config)
    if logits.shape[1] != len(names):
        raise ModelError(f"the head has {logits.shape[1]} outputs, but config.json names {len(names)} classes: {names}")
    kind = problem_type(model.config)
    if kind == "regression":
        return logits.numpy()
    return (logits.sigmoid() if kind == "multi_label_classification" else logits.softmax(-1)).numpy()


@memory_phase("evaluate")
@torch.inference_mode()
def _class_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    batch_rows: int,
) -> torch.Tensor:
    """Return logits in the order of the texts; texts of similar length share a forward pass.

    Rows are padded with the id that the model's head looks for, which may differ from the tokenizer's. A decoder
    without one, or behind virtual tokens, would read the padding as the end of a text, so its texts go alone.
    """
    pad_id = model.config.get_text_config().pad_token_id
    if (pad_id is None or virtual_tokens(model)) and not reads_both_ways(model.config):
        batch_rows = 1
    pad_id = next((number for number in (pad_id, tokenizer.pad_token_id) if number is not None), 0)
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    found: torch.Tensor | None = None
    for places, batch in text_batches(model, ids, int(pad_id), batch_rows):
        logits_BC = model(**batch).logits.double().cpu()
        found = torch.empty((len(ids), logits_BC.shape[1]), dtype=torch.float64) if found is None else found
        found[torch.from_numpy(places)] = logits_BC
    assert found is not None  # there is a text
    return found


def text_batches(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], pad_id: int, batch_rows: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Go through texts of similar length together, while the model is in evaluation mode.

    Args:
        model: It gets its mode back at the end.
        ids: Token ids of each text.
        pad_id: Fills shorter rows on the right.
        batch_rows: Texts in a batch.

    Yields:
        Numbers of the texts, and the batch on the model's device.
    """
    device, was_training = next(model.parameters()).device, model.training
    order = np.argsort([len(row) for row in ids], kind="stable")
    model.eval()
    try:
        for first in range(0, len(ids), batch_rows):
            places = order[first : first + batch_rows]
            batch = pad_rows([ids[number] for number in places], pad_id)
            yield places, {name: tensor.to(device) for name, tensor in batch.items()}
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class ClassSamples:
    """Texts with classes on which a classifier is evaluated while it is trained.

    Args:
        samples: The texts, by the ``split`` under which loss and accuracy are logged; those of ``test`` are shown
            beside the progress.
        tokenizer: The classifier's tokenizer.
        max_tokens: Longer texts are cut here.
    """

    samples: Mapping[str, LabelledTexts]
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int

    def scores(self, model: PreTrainedModel, most: int) -> Scores:
        """Loss and accuracy on each sample; samples are small, so all of their texts are used."""
        records, notes = [], {}
        for split, texts in self.samples.items():
            predicted = predict_classes(model, self.tokenizer, texts.texts, self.max_tokens)
            found = Predictions(predicted, np.array(texts.labels))
            loss, accuracy = float(found.nats.mean()), float(found.right.mean())
            records.append({"split": split, "loss": loss, "accuracy": accuracy})
            notes[split] = f"{split} loss {loss:.3f}, accuracy {accuracy:.1%}"
        return Scores(records, notes.get("test", ""))


class StopSettings(Protocol):
    """The settings by which a training is evaluated and stopped."""

    @property
    def eval_steps(self) -> int:
        """Steps between evaluations."""

    @property
    def max_steps(self) -> int:
        """Steps of the training."""

    @property
    def patience(self) -> int:
        """Evaluations without a lower loss before the training stops; 0 never stops it."""


class BestStep:
    """Which look was the best so far, and whether to stop: by the loss on the split ``validation``.

    It reads the log, so that a resumed run decides as the uninterrupted one would have.

    Args:
        run: The run, rewound to the step from which training goes on.
        name: The model's name in the log.
        settings: ``eval_steps``, ``max_steps`` and ``patience`` are read.
    """

    def __init__(self, run: RunFolder, name: str, settings: StopSettings) -> None:
        self.run, self.name, self.settings = run, name, settings
        self.step, self.loss, self.worse = 0, math.inf, 0
        for look in self._looks():
            self._see(look)

    @property
    def stop(self) -> bool:
        """Whether ``patience`` looks in a row were no better than the best before them."""
        return bool(0 < self.settings.patience <= self.worse)

    def improved(self, step: int) -> bool:
        """Whether there was a look after this step and its loss is the lowest; all processes get one answer.

        Args:
            step: The step that was just done.
        """
        if step % self.settings.eval_steps and step != self.settings.max_steps:
            return False
        looks = [self._looks()[-1] if self.run.is_main else {}]
        if PartialState().num_processes > 1:
            broadcast_object_list(looks)
        return self._see(looks[0])

    def _looks(self) -> list[dict[str, Any]]:
        """Looks after the first step; the untrained model is no candidate."""
        records = self.run.records("metrics.jsonl")
        return [r for r in records if r["step"] and (r.get("model"), r.get("split")) == (self.name, "validation")]

    def _see(self, look: Mapping[str, Any]) -> bool:
        better = bool(look["loss"] < self.loss)
        if better:
            self.step, self.loss = look["step"], look["loss"]
        self.worse = 0 if better else self.worse + 1
        return better
