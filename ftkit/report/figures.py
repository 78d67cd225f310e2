"""Figures of a run, each as SVG and PNG beside the CSV it is drawn from.

A figure is one small panel, so that a page can lay panels out side by side or below each other. Drawing knows nothing
but the CSV and the order of the models, which gives each model one colour and one marker in all figures.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.report.classification import CLASSIFIERS, classifier_figures
from ftkit.report.coding import CODE, code_figures
from ftkit.report.comparisons import COMPARISONS, comparison_figures
from ftkit.report.drawing import (
    INK,
    PALETTE,
    as_csv,
    by_model,
    cell,
    column,
    draw_curves,
    legend,
    moving_mean,
    panel_height,
    read_csv,
    rendered,
    short,
    slug,
    step_ticks,
    styles_of,
    value_ticks,
)
from ftkit.report.measures import MEASURES, measure_figures
from ftkit.report.probing import PROBED, probe_figures
from ftkit.report.reading import Results, read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder
from ftkit.runs.files import write_atomically

__all__ = ["DrawnFigure", "draw_csv", "draw_figures", "inline_svg"]

_MOST_TENSORS = 24
_COURSE_THRESHOLDS = (0.85, 0.90)
"""Mean probabilities at which the lessons call a style learnt."""


@dataclass(frozen=True)
class DrawnFigure:
    """A drawn figure."""

    name: str
    """File name without its ending."""
    title: str
    caption: str
    svg: str
    """The SVG file's text."""
    csv: Path
    wide: bool = False
    """Whether it has panels side by side and needs the whole width."""


def draw_figures(run: RunFolder, *sections: Section) -> list[DrawnFigure]:
    """Draw what a run's files allow into ``figures/``.

    Args:
        run: A run, finished or not.
        sections: What the run's recipe adds to the report.

    Returns:
        The figures whose data exist, curves first.
    """
    results = read_results(run)
    folder = run.path / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for figure in _figures(results, sections_of(results, sections)):
        path = folder / f"{figure.name}.csv"
        write_atomically(path, as_csv(figure.rows))
        svg, png = _render(path, results.models, sections, also_png=True)
        write_atomically(path.with_suffix(".svg"), svg)
        write_atomically(path.with_suffix(".png"), png)
        figures.append(DrawnFigure(figure.name, figure.title, figure.caption, svg, path))
    return figures


def draw_csv(path: Path, models: Sequence[str], *sections: Section) -> str:
    """Draw one of ``figures/*.csv`` again.

    Args:
        path: The CSV; its name says the kind of figure.
        models: All models of the run in their order, for the colours.
        sections: What the run's recipe adds to the report.

    Returns:
        The SVG, the same to the byte for the same CSV and version of matplotlib.
    """
    return _render(path, models, sections, also_png=False)[0]


