"""Figures of runs that compare arms: pairs on one batch stream, and ways of tuning beside each other."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.display.wording import table_cell
from ftkit.evidence import Evidence, Interval
from ftkit.report.drawing import INK, by_model, cell, column, draw_curves, legend, panel_height, short, value_ticks
from ftkit.report.reading import Results
from ftkit.runs import RunFolder

__all__ = ["COMPARISONS", "arm_row", "comparison_figures"]


def comparison_figures(results: Results) -> Iterator[Figure]:
    """Figures of a run whose models are arms of one comparison; of other runs what was counted before and after."""
    yield from _usage_figures(results)
    if not results.measured.get("arms") and not any(results.metrics(model, "watch") for model in results.models):
        return
    yield from _paired_figures(results)
    rows = [
        {"model": model, "step": record["step"], "value": record["change"], "mean": None}
        for model in results.models
        for record in results.metrics(model, "watch")
    ]
    caption = "Frobenius norm of the change of the watched tensors from one step to the next."
    yield Figure("watched_change", "How far the watched tensors move in a step", caption, rows)
    rows = [
        {"model": model, "step": record["step"], "value": value, "mean": None}
        for model in results.models
        for record, value in _added_up(results.metrics(model, "train"))
    ]
    caption = "Time spent in steps, added up; the arms take turns on one machine, and evaluation is not counted."
    yield Figure("seconds_spent", "Time spent", caption, rows)
    yield from _seconds_figures(results)
    yield from _tradeoff_figures(results)


def _added_up(records: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    total = 0.0
    for record in records:
        total += record.get("seconds") or 0.0
        yield record, total


def _paired_figures(results: Results) -> Iterator[Figure]:
    """Loss of two arms on the same batch, a point for each step."""
    if len(results.models) < 2:
        return
    first, *others = results.models
    losses = {model: {r["step"]: r["loss"] for r in results.metrics(model, "train")} for model in results.models}
    rows = [
        {"model": other, "against": first, "step": step, "value": losses[other][step], "other": losses[first][step]}
        | {"target": results.target}
        for other in others
        for step in losses[other]
        if step in losses[first]
    ]
    yield Figure(
        "paired_loss",
        f"Loss on the same batches, beside {first}",
        "A point is a step; on the line both are equal.",
        rows,
    )


def _usage_figures(results: Results) -> Iterator[Figure]:
    """Share of generated tokens among the text's most frequent ones, before and after."""
    usage = results.measured.get("usage")
    if not usage:
        return
    rows = [
        {"model": model, "when": when, **interval, "real": usage["real"]["value"]}
        for model, found in usage["models"].items()
        for when, interval in found.items()
        if when in ("before", "after")
    ]
    caption = (
        f"Share of tokens among the {usage['top']} most frequent of the training text. Dashed: real held-out text."
    )
    yield Figure("usage", "Use of the text's frequent tokens", caption, rows)
    rows = [
        {"model": model, "when": "change", **found["change"], "real": None} for model, found in usage["models"].items()
    ]
    yield Figure(
        "usage_change", "Change of that use", "After minus before, paired by start, with 95 % intervals.", rows
    )


def _seconds_figures(results: Results) -> Iterator[Figure]:
    rows = []
    for model in results.models:
        seconds = np.array([record.get("seconds") or math.nan for record in results.metrics(model, "train")])
        if np.isfinite(seconds).any():
            low, middle, high = np.nanpercentile(seconds, [25, 50, 75])
            rows.append({"model": model, "value": middle, "low": low, "high": high})
    yield Figure("seconds", "Seconds for a step", "Median; the bar spans the middle half of the steps.", rows)


def _tradeoff_figures(results: Results) -> Iterator[Figure]:
    rows = []
    for model in results.models:
        evidence = results.evidence(model)
        if evidence.get("gain") and evidence.get("general_rise"):
            gain, rise = evidence["gain"], evidence["general_rise"]
            rows.append(
                {"model": model, "value": gain["value"], "low": gain["low"], "high": gain["high"]}
                | {"rise": 100 * rise["value"], "rise_low": 100 * rise["low"], "rise_high": 100 * rise["high"]}
            )
    caption = "Right is better learnt, down is less forgotten; crosses are 95 % intervals."
    yield Figure("tradeoff", "What was learnt against what was forgotten", caption, rows)


def _draw_paired(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    ends = [
        np.nanmin([column(rows, "other"), column(rows, "value")]),
        np.nanmax([column(rows, "other"), column(rows, "value")]),
    ]
    axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for model, points in groups.items():
        colour, marker = styles[model]
        axes.plot(
            column(points, "other"), column(points, "value"), color=colour, marker=marker, linestyle="none",
            markersize=2.6, alpha=0.6, label=short(model),
        )  # fmt: skip
    axes.set_xlabel(f"{short(rows[0]['against'])}, nats per {rows[0]['target']}")
    value_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, groups)


