"""Figures of a study: the curves of all arms on shared axes, and the number by which they are ranked."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ftkit.config.sweeps import Study, label
from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.display.wording import visible
from ftkit.report.arms import StudyResult
from ftkit.report.drawing import (
    INK,
    PALETTE,
    as_csv,
    by_model,
    cell,
    draw_curves,
    legend,
    moving_mean,
    panel_height,
    rendered,
    short,
    step_ticks,
    value_ticks,
)
from ftkit.report.figures import DrawnFigure
from ftkit.runs import RunFolder
from ftkit.runs.files import write_atomically

__all__ = ["draw_study", "metric_name"]

_MARKERS = "os^Dvp"
_EVERY = 7
"""Steps between the dots of the loss, as in the lesson's figure."""
_NAMES = {"bits_per_byte": "held-out bits per byte", "seconds_per_step": "seconds per step"}


def metric_name(key: str) -> str:
    """A number's name for people."""
    return _NAMES.get(key, key.replace("_", " "))


def draw_study(run: RunFolder, study: Study, result: StudyResult) -> list[DrawnFigure]:
    """Each figure beside its CSV in ``figures/``."""
    figures = []
    for figure, kind in _panels(study, result):
        path = run.path / "figures" / f"{figure.name}.csv"
        write_atomically(path, as_csv(figure.rows))
        rows: list[Row] = [
            {key: "" if value is None else visible(str(value)) for key, value in row.items()} for row in figure.rows
        ]

        def panel(axes: Any, rows: list[Row] = rows, kind: Kind = kind) -> None:
            if kind.panels == 1:
                axes.set_title(kind.measure, pad=8)
            kind.draw(axes, rows, _styles(rows))

        svg, png = rendered(figure.name, kind.height(rows), panel, panels=kind.panels)
        write_atomically(path.with_suffix(".svg"), svg)
        write_atomically(path.with_suffix(".png"), png)
        figures.append(DrawnFigure(figure.name, figure.title, figure.caption, svg, path, wide=kind.panels > 1))
    return figures


