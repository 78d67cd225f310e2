"""Texts with classes that one or several classifiers learn, with everything that testing any of them needs."""

import logging
import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar, cast

import numpy as np
from accelerate import PartialState
from transformers import PreTrainedModel, TokenizersBackend

from ftkit.config import ClassifierSettings, EarlyStopSettings
from ftkit.data import (
    LabelledSplit,
    LabelledTexts,
    load_corpus,
    load_labelled,
    separate_labelled,
    split_corpus,
    split_labelled,
)
from ftkit.data.words import words_of
from ftkit.errors import DataError
from ftkit.evidence import ClassifierScores, cut_passages, score_classifier
from ftkit.jobs.bases import foresee_base, load_start, load_start_tokenizer, prepare_base
from ftkit.jobs.lengths import fit_window
from ftkit.jobs.stages import save_trained
from ftkit.jobs.texts import check_unchanged
from ftkit.models import check_positions, check_vocabulary, has_head_for, read_configuration, save_model, task_of
from ftkit.models.trust import is_adapter_folder
from ftkit.runs import RunFolder
from ftkit.training import (
    CLASSIFICATION,
    BestStep,
    CheckpointFolder,
    ClassifiedTexts,
    ClassSamples,
    Engine,
    Predictions,
    StepRecord,
    build_probes,
    predict_classes,
    train_and_log,
)

__all__ = ["Classes", "load_classes", "prepare_classes", "train_best_classifier", "train_classifier"]

_logger = logging.getLogger("ftkit.jobs")

C = TypeVar("C", bound=ClassifierSettings)
_BYTES_FOR_PIECE = 100
"""Bytes of text for each entry of a tokenizer that is trained: entries that hardly come are hardly learned."""
_FEWEST_PIECES, _MOST_PIECES = 512, 8192  # bytes need 256; a classifier reads rare words in pieces well
_FEW_TESTS = 400
"""Below this the interval of an accuracy is wider than 10 points."""


@dataclass(frozen=True)
class Classes(Generic[C]):
    """Texts to learn from, texts to be tested on, and how a classifier of them starts."""

    settings: C
    """The recipe's settings, with the lengths that nobody had set."""
    start: str
    """A folder, a Hub id or ``new:...``, as ``load_model`` takes it."""
    split: LabelledSplit
    tokenizer: TokenizersBackend
    validation: LabelledTexts | None = None
    """Texts kept aside to find the best step; ``None`` where every step is trained."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the model's outputs."""
        return self.split.train.classes

    def new_model(self) -> PreTrainedModel:
        """A fresh classifier: the same weights, the same new head, every time."""
        settings = self.settings
        model = load_start(
            settings, self.start, task="sequence-classification", vocab_size=len(self.tokenizer),
            max_positions=settings.window_tokens, labels=self.names,
        )  # fmt: skip
        model.config.pad_token_id = self.tokenizer.pad_token_id  # decoders read the last token before padding
        return model

    @property
    def knows_classes(self) -> bool:
        """Whether the start is a classifier of these classes already, which training must not make worse."""
        settings = self.settings
        code: Any = {"trust_remote_code": settings.trust_remote_code, "allow_pickle": settings.allow_pickle}
        if is_adapter_folder(self.start):
            return task_of(self.start, settings.revision, **code) == "sequence-classification"
        return has_head_for(read_configuration(self.start, settings.revision, **code), self.names)

    @property
    def seen(self) -> float:
        """Share of the test texts whose words, without case and punctuation, are those of a text to learn from."""
        learned = {tuple(words_of(text)) for text in self.split.train.texts}
        return float(np.mean([tuple(words_of(text)) in learned for text in self.split.test.texts]))

    @cached_property
    def source(self) -> ClassifiedTexts:
        """Rows to learn from, each class equally often."""
        settings, train = self.settings, self.split.train
        on_each = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
        rows = on_each * PartialState().num_processes
        return ClassifiedTexts(train.texts, train.labels, self.tokenizer, settings.window_tokens, rows, settings.seed)

    @cached_property
    def evaluation(self) -> ClassSamples:
        """Fixed samples, stratified by class, of texts to test on and to learn from, for evaluations while it trains.

        Their names are the splits under which ``metrics.jsonl`` has them.
        """
        count = self.settings.eval_texts
        found = {"test": self.split.test.stratified(count), "seen": self.split.train.stratified(count)}
        samples = found | ({"validation": self.validation} if self.validation else {})
        return ClassSamples(samples, self.tokenizer, self.settings.window_tokens)

    def predict(self, model: PreTrainedModel, texts: LabelledTexts | None = None) -> Predictions:
        """What a classifier says of some texts; ``None`` means all test texts."""
        texts = texts or self.split.test
        said = predict_classes(model, self.tokenizer, texts.texts, self.settings.window_tokens)
        return Predictions(said, np.array(texts.labels))

    def mistakes(self, found: Predictions, most: int = 20) -> list[dict[str, Any]]:
        """Test texts that were classified wrongly, the surest first."""
        surest = found.log_probabilities.max(1)
        wrong = sorted(np.flatnonzero(~found.right), key=lambda place: -surest[place])[:most]
        return [
            {
                "text": self.split.test.texts[place],
                "label": self.names[found.labels[place]],
                "said": self.names[int(found.log_probabilities[place].argmax())],
                "probability": float(np.exp(surest[place])),
            }
            for place in wrong
        ]

    def score(self, found: Predictions) -> ClassifierScores:
        """Measure predictions on the test texts."""
        return score_classifier(found, self.names, self.settings.seed)


