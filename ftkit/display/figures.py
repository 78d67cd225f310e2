"""A figure before it is drawn: its data, and how its kind looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "Kind", "Row", "Styles"]

Row = dict[str, str]
Styles = dict[str, tuple[str, str]]
"""Colour and marker of each model."""


@dataclass(frozen=True)
class Kind:
    """How the figures of one kind look; several judges make several figures of a kind."""

    measure: str
    """What the axis shows, with its unit."""
    draw: Callable[[Any, list[Row], Styles], None]
    height: Callable[[list[Row]], float]
    """Inches, from the rows."""
    panels: int = 1
    """Side by side; of several ``draw`` gets the list of axes, and writes what each shows."""


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn."""

    name: str
    title: str
    caption: str
    rows: list[dict[str, Any]]
