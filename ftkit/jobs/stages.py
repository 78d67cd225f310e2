"""The stages that recipes share: what may be trained, the training of one model, and the end of a run."""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from ftkit.config import AdapterSettings, EpochSettings, FrequentTokenSettings, TrainingSettings
from ftkit.evidence import Evidence, Usage, Written, as_evidence, decide, frequent_tokens, token_usage
from ftkit.jobs.bases import base_of_adapters, load_saved
from ftkit.jobs.targets import BaseContext, TargetText, TrainingText
from ftkit.models import reload_difference, save_model
from ftkit.report import announce, arm_row, write_report, write_verdicts
from ftkit.report.sections import Section
from ftkit.runs import RunFolder, write_evidence
from ftkit.training import (
    NEXT_TOKEN,
    CallbackProbe,
    CheckpointFolder,
    Dataset,
    Engine,
    Objective,
    WeightedSum,
    build_probes,
    lockstep,
    read_objective,
    train_and_log,
    with_output_of,
    with_steps_of_epochs,
)
from ftkit.tuning import Selection, attach_adapter, check_adapter, check_tuning
from ftkit.tuning import Watch as ChangeWatch

__all__ = [
    "MeasuredModels",
    "check_objective",
    "finish",
    "measure_models",
    "prepare_tuning",
    "save_trained",
    "train_in_lockstep",
    "train_model",
]

_logger = logging.getLogger("ftkit.jobs")

_SHOWN_TOKENS = 12
"""Frequent tokens that the report names: a line of them."""

Watch = tuple[int, Callable[[PreTrainedModel, int], None]]
"""Every so many steps, a function of the model and the updates done; on process 0, where the model is whole."""


def check_objective(text: str | None) -> None:
    """Refuse a wrong ``objective`` before anything is loaded; ``None`` is the default one."""
    if text:
        read_objective(text)


def prepare_tuning(
    start: BaseContext[Any], run: RunFolder, settings: TrainingSettings
) -> tuple[Selection, Callable[[], Any]]:
    """Check what may be trained, before anything is.

    Args:
        start: The base.
        run: The run; a base that is in no folder is saved there for the adapter.
        settings: Those of one training: what is frozen, and whether an adapter is trained.

    Returns:
        What may change, and a function that makes a model to train: a copy of the base, with an adapter where one is
        asked for.
    """
    trainable = check_tuning(start.base, settings)
    if not isinstance(settings, AdapterSettings) or settings.peft == "none":
        return trainable, start.new_model
    check_adapter(start.base, settings)
    place = base_of_adapters(start.base, start.tokenizer, start.origin.model, settings, run)
    return trainable, lambda: attach_adapter(start.new_model(), settings, base=place)


def train_model(
    run: RunFolder,
    name: str,
    new_model: Callable[[], PreTrainedModel],
    text: TrainingText,
    settings: TrainingSettings,
    objective: Objective | WeightedSum = NEXT_TOKEN,
    watch: Watch | None = None,
    measure_memory: bool = False,
) -> None:
    """Train a model, log it, probe it and save it; a model that the run has saved already is left as it is.

    Args:
        run: The run.
        name: The model's name: in the logs, and of its folder.
        new_model: Makes the model as it starts.
        text: The rows that it learns from, and those on which it is evaluated meanwhile.
        settings: The training's.
        objective: What is minimized.
        watch: What is called every so many steps, before the first one too, such as a function that logs samples.
        measure_memory: Whether ``memory_bytes`` of the phase tells what a step needs; it takes one more step.
    """
    if run.done_results(name):
        return
    source, heldout = text.source, text.heldout
    if isinstance(settings, EpochSettings):
        settings = with_steps_of_epochs(settings, source)
    model = new_model()
    probes = build_probes(settings, model, source.text_ids, heldout)
    if watch:
        every, function = watch
        probes.insert(0, CallbackProbe("watch", every, partial(function, model)))
    checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
    with Engine(with_output_of(model, objective), objective, source, settings, checkpoints) as engine:
        run.truncate_logs(name, engine.step or -1)  # what a killed run logged after its checkpoint is measured again
        for _ in train_and_log(engine, run, name, source, heldout, probes):
            pass
        results = {"memory_bytes": engine.peak_bytes()} if measure_memory else {}
    save_trained(run, name, model, source.tokenizer, source, **results)


