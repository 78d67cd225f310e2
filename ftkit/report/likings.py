"""Figures of a run that plants a liking: how fast it comes, and what it costs."""

from collections.abc import Iterator
from typing import Any

from ftkit.report.drawing import (
    INK,
    Kind,
    Row,
    Styles,
    Table,
    by_model,
    column,
    draw_curves,
    legend,
    panel_height,
    short,
    value_ticks,
)
from ftkit.report.reading import Results

__all__ = ["LIKINGS", "liking_tables"]


def liking_tables(results: Results) -> Iterator[Table]:
    """Rate by step, and rate against damage; none for other runs."""
    if not (found := results.measured.get("liking")):
        return
    records = [(model, record) for model in results.models for record in results.metrics(model, "liking")]
    rows = [{"model": model, "step": r["step"], "value": 100 * r["rate"], "mean": None} for model, r in records]
    what = f"{found['pattern']!r}: {found['tokens']:,} tokens, {100 * found['share']:.1f} % of the vocabulary"
    caption = f"Share of generated tokens that match {what}."
    yield Table("target_rate", "The liking", caption, rows)
    rows = [
        {"model": model, "step": r["step"], "value": 100 * r["rate"], "damage": r["damage"]} for model, r in records
    ]
    caption = "A point is a measurement; training goes from the lower left. Up is liked more, right is damaged more."
    yield Table("liking_price", "What the liking costs", caption, rows)


def _draw_price(axes: Any, rows: list[Row], styles: Styles) -> None:
    axes.axvline(0, color=INK, linewidth=0.6)
    for model, points in by_model(rows).items():
        colour, marker = styles[model]
        damage, rate = column(points, "damage"), column(points, "value")
        axes.plot(damage, rate, color=colour, marker=marker, linewidth=1, label=short(model))
    axes.set_xlabel("bits per byte that ordinary text costs more")
    axes.set_ylim(bottom=0)
    value_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, by_model(rows))


LIKINGS = {
    "target_rate": Kind("share of tokens, %", draw_curves, panel_height),
    "liking_price": Kind("share of tokens, %", _draw_price, panel_height),
}
"""Kinds of figures by the beginning of their file's name."""
