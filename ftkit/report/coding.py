"""The section of a run that learnt code: how well formed its samples are, before and after, beside real code."""

from collections.abc import Iterator
from typing import Any

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.report.drawing import INK, PALETTE, cell, value_ticks
from ftkit.report.reading import Results

__all__ = ["CODE", "code_figures"]

_SOURCES = {"base": "base model", "tuned": "tuned model", "real": "real code"}
_MEASURES = {
    "parses": "parses", "compiles": "compiles", "well_formed": "well-formed start", "node_overlap": "mixture of syntax",
}  # fmt: skip


def code_figures(results: Results) -> Iterator[Figure]:
    """Rates of the base, the tuned model and real code; none for other runs."""
    if not (found := results.measured.get("code")):
        return
    rows = [
        {"model": results.models[0], "measure": label, "source": source, **found["scores"][who][key]}
        for key, label in _MEASURES.items()
        for who, source in _SOURCES.items()
        if found["scores"][who].get(key)
    ]
    caption = (
        f"{found['samples']} samples of each, from the same places in code that nobody trained on. Open: the base. "
        "Filled: the tuned model. Below them: real code, cut alike. Lines are 95 % intervals."
    )
    yield Figure("code_validity", "How well formed the code is", caption, rows)


def _draw_validity(axes: Any, rows: list[Row], styles: Styles) -> None:
    """A group of three bars for each measure."""
    colour = styles.get(rows[0]["model"], (PALETTE[0], "o"))[0]
    faces = {"base model": "none", "tuned model": colour, "real code": INK}
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    for row in rows:
        source = list(faces).index(row["source"])
        place = measures.index(row["measure"]) + 0.28 * (source - 1)
        value, low, high = (100 * cell(row, key) for key in ("value", "low", "high"))
        edge = INK if row["source"] == "real code" else colour
        axes.barh(place, value, height=0.24, color=faces[row["source"]], edgecolor=edge)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.1)
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{value:.0f} %", (max(value, high), place), **beside, fontsize=6.5)
    axes.set_yticks(range(len(measures)), measures)
    axes.set(xlim=(0, 115), ylim=(len(measures) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


CODE = {"code_validity": Kind("%", _draw_validity, lambda rows: 0.7 + 0.17 * len(rows))}
"""Kinds of figures by the beginning of their file's name."""
