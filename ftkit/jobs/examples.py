"""The examples of a run: loaded, divided, turned into tokens, and measured on.

source -> examples -> split by prompts -> chat template -> rows -> training
                                                        \\-> losses and answers of base and tuned model -> evidence
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from accelerate import PartialState
from transformers import PreTrainedModel

from ftkit.config import ExampleSettings
from ftkit.data import (
    EncodedExample,
    EncodedExamples,
    Example,
    ExampleSplit,
    TokenStore,
    answer_ends,
    encode_examples,
    read_examples,
    split_examples,
    tokenize_texts,
    with_shots,
    with_template,
)
from ftkit.data.words import count_words
from ftkit.errors import DataError
from ftkit.evidence import (
    ComparedAnswers,
    ComparedExamples,
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    Thresholds,
    answer_looks,
    build_judges,
    compare_examples,
    decide,
    gather_evidence,
)
from ftkit.evidence.answers import Answers
from ftkit.evidence.judges import BASE, MOST_TRAINING, JudgeTexts
from ftkit.evidence.texts import spread_evenly
from ftkit.jobs.bases import Base, load_saved, load_start_tokenizer, prepare_base
from ftkit.jobs.cache import cached_answers, describe_writer
from ftkit.jobs.stages import Watch
from ftkit.jobs.targets import BaseContext, TrainingText
from ftkit.jobs.texts import check_unchanged, load_texts
from ftkit.models import usable_positions
from ftkit.runs import RunFolder
from ftkit.training import ExampleRows, HeldOutDataset, HeldOutExamples
from ftkit.tuning import Selection

__all__ = [
    "ExampleTarget",
    "OtherRows",
    "compared_examples",
    "measure_examples",
    "other_rows",
    "prepare_examples",
    "with_judges",
]

_logger = logging.getLogger("ftkit.jobs")
_LONGEST = 1024
"""Tokens of an example where neither the model nor a setting limits it: the memory of a step grows with it."""
_JUDGED = 150
"""Training prompts that the base answers for judges of style; the answers to a third of them test these."""
_COMPLETIONS, _PROMPTS = "completions", "prompts"
"""Classes of the judges of style."""
_SHOWN = 2
"""Examples that are shown before training."""
_SHOWN_CHARS = 1200
"""Characters of each: a screen."""


class OtherRows(NamedTuple):
    """Other examples or text, for forgetting."""

    rows: HeldOutDataset | TokenStore
    of_tuned: HeldOutDataset | TokenStore | None = None
    """The same in the tuned model's own tokens, where the base does not know these."""


@dataclass(frozen=True)
class ExampleTarget:
    """Examples that copies of a base learn, and what measuring any of them needs."""

    start: "AnsweringContext"
    split: ExampleSplit
    train: EncodedExamples
    heldout: EncodedExamples
    other: Mapping[str, OtherRows]
    """Other examples and texts by name, for forgetting."""

    @property
    def settings(self) -> ExampleSettings:
        """The settings, with the length that nobody had set."""
        return self.start.settings

    @cached_property
    def training_text(self) -> TrainingText:
        """Rows to learn from and held-out rows."""
        settings, tokenizer = self.settings, self.start.tokenizer
        on_each = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
        rows = ExampleRows(self.train.rows, tokenizer, on_each * PartialState().num_processes, settings.seed)
        return TrainingText(rows, HeldOutExamples(self.heldout.rows, tokenizer))

    @cached_property
    def compared(self) -> ComparedExamples:
        """What base and tuned model are compared on."""
        settings = self.settings
        return compare_examples(
            self.train.rows, self.heldout.rows, self.start.tokenizer, positions=usable_positions(self.start.base),
            few_shot=settings.few_shot, answer_pattern=settings.answer_pattern, seed=settings.seed,
        )  # fmt: skip

    def log_answers(self, run: RunFolder, name: str) -> Watch:
        """A function that logs the answer to one held-out prompt, and how often it is called."""
        example = self.heldout.rows[0].example
        writer = self.compared.writer

        def log(model: PreTrainedModel, step: int) -> None:
            answer = writer.write(model, [example])
            sampled = {"seed": self.settings.seed, "sampling": {"do_sample": False}}
            record = {"model": name, "step": step, "prompt": example.prompt_text, "text": answer.texts[0], **sampled}
            run.log("samples.jsonl", record)

        return self.settings.eval_steps, log


