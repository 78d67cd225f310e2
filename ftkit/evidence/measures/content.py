"""The content of completions: how much a model uses the prompt that a completion belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import interval
from ftkit.evidence.intervals import Interval, ratio_of_sums
from ftkit.evidence.measure import Advice, Case, Finding, Measure, Outcome, Support

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Content"]


@dataclass(frozen=True)
class Content:
    """Bits per byte of completions after another example's prompt minus those after their own."""

    base: Interval
    tuned: Interval
    change: Interval
    """Tuned minus base, paired."""
    seen: float
    """Share of the held-out prompts that occur in the training examples."""


class ContentMeasure(Measure[Content]):
    """Asks whether the tuned model uses prompts better than the base does."""

    name, place, result, unit, needs = "content", 11, Content, "bits per byte", ("losses",)
    question = "Does the right prompt lower the loss of its completion more than it does for the base?"

    def compute(self, comparison: Comparison) -> Content | None:
        if (examples := comparison.examples) is None:
            return None
        own = comparison.last_losses
        of_tuned = examples.of_tuned
        swapped = comparison.pair_of_losses(examples.swapped, of_tuned.swapped if of_tuned else None)
        size = own[0].bytes * math.log(2)
        base, tuned = (after.nats - before.nats for before, after in zip(own, swapped, strict=True))
        return Content(
            ratio_of_sums(base, size), ratio_of_sums(tuned, size), ratio_of_sums(tuned - base, size), examples.seen
        )

    def findings(self, result: Content, case: Case) -> Iterable[Finding]:
        most = case.limits.seen_heldout
        if result.seen > most:
            yield Finding(
                "not_held_out",
                f"the examples are not held out: {result.seen:.0%} of their prompts occur in the training examples; "
                "remove these",
                f"seen prompts {result.seen:.3f} > seen_heldout {most}",
            )

    def support(self, result: Content, case: Case) -> Support | None:
        holds = result.change.low > 0
        doubt = "" if holds else ": it learned the form of completions; a better use of prompts is not shown"
        return Support(
            holds,
            [
                f"after its own prompt, not another example's, the loss of a completion is "
                f"{result.tuned.value:z.3f} bits per byte lower (base: {result.base.value:z.3f}, "
                f"change {result.change}){doubt}"
            ],
            [f"content change.low {result.change.low:z.3f} {'>' if holds else '<='} 0"],
        )

    def rows(self, result: Content) -> Iterable[Row]:
        yield Row("loss reduction from the right prompt, bits per byte", result.tuned, result.base)
        yield Row("change of that, paired", result.change)

    def headline(self, result: Content, outcome: Outcome) -> Iterable[str]:
        if outcome.rule == "undecided" and not result.change.low > 0:
            yield "it learned the form of completions; a better use of prompts is not shown"

    def parts(self, results: Mapping[str, Content], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Loss reduction from the right prompt, instead of another example's, bits per byte with 95 % intervals",
            ("Model", "Base", "Tuned", "Change"),
            [
                (name, [[interval(found.base), interval(found.tuned), interval(found.change)]])
                for name, found in results.items()
            ],
        )
        yield Part(
            "content", "Content of completions",
            "Each held-out completion is measured after its own prompt and after another example's. A model that has "
            "learned only the form of completions gains as much after a wrong prompt.",
            [table],
        )  # fmt: skip

    def advice(self, result: Content, outcome: Outcome) -> Iterable[str | Advice]:
        if outcome.undecided and not result.change.low > 0:
            yield (
                "It learned the form of completions. For their content, give more examples, check that prompts and "
                "completions belong together, or start from a stronger base."
            )


MEASURE = ContentMeasure()
