"""Can a simple classifier tell what it writes from real text? Reported beside the judges; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import interval, number
from ftkit.evidence.discriminator import Discriminator, discriminate
from ftkit.evidence.measure import Measure

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE"]


class DiscriminatorMeasure(Measure[Discriminator]):
    """Asks a classifier to tell real passages from written ones."""

    name, place, result, unit, needs = "discriminator", 40, Discriminator, "AUC, 0.5 to 1", ("passages",)
    question = "Can what it writes be told from real text of the target?"

    def compute(self, comparison: Comparison) -> Discriminator | None:
        passages = comparison.passages
        return discriminate(passages.real, passages.tuned, passages.base)

    def rows(self, result: Discriminator) -> Iterable[Row]:
        yield Row("AUC of real against generated passages", result.tuned, result.base)

    def parts(self, results: Mapping[str, Discriminator], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "AUC of real against generated passages, with 95 % intervals",
            ("Model", "Tuned model", "Base model", "Real passages"),
            [
                (name, [[interval(found.tuned), interval(found.base), number(found.passages)]])
                for name, found in results.items()
            ],
        )
        yield Part(
            "discriminator", "Can a classifier separate it from real text?",
            "A simple classifier learns real held-out passages against generated ones, by cross-validation. 0.5: it "
            "cannot. 1: it always can. The verdict does not use it.",
            [table], after_samples=False,
        )  # fmt: skip


MEASURE = DiscriminatorMeasure()
