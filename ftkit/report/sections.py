"""Sections that some recipes add to the report: their figures, their part of the page, their lines on the terminal.

A recipe passes its section to ``write_report`` and ``announce``. The recipe's function ``report_section``
returns it, so that ``ftkit report`` finds it too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any

from ftkit.display.figures import Figure, Panels
from ftkit.report.run_files import Results

__all__ = ["Section", "sections_of"]


@dataclass(frozen=True)
class Section:
    """A part of the report that one recipe adds; functions receive the value of ``key`` in ``evidence.json``."""

    key: str
    """Key of ``evidence.json``. A run without it has no such section."""
    figures: Callable[[Results], Iterable[Figure]]
    """The data of its figures."""
    kinds: Mapping[str, Panels]
    """How the figures are drawn, by the beginning of their file's name."""
    template: Traversable | None = None
    """Jinja template of its part of the page, with ``found`` (the value) and ``drawn`` (its figures). ``None``: the
    figures stand first among those that compare arms."""
    links: Callable[[Any], Iterable[tuple[str, str]]] | None = None
    """Identifiers and names of its parts, for the navigation of the page."""
    outcome: Callable[[Any], str] | None = None
    """The run in one line; ``None`` leaves it to the verdicts."""
    lines: Callable[[Any], Iterable[str]] | None = None
    """Lines on the terminal."""
    replaces: frozenset[str] = frozenset()
    """Kinds of figures that would show the same again."""
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """Meaning of its verdict's thresholds by name."""
    advice: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    """From a verdict to its advice, instead of the advice on text and training; ``None`` keeps that."""


def sections_of(results: Results, sections: Iterable[Section]) -> list[Section]:
    """Return the sections for which a run has evidence.

    Args:
        results: The run's files.
        sections: Sections of any recipes.
    """
    return [section for section in sections if results.measured.get(section.key)]