def inline_svg(figure: DrawnFigure) -> str:
    """A figure's SVG as part of an HTML page: it takes the page's colours, and its ids are its own.

    Args:
        figure: A drawn figure.

    Returns:
        The ``svg`` element, safe to insert: names in it were escaped when it was drawn.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2).replace("xlink:href=", "href=")
    svg = re.sub(r'( id="| href="#|url\(#)', rf"\g<1>{figure.name}-", svg)
    for number, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--model-{number}, {colour})")
    return svg.replace(INK, "currentColor").replace(
        "<svg ", f'<svg role="img" aria-labelledby="{figure.name}-caption" ', 1
    )


# --- From a run's results to figures ---


def _figures(results: Results, sections: Sequence[Section]) -> list[Figure]:
    """Every figure that has data."""
    found = [*_curve_figures(results), *_judge_figures(results), *_style_figures(results), *_copying_figures(results)]
    found += [*classifier_figures(results), *_movement_figures(results), *comparison_figures(results)]
    found += [*code_figures(results), *measure_figures(results), *probe_figures(results)]
    found += [figure for section in sections for figure in section.figures(results)]
    replaced = {kind for section in sections for kind in section.replaces}
    if results.target == "text":  # classifiers have a panel of their own for it, with the limit
        found = [figure for figure in found if figure.name != "gradient_norm"]
    return [
        figure
        for figure in found
        if figure.name.partition("-")[0] not in replaced and any(_finite(row) for row in figure.rows)
    ]


def _finite(row: Mapping[str, Any]) -> bool:
    measures = (row.get(key) for key in ("value", "score", "change"))
    return any(isinstance(measure, int | float) and math.isfinite(measure) for measure in measures)


_CURVES = (
    # name, split, key of the record, title, caption
    (
        "heldout_bits",
        "heldout",
        "bits_per_byte",
        "Held-out loss",
        "Text that was never trained on: at every evaluation the same sample of it, so tables of all of it may differ.",
    ),
    (
        "train_loss",
        "train",
        "loss",
        "Training loss",
        "Thin: every step. Strong: centred mean over {} steps. Dashed, where in view: everything equally likely.",
    ),
    ("learning_rate", "train", "learning_rate", "Learning rate", "What the schedule gave each step."),
    ("gradient_norm", "train", "grad_norm", "Gradient norm", "Before clipping. Strong: centred mean over {} steps."),
)
_SMOOTHED = {"train_loss", "gradient_norm"}


def _curve_figures(results: Results) -> Iterator[Figure]:
    for name, split, key, title, caption in _CURVES:
        rows, widths = [], set()
        for model in results.models:
            points = [
                (record["step"], record[key]) for record in results.metrics(model, split) if record.get(key) is not None
            ]
            means: Sequence[float | None] = [None] * len(points)
            if name in _SMOOTHED:
                width = max(len(points) // 25, 2) // 2 * 2 + 1
                means = moving_mean([value for _, value in points], width)
                widths.add(width)
            more = {"baseline": _baseline(results, model)} if name == "train_loss" else {}
            rows += [
                {"model": model, "step": step, "value": value, "mean": mean, "target": results.target, **more}
                for (step, value), mean in zip(points, means, strict=True)
            ]
        yield Figure(name, title, caption.format(" or ".join(map(str, sorted(widths)))), rows)


def _baseline(results: Results, model: str) -> float | None:
    """The loss of a model that thinks everything equally likely; runs before it was noted have none."""
    found: float | None = results.manifest.get("plan", {}).get(model, {}).get("baseline")
    return found


def _judge_figures(results: Results) -> Iterator[Figure]:
    judges = dict.fromkeys(
        key.removesuffix("_probability")
        for model in results.models
        for record in results.metrics(model, "judge")
        for key in record
        if key.endswith("_probability")
    )
    for judge in judges:
        rows = [row for model in results.models for row in _judge_rows(results, model, judge)]
        caption = (
            "How sure the judge is, on average, that a passage is by the target. Left: the base model (floor). "
            "Right: real held-out text (ceiling); bars are 95 % intervals. Dotted: 0.85 and 0.90, the lessons' bars."
        )
        yield Figure(f"judge_score-{slug(judge)}", f"Style by step, judge {judge}", caption, rows)


def _judge_rows(results: Results, model: str, judge: str) -> Iterator[dict[str, Any]]:
    """Floor, score by step, and ceiling."""
    empty = {"model": model, "source": "tuned", "step": None, "value": None, "low": None, "high": None}
    for record in results.metrics(model, "judge"):
        yield empty | {"step": record["step"], "value": record.get(f"{judge}_probability")}
    for style in results.evidence(model).get("styles", ()):
        if style["judge"] == judge:
            yield empty | {"source": "base", **style["floor"]}
            yield empty | {"source": "real", **style["ceiling"]}


def _style_figures(results: Results) -> Iterator[Figure]:
    rows = []
    for model in results.models:
        for style in results.evidence(model).get("styles", ()):
            row = {"model": model, "judge": style["judge"], "speaks": "yes" if style["speaks"] else "no"}
            for key in ("floor", "score", "ceiling"):
                row |= {key: style[key]["value"], f"{key}_low": style[key]["low"], f"{key}_high": style[key]["high"]}
            rows.append(row)
    caption = (
        "Open circle: base model. Diamond: real held-out text. Between them the tuned model; bars are 95 % intervals."
    )
    yield Figure("style", "Style between floor and ceiling", caption, rows)


def _copying_figures(results: Results) -> Iterator[Figure]:
    rows = []
    for model in results.models:
        if copied := results.evidence(model).get("copying"):
            for text, key in (("generated", "rate"), ("held-out", "heldout_rate")):
                rows.append({"model": model, "text": text, "ngram": copied["ngram"], **copied[key]})
    caption = "Share of runs of words that stand in the training text. Colour: generated. Grey: real text, held out."
    yield Figure("copying", "Verbatim overlap with the training text", caption, rows)


def _movement_figures(results: Results) -> Iterator[Figure]:
    """By block and by group where the model's family is declared, else by tensor."""
    moved = {model: results.evidence(model).get("movement", {}) for model in results.models}
    measure = "Norm of the change over norm of the start"
    known = {
        model: [row for row in found.get("groups", ()) if row["group"] != "other"] for model, found in moved.items()
    }
    if any(known.values()):
        rows = [row for model, found in known.items() for row in _added_rows(model, found, "layer")]
        yield Figure(
            "movement-blocks", "How far each block moved", f"{measure}, over all parameters of the block.", rows
        )
        rows = [row for model, found in known.items() for row in _added_rows(model, found, "group")]
        caption = f"{measure}, over all blocks. A group at 0 did not change: it was frozen, or nothing reached it."
        yield Figure("movement-groups", "How far each group moved", caption, rows)
        return
    rows = []
    for model, found in moved.items():
        tensors = found.get("by_tensor", {})
        largest = sorted(tensors, key=lambda name: -tensors[name])[:_MOST_TENSORS]
        kept = [name for name in tensors if name in largest]
        rows += [{"model": model, "part": name, "tensors": 1, "change": tensors[name]} for name in kept]
    caption = f"{measure}; one row a tensor, at most the {_MOST_TENSORS} that moved most."
    yield Figure("movement", "How far the weights moved", caption, rows)