def load_classes(settings: ClassifierSettings) -> LabelledSplit:
    """Load and divide the texts of ``labelled`` or ``classes``, and take what ``texts_per_class`` allows."""
    if settings.passage_chars:
        return _limited(_split_passages(settings), settings)
    load = partial(load_labelled, encoding=settings.encoding, merge_labels=settings.merge_labels)
    texts = load(settings.labelled or settings.classes)
    if settings.labelled_test is None:
        split = split_labelled(texts, heldout_share=settings.heldout_share, seed=settings.seed)
    else:
        test = load(settings.labelled_test, classes=texts.classes)
        split = separate_labelled(texts, test, seed=settings.seed)
    return _limited(split, settings)


def _limited(split: LabelledSplit, settings: ClassifierSettings) -> LabelledSplit:
    """At most ``texts_per_class`` of each class to learn from."""
    if not settings.texts_per_class:
        return split
    return replace(split, train=split.train.first_of_each(settings.texts_per_class))


def _split_passages(settings: ClassifierSettings) -> LabelledSplit:
    """Passages of running text: the end of each text is the test, so that no passage has a neighbour there."""
    names, chars = tuple(settings.classes), settings.passage_chars
    sides: dict[str, tuple[list[str], list[int]]] = {"train": ([], []), "heldout": ([], [])}
    for number, (name, source) in enumerate(settings.classes.items()):
        corpus = load_corpus(source, name=name, encoding=settings.encoding)
        split = split_corpus(corpus, policy="tail", heldout_share=settings.heldout_share, seed=settings.seed)
        for side, (texts, labels) in sides.items():
            passages = cut_passages(getattr(split, side), chars)
            if not passages:
                raise DataError(
                    f"{source}: the {'held-out' if side == 'heldout' else 'training'} part has no passage of {chars} "
                    "characters; give more text, or a smaller passage_chars"
                )
            texts += passages
            labels += [number] * len(passages)
    source = ", ".join(settings.classes.values())
    train, test = (LabelledTexts("classes", source, tuple(t), tuple(n), names) for t, n in sides.values())
    return separate_labelled(train, test, seed=settings.seed)


def _note(run: RunFolder, sides: dict[str, LabelledTexts]) -> None:
    """Write down every side, and refuse a resumed run whose texts have changed."""
    noted = {
        name: {
            "source": side.source,
            "sha256": side.sha256,
            "words": side.num_words,
            "bytes": side.num_bytes,
            "removed": [],
            "classes": side.counts,
            "label_changes": side.label_changes,
        }
        for name, side in sides.items()
    }
    check_unchanged(run, noted)
    run.update_manifest(data={**run.manifest["data"], **noted})
    for name, side in sides.items():
        counts = ", ".join(f"{label} {count:,}" for label, count in side.counts.items())
        _logger.info("%s: %s texts (%s)", name, f"{len(side):,}", counts)


