"""The comparison of a tuned model with its base: what is given, what is computed from it once, and all measurements.

    Comparison(base, tuned, texts, passages, ...) -> measure_at -> Evidence -> decide -> Verdict

Every recipe and ``ftkit verdict`` build the same ``Comparison`` and call the same function.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from transformers import PreTrainedModel

from ftkit.data import Masking, TokenStore
from ftkit.data.tokenizers import special_tokens_said
from ftkit.data.words import character_share
from ftkit.errors import DataError
from ftkit.evidence.answers import ComparedAnswers, ComparedExamples
from ftkit.evidence.document import Evidence, HeldOut
from ftkit.evidence.intervals import LEVEL, bits_per_byte, gain_in_bits, loss_blocks
from ftkit.evidence.judges import MIN_PASSAGES, vocabulary_of
from ftkit.evidence.language import Reference
from ftkit.evidence.measure import Measure
from ftkit.evidence.measures import all_measures
from ftkit.evidence.style import StyleScore
from ftkit.evidence.texts import cut_passages
from ftkit.models import base_or_beneath
from ftkit.training import JUDGED_WINDOWS, MOST_UNKNOWN, HeldOutDataset, HeldOutLoss, HeldOutWindows, held_out_loss
from ftkit.training.datasets import spread_rows
from ftkit.training.evaluation import KeptStates
from ftkit.tuning import Selection

__all__ = ["ComparedPassages", "ComparedTexts", "Comparison", "check_heldout", "measure_at"]

T = TypeVar("T")

_logger = logging.getLogger("ftkit.evidence")
_COMPARED_WINDOWS = 32
"""Windows of a text on which the predictions of both models are compared, of those whose loss is measured."""
_LANGUAGE_RULES = 3
"""Repetition, diversity, and language itself."""
_PASSAGE = 400
"""Characters of a passage where none is measured: that of the settings."""
_MANY_CHARACTERS = 0.1
"""Share of words that are single characters from which on a verdict says so: below it, they are a few foreign names."""


@dataclass(frozen=True)
class ComparedTexts:
    """The text of a comparison, as it is and in tokens."""

    heldout: TokenStore | HeldOutDataset
    """Text of the target that was not trained on, in the base's tokens; of examples their rows."""
    train_texts: Sequence[str]
    """What the model and its base were trained on, for copying."""
    known_texts: Sequence[str]
    """All real text of the run: a word that occurs in none of it is unknown."""
    general: Mapping[str, TokenStore | HeldOutDataset] = field(default_factory=dict)
    """Other texts or examples by name that neither model was trained on, for forgetting."""
    train: TokenStore | HeldOutDataset | None = None
    """The text that was trained on, for the gap between training and held-out text."""
    tuned_heldout: TokenStore | HeldOutDataset | None = None
    """``heldout`` in the tuned model's own tokens, where it has another tokenizer than the base."""
    tuned_general: Mapping[str, TokenStore | HeldOutDataset] = field(default_factory=dict)
    """``general`` likewise."""
    tuned_train: HeldOutDataset | None = None
    """``train`` likewise."""
    heldout_texts: frozenset[str] = frozenset()
    """Those of ``known_texts`` that are held-out text of the target."""
    canaries: HeldOutDataset | None = None
    """Short texts of which is asked whether the tuned model knows them."""
    prompts: Sequence[str] = ()
    """A person's own, which both models continue."""


@dataclass(frozen=True)
class ComparedPassages:
    """Passages of one length: of an encoder, which writes none, all are empty."""

    base: Sequence[str] = ()
    """Of the base; no judge was trained on them."""
    tuned: Sequence[str] = ()
    """Of the tuned model, from the same beginnings."""
    real: Sequence[str] = ()
    """Real held-out text of the target."""
    base_recited: Sequence[str] = ()
    """Of the base, after words of the training text; empty where no passage was written so."""
    tuned_recited: Sequence[str] = ()
    """Of the tuned model, after the same words."""


