"""The log of a training: derived numbers before it, progress, evaluations, and metrics on disk."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from transformers import PreTrainedModel

from ftkit.config import EpochSettings, TrainingSettings
from ftkit.errors import ConfigError
from ftkit.runs import RunFolder, progress
from ftkit.runs.planner import planner
from ftkit.runs.processes import broadcast_from_main, num_processes
from ftkit.training.best_model import BestModel, chooses_step
from ftkit.training.datasets import Dataset, HeldOutDataset
from ftkit.training.doubts import token_cost, training_doubts
from ftkit.training.engine import Engine, StepRecord
from ftkit.training.evaluation import held_out_loss
from ftkit.training.probes import Probe, Probing
from ftkit.tuning import parameter_table

__all__ = [
    "HeldOutScores",
    "Scores",
    "described_groups",
    "described_plan",
    "doubt_of_first_loss",
    "train_and_log",
    "training_plan",
    "with_steps_of_epochs",
]

_logger = logging.getLogger("ftkit.training")
S = TypeVar("S", bound=EpochSettings)
_SLACK = 0.1
"""Share of the baseline, and nats where it is below 1, by which random weights may miss it: initial logits and a batch
have their own spread."""


def with_steps_of_epochs(settings: S, dataset: Dataset) -> S:
    """The settings with ``max_steps`` instead of ``num_train_epochs``.

    The same number of steps reads a short text often and a long one hardly ever: 476 steps are 39
    epochs of *Alice* and 10 of Poe.

    Args:
        settings: As they were asked for; without ``num_train_epochs`` they come back as they are.
        dataset: The rows that are trained on.

    Returns:
        Settings whose steps read the text as often as asked, rounded to whole steps, one at least.

    Raises:
        ConfigError: Other settings do not fit this number of steps, such as a longer warm-up.
    """
    if not (epochs := settings.num_train_epochs):
        return settings
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * num_processes()
    steps = max(round(epochs * dataset.epoch_size / (rows * dataset.row_size)), 1)
    changed = settings.model_copy(update={"max_steps": steps, "num_train_epochs": 0.0})
    if problems := changed.problems():
        problem_list = "; ".join(f"{name} {text}" for name, text in problems)
        raise ConfigError(f"num_train_epochs: {epochs:g} epochs of this text are {steps:,} steps, and {problem_list}")
    _logger.info("%g epochs of %s tokens: %s steps", epochs, f"{dataset.epoch_size:,}", f"{steps:,}")
    return changed


class Scores(NamedTuple):
    """What an evaluation found."""

    records: list[dict[str, Any]]
    """For ``metrics.jsonl``: ``split``, ``loss`` and further numbers."""
    note: str
    """Shown beside the progress."""

    @property
    def heldout_loss(self) -> float:
        """The loss of the split ``heldout``; NaN where there is none."""
        found = (record["loss"] for record in self.records if record["split"] == "heldout")
        return float(next(found, math.nan))


class Evaluation(Protocol):
    """What a model is evaluated on while it is trained."""

    def scores(self, model: PreTrainedModel, most: int) -> Scores:
        """Evaluate the model on at most so many rows."""


class HeldOutScores(NamedTuple):
    """Evaluates a language model on held-out rows."""

    dataset: HeldOutDataset

    def scores(self, model: PreTrainedModel, most: int) -> Scores:
        """Loss and bits per byte of the split ``heldout``."""
        loss = held_out_loss(model, self.dataset, most)
        record = {"split": "heldout", "loss": loss.nats_per_target, "bits_per_byte": loss.bits_per_byte}
        return Scores([record], f"held-out {loss}")


def training_plan(engine: Engine, dataset: Dataset) -> dict[str, Any]:
    """Derived quantities of a training, known before it starts.

    Args:
        engine: The engine that will train.
        dataset: Its rows.

    Returns:
        What the dataset says of a training of this length (tokens or texts, epochs), trainable parameters, objective
        and its baseline, device, precision, processes.
    """
    settings, accelerator = engine.settings, engine.accelerator
    table = parameter_table(engine.freezing.groups, engine.freezing.trainable, engine.peak_rates())
    num_choices = dataset.num_classes or engine.model.config.get_text_config().vocab_size
    parts = engine.objective.parts
    return {
        "parameters": table.total,
        "trainable": table.trainable,
        "groups": table.as_dict()["groups"],
        "objective": engine.objective.name,
        "baseline": engine.objective.baseline(num_choices),
        "baselines": {part.name: part.baseline(num_choices) for _, part in parts} if len(parts) > 1 else {},
        **dataset.amounts(engine.batch_rows, settings.max_steps),
        "device": str(accelerator.device),
        "precision": accelerator.mixed_precision if accelerator.mixed_precision != "no" else "float32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def described_plan(plan: dict[str, Any]) -> str:
    """A plan in one line."""
    if "texts" in plan:
        steps = f"{plan['steps']} steps of {plan['step_texts']} texts"
        text = f"{plan['texts']:,} texts; {steps} = {plan['passes']:.1f} epochs"
    elif "examples" in plan:
        steps = f"{plan['steps']} steps of {plan['step_examples']} examples"
        text = f"{plan['examples']:,} examples; {steps} = {plan['passes']:.1f} epochs, "
        text += f"{plan['filled_positions']:.0%} of the positions hold a token"
    elif plan["text_tokens"]:
        steps = f"{plan['steps']} steps of {plan['step_tokens']:,} tokens"
        text = f"{plan['text_tokens']:,} tokens of text; {steps} = {plan['passes']:.1f} epochs, "
        text += f"{plan['coverage']:.1%} of the text seen"
    else:
        text = f"no text; {plan['steps']} steps of {plan['step_tokens']:,} tokens drawn at random"
    return (
        f"{plan['parameters']:,} parameters ({plan['trainable']:,} trainable), {text}; {plan['device']}, "
        f"{plan['precision']}, {plan['processes']} process(es), {plan['threads']} threads"
    )


def described_groups(plan: dict[str, Any]) -> Iterator[str]:
    """What may change, a line for each group, and the total."""
    for group, row in plan["groups"].items():
        rates = row["learning_rates"]
        rate = f"{rates[0]:g}" + (f" to {rates[-1]:g}" if len(rates) > 1 else "") if rates else "0"
        state = f"{row['trainable']:,} of {row['parameters']:,} train, rate {rate}" if row["trainable"] else "frozen"
        yield f"{group:<14} {row['share']:6.1%}  {state}  ({', '.join(row['shapes'])})"
    yield f"{'total':<14} {1:6.1%}  {plan['trainable']:,} of {plan['parameters']:,} train"


def _compare_with_baseline(name: str, first: StepRecord, plan: dict[str, Any], engine: Engine, readable: bool) -> None:
    """Say what the first loss, which is measured before any update, tells of a run that may have gone wrong already.

    Args:
        name: The model's name in the log.
        first: The first step.
        plan: Its baselines.
        engine: The training.
        readable: Whether the model knows the tokens of a text that it predicts badly.
    """
    losses = first.losses or {plan["objective"]: first.loss}
    baselines = plan["baselines"] or {plan["objective"]: plan["baseline"]}
    for (_, part), (term, loss) in zip(engine.objective.parts, losses.items(), strict=True):
        baseline = baselines[term]
        _logger.info("%s: %s starts at %.3f nats; %.3f if all were equally likely", name, term, loss, baseline)
        untrained = engine.settings.untrained
        if untrained is None:  # partly random, partly copied: neither expectation holds
            continue
        if not (trouble := doubt_of_first_loss(loss, baseline, untrained, part.of_text)):
            continue
        if readable and not untrained:
            _logger.info(
                "%s: the model knows the tokens of this text, but expects others; a small base starts so on a text of "
                "another kind",
                name,
            )
        else:
            _logger.warning("%s: %s starts at %.3f nats, %s", name, term, loss, trouble)


def doubt_of_first_loss(loss: float, baseline: float, untrained: bool, of_text: bool) -> str:
    """Why the loss of a model before its first update is not to be believed; empty where it is.

    Args:
        loss: Mean over the targets, in nats.
        baseline: That of a model to which everything is equally likely, or which equals its base.
        untrained: Whether the weights are random, so that the loss must be about the baseline.
        of_text: Whether a trained model predicts these targets well, so that its loss must be below the baseline.
    """
    slack = _SLACK * max(baseline, 1.0)
    if untrained and loss > baseline + slack:
        return (
            f"and random weights should start near {baseline:.3f}: the initial weights are too large, or the loss is "
            "divided by too few targets"
        )
    if untrained and loss < baseline - slack:
        return (
            f"and random weights should start near {baseline:.3f}: the model sees what it is asked for (labels that "
            "are not shifted), or the loss is divided by too many targets"
        )
    if not untrained and of_text and loss > baseline:
        return (
            f"worse than {baseline:.3f}, the loss of a uniform prediction: the text differs from all that this model "
            "has learned, the tokenizer is not this model's, or labels are shifted twice"
        )
    return ""


def train_and_log(
    engine: Engine,
    run: RunFolder,
    name: str,
    dataset: Dataset,
    evaluation: HeldOutDataset | Evaluation,
    probes: Sequence[Probe] = (),
) -> Iterator[StepRecord]:
    """Run a training: log each step, show progress, evaluate every ``eval_steps``, and take the measurements of probes.

    Args:
        engine: The training loop, which makes one step for each record that is asked for.
        run: The run whose ``metrics.jsonl`` is written.
        name: The model's name in the logs.
        dataset: The rows that the engine trains on.
        evaluation: The held-out rows of a language model, or ``ClassSamples`` of a classifier.
        probes: Further measurements, each with its own schedule; create them before the engine.

    Yields:
        The engine's records.
    """
    settings, is_main = engine.settings, engine.accelerator.is_main_process
    plan = training_plan(engine, dataset)
    heldout = evaluation if isinstance(evaluation, HeldOutDataset) else None
    evaluated: Evaluation = HeldOutScores(evaluation) if isinstance(evaluation, HeldOutDataset) else evaluation
    if planned := planner():
        planned.followed(engine, name, plan, heldout)
        return
    run.update_manifest(plan={**run.manifest.get("plan", {}), name: plan})
    _logger.info("%s: %s", name, described_plan(plan))
    if plan["trainable"] < plan["parameters"] or settings.learning_rates or settings.layer_lr_decay < 1:
        for line in described_groups(plan):
            _logger.info("%s: %s", name, line)
    for doubt in training_doubts(engine) if is_main and engine.step == 0 else ():
        _logger.warning("%s: %s", name, doubt)

    best = BestModel(engine, run.checkpoints(name)) if chooses_step(settings) else None
    readable: dict[str, bool] = {}

    def evaluate(step: int) -> Scores:
        """Log an evaluation, on process 0 while the model is whole there."""
        with engine.whole_model():
            if not is_main:
                return Scores([], "")
            scores = evaluated.scores(engine.model, settings.eval_windows)
            if step == 0 and heldout and scores.heldout_loss > plan["baseline"]:
                cost = token_cost(engine)
                readable[name] = cost is not None and cost.knows_tokens
        for record in scores.records:
            run.log("metrics.jsonl", {"model": name, "step": step, **record})
        return scores

    note = evaluate(0).note if engine.step == 0 else ""
    probing = Probing(probes, run, name, engine)
    probing.begin(engine.step)
    probing.before(engine.step + 1)
    with progress(name, settings.max_steps, engine.step) as bar, clipping_noted(settings, run, name):
        for record in engine:
            if is_main:
                if record.step == 1 and dataset.num_classes is None:
                    _compare_with_baseline(name, record, plan, engine, readable.get(name, False))
                run.log("metrics.jsonl", {"model": name, "step": record.step, "split": "train", **asdict(record)})
            if record.step % settings.eval_steps == 0 or record.step == settings.max_steps:
                scores = evaluate(record.step)
                note = scores.note
                if best:
                    best.see(record.step, broadcast_from_main(scores.heldout_loss))
            bar.advance(f"loss {record.loss:.3f}, {note}")
            probing.measure(record.step)
            yield record
            if best and best.stop:
                break
            probing.before(record.step + 1)
    if best:
        found = best.finish()
        run.update_manifest(best={**run.manifest.get("best", {}), name: found})


@contextmanager
def clipping_noted(settings: TrainingSettings, run: RunFolder, name: str) -> Iterator[None]:
    """Note in the manifest how often and how much was clipped in a training that is done, or that its caller left.

    Args:
        settings: What the model is trained with.
        run: Its run.
        name: The model's name in the log.
    """
    try:
        yield
    except GeneratorExit:
        _note_clipping(settings, run, name)
        raise
    _note_clipping(settings, run, name)


def _note_clipping(settings: TrainingSettings, run: RunFolder, name: str) -> None:
    limits = {"global": settings.max_grad_norm} if settings.max_grad_norm else {}
    limits |= settings.max_group_norms
    if not run.is_main or not (limits or settings.max_grad_value):
        return
    steps = [
        record
        for record in run.records("metrics.jsonl")
        if record["model"] == name and record["split"] == "train" and record["step"] > settings.clip_after
    ]
    lost = [record["lost_norm"] for record in steps if record["clip_factor"] < 1 - 1e-6]
    cut = {
        "limits": limits,
        "steps": len(steps),
        "clipped_share": len(lost) / len(steps) if steps else None,
        "mean_lost_norm": sum(lost) / len(lost) if lost else 0.0,
    }
    run.update_manifest(clipping={**run.manifest.get("clipping", {}), name: cut})
