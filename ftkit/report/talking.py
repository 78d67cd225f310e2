"""The section of a run in which models wrote in turns: how open the next token was to whoever wrote."""

from collections.abc import Iterator
from typing import Any

from ftkit.report.drawing import Kind, Row, Styles, Table, draw_curves, panel_height, styles_of
from ftkit.report.reading import Results

__all__ = ["TALKS", "talk_tables"]


def talk_tables(results: Results) -> Iterator[Table]:
    """Entropy by turn, a line for each speaker; none for other runs."""
    turns = results.measured.get("dialogue", {}).get("turns", [])
    rows = [
        {"model": turn["speaker"], "step": number, "value": turn["entropy"], "mean": None}
        for number, turn in enumerate(turns, 1)
    ]
    caption = "Mean entropy of the next token, before any sampling rule, over the tokens of a turn."
    yield Table("talk_entropy", "How open each turn was", caption, rows)


def _draw_talk(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Speakers that were not trained in this run get colours of their own."""
    draw_curves(axes, rows, styles_of(list(dict.fromkeys(row["model"] for row in rows))) | styles)
    axes.set_xlabel("turn")


TALKS = {"talk_entropy": Kind("bits per token", _draw_talk, panel_height)}
"""Kinds of figures by the beginning of their file's name."""
