"""Is it whole? Finite values, a saved folder that computes the same, and the tokenizer that it learned with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import interval, number
from ftkit.evidence.intervals import Interval, gain_in_bits
from ftkit.evidence.measure import Advice, Case, Finding, Measure, Outcome

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Integrity"]


@dataclass(frozen=True)
class Integrity:
    """Technical faults: each makes the model ``broken``, whatever the text is."""

    finite: bool = True
    """Whether all weights and the held-out loss are finite."""
    reload_difference: float | None = None
    """Largest difference of logits between the trained model and its folder; ``None`` where only that is known."""
    tokenizer_misfit: Interval | None = None
    """Bits per byte that the tuned model saves with the base's tokenizer; ``None`` where both have one tokenizer."""


class IntegrityMeasure(Measure[Integrity]):
    """Asks whether weights, folder and tokenizer are those of one model."""

    name, place, result, unit = "integrity", 80, Integrity, "difference of logits; bits per byte"
    needs = ("losses", "weights")
    question = "Are its values finite, its folder and its tokenizer its own?"

    def compute(self, comparison: Comparison) -> Integrity | None:
        from torch import isfinite

        finite = math.isfinite(comparison.losses[1].nats.sum()) and all(
            bool(isfinite(parameter).all()) for parameter in comparison.tuned.parameters()
        )
        return Integrity(finite, comparison.reload_difference, _tokenizer_misfit(comparison))

    def findings(self, result: Integrity, case: Case) -> Iterable[Finding]:
        limits, misfit, difference = case.limits, result.tokenizer_misfit, result.reload_difference
        if not result.finite:
            yield Finding("fault", "weights or losses are not finite", "not finite")
        if misfit is not None and misfit.low > limits.tokenizer_misfit:
            yield Finding(
                "fault",
                "wrong tokenizer: with the base's tokenizer its loss on held-out text is lower by "
                f"{misfit} bits per byte",
                f"tokenizer_misfit.low {misfit.low:z.3f} > {limits.tokenizer_misfit}",
            )
        if difference is not None and difference > limits.reload_difference:
            yield Finding(
                "fault",
                f"the saved folder computes other logits than the trained model (difference {difference:.2g})",
                f"reload_difference {difference:.2g} > {limits.reload_difference}",
            )

    def rows(self, result: Integrity) -> Iterable[Row]:
        if result.reload_difference is not None:
            yield Row("largest difference of logits after saving and loading", result.reload_difference)
        if result.tokenizer_misfit is not None:
            yield Row("loss reduction with the base's tokenizer, bits per byte", result.tokenizer_misfit)

    def parts(self, results: Mapping[str, Integrity], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Whether the saved model is whole",
            ("Model", "Values", "Saved folder differs by (logits)", "The base's tokenizer lowers the loss by"),
            [
                (
                    name,
                    [[
                        Cell("finite" if found.finite else "not finite"), number(found.reload_difference),
                        interval(found.tokenizer_misfit) if found.tokenizer_misfit else Cell("same tokenizer"),
                    ]],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        yield Part("integrity", "Integrity", tables=[table])

    def advice(self, result: Integrity, outcome: Outcome) -> Iterable[str | Advice]:
        if "broken" not in outcome.words:
            return
        if not result.finite:
            text = f"Lower learning_rate{outcome.was('learning_rate')}, set max_grad_norm to 1.0, and add warmup_steps."
            yield Advice(text, "less")
        if (result.reload_difference or 0.0) > outcome.limit("reload_difference", 0.0):
            yield "Do not use the saved folder: it computes something else than the model that was trained."
        if (misfit := result.tokenizer_misfit) and misfit.low > outcome.limit("tokenizer_misfit", 0.0):
            yield (
                "Save the tokenizer that it was trained with. The saved tokenizer is wrong: the base's lowers the loss "
                f"by {number(misfit.value)} bits per byte."
            )


def _tokenizer_misfit(comparison: Comparison) -> Interval | None:
    """Where the tuned model has another tokenizer and can read the base's ids."""
    if comparison.texts.tuned_heldout is None or comparison.examples is not None:
        return None
    heldout, vocab_size = comparison.heldout_text, comparison.tuned.config.get_text_config().vocab_size
    if int(heldout.ids.max()) >= vocab_size:
        return None
    return gain_in_bits(comparison.losses[1], comparison.loss(comparison.tuned, heldout))


MEASURE = IntegrityMeasure()