@dataclass(frozen=True)
class Comparison:
    """A base, a model tuned from it, and what they are compared on."""

    base: PreTrainedModel | None
    """``None`` where the tuned model is an adapter that contains it (``contains_base``); measures ask ``as_base``."""
    tuned: PreTrainedModel
    """As it was saved."""
    texts: ComparedTexts
    passages: ComparedPassages
    window_tokens: int
    """Tokens in a window of evaluation."""
    masking: Masking | None = None
    """How an encoder's held-out text is masked; ``None``: the next token is predicted."""
    max_windows: int | None = JUDGED_WINDOWS
    """Windows of each text that are evaluated, spread evenly; ``None`` takes all."""
    train_windows: int | None = None
    """Windows of the training text that are evaluated; ``None`` takes as many as of the held-out text."""
    scales: Sequence[float] = ()
    """Scales of the change at which gain and forgetting are measured, such as ``SCALES``."""
    styles: Sequence[StyleScore] = ()
    """Scores of the judges."""
    trainable: Selection | None = None
    """What was allowed to change; ``None`` means everything."""
    reload_difference: float | None = None
    """Largest difference of logits between the trained model and its folder; ``None`` where only that is known."""
    passes: float | None = None
    """Tokens trained over tokens of the text; ``None`` where that is not known."""
    assumptions: Sequence[str] = ()
    """What had to be assumed; it is shown beside the verdict."""
    reference: Reference | None = None
    """A language model that reads the passages; ``None``: the base, where it reads well enough."""
    prose: bool = True
    """Whether the text is prose; the language of code is the share that parses, which its recipe measures."""
    from_scratch: bool = False
    """Whether the base is untrained: then its language means nothing, and there is nothing to forget."""
    examples: ComparedExamples | None = None
    """Examples that the model was trained on and held-out ones; ``None`` where it was trained on text."""
    answers: ComparedAnswers | None = None
    """Answers to the prompts of examples."""
    write: Callable[[int, float], Mapping[str, Any]] | None = None
    """Gives ``passages`` and ``styles``, or ``answers``: so many of each model, scored at a level; ``None``: there are
    no more."""
    level: float = LEVEL
    """How often intervals hold that rest on passages."""
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was computed once for all looks."""
    base_losses: dict[Any, tuple[Any, HeldOutLoss, KeptStates | None]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Losses of the base by text, each with its text and what its head read, where the models' predictions are
    compared. Comparisons with one base, window and texts may share them."""

    @property
    def shared_level(self) -> float:
        """Of the rules that look at language, which share one error (Bonferroni)."""
        return 1 - (1 - self.level) / _LANGUAGE_RULES

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What was made under a name, made at the first call."""
        if name not in self.kept:
            self.kept[name] = make()
        found: T = self.kept[name]
        return found

    def look(self, passages: int, level: float) -> Comparison:
        """The same comparison on so many passages or answers of each model."""
        assert self.write is not None
        return replace(self, level=level, **self.write(passages, level))

    @contextmanager
    def as_base(self) -> Iterator[PreTrainedModel]:
        """The base as long as the context lasts; the tuned model is not to be used meanwhile."""
        with base_or_beneath(self.base, self.tuned) as base:
            yield base

    def pair_of_losses(
        self,
        store: TokenStore | HeldOutDataset,
        of_tuned: TokenStore | HeldOutDataset | None = None,
        most: int | None = None,
    ) -> tuple[HeldOutLoss, HeldOutLoss]:
        """Loss of base and tuned model on a text.

        Args:
            store: The text.
            of_tuned: The same in the tuned model's own tokens; ``None`` where they are the base's.
            most: Windows at most; ``None`` for ``max_windows``.
        """
        key = id(store), most
        if key not in self.base_losses:
            kept = self._room_for_states(store)
            with self.as_base() as base:
                self.base_losses[key] = store, self.loss(base, store, most, kept), kept
        self.kept[f"states {id(store)}"] = kept = self._room_for_states(store)
        return self.base_losses[key][1], self.loss(self.tuned, of_tuned or store, most, kept)

    def _room_for_states(self, store: TokenStore | HeldOutDataset) -> KeptStates | None:
        """Room for what a head reads of the text on which predictions are compared; ``None`` for other texts."""
        if not self.predicts_same_tokens or (store is not self.texts.heldout and store is not self.general_text):
            return None
        return KeptStates(spread_rows(self.rows_of(store).spread(self.max_windows), _COMPARED_WINDOWS))

    def states_of(self, store: TokenStore) -> tuple[KeptStates, KeptStates] | None:
        """What the heads of base and tuned model read of a text while its loss was measured, given once."""
        _, _, before = self.base_losses.get((id(store), None), (None, None, None))
        after = self.kept.pop(f"states {id(store)}", None)
        return (before, after) if before and after else None

    @property
    def losses(self) -> tuple[HeldOutLoss, HeldOutLoss]:
        """Loss of base and tuned model on held-out text."""
        return self.once("losses", self._losses)

    def _losses(self) -> tuple[HeldOutLoss, HeldOutLoss]:
        return self.pair_of_losses(self.texts.heldout, self.texts.tuned_heldout)

    @property
    def last_losses(self) -> tuple[HeldOutLoss, HeldOutLoss]:
        """Loss of base and tuned model on the last answers of held-out examples."""
        assert self.examples is not None
        if self.examples.last is self.examples.heldout:
            return self.losses
        return self.once("losses of last answers", self._last_losses)

    def _last_losses(self) -> tuple[HeldOutLoss, HeldOutLoss]:
        assert self.examples is not None
        of_tuned = self.examples.of_tuned
        return self.pair_of_losses(self.examples.last, of_tuned.last if of_tuned else None)

    @property
    def general_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        """The same on all general text together; ``None`` where there is none."""
        if not (pairs := list(self.losses_by_source.values())):
            return None
        return HeldOutLoss.joined([before for before, _ in pairs]), HeldOutLoss.joined([after for _, after in pairs])

    @property
    def losses_by_source(self) -> Mapping[str, tuple[HeldOutLoss, HeldOutLoss]]:
        """The same on each general text, by name."""
        return self.once("general losses", self._losses_by_source)

    def _losses_by_source(self) -> Mapping[str, tuple[HeldOutLoss, HeldOutLoss]]:
        of_tuned = self.texts.tuned_general
        return {
            name: self.pair_of_losses(text, of_tuned.get(name)) for name, text in self.texts.general.items() if text
        }

    @property
    def general_text(self) -> TokenStore | None:
        """The general text where it is one text in the base's tokens."""
        found = list(self.texts.general.values())
        return found[0] if len(found) == 1 and isinstance(found[0], TokenStore) else None

    @property
    def train_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        """The same on windows spread over the training text; ``None`` where it is not given."""
        return self.once("training losses", self._train_losses)

    def _train_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        if self.texts.train is None:
            return None
        most = self.train_windows or len(self.losses[0].nats)
        return self.pair_of_losses(self.texts.train, self.texts.tuned_train, most)

    def loss(
        self,
        model: PreTrainedModel,
        store: TokenStore | HeldOutDataset,
        most: int | None = None,
        kept: KeptStates | None = None,
    ) -> HeldOutLoss:
        """Loss of a model on a text or on rows, on at most so many windows."""
        most = self.max_windows if most is None else most
        return held_out_loss(model, self.rows_of(store), most, kept=kept)

    @property
    def heldout_text(self) -> TokenStore:
        """The held-out text in the base's tokens; measures of text ask for it, and examples have none."""
        assert isinstance(self.texts.heldout, TokenStore)
        return self.texts.heldout

    def rows_of(self, store: TokenStore | HeldOutDataset) -> HeldOutDataset:
        """The rows of a text, its windows; rows are themselves."""
        if isinstance(store, HeldOutDataset):
            return store
        return HeldOutWindows(store, self.window_tokens, self.masking)

    @property
    def general_unknown(self) -> float:
        """Share of the general text's bytes that a tokenizer cannot write."""
        return max((each.unknown_share for each in self.general_losses or ()), default=0.0)

    @property
    def readable_general_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        """``general_losses``, without those of a text that a tokenizer cannot write."""
        return self.general_losses if self.general_unknown <= MOST_UNKNOWN else None

    @property
    def writes(self) -> bool:
        """Whether the tuned model writes text."""
        return bool(self.passages.tuned)

    @property
    def predicts_same_tokens(self) -> bool:
        """Whether both models predict the next of the same tokens."""
        return self.masking is None and self.texts.tuned_heldout is None and self.examples is None

    @property
    def references(self) -> list[Reference]:
        """Models that may read the passages: the one that was given, else the base where it predicts the next token."""
        if self.reference is not None:
            return [self.reference]
        if self.masking is not None or self.from_scratch or self.examples is not None:
            return []
        if (tokenizer := self.heldout_text.tokenizer) is None:
            return []
        if self.base is None:
            return [Reference("the base", self.tuned, tokenizer, beneath=True)]
        return [Reference("the base", self.base, tokenizer)]

    @property
    def train_passages(self) -> list[str]:
        """The training text in passages as long as those that are measured."""
        return self.once("training passages", self._train_passages)

    def _train_passages(self) -> list[str]:
        return cut_passages(self.texts.train_texts, max(map(len, self.passages.real), default=_PASSAGE))

    @property
    def known_words(self) -> frozenset[str]:
        """Words of all real text."""
        return self.once("known words", lambda: frozenset(vocabulary_of(self.texts.known_texts)))

    @property
    def train_words(self) -> frozenset[str]:
        """Words of the training text."""
        return self.once("training words", lambda: frozenset(vocabulary_of(self.texts.train_texts)))

    @property
    def known_beside_heldout(self) -> frozenset[str]:
        """Words of all real text but the held-out text, by which its own words are counted."""
        return self.once("words beside held-out text", self._known_beside_heldout)

    def _known_beside_heldout(self) -> frozenset[str]:
        heldout = self.texts.heldout_texts
        return (
            frozenset(vocabulary_of([text for text in self.texts.known_texts if text not in heldout]))
            | self.train_words
        )