def _with_tokenizer(settings: C, run: RunFolder, train: LabelledTexts) -> C:
    """Settle the tokenizer of a ``new:`` model where nobody has named one: trained on the texts, its size by theirs."""
    if settings.tokenizer is not None or not settings.model.startswith("new:"):
        return settings
    size = min(max(train.num_bytes // _BYTES_FOR_PIECE // 256 * 256, _FEWEST_PIECES), _MOST_PIECES)
    tokenizer = run.written("tokenizer") or f"train:{size}"
    _logger.info(
        "tokenizer: %s, because %s has none of its own and the texts to learn from have %s bytes",
        tokenizer, settings.model, f"{train.num_bytes:,}",
    )  # fmt: skip
    run.settle(tokenizer=tokenizer)
    return settings.model_copy(update={"tokenizer": tokenizer})


def prepare_classes(settings: C, run: RunFolder, validation_share: float = 0.0) -> Classes[C]:
    """Load texts and tokenizer, and refuse what cannot be trained or tested before anything is trained.

    Args:
        settings: Those of the recipe.
        run: Where the texts are noted.
        validation_share: Share of the texts to learn from that is kept aside; 0 keeps none.

    Returns:
        What the recipe trains and tests with.
    """
    split = load_classes(settings)
    validation, test = None, split.test
    if validation_share:
        aside = split_labelled(split.train, heldout_share=validation_share, seed=settings.seed + 1)
        validation = aside.test
        split = replace(split, train=aside.train)
    _note(run, {"train": split.train, **({"validation": validation} if validation else {}), "test": test})
    if split.repeated:
        _logger.info("%s texts stand there more than once; each is on one side only", f"{split.repeated:,}")
    if len(test) < _FEW_TESTS:
        half = 1.96 * math.sqrt(0.25 / len(test))
        _logger.warning(
            "only %d test texts: an accuracy near one half is known to within %.0f points", len(test), 100 * half
        )
    chance = max(test.counts.values()) / len(test)
    _logger.info("chance: accuracy %.1f%%, of the majority-class baseline", 100 * chance)
    settings = _with_tokenizer(settings, run, split.train)
    if settings.untrained and not settings.is_overridden("learning_rate"):
        # Measured on 2,132 film reviews after 500 steps: 55 % right with 5e-5, 77 % with 1e-3.
        _logger.warning(
            "%s has random weights, and learning_rate %g is for pretrained ones; set it to 1e-3, or give a pretrained"
            " model",
            settings.model,
            settings.learning_rate,
        )
    base, _ = foresee_base(settings, split.train.texts)
    settings = fit_window(settings, run, base, {})
    start = prepare_base(settings.model).model
    run.require_same(base=start)
    encoder = task_of(
        start,
        settings.revision,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
    )
    tokenizer = load_start_tokenizer(settings, start, split.train.texts, with_mask=encoder == "masked-lm")
    tokenizer.model_max_length = settings.window_tokens  # saved with it, so that a text is always cut alike
    found = Classes(settings, start, split, tokenizer, validation)
    model = found.new_model()
    check_vocabulary(model, tokenizer)
    check_positions(model, settings.window_tokens, "window_tokens")
    cut = sum(len(ids) == settings.window_tokens for ids in found.source.ids)
    if cut:
        _logger.info(
            "%s of %s texts to learn from are cut to window_tokens: %d",
            f"{cut:,}",
            f"{len(found.source.ids):,}",
            settings.window_tokens,
        )
    return found


@contextmanager
def _training(
    run: RunFolder, name: str, model: PreTrainedModel, classes: Classes[Any], settings: ClassifierSettings
) -> Iterator[tuple[Engine, Iterator[StepRecord]]]:
    """The engine of a classifier, and its logged steps."""
    checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
    probes = build_probes(settings, model)
    with Engine(model, CLASSIFICATION, classes.source, settings, checkpoints) as engine:
        run.truncate_logs(name, engine.step or -1)  # what a killed run logged after its checkpoint is measured again
        steps = train_and_log(engine, run, name, classes.source, classes.evaluation, probes)
        with closing(cast(Generator[StepRecord], steps)):  # one that is left early notes then what was clipped
            yield engine, steps


def train_classifier(run: RunFolder, name: str, classes: Classes[Any], settings: ClassifierSettings) -> None:
    """Train a classifier for all its steps, log it and save it; one that the run has saved is left as it is.

    Args:
        run: The run.
        name: The model's name: in the logs, and of its folder.
        classes: The texts, and the start.
        settings: The training's.
    """
    if run.done_results(name):
        return
    model = classes.new_model()
    with _training(run, name, model, classes, settings) as (_, steps):
        for _ in steps:
            pass
    save_trained(run, name, model, classes.tokenizer, classes.source)


def train_best_classifier(run: RunFolder, name: str, classes: Classes[Any], settings: EarlyStopSettings) -> None:
    """Train a classifier until its validation loss falls no more, and save the state with the lowest.

    Args:
        run: The run; its phase ``name`` tells ``best_step``, ``last_step`` and ``best_loss``.
        name: The model's name: in the logs, and of its folder.
        classes: The texts, with those kept aside for validation, and the start.
        settings: The training's.
    """
    if run.done_results(name) is not None:
        return
    model = classes.new_model()
    with _training(run, name, model, classes, settings) as (engine, steps):
        best = BestStep(run, name, settings)
        for record in steps:
            if best.improved(record.step):
                with engine.whole_model():
                    if run.is_main:
                        save_model(model, classes.tokenizer, run.model(name))
            if best.stop:
                break
    run.mark_done(name, best_step=best.step, last_step=engine.step, best_loss=best.loss)