def _styles(rows: Sequence[Row]) -> Styles:
    """Colour and marker of each arm; beyond six arms the same colour has another marker."""
    return {
        name: (PALETTE[n % len(PALETTE)], _MARKERS[(n + n // len(PALETTE)) % len(_MARKERS)])
        for n, name in enumerate(by_model(rows))
    }


def _panels(study: Study, result: StudyResult) -> Iterator[tuple[Figure, Kind]]:
    """What can be drawn, and how."""
    name, repeats = metric_name(result.headline), max((arm.n for arm in result.arms), default=0) > 1
    mean = " Mean over the seeds." if repeats else ""
    curves = (("study_heldout", "heldout", f"{name} by step"), ("study_train_loss", "train", "Training loss by step"))
    for file, split, title in curves:
        if rows := list(_curve_rows(result, split)):
            batches = "" if any(point.folder for point in study.points) else "All arms on the same batches."
            caption = batches + mean + (" Thin: every step." if split == "train" else "")
            measure = name if split == "heldout" else "nats per target"
            yield Figure(file, title, caption, rows), Kind(measure, draw_curves, panel_height)
    rows = list(_metric_rows(study, result))
    caption = "With the 95 % interval of its evaluation, where there is one."
    if repeats:
        caption = "Small: each run. Large: mean over the seeds, with its 95 % interval."
    key = rows[0]["setting"] if rows else None
    if key:
        yield Figure("study_metric", f"{name} by {key}", caption, rows), Kind(name, _draw_by_value, panel_height)
    elif rows:
        yield Figure("study_metric", f"{name} by arm", caption, rows), Kind(name, _draw_by_arm, _rows_height)
    if rows := list(_usage_rows(result)):
        caption = (
            f"Left: training loss, every {_EVERY}th step.{mean} Right: share of generated tokens that are among the"
        )
        caption += " text's most frequent ones; open: before training, with 95 % intervals."
        yield (
            Figure("study_usage", "Loss, and use of the text's frequent tokens", caption, rows),
            Kind("", _draw_usage, panel_height, panels=2),
        )


def _title(arm: str, model: str, result: StudyResult) -> str:
    return arm if len({row.model for row in result.arms}) == 1 else f"{arm}: {model}"


def _curve_rows(result: StudyResult, kind: str) -> Iterator[dict[str, Any]]:
    """Mean over the seeds at each step that all of an arm's runs have."""
    for arm in result.arms:
        models = [
            point.models[arm.model] for point in result.points if point.arm == arm.arm and arm.model in point.models
        ]
        curves = [dict(getattr(model, kind)) for model in models]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = [float(np.mean([curve[step] for curve in curves])) for step in steps]
        width = max(len(steps) // 25, 2) // 2 * 2 + 1
        means: Sequence[float | None] = moving_mean(values, width) if kind == "train" else [None] * len(steps)
        title = _title(arm.arm, arm.model, result)
        for step, value, mean in zip(steps, values, means, strict=True):
            yield {"model": title, "step": step, "value": value, "mean": mean}


def _numeric_key(study: Study) -> str | None:
    """The first setting of the sweep whose values are numbers."""
    return next(
        (
            key
            for key, values in study.settings.sweep.items()
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        ),
        None,
    )


def _metric_rows(study: Study, result: StudyResult) -> Iterator[dict[str, Any]]:
    """Each arm's headline with its runs; by swept value, what else differs is the line that it belongs to."""
    key = _numeric_key(study)
    swept = {point.arm: point.swept for point in study.points}
    for arm in result.arms:
        if (main := arm.values.get(result.headline)) is None:
            continue
        x = swept[arm.arm].get(key) if key else None
        line = arm.arm
        if key:
            parts = [part for part in arm.arm.split(", ") if part != f"{key}={label(x)}"]
            line = ", ".join(parts) or metric_name(result.headline)
        common = {"model": _title(line, arm.model, result), "arm": arm.arm, "setting": key, "x": x}
        yield common | {"kind": "mean", "seed": None, "value": main.mean, "low": main.low, "high": main.high}
        for point in result.points:
            if point.arm == arm.arm and arm.model in point.models and main.n > 1:
                value = point.models[arm.model].values.get(result.headline)
                yield common | {"kind": "run", "seed": point.seed, "value": value, "low": None, "high": None}


def _usage_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """Training loss and use of frequent tokens, where every arm has counted them (lesson 07/03)."""
    if not all({"usage_before", "usage_after"} <= set(arm.values) for arm in result.arms):
        return
    for row in _curve_rows(result, "train"):
        if (row["step"] - 1) % _EVERY == 0:
            yield {"panel": "loss", **row, "when": None, "low": None, "high": None}
    for arm in result.arms:
        for when in ("before", "after"):
            found = arm.values[f"usage_{when}"]
            common = {"panel": "usage", "model": _title(arm.arm, arm.model, result), "step": None, "mean": None}
            yield common | {"value": found.mean, "when": when, "low": found.low, "high": found.high}


def _draw_usage(panels: Any, rows: list[Row], styles: Styles) -> None:
    """Dots of the loss, and a pair of bars for each arm."""
    left, right = panels
    names = list(by_model(rows))
    left.set_title("nats per target", pad=8)
    right.set_title("share of tokens, %", pad=8)
    for name, points in by_model([row for row in rows if row["panel"] == "loss"]).items():
        colour, marker = styles[name]
        left.plot(
            [cell(row, "step") for row in points], [cell(row, "value") for row in points], color=colour, marker=marker,
            markersize=3, linestyle="none", label=short(name),
        )  # fmt: skip
    left.set_xlabel("step")
    step_ticks(left.xaxis)
    value_ticks(left.yaxis)
    for row in (row for row in rows if row["panel"] == "usage"):
        colour, before = styles[row["model"]][0], row["when"] == "before"
        at, height = names.index(row["model"]) + (-0.19 if before else 0.19), 100 * cell(row, "value")
        right.bar(at, height, width=0.36, color="none" if before else colour, edgecolor=colour)
        right.plot([at, at], [100 * cell(row, "low"), 100 * cell(row, "high")], color=INK, linewidth=1.2)
        top = max(height, 100 * cell(row, "high")) if math.isfinite(cell(row, "high")) else height
        right.annotate(f"{height:.0f}", (at, top), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7)
    right.set_xticks(range(len(names)), [short(name.rpartition("=")[2], 14) for name in names])
    right.grid(axis="x", visible=False)
    legend(left, by_model(rows))


def _draw_by_value(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    places = [cell(row, "x") for row in rows]
    if min(places) > 0 and max(places) / min(places) >= 10:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
    for name, points in groups.items():
        colour, marker = styles[name]
        means = sorted((row for row in points if row["kind"] == "mean"), key=lambda row: cell(row, "x"))
        x, y = [cell(row, "x") for row in means], [cell(row, "value") for row in means]
        axes.plot(x, y, color=colour, marker=marker, label=short(name))
        for row in points:
            at = cell(row, "x")
            if row["kind"] == "run":
                axes.plot([at], [cell(row, "value")], color=colour, marker=marker, markersize=2, alpha=0.6)
            elif math.isfinite(cell(row, "low")):
                axes.plot([at, at], [cell(row, "low"), cell(row, "high")], color=colour, linewidth=1)
    axes.set_xlabel(rows[0]["setting"])
    value_ticks(axes.yaxis)
    legend(axes, groups)


def _draw_by_arm(axes: Any, rows: list[Row], styles: Styles) -> None:
    names = list(by_model(rows))
    for row in rows:
        (colour, marker), place = styles[row["model"]], names.index(row["model"])
        if row["kind"] == "run":
            axes.plot([cell(row, "value")], [place], color=colour, marker=marker, markersize=2, alpha=0.6)
            continue
        axes.plot([cell(row, "value")], [place], color=colour, marker=marker, linestyle="none")
        if math.isfinite(cell(row, "low")):
            axes.plot([cell(row, "low"), cell(row, "high")], [place, place], color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), [short(name, 16) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _rows_height(rows: list[Row]) -> float:
    return 0.8 + 0.28 * len(by_model(rows))