@dataclass(frozen=True)
class AnsweringContext(BaseContext[ExampleSettings]):
    """A base whose copies end their answers at the tokens that end answers in training."""

    stop_ids: tuple[int, ...] = ()

    def new_model(self) -> PreTrainedModel:
        """A fresh copy of the base; its generation settings, which are saved with it, hold all tokens that end."""
        model = super().new_model()
        if self.stop_ids and (config := model.generation_config) is not None:
            config.eos_token_id = list(self.stop_ids) if len(self.stop_ids) > 1 else self.stop_ids[0]
        return model


def _warn_of_few(split: ExampleSplit) -> None:
    """Say before training that held-out examples are too few for a verdict."""
    if len(split.heldout) < (least := Thresholds().min_windows):
        _logger.warning(
            "%d held-out examples; a verdict needs %d, so the run will report losses and stay unsure. Give more "
            "examples, or a larger heldout_share.", len(split.heldout), least,
        )  # fmt: skip


def _warn_of_no_end(train: EncodedExamples) -> None:
    """Say before training that the model cannot learn to end its answers."""
    if all(row.end_id is None for row in train.rows):
        _logger.warning(
            "every training example is cut before the end of its answer, so the model will not learn to end one. Raise "
            "window_tokens, or set truncate to start or drop"
        )


def prepare_examples(settings: ExampleSettings, run: RunFolder) -> ExampleTarget:
    """Load examples, base and other text, and refuse what cannot be learned before anything is trained.

    Args:
        settings: The recipe's settings.
        run: Where examples and base are noted.

    Raises:
        DataError: Examples that cannot be read, or that leave nothing to learn.
        ModelError: A base that cannot read them.
    """
    found = read_examples(settings.examples, settings.columns or None)
    _logger.info("%s: read as %s", settings.examples, found.format)
    heldout = settings.heldout_examples
    split = split_examples(
        found.examples, read_examples(heldout, settings.columns or None).examples if heldout else None,
        heldout_share=settings.heldout_share, seed=settings.seed,
    )  # fmt: skip
    _logger.info("%s", split.summary)
    _warn_of_few(split)
    texts = [f"{example.prompt_text}\n{example.completion}" for example in split.train]
    described = {
        "source": settings.examples, "sha256": split.sha256, "words": sum(map(count_words, texts)),
        "bytes": sum(len(text.encode()) for text in texts), "removed": [], "examples": len(split.train),
        "heldout_examples": len(split.heldout), "format": found.format,
    }  # fmt: skip
    check_unchanged(run, {"examples": described})
    run.update_manifest(data={**run.manifest["data"], "examples": described})
    origin = prepare_base(settings.model)
    run.require_same(base=origin.model)
    tokenizer = load_start_tokenizer(settings, origin.model, texts)
    _logger.info("chat template: %s", with_template(tokenizer, settings.template, settings.chat_template))
    settings = _fit_length(settings, run, split, tokenizer, origin)
    train = _encoded(split.train, settings, tokenizer, "training examples")
    _warn_of_no_end(train)
    start = AnsweringContext(settings, origin, tokenizer, tuple(answer_ends(tokenizer, train.rows)))
    start.check()
    start = start.fitted(run, len(train.rows), f"{len(train.rows):,} examples")
    held = _encoded(split.heldout, settings, tokenizer, "held-out examples")
    general = load_texts(settings.general, settings, run, trained=False)
    if not general and not settings.also:
        general = origin.texts
    texts_beside = {name: text.heldout for name, text in general.items()}
    other = other_rows(settings.also, texts_beside, tokenizer, settings.window_tokens)
    for number, text in enumerate(shown_examples(train.rows, tokenizer), start=1):
        _logger.info("example %d as the model sees it, targets in [[ ]]:\n%s", number, text)
    return ExampleTarget(start, split, train, held, other)


def _encoded(examples: Sequence[Example], settings: ExampleSettings, tokenizer: Any, what: str) -> EncodedExamples:
    """Examples in tokens; what is cut or left out is logged."""
    found = encode_examples(examples, tokenizer, settings.loss_on, settings.window_tokens, settings.truncate)
    if found.summary:
        _logger.warning("%s: %s", what, found.summary)
    return found


