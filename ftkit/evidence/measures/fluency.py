"""Is its language damaged? Repetition, diversity and invented words, beside real text and the base's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import interval, percent, percent_interval
from ftkit.evidence.fluency import Damage, Fluency, fluency, language_damage, out_of_range
from ftkit.evidence.measure import Advice, Case, Finding, Measure, OpenRule, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "ComparedFluency"]

_SURELY_NONE = 2
"""An excess is excluded where its upper bound is below so many times the margin: a model without any is then decided by
48 passages."""


@dataclass(frozen=True)
class ComparedFluency:
    """The language of base, tuned model and real text."""

    base: Fluency
    tuned: Fluency
    real: Fluency
    damage: Damage
    """How far the tuned model's text lies outside real text and the base's."""


class FluencyMeasure(Measure[ComparedFluency]):
    """Asks whether its language lies outside that of real text and of its base."""

    name, place, result, unit, needs = "fluency", 70, ComparedFluency, "shares of words", ("passages", "texts")
    question = "Does it repeat itself, use few words, or invent words, more than real text and its base do?"

    def compute(self, comparison: Comparison) -> ComparedFluency | None:
        if not comparison.writes:
            return None
        passages, known, of_real = comparison.passages, comparison.known_words, comparison.train_words
        unused = _unused_tokens(comparison)
        base, tuned = (
            fluency(written, known, unused(written) if unused else None) for written in (passages.base, passages.tuned)
        )
        # Without its own words all words of held-out text would be known.
        damage = language_damage(passages.tuned, passages.base, passages.real, known, of_real, comparison.shared_level)
        return ComparedFluency(base, tuned, fluency(passages.real, of_real), damage)

    def findings(self, result: ComparedFluency, case: Case) -> Iterable[Finding]:
        base, tuned, real, damage, limits = result.base, result.tuned, result.real, result.damage, case.limits
        if damage.repetition.low > limits.repetition_excess:
            yield Finding(
                "damaged",
                f"it repeats itself: {tuned.repetition:.0%} of its word 3-grams occurred before in the passage, "
                f"{real.repetition:.0%} in real text, {base.repetition:.0%} in the base's text",
                f"damage repetition.low {damage.repetition.low:z.3f} > repetition_excess {limits.repetition_excess}",
            )
        if damage.diversity.low > limits.diversity_loss:
            yield Finding(
                "damaged",
                f"low lexical diversity: {tuned.diversity:.2f} different words per word, {real.diversity:.2f} in real "
                f"text, {base.diversity:.2f} in the base's text",
                f"damage diversity.low {damage.diversity.low:z.3f} > diversity_loss {limits.diversity_loss}",
            )
        if case.evidence.heldout.gain.high < 0 and damage.unknown_words.low > limits.invented_words:
            yield Finding(
                "damaged",
                f"it invents words: {tuned.unknown_words:.0%} of its words are in none of the real texts (base model: "
                f"{base.unknown_words:.0%}), and its loss on held-out text rose",
                f"damage unknown_words.low {damage.unknown_words.low:z.3f} > invented_words {limits.invented_words}",
            )

    def open_rules(self, result: ComparedFluency, case: Case) -> Iterable[OpenRule]:
        for name, excess, most in (
            ("repetition", result.damage.repetition, case.limits.repetition_excess),
            ("diversity", result.damage.diversity, case.limits.diversity_loss),
        ):
            if excess.low <= most and excess.high >= _SURELY_NONE * most:
                yield OpenRule(name, "damaged")

    def rows(self, result: ComparedFluency) -> Iterable[Row]:
        for label, key in (
            ("words in no corpus", "unknown_words"), ("word 3-grams that a passage has used before", "repetition")
        ):  # fmt: skip
            base, tuned, real = (getattr(found, key) for found in (result.base, result.tuned, result.real))
            yield Row(label, tuned, base, real, percent=True)

    def parts(self, results: Mapping[str, ComparedFluency], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Means over passages; in brackets the middle 95 % of the passages",
            (
                "Model", "Passages of", "Repetition", "Diversity", "Distinct pairs", "Entropy, bits", "Words",
                "Unknown words", "Unused tokens",
            ),
            [
                (
                    name,
                    [
                        _fluency_cells(source, side, found.real)
                        for source, side in (
                            ("base model", found.base), ("tuned model", found.tuned), ("real text", found.real)
                        )
                    ],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        yield Part(
            "fluency", "Fluency",
            "Repetition: word 3-grams that a passage has used before. Diversity: distinct words / words. Unknown words "
            "and unused tokens: in no text of the run (for real text: in no training text). Entropy: of a passage's "
            "word distribution, in bits. Marked: the mean lies outside the range of real text.",
            [table], link="Fluency",
        )  # fmt: skip

    def advice(self, result: ComparedFluency, outcome: Outcome) -> Iterable[str | Advice]:
        other = any(decider.startswith("word order") for decider in outcome.decided_by)
        if ("broken" in outcome.words or outcome.rule == "no_language") and not other:
            rate = outcome.was("learning_rate")
            text = f"If it repeats itself: fewer steps, a lower learning_rate{rate}, or another sampling."
            yield Advice(text, "less")


def _fluency_cells(source: str, side: Fluency, real: Fluency) -> list[str | Cell]:
    cells: list[str | Cell] = [Cell(source)]
    marked = out_of_range(side, real)
    for key in ("repetition", "diversity", "distinct_bigrams", "entropy", "words"):
        mean, ends = getattr(side, key), getattr(side, f"{key}_range")
        whole = dict(zip(("value", "low", "high"), (mean, *(ends or (None, None))), strict=True))
        text = percent_interval(whole) if key == "repetition" else interval(whole)
        cells.append(Cell(text, "marked") if key in marked else text)
    return [*cells, percent(side.unknown_words), percent(side.unused_tokens)]


def _unused_tokens(comparison: Comparison) -> Callable[[Sequence[str]], float] | None:
    """Counts the tokens of passages that no known text uses; ``None`` where the two models have two tokenizers."""
    from ftkit.data import tokenize_texts
    from ftkit.evidence.usage import token_shares

    texts = comparison.texts
    if texts.tuned_heldout is not None:
        return None
    tokenizer = comparison.heldout_text.tokenizer
    assert tokenizer is not None
    used = np.unique(np.asarray(tokenize_texts([*texts.known_texts, *texts.train_texts], tokenizer).ids)).tolist()

    def share(passages: Sequence[str]) -> float:
        shares = 1 - token_shares(passages, tokenizer, used)
        return float(np.nanmean(shares)) if np.isfinite(shares).any() else 0.0

    return share


MEASURE = FluencyMeasure()
