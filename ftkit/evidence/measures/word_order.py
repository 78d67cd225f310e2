"""Does it read sentences, or only know words? What the order of words is worth to it, beside its base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import number, percent_interval
from ftkit.evidence.measure import Advice, Case, Finding, Measure, Outcome
from ftkit.evidence.order import WordOrder, word_order

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE"]

_MEANINGLESS = 10
"""Ends of the interval beyond which the share is a quotient of two small numbers, and is not shown."""


class WordOrderMeasure(Measure[WordOrder]):
    """Asks what the order of words saves."""

    name, place, result, unit, needs = "word_order", 60, WordOrder, "bits per byte", ("losses",)
    question = "What is the order of words worth to it, beside its base?"

    def compute(self, comparison: Comparison) -> WordOrder | None:
        if comparison.from_scratch or not comparison.predicts_same_tokens:
            return None
        heldout, window = comparison.heldout_text, comparison.window_tokens
        return word_order(comparison.base, comparison.tuned, heldout, comparison.losses, window)

    def findings(self, result: WordOrder, case: Case) -> Iterable[Finding]:
        limits = case.limits
        if result.base < limits.min_word_order or result.kept.high >= limits.word_order:
            return
        yield Finding(
            "damaged",
            f"insensitive to word order: correct order lowers its loss by only {result.tuned:.3f} bits per byte of "
            f"held-out text, the base's by {result.base:.3f}",
            f"word order kept.high {result.kept.high:z.3f} < word_order {limits.word_order}",
        )

    def rows(self, result: WordOrder) -> Iterable[Row]:
        yield Row("loss reduction from correct word order, bits per byte", result.tuned, result.base)

    def parts(self, results: Mapping[str, WordOrder], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Word order: loss with the words of each paragraph shuffled minus loss on held-out text, bits per byte",
            ("Model", "Base", "Tuned", "Tuned / base"),
            [(name, [[number(found.base), number(found.tuned), _kept(found)]]) for name, found in results.items()],
        )
        yield Part("word-order", "Word order", tables=[table])

    def advice(self, result: WordOrder, outcome: Outcome) -> Iterable[str | Advice]:
        if any(decider.startswith("word order") for decider in outcome.decided_by):
            yield (
                "Check that the training text is not shuffled: ftkit plan shows its first rows. Correct word order "
                f"lowers the loss by {number(result.tuned)} bits per byte, the base's by {number(result.base)}."
            )


def _kept(found: WordOrder) -> str:
    if found.kept.low > -_MEANINGLESS and found.kept.high < _MEANINGLESS:
        return percent_interval(found.kept)
    return "word order is worth too little to the base"


MEASURE = WordOrderMeasure()