def _fit_length(
    settings: ExampleSettings, run: RunFolder, split: ExampleSplit, tokenizer: Any, origin: Base
) -> ExampleSettings:
    """The settings with ``window_tokens``: what was set, else the longest example that model and memory allow."""
    if "window_tokens" not in settings.unset_lengths:
        return settings
    rows = encode_examples([*split.train, *split.heldout], tokenizer, settings.loss_on).rows
    longest = max(len(row.input_ids) for row in rows)
    positions = usable_positions(BaseContext(settings, origin, tokenizer).new_model())
    room = (positions or _LONGEST) - settings.extra_positions
    fitted = max(min(longest, room, _LONGEST), 8)
    _logger.info("window_tokens: %d (the longest example has %s tokens)", fitted, f"{longest:,}")
    run.settle(window_tokens=fitted)
    return settings.model_copy(update={"window_tokens": fitted})


def other_rows(
    also: Mapping[str, str], texts: Mapping[str, Sequence[str]], tokenizer: Any, max_tokens: int,
    of_tuned: Any | None = None,
) -> dict[str, OtherRows]:  # fmt: skip
    """Return other examples and other texts in tokens, by name.

    Args:
        also: Sources of examples by name.
        texts: Texts by name.
        tokenizer: With the chat template that is used.
        max_tokens: Longest example.
        of_tuned: The tuned model's tokenizer, where the base does not know all of its tokens.

    Raises:
        DataError: Examples and a text have one name, or examples cannot be read.
    """
    if both := sorted(set(also) & set(texts)):
        raise DataError(f"also and general both name {both[0]!r}; give one of them another name")

    def rows(read: Any) -> dict[str, HeldOutDataset | TokenStore]:
        found: dict[str, HeldOutDataset | TokenStore] = {
            name: HeldOutExamples(encode_examples(examples, read, max_tokens=max_tokens).rows, read)
            for name, examples in sources.items()
        }
        return found | {name: tokenize_texts(pieces, read) for name, pieces in texts.items() if pieces}

    sources = {name: read_examples(source).examples for name, source in also.items()}
    tuned = rows(of_tuned) if of_tuned is not None else {}
    return {name: OtherRows(each, tuned.get(name)) for name, each in rows(tokenizer).items()}


def with_judges(
    examples: ComparedExamples, train: Sequence[Example], base: PreTrainedModel, seed: int
) -> ComparedExamples:
    """Add judges of style, which separate real completions from prompts and from the base's answers.

    Args:
        examples: What is compared.
        train: All training examples.
        base: The base, which answers some of their prompts.
        seed: Of the judges.
    """
    asked = spread_evenly(train, _JUDGED)
    answers = cached_answers(
        examples.writer, base, lambda: describe_writer(base, examples.writer.tokenizer), asked, Answers()
    ).texts
    tests = len(asked) // 3

    def classes(examples: Sequence[Example], answers: Sequence[str]) -> dict[str, list[str]]:
        return {
            _COMPLETIONS: _folded([each.completion for each in examples]),
            _PROMPTS: _folded([each.prompt[-1].content for each in examples]),
            BASE: [text for text in _folded(answers) if text],
        }

    texts = JudgeTexts(
        classes(spread_evenly(train, MOST_TRAINING), answers[tests:]), classes(examples.examples, answers[:tests])
    )
    return replace(examples, judges=build_judges(texts, [_COMPLETIONS], seed))


def _folded(texts: Sequence[str]) -> list[str]:
    """Texts with single spaces, so that no judge recognizes completions by the white space around them."""
    return [" ".join(text.split()) for text in texts]


def compared_examples(
    base: PreTrainedModel | None, tuned: PreTrainedModel, examples: ComparedExamples, *,
    other: Mapping[str, OtherRows], asked: int | None, limits: Thresholds | None = None,
    known: ComparedAnswers | None = None, **options: Any,
) -> tuple[Evidence, ComparedAnswers]:  # fmt: skip
    """All measurements of a model that was trained on examples, and the answers that they rest on.

    Args:
        base: The base; ``None`` where the tuned model is an adapter that contains it.
        tuned: The model.
        examples: What both are compared on.
        other: Other examples and texts by name, for forgetting.
        asked: Prompts that are answered; ``None`` for the usual looks.
        limits: The numbers that decide.
        known: Answers for another model of this base, whose answers are not written again.
        options: What else ``Comparison`` takes.
    """
    of_tuned = examples.of_tuned
    texts = ComparedTexts(
        heldout=examples.heldout, train_texts=examples.completions, known_texts=(), train=examples.train,
        general={name: each.rows for name, each in other.items()},
        tuned_heldout=of_tuned.heldout if of_tuned else None, tuned_train=of_tuned.train if of_tuned else None,
        tuned_general={name: each.of_tuned for name, each in other.items() if each.of_tuned is not None},
    )  # fmt: skip
    answers: dict[str, ComparedAnswers] = {}
    if known is not None:
        answers["last"] = replace(known, tuned=Answers(), tuned_recited=Answers())

    def write(count: int, level: float) -> Mapping[str, Any]:
        found = answers["last"] = _answered(comparison, examples, count, answers.get("last"))
        completions = [each.completion for each in found.examples]
        floor, written, real = map(_folded, (found.base.texts, found.tuned.texts, completions))
        judges = examples.judges
        return {
            "answers": found, "styles": judges.score(_COMPLETIONS, floor, written, real, level) if judges else ()
        }  # fmt: skip

    window = options.pop("window_tokens")
    comparison = Comparison(base, tuned, texts, ComparedPassages(), window, examples=examples, write=write, **options)
    evidence = gather_evidence(comparison, limits, answer_looks(len(examples.examples), asked))
    return evidence, answers["last"]


