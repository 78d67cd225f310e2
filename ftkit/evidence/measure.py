"""What a measure is. Each measure is one file of ``ftkit.evidence.measures``, and nobody else names it.

    comparison -> compute -> result (evidence.json) -> findings, support, remarks -> verdict
                                                    -> rows, parts, figures, advice -> report, card, notebook

A subclass overrides what it needs. ``docs/own_measure.md`` builds one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from ftkit.display.figures import Figure, Panels
from ftkit.display.tables import Gauge, Part, Row, shown

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison
    from ftkit.evidence.document import Evidence
    from ftkit.evidence.intervals import Interval
    from ftkit.evidence.thresholds import Thresholds

__all__ = [
    "STAGES",
    "Advice",
    "Case",
    "Finding",
    "Measure",
    "OpenRule",
    "Outcome",
    "Remark",
    "RunResults",
    "Stage",
    "Support",
]

Result = TypeVar("Result")

Stage = Literal["fault", "unchanged", "copied", "damaged", "not_held_out", "too_little"]
STAGES: Mapping[Stage, str] = {
    "fault": "broken",
    "unchanged": "nothing",
    "copied": "copied",
    "damaged": "broken",
    "not_held_out": "unsure",
    "too_little": "unsure",
}
"""Kinds of findings in the order in which they are asked, and the word that each gives."""


@dataclass(frozen=True)
class Finding:
    """A rule that holds."""

    stage: Stage
    reason: str
    """A sentence for people."""
    by: str
    """The number that decided, beside its threshold."""


@dataclass(frozen=True)
class Support:
    """Whether a condition of ``worked`` holds."""

    holds: bool
    reasons: Sequence[str] = ()
    by: Sequence[str] = ()
    open: bool = False
    """Whether it does not hold because it is not decided."""
    change: bool = False
    """Whether it saw the model change, so that a model without a gain has not learned nothing."""


@dataclass(frozen=True)
class OpenRule:
    """A rule that neither holds nor fails at the passages that were written."""

    name: str
    stage: Stage | Literal["worked"]
    """What it would decide."""


@dataclass(frozen=True)
class Remark:
    """A sentence among the reasons that does not affect the verdict."""

    text: str
    when: Literal["always", "gain", "worked", "nothing"] = "always"
    """When it is shown. ``gain``: with the gain on held-out text. ``worked``: a fault that was tested for and not
    found. ``nothing``: a possible cause when nothing was learned."""


@dataclass(frozen=True)
class Advice:
    """A sentence on what to do next that asks for more or for less training."""

    text: str
    training: Literal["more", "less"]
    """In steps or learning rate. If any advice says ``less``, all advice that says ``more`` is dropped."""


@dataclass(frozen=True)
class Case:
    """What a rule may ask beside its own result."""

    evidence: Evidence
    limits: Thresholds


@dataclass(frozen=True)
class Outcome:
    """A verdict and what surrounds it, for advice."""

    words: Sequence[str]
    """The main word, and those beside it."""
    rule: str = ""
    """Which rule gave the main word; see ``Verdict.rule``."""
    decided_by: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The run's."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    passes: float | None = None
    """Epochs: tokens trained on, divided by tokens of the training text."""

    @property
    def undecided(self) -> bool:
        """Whether the verdict is open although the text could be read and is held out."""
        return "unsure" in self.words and self.rule not in ("unreadable", "not_held_out")

    def was(self, setting: str) -> str:
        """A setting's value in brackets with a space before; empty where it is not known."""
        value = self.settings.get(setting)
        return "" if value is None else f" (it was {shown(value)})"

    def limit(self, name: str, otherwise: float) -> float:
        """A threshold that was used."""
        return self.thresholds.get(name, otherwise)


class RunResults(Protocol):
    """What figures are made from."""

    @property
    def models(self) -> list[str]:
        """Names of all models in their order."""

    @property
    def measured(self) -> Mapping[str, Any]:
        """``evidence.json``."""

    def metrics(self, model: str, split: str) -> list[dict[str, Any]]:
        """A model's records of one split."""

    def measured_by(self, measure: str) -> dict[str, Any]:
        """A measure's results by model, of those that have it."""

    def gain(self, model: str) -> Interval:
        """Bits per byte that a measured model saves on held-out text."""


class Measure(ABC, Generic[Result]):
    """One question about a tuned model, from its computation to what people read.

    ``name`` is its key in ``evidence.json``; ``place`` orders measures on the page and in the reasons; ``result`` is a
    frozen dataclass of numbers and intervals, which is read back from JSON.
    """

    name: ClassVar[str]
    place: ClassVar[int]
    question: ClassVar[str]
    unit: ClassVar[str]
    needs: ClassVar[Sequence[Literal["losses", "passages", "weights", "judges", "texts"]]] = ()
    """What of the comparison it reads, for the table in the docs."""
    result: type[Result]
    words: ClassVar[Sequence[str]] = ()
    """Words that ``beside`` may give, for ``ftkit verdict --fail-on``."""
    thresholds: ClassVar[Mapping[str, tuple[float, str]]] = {}
    """Numbers of its own rules, by name: default, and what it decides."""
    kinds: ClassVar[Mapping[str, Panels]] = {}
    """How its figures are drawn, by the beginning of their file's name."""

    @abstractmethod
    def compute(self, comparison: Comparison) -> Result | None:
        """Measure; ``None`` where the question makes no sense, such as copying of a model that writes no text."""

    # What the verdict asks.

    def findings(self, result: Result, case: Case) -> Iterable[Finding]:
        """Rules that hold."""
        return ()

    def support(self, result: Result, case: Case) -> Support | None:
        """A condition of ``worked``."""
        return None

    def open_rules(self, result: Result, case: Case) -> Iterable[OpenRule]:
        """Rules that neither hold nor fail: more passages may decide them."""
        return ()

    def beside(self, result: Result, case: Case) -> Mapping[str, Sequence[str]]:
        """Words that stand beside the main word, each with the numbers that decided it."""
        return {}

    def remarks(self, result: Result, case: Case) -> Iterable[Remark]:
        """Sentences that decide nothing."""
        return ()

    # What people read.

    def rows(self, result: Result) -> Iterable[Row]:
        """Rows of the table of measurements."""
        return ()

    def columns(self, result: Result) -> Mapping[str, tuple[str, Any]]:
        """Columns of the table that compares arms: text and number by heading."""
        return {}

    def headline(self, result: Result, outcome: Outcome) -> Iterable[str]:
        """Clauses of the sentence that stands above the reasons."""
        return ()

    def gauges(self, result: Result, outcome: Outcome) -> Iterable[Gauge]:
        """Bars beside the verdict; what they show is not said in the sentence above them."""
        return ()

    def parts(self, results: Mapping[str, Result], document: Mapping[str, Any]) -> Iterable[Part]:
        """Parts of the page.

        Args:
            results: By model.
            document: ``evidence.json``.
        """
        return ()

    def figures(self, results: RunResults) -> Iterable[Figure]:
        """Data of its figures."""
        return ()

    def marks(self, result: Result) -> tuple[Sequence[Any], Sequence[Any]]:
        """Runs to mark in generated and in real passages: for each passage, (first, last) characters."""
        return (), ()

    def advice(self, result: Result, outcome: Outcome) -> Iterable[str | Advice]:
        """What to do next; settings are called by their names."""
        return ()
