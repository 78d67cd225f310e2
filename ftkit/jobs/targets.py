"""Target texts: what models of one base learn, with everything that measuring any of them needs."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

from transformers import PreTrainedModel, TokenizersBackend

from ftkit.config import TRAINING_LENGTHS, AdapterSettings, PassageSettings, TrainingSettings
from ftkit.data import TokenStore, tokenize_texts
from ftkit.errors import DataError
from ftkit.evidence import (
    SCALES,
    CodeWriter,
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    JudgeTexts,
    Panel,
    PassageWriter,
    Written,
    build_judges,
    check_heldout,
    cut_passages,
    gather_evidence,
    keep_blocks,
    looks_up_to,
)
from ftkit.generation import PRESETS
from ftkit.jobs.bases import Base, foresee_base, load_start, load_start_tokenizer, prepare_base
from ftkit.jobs.cache import cached_passages
from ftkit.jobs.lengths import Limit, fit_steps, fit_writing
from ftkit.jobs.texts import Text, load_texts, read_special_tokens
from ftkit.models import check_positions, check_vocabulary, set_dropout
from ftkit.runs import RunFolder
from ftkit.training import (
    NEXT_TOKEN,
    Dataset,
    HeldOutDataset,
    HeldOutWindows,
    Objective,
    ObjectiveContext,
    TokenWindows,
    WeightedSum,
    build_objective,
)
from ftkit.tuning import Selection

__all__ = ["BaseContext", "TargetText", "TrainingText", "judge_texts", "prepare_target", "prepare_targets"]

P = TypeVar("P", bound=PassageSettings)
T = TypeVar("T", bound=TrainingSettings)
WriterMaker = Callable[[P, TokenStore, Text], PassageWriter]
MOST_JUDGED = 96
"""Passages of the base that test judges at most; twice as many train them. More teach a judge nothing new about it."""


@dataclass(frozen=True)
class TrainingText:
    """Rows to learn from, and held-out rows on which a model is evaluated meanwhile."""

    source: Dataset
    heldout: HeldOutDataset


@dataclass(frozen=True)
class BaseContext(Generic[T]):
    """What all models of a run start from: a base and its tokenizer."""

    settings: T
    """The recipe's settings, with the lengths that nobody had set."""
    origin: Base
    tokenizer: TokenizersBackend

    def new_model(self) -> PreTrainedModel:
        """A fresh copy of the base."""
        positions = self.settings.window_tokens + self.settings.extra_positions
        model = load_start(self.settings, self.origin.model, vocab_size=len(self.tokenizer), max_positions=positions)
        settings: TrainingSettings = self.settings
        if isinstance(settings, AdapterSettings) and settings.dropout is not None:
            set_dropout(model, settings.dropout)
        return model

    @cached_property
    def base(self) -> PreTrainedModel:
        """The base that models are measured against; never trained."""
        return self.new_model()

    def fitted(self, run: RunFolder, rows: float, amount: str) -> Self:
        """Return the same base with the batch, rate and steps that nobody had set (see ``fit_steps``).

        Args:
            run: Where they are written.
            rows: Windows or examples in an epoch.
            amount: What an epoch consists of, for people.
        """
        settings = fit_steps(self.settings, self.base.num_parameters(), run, rows, amount)
        return replace(self, settings=settings)

    def check(self) -> None:
        """Refuse a base that cannot read the windows."""
        check_vocabulary(self.base, self.tokenizer)
        extra = self.settings.extra_positions
        both = "window_tokens and virtual_tokens together" if extra else "window_tokens"
        check_positions(self.base, self.settings.window_tokens + extra, both)