def check_heldout(name: str, heldout: TokenStore, window_tokens: int, real: Sequence[str] | None) -> None:
    """Refuse held-out text that is too short for any evidence, before anything is trained.

    Args:
        name: What to call the text.
        heldout: Its tokens.
        window_tokens: Tokens in a window of evaluation.
        real: Its passages; ``None`` where no passage is measured.

    Raises:
        DataError: Not one window, or not one passage.
    """
    if heldout.num_tokens < window_tokens or (real is not None and not real):
        passages = "" if real is None else f" and {len(real)} passages"
        raise DataError(
            f"{name}: {heldout.num_tokens:,} held-out tokens{passages}, where a window has "
            f"{window_tokens} tokens; give more text, or a larger heldout_share, or smaller window_tokens and passages"
        )
    if heldout.num_unknown_bytes:
        claimed = "no bits per byte are claimed" if heldout.unknown_share > MOST_UNKNOWN else "bits are over the rest"
        _logger.warning("%s: %s; %s", name, heldout.unknown_summary, claimed)
    if real is not None and len(real) < MIN_PASSAGES:
        _logger.warning("%s: only %d held-out passages; a judge needs %d", name, len(real), MIN_PASSAGES)


def measure_at(comparison: Comparison, earlier: Evidence | None = None) -> Evidence:
    """Take all measurements of a tuned model against its base: every measure is asked.

    Args:
        comparison: The models, their texts and passages.
        earlier: Of fewer passages, from which measures that need none are taken over.
    """
    before, after = comparison.losses
    unknown = max(before.unknown_share, after.unknown_share)
    unclaimed = (
        f"no bits per byte and no gain are claimed: the tokenizer cannot write {unknown:.0%} of the held-out text's "
        f"bytes (at most {MOST_UNKNOWN:.0%}); take a model whose tokenizer knows this script"
    )
    heldout = HeldOut(
        base=bits_per_byte(before),
        tuned=bits_per_byte(after),
        gain=gain_in_bits(before, after),
        windows=len(before.nats),
        rows="windows" if comparison.examples is None else "examples",
        blocks=loss_blocks(before, after),
        unknown_bytes=unknown,
        unclaimed=unclaimed if unknown > MOST_UNKNOWN else "",
    )
    notes = [*comparison.assumptions, *_notes_on_text(comparison)]
    measured = {}
    for measure in all_measures():
        # A measure that does not say what it needs may read passages.
        if earlier is not None and measure.needs and not {"passages", "judges"} & set(measure.needs):
            measured[measure.name] = earlier.measures[measure.name]
        else:
            measured[measure.name] = _asked(measure, comparison, notes)
    count = len(comparison.passages.tuned) + len(comparison.passages.tuned_recited)
    return Evidence(
        heldout, measured, comparison.passes, tuple(notes), count, comparison.level, comparison.from_scratch
    )


