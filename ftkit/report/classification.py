"""Figures and table lines of classifiers: loss and accuracy while they learn, gradient norms, and the test."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.display.wording import interval, number, percent, percent_interval
from ftkit.report.drawing import (
    INK,
    PALETTE,
    cell,
    column,
    draw_curves,
    legend,
    moving_mean,
    panel_height,
    short,
    slug,
    step_ticks,
    thinned,
    value_ticks,
)
from ftkit.report.reading import Results

__all__ = ["CLASSIFIERS", "classifier_figures", "classifier_headline"]

_MOST_LINES = 2 * len(PALETTE)
"""Classes that one figure can tell apart."""


def classifier_figures(results: Results) -> Iterator[Figure]:
    """Figures of a run that trained classifiers; none for other runs."""
    if results.target != "text":
        return
    scores = results.measured.get("classifiers", {})
    rows = [{"model": name, **found["accuracy"], "chance": found["chance_accuracy"]} for name, found in scores.items()]
    caption = "On all test texts, with 95 % intervals. Dashed: who always says the commonest class."
    yield Figure("test_accuracy", "Accuracy", caption, rows)
    for key, title in (("accuracy", "Accuracy while they learn"), ("loss", "Test loss while they learn")):
        rows = [
            {"model": model, "step": record["step"], "value": record[key], "mean": None}
            for model in results.models
            for record in results.metrics(model, "test")
        ]
        yield Figure(
            f"looked_{key}", title, f"On a fixed sample of {results.settings.get('eval_texts')} test texts.", rows
        )
    yield from _norm_figures(results)
    for model in results.models:
        yield from _learning_figures(results, model)
    yield from _order_figures(results.measured.get("label_order", []))


def _order_figures(stretches: list[dict[str, Any]]) -> Iterator[Figure]:
    classes = list(stretches[0]["shares"]) if stretches else []
    rows = [
        {"class": label, "first": stretch["first"], "value": stretch["shares"][label]}
        for label in classes
        for stretch in stretches
    ]
    caption = "Share of each class along the source, before anything is shuffled. Steps: it is sorted by class."
    if 0 < len(classes) <= _MOST_LINES:
        yield Figure("label_order", "Order of the classes", caption, rows)


def _draw_order(axes: Any, rows: list[Row], styles: Styles) -> None:
    """A line for each class; they need no model's colour."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    for place, label in enumerate(classes):
        points = [row for row in rows if row["class"] == label]
        dashes: Any = "-" if place < len(PALETTE) else (0, (4, 2))
        axes.step(
            column(points, "first"), column(points, "value"), where="post", color=PALETTE[place % len(PALETTE)],
            linestyle=dashes, label=short(label),
        )  # fmt: skip
    axes.set_xlabel("number of the text in the source")
    axes.set_ylim(-0.03, 1.03)
    step_ticks(axes.xaxis)
    legend(axes, dict.fromkeys(map(short, classes)))