@dataclass(frozen=True)
class TargetText(Generic[P]):
    """The text that copies of a base learn, and other text for forgetting."""

    start: BaseContext[P]
    text: Text
    general: dict[str, Text]
    train: TokenStore
    heldout: TokenStore
    writer: PassageWriter
    """Lets models write, after words of this text."""
    real: list[str]
    """Real held-out passages, cut like those that models write."""
    known: Sequence[Text] = ()
    """More real text of the run, whose words are nobody's inventions."""
    base_losses: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Of the base on these texts: measured beside the first model, and not again beside the next."""

    @property
    def settings(self) -> P:
        """The settings, with the lengths that nobody had set."""
        return self.start.settings

    @property
    def base(self) -> PreTrainedModel:
        """The base that models are measured against; never trained."""
        return self.start.base

    @property
    def tokenizer(self) -> TokenizersBackend:
        """The base's tokenizer."""
        return self.start.tokenizer

    @property
    def epoch(self) -> tuple[float, str]:
        """Windows in one pass over the text, and its length for people."""
        return self.train.num_tokens / self.settings.window_tokens, f"{self.train.num_tokens:,} tokens"

    def floor(self, passages: int | None = None) -> Written:
        """So many passages of the base, by default those of the first look, kept in the cache for other runs."""
        count = passages or looks_up_to(self.settings.num_passages)[0]
        return cached_passages(self.writer, self.base, count, self.settings.seed)

    @property
    def all_train_texts(self) -> list[str]:
        """What a model and its base were trained on."""
        of_base = [piece for text in self.start.origin.texts.values() for piece in text.train]
        return [*self.text.train, *of_base]

    @cached_property
    def general_tokens(self) -> dict[str, TokenStore]:
        """Held-out text of the other texts, as one under all their names; nothing where there is none."""
        pieces = [piece for text in self.general.values() for piece in text.heldout]
        return {", ".join(self.general): tokenize_texts(pieces, self.tokenizer)} if pieces else {}

    @cached_property
    def training_text(self) -> TrainingText:
        """The text in rows, and its held-out part."""
        source = TokenWindows(self.train, self.settings.window_tokens, self.settings.seed)
        return TrainingText(source, HeldOutWindows(self.heldout, self.settings.window_tokens))

    def new_model(self) -> PreTrainedModel:
        """A fresh copy of the base."""
        return self.start.new_model()

    def objective(self, text: str | None) -> Objective | WeightedSum:
        """What is minimised: the next token, or what a setting names."""
        if not text:
            return NEXT_TOKEN
        vocab_size = self.base.config.get_text_config().vocab_size
        return build_objective(text, ObjectiveContext(self.tokenizer, vocab_size, "causal-lm", self.new_model))

    @cached_property
    def panel(self) -> Panel:
        """A judge that knows the text, the base's writing and other text, behind its gate."""
        return build_judges(judge_texts({"corpus": self}, self.general), ["corpus"], self.start.settings.seed)

    def measure(
        self,
        run: RunFolder,
        name: str,
        tuned: PreTrainedModel,
        trainable: Selection | None = None,
        panel: Panel | None = None,
        label: str = "corpus",
    ) -> tuple[Evidence, Written]:
        """All measurements of one model.

        Args:
            run: The run, whose phase ``name`` is sealed with its ``reload_difference``.
            name: The model.
            tuned: The model as it was saved.
            trainable: What was allowed to change; ``None`` means everything.
            panel: Judges of style; ``None`` asks none.
            label: The target's class among theirs.

        Returns:
            The evidence, and the passages of the tuned model on which it rests.
        """
        others = list(self.general.values())
        known = [piece for text in (self.text, *others, *self.known) for piece in (*text.train, *text.heldout)]
        texts = ComparedTexts(
            heldout=self.heldout,
            train_texts=self.all_train_texts,
            known_texts=known,
            general=self.general_tokens,
            train=self.train,
            heldout_texts=frozenset(self.text.heldout),
        )
        kept, seed = keep_blocks(), self.settings.seed

        def write(count: int, level: float) -> dict[str, Any]:
            before, after = self.floor(count), self.writer.write(tuned, count, seed, kept)
            written = ComparedPassages(before.heldout, after.heldout, self.real, before.training, after.training)
            styles = panel.score(label, written.base, written.tuned, self.real, level) if panel else ()
            return {"passages": written, "styles": styles}

        evidence = gather_evidence(
            Comparison(
                self.base, tuned, texts, ComparedPassages(), self.settings.window_tokens,
                scales=SCALES, trainable=trainable, write=write, prose=not isinstance(self.writer, CodeWriter),
                reload_difference=run.result(name)["reload_difference"], passes=run.trained_epochs(name),
                assumptions=run.step_choice(name), base_losses=self.base_losses,
            ),
            looks=looks_up_to(self.settings.num_passages),
        )  # fmt: skip
        return evidence, self.writer.write(tuned, evidence.passages, seed, kept)