def _draw_bars(axes: Any, rows: list[Row], styles: Styles, scale: float = 1.0, clear_of: float = 0.0) -> None:
    """Bars with intervals; a bar of before is open. Numbers stand right of ``clear_of``, too."""
    for place, row in enumerate(rows):
        colour = styles[row["model"]][0]
        middle, low, high = (scale * cell(row, key) for key in ("value", "low", "high"))
        axes.barh(place, middle, height=0.62, color="none" if row.get("when") == "before" else colour, edgecolor=colour)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{middle:.3g}", (max(middle, high, clear_of), place), **beside, fontsize=7)
    labels = [
        short(row["model"], 16) + (f", {row['when']}" if row.get("when") in ("before", "after") else "") for row in rows
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    least, most = axes.get_xlim()
    axes.set_xlim(least, most + 0.12 * (most - least))
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _draw_usage(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Bars in percent, and a dashed line with its name where real text lies."""
    real = 100 * cell(rows[0], "real")
    known = math.isfinite(real)
    _draw_bars(axes, rows, styles, scale=100.0, clear_of=real if known else 0.0)
    if not known:
        return
    axes.axvline(real, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylim(len(rows) + 0.3, -0.6)
    left = real > 0.4 * axes.get_xlim()[1]
    below = {"xytext": (-4 if left else 4, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
    axes.annotate(f"real held-out text {real:.3g}", (real, len(rows) - 0.1), **below, va="center", fontsize=7)


def _draw_tradeoff(axes: Any, rows: list[Row], styles: Styles) -> None:
    axes.axhline(0, color=INK, linewidth=0.6)
    for row in rows:
        colour, marker = styles[row["model"]]
        x, y = cell(row, "value"), cell(row, "rise")
        axes.plot([cell(row, "low"), cell(row, "high")], [y, y], color=colour, linewidth=1)
        axes.plot([x, x], [cell(row, "rise_low"), cell(row, "rise_high")], color=colour, linewidth=1)
        axes.plot([x], [y], color=colour, marker=marker, linestyle="none", label=short(row["model"]))
    axes.set_xlabel("gain on held-out text, bits per byte")
    value_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, by_model(rows))


def _bars_height(rows: list[Row]) -> float:
    return 0.75 + 0.26 * len(rows)


COMPARISONS = {
    "paired_loss": Kind("nats per {target}", _draw_paired, panel_height),
    "watched_change": Kind("norm of the change", draw_curves, panel_height),
    "usage": Kind("share of tokens, %", _draw_usage, lambda rows: _bars_height(rows) + 0.24),
    "usage_change": Kind("percentage points", _draw_usage, _bars_height),
    "seconds_spent": Kind("seconds", draw_curves, panel_height),
    "seconds": Kind("seconds for a step", _draw_bars, _bars_height),
    "tradeoff": Kind("rise of the loss on general text, %", _draw_tradeoff, panel_height),
}
"""Kinds of figures by the beginning of their file's name."""


def arm_row(
    run: RunFolder, name: str, evidence: Evidence, more: Mapping[str, float | str | Interval] | None = None
) -> dict[str, dict[str, Any]]:
    """Return one arm's row of the table that compares arms.

    Args:
        run: The run, for times and the plan.
        name: The arm.
        evidence: What was measured on it.
        more: Further columns.

    Returns:
        Cells by heading; see ``table_cell``.
    """
    plan = run.manifest["plan"][name]
    times = [r["seconds"] for r in run.records("metrics.jsonl") if r["model"] == name and r.get("seconds")]
    seconds = float(np.median(times)) if times else None
    trainable = f"{plan['trainable']:,} ({plan['trainable'] / plan['parameters']:.1%})"
    row = {
        "trainable": table_cell(trainable, plan["trainable"]),
        "seconds for a step": table_cell("" if seconds is None else f"{seconds:.3g}", seconds),
        "held-out bits per byte": table_cell(str(evidence.heldout_tuned), evidence.heldout_tuned),
        "gain": table_cell(str(evidence.gain), evidence.gain),
    }
    if evidence.general_rise is not None:
        row["rise on general text"] = table_cell(f"{evidence.general_rise.value:+.1%}", evidence.general_rise)
    for heading, value in (more or {}).items():
        text = f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        row[heading] = table_cell(text, None if isinstance(value, str) else value)
    return row
