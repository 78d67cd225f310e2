"""The base with examples in its prompt: whether a prompt would have done what training did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import interval
from ftkit.evidence.intervals import Interval, bits_per_byte, gain_in_bits
from ftkit.evidence.measure import Case, Measure, Outcome, Remark

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "FewShot"]


@dataclass(frozen=True)
class FewShot:
    """Completions of the base after examples; all intervals are ``None`` where they were not measured."""

    examples: int = 0
    """Training examples in each prompt."""
    draws: int = 0
    """Draws of them; losses are means over the draws."""
    why: str = ""
    """Why it was not measured."""
    base: Interval | None = None
    """Bits per byte of completions after these examples."""
    over_prompt: Interval | None = None
    """What the tuned model saves beyond that, paired."""
    of_prompt: Interval | None = None
    """What the examples save for the base, paired."""


class FewShotMeasure(Measure[FewShot]):
    """Asks whether a prompt with examples would have done what training did."""

    name, place, result, unit, needs = "few_shot", 13, FewShot, "bits per byte", ("losses",)
    question = "Does the base do as well with a few of the examples in its prompt?"

    def compute(self, comparison: Comparison) -> FewShot | None:
        from ftkit.training import HeldOutLoss

        if (examples := comparison.examples) is None:
            return None
        if not examples.after_shots:
            return FewShot(why=examples.no_shots)
        with comparison.as_base() as base:
            found = [comparison.loss(base, rows) for rows in examples.after_shots]
        after = HeldOutLoss(np.mean([loss.nats for loss in found], axis=0), found[0].targets, found[0].bytes)
        before, tuned = comparison.last_losses
        return FewShot(
            len(examples.shots[0]), len(found), "", bits_per_byte(after), gain_in_bits(after, tuned),
            gain_in_bits(before, after),
        )  # fmt: skip

    def remarks(self, result: FewShot, case: Case) -> Iterable[Remark]:
        if result.over_prompt is None:
            yield Remark(f"the base with examples in its prompt was not measured: {result.why}", "gain")
            return
        assert result.base is not None
        yield Remark(f"{_said(result, case.limits.worked_gain)} ({result.over_prompt} bits per byte beyond it)", "gain")

    def rows(self, result: FewShot) -> Iterable[Row]:
        if result.over_prompt is None:
            yield Row("the base with examples in its prompt", f"not measured: {result.why}")
            return
        yield Row(f"bits per byte of completions after {result.examples} examples", None, result.base)
        yield Row("gain beyond the base with these examples, paired", result.over_prompt)

    def headline(self, result: FewShot, outcome: Outcome) -> Iterable[str]:
        if result.over_prompt is not None and "worked" in outcome.words:
            yield _said(result, outcome.limit("worked_gain", 0.0))

    def parts(self, results: Mapping[str, FewShot], document: Mapping[str, Any]) -> Iterable[Part]:
        known = {name: found for name, found in results.items() if found.over_prompt is not None}
        if not known:
            return
        table = PageTable(
            "Completions after examples in the base's prompt, bits per byte with 95 % intervals",
            ("Model", "Examples", "Draws", "Base after examples", "Examples save", "Tuned saves beyond them"),
            [
                (
                    name,
                    [[
                        str(found.examples), str(found.draws), interval(found.base), interval(found.of_prompt),
                        interval(found.over_prompt),
                    ]],
                )
                for name, found in known.items()
            ],
        )  # fmt: skip
        yield Part("few-shot", "A prompt instead of training", tables=[table])


def _said(result: FewShot, least: float) -> str:
    """Whether examples in the prompt do what training did."""
    over = result.over_prompt
    assert over is not None
    prompt = f"the base with {result.examples} examples in its prompt"
    if over.low > 0:
        return f"it does better than {prompt}"
    if over.high < least:
        return f"a prompt does it too: it does no better than {prompt}"
    return f"it is not shown to do better than {prompt}"


MEASURE = FewShotMeasure()
