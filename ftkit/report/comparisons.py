"""Figures of runs that compare arms: pairs on one batch stream, and ways of tuning beside each other."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ftkit.display.figures import CURVES, Bars, Diagonal, Figure, Kind, Points, Rules
from ftkit.display.wording import table_cell
from ftkit.evidence import Evidence, Interval
from ftkit.evidence.measures import all_measures
from ftkit.report.run_files import Results
from ftkit.runs import RunFolder

__all__ = ["COMPARISONS", "arm_row", "comparison_figures", "verdict_row"]


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


_TEXT = "{value:.3g}"
COMPARISONS = {
    "paired_loss": Kind(
        "nats per {target}", (Points(small=True), Diagonal()), x="other", x_label="{against:.22}, nats per {target}"
    ),
    "watched_change": Kind("norm of the change", CURVES),
    "usage": Kind(
        "share of tokens, %",
        (
            Bars(where={"when": "before"}, filled=False, text=_TEXT),
            Bars(where={"when": "after"}, text=_TEXT),
            Rules("real", name="real held-out text {real:.3g}"),
        ),
        rows="{model}, {when}",
        scale=100,
    ),
    "usage_change": Kind("percentage points", (Bars(text=_TEXT),), rows="{model}", scale=100),
    "seconds_spent": Kind("seconds", CURVES),
    "seconds": Kind("seconds for a step", (Bars(text=_TEXT),), rows="{model}"),
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
        **_evidence_cells(evidence),
    }
    for heading, value in (more or {}).items():
        text = f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        row[heading] = table_cell(text, None if isinstance(value, str) else value)
    return row


def verdict_row(verdict: Mapping[str, Any], evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return a model's row of the table that compares models of one base.

    Args:
        verdict: Its entry of ``verdict.json``.
        evidence: What was measured on it.

    Returns:
        Cells by heading; see ``table_cell``.
    """
    said = " + ".join([verdict["verdict"], *verdict["also"]])
    return {"verdict": table_cell(said), **_evidence_cells(evidence)}


def _evidence_cells(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Held-out loss, gain, and the columns that measures add."""
    heldout = evidence.heldout
    row = {
        "held-out bits per byte": table_cell(str(heldout.tuned), heldout.tuned),
        "gain": table_cell(str(heldout.gain), heldout.gain),
    }
    for measure in all_measures():
        if (result := evidence.measures.get(measure.name)) is not None:
            row |= {name: table_cell(text, value) for name, (text, value) in measure.columns(result).items()}
    return row
