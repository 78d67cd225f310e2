"""A figure before it is drawn: its data, and the declaration of how figures of its kind look.

A kind lists marks. Each mark names the columns of the CSV that it shows; ``ftkit.report.renderer`` draws all kinds::

    Kind(
        "test texts classified rightly, %",             # the title: the measure with its unit
        (Points(text="{value:.1f}"), Rules("chance")),  # points with their intervals, and a dashed line
        rows="{model}",                                 # a row for each model; without it, a curve by step
        scale=100,
    )
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "CURVES", "Bars", "Diagonal", "Figure", "Kind", "Lines", "Mark", "Panels", "Points", "Row", "Rules", "Stairs",
]  # fmt: skip

Row = Mapping[str, str]
"""One row of a figure's CSV."""
Dashes = Literal["solid", "dashed", "dashdot", "dotted"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What all marks have in common.

    The interval of a column is drawn where the CSV has it: ``low`` and ``high`` of ``value``, ``NAME_low`` and
    ``NAME_high`` of any other column.
    """

    where: Mapping[str, str] = field(default_factory=dict)
    """Shows only the rows with these cells."""
    color: str | None = "model"
    """Column that sets the color; a model has the same color in all figures. ``None``: the color of the axes."""
    name: str = ""
    """Name in the legend, with columns in braces. Empty: the value of the column that gives the color."""


@dataclass(frozen=True)
class Lines(Mark):
    """One line for each color."""

    value: str = "value"
    mean: str = ""
    """Column of a moving mean. If it has numbers, it is drawn as the line, and the raw values as a thin line."""
    line: Dashes = "solid"
    filled: bool = True
    """Whether markers are filled; lines of many points have none."""
    stepped: bool = False
    """Whether a value holds until the next one."""
    sort: bool = False
    """Whether to sort the points by the column along the axis; otherwise they have the order of the CSV."""


@dataclass(frozen=True)
class Points(Mark):
    """One point with its interval for each row."""

    value: str = "value"
    filled: bool = True
    marker: str = ""
    """Matplotlib's marker; empty: that of the color."""
    small: bool = False
    text: str = ""
    """Text beside each point, with columns in braces, such as ``{value:.2f}``."""


@dataclass(frozen=True)
class Bars(Mark):
    """One horizontal bar with its interval for each row; for kinds with ``rows``."""

    value: str = "value"
    filled: bool = True
    text: str = ""
    """Text right of each bar, with columns in braces."""


@dataclass(frozen=True)
class Rules(Mark):
    """Reference lines across the figure, one for each different value."""

    value: str | float = "value"
    """Column, or the number itself."""
    color: str | None = field(default=None, kw_only=True)
    line: Dashes = "dashed"
    across: Literal["measure", "x"] = "measure"
    """The axis that has the value."""
    extends: bool = True
    """Whether the axis grows to show a line that is far from the data; otherwise such a line is left out."""


@dataclass(frozen=True)
class Stairs(Mark):
    """One outline of a histogram for each color, as a density. The bins are between ``low`` and ``high``."""

    value: str = "value"
    """Column of the counts; those of equal bins are added up."""


@dataclass(frozen=True)
class Diagonal(Mark):
    """The line on which both axes have the same value."""


@dataclass(frozen=True)
class Kind:
    """How the figures of one kind look; several judges make several figures of a kind.

    Texts may have columns in braces; the first row fills them.
    """

    measure: str
    """What the figure shows, with its unit: the title."""
    marks: Sequence[Mark]
    """Drawn in this order."""
    x: str = "step"
    """Column along the horizontal axis: numbers, or names that become ticks in their order."""
    x_label: str = ""
    """Label of that axis. Empty: the column's name."""
    rows: str = ""
    """Labels of rows from top to bottom, with columns in braces, in place of ``x``: the measure is horizontal then."""
    beside: str = ""
    """Column whose values are beside each other in a row."""
    scale: float = 1.0
    """Factor of the measure and its rules, such as 100 for percent."""
    covers: Sequence[float] = ()
    """Values that the axis of the measure always shows, before scaling."""
    log: str = ""
    """Logarithmic axes: ``x``, ``y`` or ``xy``; an axis without positive values stays linear."""


Panels = Kind | tuple[Kind, ...]
"""One kind, or several that are side by side and share the CSV."""

CURVES = (Lines(mean="mean"),)
"""Marks of a value by step: ``model``, ``step``, ``value``, and ``mean`` where it was smoothed."""


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn."""

    name: str
    """File name without its ending; its part before the first hyphen names the kind."""
    title: str
    caption: str
    rows: list[dict[str, Any]]
