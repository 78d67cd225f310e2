"""Figures of a run, each as SVG and PNG beside the CSV it is drawn from.

A figure is one small panel, so that a page can lay panels out side by side or below each other. Drawing knows nothing
but the CSV and the order of the models, which gives each model one colour and one marker in all figures.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftkit.display.figures import CURVES, Bars, Figure, Kind, Lines, Panels, Points, Rules
from ftkit.report.classification import CLASSIFIERS, classifier_figures
from ftkit.report.coding import CODE, code_figures
from ftkit.report.comparisons import COMPARISONS, comparison_figures
from ftkit.report.drawing import INK, PALETTE, DrawnFigure, drawn, moving_mean, read_csv, slug, write_figure
from ftkit.report.measures import MEASURES, measure_figures
from ftkit.report.probing import PROBED, probe_figures
from ftkit.report.reading import Results, read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder

__all__ = ["DrawnFigure", "draw_csv", "draw_figures", "inline_svg"]

_MOST_TENSORS = 24
_JUDGED = (0.85, 0.90)
"""Mean probabilities at which the lessons call a style learnt."""


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
        figures.append(write_figure(path, figure, _panels(path, sections), results.models))
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
    return drawn(path.stem, _panels(path, sections), read_csv(path), models, also_png=False)[0]


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
            "How sure the judge is, on average, that a passage is by the target. Dashed: the base model (floor). "
            "Dash-dotted: real held-out text (ceiling); bands are 95 % intervals. Dotted: 0.85 and 0.90, the lessons' "
            "bars."
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


def _panels(path: Path, sections: Sequence[Section]) -> Panels:
    """Return how the figure of a CSV looks."""
    kinds: dict[str, Panels] = dict(_KINDS)
    for section in sections:
        kinds |= section.kinds
    return kinds[path.stem.partition("-")[0]]


_KINDS: dict[str, Kind] = {
    "heldout_bits": Kind("bits per byte", CURVES),
    "train_loss": Kind("nats per {target}", (*CURVES, Rules("baseline", extends=False))),
    "learning_rate": Kind("learning rate", CURVES),
    "gradient_norm": Kind("norm of the gradient", CURVES),
    "judge_score": Kind(
        "mean probability of the target",
        (
            Lines(where={"source": "tuned"}),
            *(Rules(limit, line="dotted") for limit in _JUDGED),
            Rules(where={"source": "base"}, color="model", name="base model"),
            Rules(where={"source": "real"}, color="model", name="real text", line="dashdot"),
        ),
        covers=(0, 1),
    ),
    "style": Kind(
        "mean probability of the target",
        (
            Points("floor", color=None, filled=False),
            Points("ceiling", color=None, filled=False, marker="D"),
            Points("score", where={"speaks": "yes"}, text="{score:.2f}"),
            Points("score", where={"speaks": "no"}, text="{score:.2f} (silent)"),
        ),
        rows="{model}\n{judge}",
        covers=(0, 1),
    ),
    "copying": Kind(
        "{ngram}-grams found in the training text, %",
        (
            Bars(where={"text": "generated"}, text="{value:.1f} %"),
            Bars(where={"text": "held-out"}, text="{value:.1f} %", color=None),
        ),
        rows="{model}, {text}",
        scale=100,
        covers=(0, 0.05),  # a bar of a small share is short
    ),
    "movement": Kind("relative change", (Points("change"),), rows="{part}", beside="model", covers=(0,)),
    **CLASSIFIERS,
    **CODE,
    **COMPARISONS,
    **MEASURES,
    **PROBED,
}