def _answered(
    comparison: Comparison, examples: ComparedExamples, count: int, before: ComparedAnswers | None
) -> ComparedAnswers:
    """Answers to so many held-out prompts; what was written before is not written again."""
    asked, writer, known = examples.examples[:count], examples.writer, before or ComparedAnswers()
    after_shots = [[with_shots(each, shots) for each in asked] for shots in examples.shots]
    with comparison.as_base() as base:

        def described() -> list[Any]:
            return comparison.once("who answers", lambda: describe_writer(base, writer.tokenizer))

        def answers(asked: Sequence[Example], before: Answers) -> Answers:
            return cached_answers(writer, base, described, asked, before)

        of_base, recited = answers(asked, known.base), answers(examples.recited, known.base_recited)
        few_shot = known.few_shot if before else [answers(prompts, Answers()) for prompts in after_shots]
    if examples.of_tuned is not None:
        writer = examples.of_tuned.writer
    tuned = writer.write(comparison.tuned, asked, known.tuned)
    of_tuned = writer.write(comparison.tuned, examples.recited, known.tuned_recited)
    return ComparedAnswers(asked, of_base, tuned, few_shot, examples.recited, recited, of_tuned)


def measure_examples(
    target: ExampleTarget, run: RunFolder, trainable: Mapping[str, Selection | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the models that a run has saved.

    Args:
        target: What they learned, and their base.
        run: The run.
        trainable: What was allowed to change, by model; ``None`` means everything.

    Returns:
        For ``evidence.json`` and for ``verdict.json``.
    """
    settings, models, verdicts = target.settings, {}, {}
    passages, real = dict[str, list[str]](), dict[str, list[str]]()
    compared = target.compared
    if settings.judge_style:
        compared = with_judges(compared, target.split.train, target.start.base, settings.seed)
    for name, selection in trainable.items():
        tuned = load_saved(settings, run.model(name))
        evidence, answers = compared_examples(
            target.start.base, tuned, compared, other=target.other,
            asked=settings.num_answers, window_tokens=settings.window_tokens, trainable=selection,
            reload_difference=run.result(name)["reload_difference"], passes=run.trained_epochs(name),
            assumptions=run.step_choice(name),
        )  # fmt: skip
        models[name], verdicts[name] = evidence.as_dict(), decide(evidence).as_dict()
        passages |= {name: list(answers.tuned.texts), "base model": list(answers.base.texts)}
        real[name] = [example.completion for example in answers.examples]
    shown = shown_examples(target.train.rows, target.start.tokenizer)
    judges = compared.judges.as_dict() if compared.judges else {}
    measured = {"models": models, "judges": judges, "passages": passages, "real": real, "shown_examples": shown}
    return measured, verdicts


def shown_examples(encoded: Sequence[EncodedExample], tokenizer: Any) -> list[str]:
    """The first examples as a model sees them, what is a target in brackets."""
    found = []
    for row in encoded[:_SHOWN]:
        pieces, asked = list[tuple[bool, list[int]]](), False
        for number, (id_, label) in enumerate(zip(row.input_ids, row.labels, strict=True)):
            asked = label != -100 and number > 0
            if not pieces or pieces[-1][0] != asked:
                pieces.append((asked, []))
            pieces[-1][1].append(id_)
        text = "".join(f"[[{tokenizer.decode(ids)}]]" if target else tokenizer.decode(ids) for target, ids in pieces)
        half = _SHOWN_CHARS // 2
        found.append(text if len(text) <= _SHOWN_CHARS else f"{text[:half]} ... {text[-half:]}")
    return found
