"""The stages that recipes share: what may be trained, the training of one model, and the end of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from ftkit.config import AdapterSettings, TrainingSettings
from ftkit.data import TokenStore
from ftkit.evidence import Evidence, decide
from ftkit.models import reload_difference, save_model
from ftkit.report import announce, write_report
from ftkit.report.sections import Section
from ftkit.runs import RunFolder, write_evidence
from ftkit.studies.bases import base_of_adapters
from ftkit.studies.loading import load_saved
from ftkit.studies.subjects import Start, Subject
from ftkit.training import (
    NEXT_TOKEN,
    BatchSource,
    Called,
    CheckpointFolder,
    Engine,
    TokenWindows,
    build_probes,
    follow,
    with_output_of,
    with_steps_of_passes,
)
from ftkit.tuning import Selection, attach_adapter, check_adapter, check_tuning

__all__ = ["MeasuredModels", "finish", "measure_models", "prepare_tuning", "save_trained", "train_model"]

Watch = tuple[int, Callable[[PreTrainedModel, int], None]]
"""Every so many steps, a function of the model and the updates done; on process 0, where the model is whole."""


def prepare_tuning(start: Start, run: RunFolder) -> tuple[Selection, Callable[[], Any]]:
    """Check what may be trained, before anything is.

    Args:
        start: The base, whose settings say what is frozen and whether an adapter is trained.
        run: The run; a base that is in no folder is saved there for the adapter.

    Returns:
        What may change, and what makes a model to train: a copy of the base, with an adapter where one is asked for.
    """
    settings = start.settings
    trainable = check_tuning(start.base, settings)
    if settings.peft == "none":
        return trainable, start.new_model
    check_adapter(start.base, settings)
    place = base_of_adapters(start.base, start.tokenizer, start.origin.model, settings, run)
    return trainable, lambda: attach_adapter(start.new_model(), settings, base=place)


def train_model(
    run: RunFolder,
    name: str,
    new_model: Callable[[], PreTrainedModel],
    source: TokenWindows,
    heldout: TokenStore,
    settings: TrainingSettings,
    objective: Any = NEXT_TOKEN,
    watch: Watch | None = None,
) -> None:
    """Train a model, log it, probe it and save it; a model that the run has saved already is left as it is.

    Args:
        run: The run.
        name: The model's name: in the logs, and of its folder.
        new_model: Makes the model as it starts.
        source: The rows that it learns from.
        heldout: Tokens on which it is evaluated while it learns.
        settings: The training's.
        objective: What is minimized.
        watch: What is called every so many steps, before the first one too, such as a function that logs samples.
    """
    if run.sealed(name):
        return
    if isinstance(settings, AdapterSettings):
        settings = with_steps_of_passes(settings, source)
    model = new_model()
    probes = build_probes(settings, model, source.store, heldout, source.masking)
    if watch:
        every, function = watch
        probes.insert(0, Called("watch", every, partial(function, model)))
    checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
    with Engine(with_output_of(model, objective), objective, source, settings, checkpoints) as engine:
        run.rewind(name, engine.step or -1)  # what a killed run logged after its checkpoint is measured again
        for _ in follow(engine, run, name, source, heldout, probes):
            pass
    save_trained(run, name, model, source.store.tokenizer, source)


def save_trained(
    run: RunFolder, name: str, model: PreTrainedModel, tokenizer: Any, source: BatchSource, **results: Any
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
    run.seal(name, reload_difference=difference, **results)


@dataclass(frozen=True)
class MeasuredModels:
    """Models of one text as they were saved, measured against their base."""

    subject: Subject
    evidence: dict[str, Evidence]
    passages: dict[str, list[str]]
    """What each wrote, and under ``base model`` what the base wrote from the same beginnings."""

    @property
    def verdicts(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        return {name: decide(evidence).as_dict() for name, evidence in self.evidence.items()}

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``: what the evidence of every text has."""
        return {
            "models": {name: evidence.as_dict() for name, evidence in self.evidence.items()},
            "judges": self.subject.panel.as_dict(),
            "passages": self.passages,
            "real": dict.fromkeys(self.evidence, self.subject.real),
        }


def measure_models(subject: Subject, run: RunFolder, trainable: Mapping[str, Selection | None]) -> MeasuredModels:
    """Take all measurements of the models that a run has saved.

    Args:
        subject: The text that they learned, and their base.
        run: The run.
        trainable: What was allowed to change, by model; ``None`` means everything.
    """
    evidence, passages = {}, {"base model": subject.floor}
    for name, selection in trainable.items():
        tuned = load_saved(subject.settings, run.model(name))
        passages[name] = subject.write(tuned)
        styles = subject.styles(passages[name])
        evidence[name] = subject.measure(run, name, tuned, passages[name], selection, styles)
    return MeasuredModels(subject, evidence, passages)


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
        run.write_json("verdict.json", verdicts)
    write_report(run, *sections)
    announce(run, *sections)