def _learning_figures(results: Results, model: str) -> Iterator[Figure]:
    """One model's two panels: training against test."""
    steps = results.metrics(model, "train")
    means = moving_mean([record["loss"] for record in steps], max(len(steps) // 25, 2) // 2 * 2 + 1)
    rows: list[dict[str, Any]] = [
        {"model": model, "texts": "batch", "step": r["step"], "value": r["loss"], "mean": mean}
        for r, mean in zip(steps, means, strict=True)
    ]
    looks = {split: results.metrics(model, split) for split in ("seen", "test")}
    for split, records in looks.items():
        rows += [{"model": model, "texts": split, "step": r["step"], "value": r["loss"], "mean": None} for r in records]
    caption = "Dots: every batch. Thin: their centred mean. Open: a fixed sample of training texts. Filled: test texts."
    yield Figure(f"learning_loss-{slug(model)}", f"Loss of {model}", caption, rows)
    rows = [
        {"model": model, "texts": split, "step": r["step"], "value": r["accuracy"], "mean": None}
        for split, records in looks.items()
        for r in records
    ]
    caption = "Open: a fixed sample of training texts. Filled: test texts."
    yield Figure(f"learning_accuracy-{slug(model)}", f"Accuracy of {model}", caption, rows)


def _norm_figures(results: Results) -> Iterator[Figure]:
    """Gradient norms before clipping: global, and of what is watched, a panel each with a line for every model."""
    watched = results.settings.get("watch_gradients") or []
    limit = results.settings.get("max_grad_norm") or None
    dashed = f" Dashed: the limit {limit:g}, which holds for the global norm alone." if limit else ""
    for group in ("global", *dict.fromkeys([*watched, "classifier"])):
        rows = []
        for model in results.models:
            records = results.metrics(model, "train")
            norms = [r["grad_norm"] if group == "global" else r.get("group_norms", {}).get(group) for r in records]
            found = [(r["step"], norm) for r, norm in zip(records, norms, strict=True) if norm is not None]
            means = moving_mean([norm for _, norm in found], max(len(found) // 25, 2) // 2 * 2 + 1)
            rows += [
                {"model": model, "step": step, "value": norm, "mean": mean, "limit": limit}
                for (step, norm), mean in zip(found, means, strict=True)
            ]
        title = "Gradient norm, global" if group == "global" else f"Gradient norm of {group}"
        yield Figure(f"norm-{slug(group)}", title, f"Before clipping.{dashed}", rows)


def _draw_norm(axes: Any, rows: list[Row], styles: Styles) -> None:
    draw_curves(axes, rows, styles)
    if math.isfinite(limit := cell(rows[0], "limit")):
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylim(bottom=0)


def _draw_learning(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Batches as dots, samples as lines."""
    colour, marker = styles[rows[0]["model"]]
    for texts in dict.fromkeys(row["texts"] for row in rows):
        points = [row for row in rows if row["texts"] == texts]
        steps, values = column(points, "step"), column(points, "value")
        if texts == "batch":
            kept = thinned(values)
            axes.plot(steps[kept], values[kept], ".", color=INK, markersize=2, alpha=0.5, zorder=1.9, label="batches")
            axes.plot(steps, column(points, "mean"), color=INK, linewidth=0.8)
            continue
        face = "none" if texts == "seen" else colour
        style = {"linestyle": (0, (4, 2))} if texts == "seen" else {}
        label = "training texts" if texts == "seen" else "test texts"
        axes.plot(steps, values, color=colour, marker=marker, markerfacecolor=face, label=label, **style)
    axes.set_xlabel("step")
    step_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, dict.fromkeys(axes.get_legend_handles_labels()[1]))


def _draw_tested(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Accuracies with intervals, and chance."""
    axes.axvline(100 * cell(rows[0], "chance"), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    for place, row in enumerate(rows):
        colour, marker = styles.get(row["model"], (INK, "o"))
        value, low, high = (100 * cell(row, key) for key in ("value", "low", "high"))
        axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
        axes.plot([value], [place], color=colour, marker=marker, linestyle="none")
        above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{value:.1f}", (value, place), **above, fontsize=7)
    axes.set_yticks(range(len(rows)), [short(row["model"], 16) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


CLASSIFIERS = {
    "test_accuracy": Kind("test texts classified rightly, %", _draw_tested, lambda rows: 0.75 + 0.3 * len(rows)),
    "looked_accuracy": Kind("share classified rightly", draw_curves, panel_height),
    "looked_loss": Kind("nats per text", draw_curves, panel_height),
    "norm": Kind("norm of the gradient", _draw_norm, panel_height),
    "learning_loss": Kind("nats per text", _draw_learning, lambda rows: panel_height(rows) + 0.2),
    "label_order": Kind("share of the texts", _draw_order, lambda rows: 2.6),
    "learning_accuracy": Kind("share classified rightly", _draw_learning, lambda rows: panel_height(rows) + 0.2),
}
"""Kinds of figures by the beginning of their file's name."""


def classifier_headline(name: str, scores: Mapping[str, Any]) -> str:
    """The test of one classifier in one sentence."""
    chance = percent(scores["chance_accuracy"])
    doubt = "" if scores["above_chance"] else ", which is not above chance"
    return (
        f"{name}: {percent_interval(scores['accuracy'])} of {number(scores['texts'])} test texts are classified "
        f"rightly (chance {chance}){doubt}; log-loss {interval(scores['log_loss'])} nats (chance "
        f"{number(scores['chance_log_loss'])})."
    )
