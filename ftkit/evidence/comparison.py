"""The comparison of a tuned model with its base: what is given, what is computed from it once, and all measurements.

    Comparison(base, tuned, texts, passages, ...) -> gather_evidence -> Evidence -> decide -> Verdict

Every recipe and ``ftkit verdict`` build the same ``Comparison`` and call the same function.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from ftkit.data import Masking, TokenStore
from ftkit.data.tokenizers import special_tokens_said
from ftkit.data.words import character_share
from ftkit.errors import DataError
from ftkit.evidence.document import Evidence, HeldOut
from ftkit.evidence.intervals import bits_per_byte, gain_in_bits, loss_blocks
from ftkit.evidence.judges import MIN_PASSAGES, vocabulary_of
from ftkit.evidence.measure import Measure
from ftkit.evidence.measures import all_measures
from ftkit.evidence.style import StyleScore
from ftkit.memory import memory_phase
from ftkit.training import MOST_UNKNOWN, HeldOutLoss, HeldOutWindows, held_out_loss
from ftkit.tuning import Selection

__all__ = ["ComparedPassages", "ComparedTexts", "Comparison", "check_heldout", "gather_evidence"]

_logger = logging.getLogger("ftkit.evidence")
_MANY_CHARACTERS = 0.1
"""Share of words that are single characters from which on a verdict says so: below it, they are a few foreign names."""


@dataclass(frozen=True)
class ComparedTexts:
    """The text of a comparison, as it is and in tokens."""

    heldout: TokenStore
    """Text of the target that was not trained on, in the base's tokens."""
    train_texts: Sequence[str]
    """What the model and its base were trained on, for copying."""
    known_texts: Sequence[str]
    """All real text of the run: a word that occurs in none of it is unknown."""
    general: TokenStore | None = None
    """Other text that neither model was trained on, for forgetting."""
    general_name: str = ""
    train: TokenStore | None = None
    """The text that was trained on, for the gap between training and held-out text."""
    tuned_heldout: TokenStore | None = None
    """``heldout`` in the tuned model's own tokens, where it has another tokenizer than the base."""
    tuned_general: TokenStore | None = None
    """``general`` likewise."""


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

    base: PreTrainedModel
    tuned: PreTrainedModel
    """As it was saved."""
    texts: ComparedTexts
    passages: ComparedPassages
    window_tokens: int
    """Tokens in a window of evaluation."""
    masking: Masking | None = None
    """How an encoder's held-out text is masked; ``None``: the next token is predicted."""
    max_windows: int | None = None
    """Windows of each text that are evaluated, spread evenly; ``None`` takes all."""
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

    @cached_property
    def losses(self) -> tuple[HeldOutLoss, HeldOutLoss]:
        """Loss of base and tuned model on held-out text."""
        texts = self.texts
        return self.loss(self.base, texts.heldout), self.loss(self.tuned, texts.tuned_heldout or texts.heldout)

    @cached_property
    def general_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        """The same on general text; ``None`` where there is none."""
        texts = self.texts
        if not texts.general:
            return None
        return self.loss(self.base, texts.general), self.loss(self.tuned, texts.tuned_general or texts.general)

    @cached_property
    def train_losses(self) -> tuple[HeldOutLoss, HeldOutLoss] | None:
        """The same on as many windows, spread over the training text; ``None`` where it is not given."""
        if self.texts.train is None:
            return None
        most = len(self.losses[0].nats)
        first, second = (self.loss(model, self.texts.train, most) for model in (self.base, self.tuned))
        return first, second

    def loss(self, model: PreTrainedModel, store: TokenStore, most: int | None = None) -> HeldOutLoss:
        """Loss of a model on a text, on at most so many windows."""
        most = self.max_windows if most is None else most
        return held_out_loss(model, HeldOutWindows(store, self.window_tokens, self.masking), most)

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
        return self.masking is None and self.texts.tuned_heldout is None

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Words of all real text."""
        return frozenset(vocabulary_of(self.texts.known_texts))

    @cached_property
    def train_words(self) -> frozenset[str]:
        """Words of the training text."""
        return frozenset(vocabulary_of(self.texts.train_texts))


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


@memory_phase("evaluate")
def gather_evidence(comparison: Comparison) -> Evidence:
    """Take all measurements of a tuned model against its base: every measure is asked."""
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
        blocks=loss_blocks(before, after),
        unknown_bytes=unknown,
        unclaimed=unclaimed if unknown > MOST_UNKNOWN else "",
    )
    notes = [*comparison.assumptions, *_notes_on_text(comparison)]
    measured = {measure.name: _asked(measure, comparison, notes) for measure in all_measures()}
    return Evidence(heldout, measured, comparison.passes, tuple(notes))


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
    notes = [special_tokens_said(heldout.tokenizer)]
    if (share := character_share("\n".join(passages))) >= _MANY_CHARACTERS:
        of = f"{share:.0%} of the text's words are of a script that puts no space between words"
        notes.append(f"words are characters: {of}")
    over = "; bits per byte are over the rest" if all(loss.counts_bytes for loss in comparison.losses) else ""
    stores = {"held-out text": heldout, "held-out text, tuned model": comparison.texts.tuned_heldout}
    notes += [
        f"{name}: {store.unknown_summary}{over}" for name, store in stores.items() if store and store.unknown_summary
    ]
    if not comparison.writes:
        asked = "so copying and fluency were not measured; its bits are those of masked tokens"
        notes.append(f"an encoder writes no text, {asked}")
    return [note for note in notes if note]
