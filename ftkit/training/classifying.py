"""Classifiers while they are trained: what they say of texts, and the diary of their training.

A classifier is looked at on fixed samples, stratified by class and the same at every look: one batch, or rows of a set
that is sorted by label, would say little (lessons 07/015 to 07/019).
"""

import logging
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
from ftkit.training.batches import ClassifiedTexts, pad_rows
from ftkit.training.engine import Engine, StepRecord
from ftkit.training.following import logged_steps
from ftkit.training.probes import Probe
from ftkit.tuning import parameter_table, schedule_warning

__all__ = ["BestStep", "Predictions", "classifier_plan", "follow_classifier", "predict_classes", "predict_outputs"]

_logger = logging.getLogger("ftkit.training")


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
    device, was_training = next(model.parameters()).device, model.training
    pad_id = model.config.get_text_config().pad_token_id
    if (pad_id is None or virtual_tokens(model)) and not reads_both_ways(model.config):
        batch_rows = 1
    pad_id = next((number for number in (pad_id, tokenizer.pad_token_id) if number is not None), 0)
    model.eval()
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    order = np.argsort([len(row) for row in ids], kind="stable")
    found = []
    for first in range(0, len(ids), batch_rows):
        batch = pad_rows([ids[number] for number in order[first : first + batch_rows]], int(pad_id))
        logits_BC = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        found.append(logits_BC.double().cpu())
    model.train(was_training)
    result = torch.empty((len(ids), found[0].shape[1]), dtype=torch.float64)
    result[torch.from_numpy(order)] = torch.cat(found)
    return result


def classifier_plan(engine: Engine, source: ClassifiedTexts) -> dict[str, Any]:
    """Derived quantities of a classifier's run, known before it starts.

    Args:
        engine: The engine that will train.
        source: Its texts.

    Returns:
        Texts for each step and in all, passes over the texts, the loss of a model that thinks all classes equally
        likely, trainable parameters by group, device, precision, processes.
    """
    settings, accelerator = engine.settings, engine.accelerator
    table = parameter_table(engine.freezing.groups, engine.freezing.trainable, engine.peak_rates())
    return {
        "parameters": table.total,
        "trainable": table.trainable,
        "groups": table.as_dict()["groups"],
        "texts": len(source.ids),
        "step_texts": engine.batch_rows,
        "steps": settings.max_steps,
        "passes": engine.batch_rows * settings.max_steps / len(source.ids),
        "baseline": engine.objective.baseline(len(source.by_class)),
        "device": str(accelerator.device),
        "precision": accelerator.mixed_precision if accelerator.mixed_precision != "no" else "float32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def _described(plan: dict[str, Any]) -> str:
    """A plan in one line."""
    share = plan["trainable"] / plan["parameters"]
    return (
        f"{plan['parameters']:,} parameters ({plan['trainable']:,} trainable, {share:.1%}), "
        f"{plan['texts']:,} texts; {plan['steps']} steps of {plan['step_texts']} texts = {plan['passes']:.1f} passes; "
        f"{plan['device']}, {plan['precision']}, {plan['processes']} process(es), {plan['threads']} threads"
    )


def follow_classifier(
    engine: Engine,
    run: RunFolder,
    name: str,
    source: ClassifiedTexts,
    samples: Mapping[str, LabelledTexts],
    tokenizer: PreTrainedTokenizerBase,
    probes: Sequence[Probe] = (),
) -> Iterator[StepRecord]:
    """Iterate over a classifier's engine and keep its diary: metrics, progress, a look every ``eval_steps``, probes.

    Args:
        engine: The engine; ``window_tokens`` of its settings cuts long texts.
        run: Where ``metrics.jsonl`` is.
        name: The model's name in the diary.
        source: The texts it learns from.
        samples: Texts that are looked at, by the ``split`` under which loss and accuracy are logged; the loss and the
            accuracy on ``test`` are shown beside the progress.
        tokenizer: The classifier's tokenizer.
        probes: What else is measured, each at its own steps; made before the engine.

    Yields:
        The engine's records.
    """
    settings = engine.settings
    plan = classifier_plan(engine, source)
    run.note(plan={**run.manifest.get("plan", {}), name: plan})
    _logger.info("%s: %s", name, _described(plan))
    if warning := schedule_warning(settings):
        _logger.warning("%s: %s", name, warning)

    def look(step: int) -> str:
        notes = {}
        for split, texts in samples.items():
            said = predict_classes(engine.model, tokenizer, texts.texts, settings.window_tokens)
            found = Predictions(said, np.array(texts.labels))
            loss, accuracy = float(found.nats.mean()), float(found.right.mean())
            run.log("metrics.jsonl", {"model": name, "step": step, "split": split, "loss": loss, "accuracy": accuracy})
            notes[split] = f"{split} loss {loss:.3f}, accuracy {accuracy:.1%}"
        return notes.get("test", "")

    yield from logged_steps(engine, run, name, probes, look)


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

    It reads the diary, so that a resumed run decides as the uninterrupted one would have.

    Args:
        run: The run, rewound to the step from which training goes on.
        name: The model's name in the diary.
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
