"""Tables of measurements: the rows that page, model card, recorded pages and notebooks draw alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftkit.display.wording import interval, is_number, number, percent, percent_interval

__all__ = ["Cell", "Gauge", "PageTable", "Part", "Row", "plain_table", "shown"]


@dataclass(frozen=True)
class Row:
    """One quantity of base, tuned model and real text; ``None`` where it was not measured."""

    label: str
    tuned: Any
    """A number, an object with ``value``, ``low`` and ``high``, or text."""
    base: Any = None
    real: Any = None
    percent: bool = False
    """Whether it is a share, shown in percent."""

    def cells(self) -> tuple[str, str, str]:
        """Base, tuned model and real text as they are written; empty where nothing was measured."""
        base, tuned, real = (
            "" if value is None else shown(value, self.percent) for value in (self.base, self.tuned, self.real)
        )
        return base, tuned, real


def shown(value: Any, as_percent: bool = False) -> str:
    """A measured value as it is written: text as it is, a number with three digits, an interval in brackets."""
    if isinstance(value, str):
        return value
    if value is None or is_number(value) or isinstance(value, float):
        return percent(value) if as_percent else number(value)
    return percent_interval(value) if as_percent else interval(value)


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as plain lines, its columns aligned."""
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]


@dataclass(frozen=True)
class Cell:
    """A cell that is not plainly a value."""

    text: str
    kind: Literal["value", "text", "long", "quote", "marked"] = "text"


@dataclass(frozen=True)
class PageTable:
    """A table of the report."""

    caption: str
    heads: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[str | Cell]]]]
    """First cell, and the rows that it stands before: most have one."""


@dataclass(frozen=True)
class Part:
    """A part of the report's page."""

    key: str
    """Anchor."""
    title: str
    text: str = ""
    """Paragraph above the tables."""
    tables: Sequence[PageTable] = ()
    figures: Sequence[str] = ()
    """Kinds of figures that stand here, by the beginning of their file's name."""
    link: str = ""
    """Name in the navigation; empty for a part that has no entry there."""
    after_samples: bool = True
    """Whether it stands below the samples."""


@dataclass(frozen=True)
class Gauge:
    """A position between something (0) and real text (1), drawn as a bar."""

    label: str
    position: Any
    """``value``, ``low`` and ``high``."""
    zero: str = "base model"
    """What stands at 0."""