def judge_texts(targets: Mapping[str, TargetText[P]], general: Mapping[str, Text]) -> JudgeTexts:
    """Passages for judges: a class for each text, one for the base's writing, and one for other text.

    Args:
        targets: By the names of their classes; they have one start.
        general: Other text; without it there is no such class.
    """
    start = next(iter(targets.values())).start
    chars = start.settings.passage_chars
    taught = [_judge_passages(target, len(targets)) for target in targets.values()]
    classes = JudgeTexts(
        train={name: cut_passages(target.text.train, chars) for name, target in targets.items()},
        heldout={name: target.real for name, target in targets.items()},
    )
    classes.train["base model"] = [passage for each in taught for passage in each[len(each) // 3 :]]
    classes.heldout["base model"] = [passage for each in taught for passage in each[: len(each) // 3]]
    if general:
        classes.train["other"] = [p for text in general.values() for p in cut_passages(text.train, chars)]
        classes.heldout["other"] = [p for text in general.values() for p in cut_passages(text.heldout, chars)]
    return classes


def _judge_passages(target: TargetText[P], targets: int) -> list[str]:
    """Further passages of the base, of which the first third tests judges and the rest trains them."""
    settings = target.settings
    count = 3 * math.ceil(min(settings.num_passages or MOST_JUDGED, MOST_JUDGED) / targets)
    written = cached_passages(target.writer, target.base, count, settings.seed + 1)
    return [*written.heldout, *written.training]


@dataclass(frozen=True)
class _Prepared(Generic[P]):
    """What is there before a recipe does its own."""

    settings: P
    """With the lengths that will be used."""
    origin: Base
    tokenizer: TokenizersBackend
    texts: dict[str, Text]
    general: dict[str, Text]
    """Other text, which is the base's own where none is given."""


def _prepare(
    settings: P,
    corpora: dict[str, str],
    run: RunFolder,
    prompt_tokens: int | None,
    limits: Callable[[Sequence[str]], Sequence[Limit]] = lambda heldout: (),
) -> _Prepared[P]:
    """Texts, then the lengths that fit them and the base, then the base, which may take an hour to make."""
    texts = load_texts(corpora, settings, run)
    given = settings.other_texts
    general = load_texts(given, settings, run, trained=False) if given else {}
    train = [piece for text in texts.values() for piece in text.train]
    base, own_texts = foresee_base(settings, train)
    others = general or own_texts
    pieces = [piece for text in texts.values() for piece in text.heldout]
    heldout = {name: text.heldout for name, text in texts.items()}
    other = {name: text.heldout for name, text in others.items()}
    settings = fit_writing(settings, run, base, heldout, other, prompt_tokens, limits(pieces))
    origin = prepare_base(settings.model)
    run.require_same(base=origin.model)
    tokenizer = load_start_tokenizer(settings, origin.model, train)
    read_special_tokens(settings, run, texts, tokenizer)
    return _Prepared(settings, origin, tokenizer, texts, others)


def prose_writer(settings: PassageSettings, heldout: TokenStore, text: Text) -> PassageWriter:
    """Who lets models write prose: ``passage_chars`` and ``sampling`` are read."""
    characters, sampling = settings.passage_chars, PRESETS[settings.sampling]
    return PassageWriter.after(heldout, text.heldout, text.train, characters, sampling)


def prepare_target(
    settings: P,
    corpus: str,
    run: RunFolder,
    make_writer: WriterMaker[P] = prose_writer,
    prompt_tokens: int | None = None,
    limits: Callable[[Sequence[str]], Sequence[Limit]] = lambda heldout: (),
) -> TargetText[P]:
    """Load base, text and other text, and refuse what cannot be judged before anything is trained.

    Args:
        settings: The recipe's settings.
        corpus: Source of the text to learn.
        run: Where texts and base are noted.
        make_writer: Makes, of settings, held-out tokens and the text, who lets models write.
        prompt_tokens: Tokens before a passage; ``None`` for those of a few words.
        limits: Makes, of held-out text, what else limits a passage.

    Returns:
        The target text; its ``settings`` have the lengths that nobody had set.
    """
    found = _prepare(settings, {"corpus": corpus}, run, prompt_tokens, limits)
    start = BaseContext(found.settings, found.origin, found.tokenizer)
    start.check()
    return _target(start, "corpus", found.texts["corpus"], found.general, make_writer)


def prepare_targets(
    settings: P, corpora: dict[str, str], run: RunFolder
) -> tuple[BaseContext[P], dict[str, TargetText[P]], dict[str, Text]]:
    """Load base, several texts and other text, and refuse what cannot be judged before anything is trained.

    The models of a text write after words of that text, and so does the base where it is compared with them.

    Args:
        settings: The recipe's settings.
        corpora: Sources of the texts to learn, by name.
        run: Where texts and base are noted.

    Returns:
        What the models start from, the texts by name, and the other text. Without other text each text has the
        others for forgetting.
    """
    found = _prepare(settings, corpora, run, None)
    texts, general = found.texts, found.general
    start = BaseContext(found.settings, found.origin, found.tokenizer)
    start.check()
    targets = {}
    for name, text in texts.items():
        others = general or {other: its for other, its in texts.items() if other != name}
        targets[name] = _target(start, name, text, others, prose_writer, tuple(texts.values()))
    if {*TRAINING_LENGTHS} & {*settings.LENGTHS}:
        start = start.fitted(run, *_mean_epoch(targets.values()))
        targets = {name: replace(target, start=start) for name, target in targets.items()}
    return start, targets, general


def fit_training(target: TargetText[P], run: RunFolder) -> P:
    """Choose batch, learning rate and steps where nobody has set them.

    Args:
        target: The text and its base.
        run: Where they are written; a resumed run takes them from there.

    Returns:
        The settings of the training.
    """
    return target.start.fitted(run, *target.epoch).settings


def _mean_epoch(targets: Collection[TargetText[Any]]) -> tuple[float, str]:
    """Windows in one pass over a text of mean length, and that length for people: models of several texts are compared
    with each other, so all of them are trained alike."""
    epochs = [target.epoch[0] for target in targets]
    tokens = sum(target.train.num_tokens for target in targets) / len(epochs)
    return sum(epochs) / len(epochs), f"{tokens:,.0f} tokens (the mean of {len(epochs)} texts)"


def _target(
    start: BaseContext[P],
    name: str,
    text: Text,
    general: dict[str, Text],
    make_writer: WriterMaker[P],
    known: Sequence[Text] = (),
) -> TargetText[P]:
    """One text in tokens and passages, when it is long enough to be judged."""
    train, heldout = tokenize_texts(text.train, start.tokenizer), tokenize_texts(text.heldout, start.tokenizer)
    writer = make_writer(start.settings, heldout, text).fitted(start.base, start.settings.extra_positions)
    real = writer.real_passages(text.heldout)
    check_heldout(name, heldout, start.settings.window_tokens, real)
    other = [piece for text in general.values() for piece in text.heldout]
    if other and (have := tokenize_texts(other, start.tokenizer).num_tokens) < start.settings.window_tokens:
        raise DataError(
            f"general text ({', '.join(general)}): {have:,} held-out tokens, where a window has "
            f"{start.settings.window_tokens}; give more general text, or smaller window_tokens"
        )
    return TargetText(start, text, general, train, heldout, writer, real, known)