def _asked(measure: Measure[Any], comparison: Comparison, notes: list[str]) -> Any:
    """A measure's result. A measure of another package that fails costs no run its evidence: it is noted."""
    if type(measure).__module__.startswith("ftkit."):
        return measure.compute(comparison)
    try:
        return measure.compute(comparison)
    except Exception as error:
        notes.append(f"the measure {measure.name} failed ({type(error).__name__}: {error}), so it has no result")
        _logger.exception("the measure %s failed", measure.name)
        return None


def _notes_on_text(comparison: Comparison) -> list[str]:
    """How the text was read: special tokens, scripts without spaces, bytes that a tokenizer cannot write."""
    heldout, passages = comparison.texts.heldout, comparison.passages.real
    notes = [] if comparison.examples else [special_tokens_said(heldout.tokenizer)]
    if (share := character_share("\n".join(passages))) >= _MANY_CHARACTERS:
        of = f"{share:.0%} of the text's words are of a script that puts no space between words"
        notes.append(f"words are characters: {of}")
    over = "; bits per byte are over the rest" if all(loss.counts_bytes for loss in comparison.losses) else ""
    stores = {"held-out text": heldout, "held-out text, tuned model": comparison.texts.tuned_heldout}
    notes += [
        f"{name}: {store.unknown_summary}{over}"
        for name, store in stores.items()
        if isinstance(store, TokenStore) and store.unknown_summary
    ]
    if comparison.masking is not None:
        asked = "so copying and fluency were not measured; its bits are those of masked tokens"
        notes.append(f"an encoder writes no text, {asked}")
    return [note for note in notes if note]