def _added_rows(model: str, found: Sequence[Mapping[str, Any]], by: str) -> Iterator[dict[str, Any]]:
    """Rows of one model, added up by block or by group."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        part = row["group"] if by == "group" or row["layer"] is None else f"block {row['layer']}"
        parts.setdefault(part, []).append(row)
    for part, rows in parts.items():
        change, start = (math.hypot(*(row[key] for row in rows)) for key in ("change", "start"))
        tensors = sum(row["parameters"] for row in rows)
        yield {"model": model, "part": part, "parameters": tensors, "change": change / start if start else change}


def _render(path: Path, models: Sequence[str], sections: Sequence[Section], also_png: bool) -> tuple[str, bytes]:
    """SVG of one CSV, and PNG where it is asked for."""
    kinds = dict(_KINDS)
    for section in sections:
        kinds |= section.kinds
    kind, rows = kinds[path.stem.partition("-")[0]], read_csv(path)
    styles = styles_of(models)

    def draw(axes: Any) -> None:
        axes.set_title(kind.measure.format(**rows[0]), pad=8)
        kind.draw(axes, rows, styles)

    return rendered(path.stem, kind.height(rows), draw, also_png)


def _draw_judge(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Curves from the base model, left of the first step, to real text, right of the last."""
    groups = by_model(rows)
    last = max(float(np.nanmax(column(rows, "step"))), 1.0)
    margin = 0.12 * last
    ends = {"base": -margin, "real": last + margin}
    for limit in _COURSE_THRESHOLDS:
        axes.axhline(limit, color=INK, linewidth=0.6, linestyle=(0, (1, 2)), alpha=0.7)
    for place, (model, points) in enumerate(groups.items()):
        colour, marker = styles[model]
        shift = (place - (len(groups) - 1) / 2) * min(0.3, 1 / len(groups)) * margin
        curve = [row for row in points if row["source"] == "tuned"]
        axes.plot(column(curve, "step"), column(curve, "value"), color=colour, marker=marker, label=short(model))
        for row in points:
            if row["source"] in ends:
                x, value, low, high = (
                    ends[row["source"]] + shift,
                    *(cell(row, key) for key in ("value", "low", "high")),
                )
                axes.axhline(value, color=colour, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.6)
                axes.plot([x, x], [low, high], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot(
                    [x], [value], color=colour, marker="D" if row["source"] == "real" else "o", markerfacecolor="none"
                )
    axes.set(xlim=(-1.6 * margin, last + 1.6 * margin), ylim=(-0.04, 1.04), xlabel="step")
    step_ticks(axes.xaxis)
    inside = [tick for tick in axes.get_xticks() if 0 < tick <= last]
    labels = [f"{tick:,.0f}" for tick in inside]
    known = [end for end in ends if any(row["source"] == end for row in rows)]
    axes.set_xticks([*inside, *(ends[end] for end in known)], [*labels, *known])
    axes.grid(axis="x", visible=False)
    legend(axes, groups)


def _draw_style(axes: Any, rows: list[Row], styles: Styles) -> None:
    for place, row in enumerate(rows):
        colour, marker = styles[row["model"]]
        floor, score, ceiling = (cell(row, key) for key in ("floor", "score", "ceiling"))
        axes.plot([floor, ceiling], [place, place], color=INK, linewidth=1, alpha=0.6)
        for key, symbol, face, tone in (
            ("floor", "o", "none", INK),
            ("ceiling", "D", "none", INK),
            ("score", marker, None, colour),
        ):
            low, high = cell(row, f"{key}_low"), cell(row, f"{key}_high")
            axes.plot([low, high], [place, place], color=tone, linewidth=4, alpha=0.45, solid_capstyle="butt")
            axes.plot(
                [cell(row, key)],
                [place],
                color=tone,
                marker=symbol,
                markerfacecolor=face,
                markersize=5,
                linestyle="none",
            )
        if math.isfinite(score):
            above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{score:.2f}", (score, place), **above, fontsize=7)
    silent = {"no": " (silent)"}
    labels = [f"{short(row['model'], 16)}\n{short(row['judge'], 12)}{silent.get(row['speaks'], '')}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlim=(-0.04, 1.04), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _draw_copying(axes: Any, rows: list[Row], styles: Styles) -> None:
    for place, row in enumerate(rows):
        generated = row["text"] == "generated"
        colour = styles[row["model"]][0] if generated else INK
        value, low, high = (100 * cell(row, key) for key in ("value", "low", "high"))
        axes.barh(place, value, height=0.62, color=colour, alpha=0.95 if generated else 0.55)
        axes.plot([low, high], [place, place], color=INK, linewidth=1)
        if math.isfinite(value):
            beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"{value:.1f} %", (max(value, high), place), **beside, fontsize=7)
    labels = [short(row["model"], 16) if row["text"] == "generated" else "real text" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    largest = max(100 * np.nan_to_num([column(rows, "value"), column(rows, "high")]).max(), 5.0)
    axes.set(xlim=(0, 1.2 * largest), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _draw_movement(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    parts = list(dict.fromkeys(row["part"] for row in rows))
    for place, (model, moved) in enumerate(groups.items()):
        colour, marker = styles[model]
        shift = (place - (len(groups) - 1) / 2) * 0.5 / len(groups)
        heights = [parts.index(row["part"]) + shift for row in moved]
        axes.hlines(heights, 0, column(moved, "change"), color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(column(moved, "change"), heights, color=colour, marker=marker, linestyle="none", label=short(model))
    axes.set_yticks(range(len(parts)), [short(part, 26) for part in parts])
    axes.set(ylim=(len(parts) - 0.4, -0.6))
    axes.set_xlim(left=0, right=None if np.nanmax(column(rows, "change")) > 0 else 1)
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)
    legend(axes, groups)


def _draw_losses(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Curves, and dashed what knowing nothing gives, where the curves come near it."""
    draw_curves(axes, rows, styles)
    low, high = axes.get_ylim()
    for baseline in {cell(row, "baseline") for row in rows if row.get("baseline")}:
        if low <= baseline <= high + 0.1 * (high - low):
            axes.axhline(baseline, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))


_KINDS = (
    {
        "heldout_bits": Kind("bits per byte", draw_curves, panel_height),
        "train_loss": Kind("nats per {target}", _draw_losses, panel_height),
        "learning_rate": Kind("learning rate", draw_curves, panel_height),
        "gradient_norm": Kind("norm of the gradient", draw_curves, panel_height),
        "judge_score": Kind("mean probability of the target", _draw_judge, panel_height),
        "style": Kind("mean probability of the target", _draw_style, lambda rows: 0.75 + 0.42 * len(rows)),
        "copying": Kind(
            "{ngram}-grams found in the training text, %", _draw_copying, lambda rows: 0.75 + 0.24 * len(rows)
        ),
        "movement": Kind(
            "relative change",
            _draw_movement,
            lambda rows: 0.95 + (0.15 + 0.04 * len(by_model(rows))) * len({row["part"] for row in rows}),
        ),
    }
    | CLASSIFIERS
    | CODE
    | COMPARISONS
    | MEASURES
    | PROBED
)