def train_in_lockstep(
    run: RunFolder, target: TargetText[Any], arms: Mapping[str, TrainingSettings], watched: Selection
) -> None:
    """Train copies of one base on the same batches, one step of each in turn, and save them.

    Args:
        run: The run; ``metrics.jsonl`` gets the change of the watched tensors under the split ``watch``.
        target: The text to learn, and the base.
        arms: The settings of each copy by name.
        watched: The tensors whose change is measured at every step.
    """
    if all(run.done_results(name) is not None for name in arms):
        return
    source, heldout = target.training_text.source, target.training_text.heldout
    models = {name: target.new_model() for name in arms}
    probes = {name: build_probes(arm, models[name], source.text_ids, heldout) for name, arm in arms.items()}
    with ExitStack() as stack:
        engines = {}
        for name, arm in arms.items():
            checkpoints = CheckpointFolder(run.checkpoints(name), arm.save_total_limit)
            engines[name] = stack.enter_context(Engine(models[name], NEXT_TOKEN, source, arm, checkpoints))
            run.truncate_logs(name, engines[name].step or -1)  # what a killed run logged after its checkpoint
        steps = {
            name: train_and_log(engine, run, name, source, heldout, probes[name]) for name, engine in engines.items()
        }
        turns = lockstep(engines, steps)
        watches = {name: ChangeWatch(model, watched) for name, model in models.items()}
        for name, record in turns:
            change = {"model": name, "step": record.step, "split": "watch", "change": watches[name].change()}
            run.log("metrics.jsonl", change)
    for name, model in models.items():
        save_trained(run, name, model, target.tokenizer, source)


def save_trained(
    run: RunFolder, name: str, model: PreTrainedModel, tokenizer: Any, source: Dataset, **results: Any
) -> None:
    """Save a trained model, read it again, and note the largest difference of logits; on process 0 only.

    Args:
        run: The run.
        name: The model's name: of its folder in the run, and of its phase.
        model: The model as the training left it.
        tokenizer: Its tokenizer.
        source: What it was trained on; both are compared on two of its rows.
        results: What else is kept in the manifest for this phase.

    Raises:
        ModelError: A folder that does not hold this model.
        CheckpointError: The disk refuses.
    """
    if not run.is_main:
        return
    save_model(model, tokenizer, run.model(name))
    difference = reload_difference(model, run.model(name), source.rows(range(2))["input_ids"])
    run.mark_done(name, reload_difference=difference, **results)


@dataclass(frozen=True)
class MeasuredModels:
    """Measurements of the saved models that learned one text, each compared with the base."""

    target: TargetText[Any]
    evidence: dict[str, Evidence]
    passages: dict[str, Written]
    """What each wrote, and under ``base model`` what the base wrote after the same prompts."""

    @property
    def verdicts(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        return {name: decide(evidence).as_dict() for name, evidence in self.evidence.items()}

    def token_usage(self, settings: FrequentTokenSettings) -> tuple[dict[str, Usage], dict[str, Any]]:
        """Count the text's most frequent tokens in what each model wrote; also as ``evidence.json`` has them."""
        target = self.target
        frequent = frequent_tokens(target.train, target.tokenizer, settings.top_tokens, settings.min_token_chars)
        usage = {
            name: token_usage(
                self.passages["base model"].heldout[: len(self.passages[name].heldout)],
                self.passages[name].heldout,
                target.real,
                target.tokenizer,
                frequent,
            )
            for name in self.evidence
        }
        counted = {
            "top": len(frequent), "real": next(iter(usage.values())).real.as_dict(),
            "models": {name: used.as_dict() for name, used in usage.items()},
            "tokens": [target.tokenizer.decode([token]) for token in frequent[:_SHOWN_TOKENS]],
        }  # fmt: skip
        return usage, counted

    def arm_rows(self, run: RunFolder, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Rows of the table that compares arms, by model.

        Args:
            run: The run.
            columns: What the table shows beside the columns of every comparison, by model.
        """
        return {name: arm_row(run, name, evidence, columns[name]) for name, evidence in self.evidence.items()}

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``: what the evidence of every text has."""
        return {
            "models": {name: evidence.as_dict() for name, evidence in self.evidence.items()},
            "judges": self.target.panel.as_dict(),
            **as_evidence(self.passages),
            "real": dict.fromkeys(self.evidence, self.target.real),
        }


def measure_models(
    target: TargetText[Any], run: RunFolder, trainable: Mapping[str, Selection | None]
) -> MeasuredModels:
    """Take all measurements of the models that a run has saved.

    Args:
        target: The text that they learned, and their base.
        run: The run.
        trainable: What was allowed to change, by model; ``None`` means everything.
    """
    evidence, passages = {}, dict[str, Written]()
    for name, selection in trainable.items():
        tuned = load_saved(target.settings, run.model(name))
        evidence[name], passages[name] = target.measure(run, name, tuned, selection, target.panel)
    passages["base model"] = target.floor(max(found.passages for found in evidence.values()))
    return MeasuredModels(target, evidence, passages)


def finish(
    run: RunFolder, evidence: Mapping[str, Any], verdicts: Mapping[str, Any] | None = None, *sections: Section
) -> None:
    """Write evidence, verdicts and report, and print how the run ended.

    Args:
        run: The run.
        evidence: For ``evidence.json``.
        verdicts: For ``verdict.json``, by model; ``None`` for a run that judges none.
        sections: What the recipe adds to the report.
    """
    write_evidence(run, evidence)
    if verdicts is not None:
        write_verdicts(run, verdicts, *sections)
    write_report(run, *sections)
    announce(run, *sections)
