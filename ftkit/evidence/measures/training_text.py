"""What it gained on its training text beyond held-out text: what did not carry over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import interval, number
from ftkit.evidence.intervals import Interval, bits_per_byte, gain_over
from ftkit.evidence.measure import Measure

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "TrainingText"]


@dataclass(frozen=True)
class TrainingText:
    """Loss on windows of the training text: as many as of held-out text, unless more were asked for."""

    base: Interval
    """Bits per byte."""
    tuned: Interval
    gap: Interval
    """Bits per byte gained there beyond the gain on held-out text."""
    passes: float | None = None
    """Epochs: tokens trained on, divided by tokens of the text; ``None`` if unknown."""


class TrainingTextMeasure(Measure[TrainingText]):
    """Asks what did not carry over from the training text."""

    name, place, result, unit, needs = "training_text", 10, TrainingText, "bits per byte", ("losses",)
    question = "What did it gain on its training text that did not carry over to held-out text?"

    def compute(self, comparison: Comparison) -> TrainingText | None:
        if (losses := comparison.train_losses) is None:
            return None
        before, after = map(bits_per_byte, losses)
        return TrainingText(before, after, gain_over(losses, comparison.losses), comparison.passes)

    def rows(self, result: TrainingText) -> Iterable[Row]:
        yield Row("gain on its training text beyond that on held-out text", result.gap)

    def parts(self, results: Mapping[str, TrainingText], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Training text: bits per byte and 95 % intervals; the gap is what it gained there and not on held-out text",
            ("Model", "Epochs", "Base", "Tuned", "Gap, bits per byte"),
            [
                (name, [[number(found.passes), *map(interval, (found.base, found.tuned, found.gap))]])
                for name, found in results.items()
            ],
        )
        yield Part("training-text", "Training text", tables=[table], after_samples=False)


MEASURE = TrainingTextMeasure()
