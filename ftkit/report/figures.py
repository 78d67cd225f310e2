"""Figures of a run, each as SVG and PNG beside the CSV it is drawn from.

A figure is one small panel, so that a page can lay panels out side by side or below each other. Drawing uses only
the CSV and the order of the models, which gives each model one color and one marker in all figures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ftkit.display.figures import CURVES, Figure, Kind, Panels, Rules
from ftkit.display.wording import is_number
from ftkit.evidence.measures import all_measures
from ftkit.report.classification import CLASSIFIERS, classifier_figures
from ftkit.report.code_samples import CODE, code_figures
from ftkit.report.comparisons import COMPARISONS, comparison_figures
from ftkit.report.measures import MEASURES, measure_figures
from ftkit.report.probes import PROBED, probe_figures
from ftkit.report.renderer import INK, PALETTE, DrawnFigure, drawn, moving_mean, read_csv, write_figure
from ftkit.report.run_files import Results, read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder

__all__ = ["DrawnFigure", "draw_csv", "draw_figures", "inline_svg"]


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
        models: All models of the run in their order, for the colors.
        sections: What the run's recipe adds to the report.

    Returns:
        The SVG, the same to the byte for the same CSV and version of matplotlib.
    """
    return drawn(path.stem, _panels(path, sections), read_csv(path), models, also_png=False)[0]


def inline_svg(figure: DrawnFigure) -> str:
    """A figure's SVG as part of an HTML page: it takes the page's colors, and its ids are its own.

    Args:
        figure: A drawn figure.

    Returns:
        The ``svg`` element, safe to insert: names in it were escaped when it was drawn.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2).replace("xlink:href=", "href=")
    svg = re.sub(r'( id="| href="#|url\(#)', rf"\g<1>{figure.name}-", svg)
    for number, color in enumerate(PALETTE):
        svg = svg.replace(color, f"var(--model-{number}, {color})")
    return svg.replace(INK, "currentColor").replace(
        "<svg ", f'<svg role="img" aria-labelledby="{figure.name}-caption" ', 1
    )


# --- From a run's results to figures ---


def _figures(results: Results, sections: Sequence[Section]) -> list[Figure]:
    """Every figure that has data."""
    found = [*_curve_figures(results), *classifier_figures(results), *comparison_figures(results)]
    found += [*code_figures(results), *measure_figures(results), *probe_figures(results)]
    found += [figure for measure in all_measures() for figure in measure.figures(results)]
    found += [figure for section in sections for figure in section.figures(results)]
    replaced = {kind for section in sections for kind in section.replaces}
    if results.target == "text":  # classifiers have a panel of their own for it, with the limit
        found = [figure for figure in found if figure.name != "gradient_norm"]
    kinds = _all_kinds(sections)
    return [f for f in found if f.name.partition("-")[0] not in replaced and _has_data(f, kinds)]


def _has_data(figure: Figure, kinds: Mapping[str, Panels]) -> bool:
    """Whether a mark of the figure's kind finds a finite number."""
    panels = kinds[figure.name.partition("-")[0]]
    marks = [mark for kind in (panels if isinstance(panels, tuple) else (panels,)) for mark in kind.marks]
    columns = {str(getattr(mark, "value", "")) for mark in marks if not isinstance(mark, Rules)}
    return any(is_number(row.get(column)) for row in figure.rows for column in columns)


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


def _all_kinds(sections: Sequence[Section]) -> dict[str, Panels]:
    """How figures look, by the beginning of their file's name."""
    kinds: dict[str, Panels] = dict(_KINDS)
    for measure in all_measures():
        kinds |= measure.kinds
    for section in sections:
        kinds |= section.kinds
    return kinds


def _panels(path: Path, sections: Sequence[Section]) -> Panels:
    """Return how the figure of a CSV looks."""
    return _all_kinds(sections)[path.stem.partition("-")[0]]


_KINDS: dict[str, Kind] = {
    "heldout_bits": Kind("bits per byte", CURVES),
    "train_loss": Kind("nats per {target}", (*CURVES, Rules("baseline", extends=False))),
    "learning_rate": Kind("learning rate", CURVES),
    "gradient_norm": Kind("norm of the gradient", CURVES),
    **CLASSIFIERS,
    **CODE,
    **COMPARISONS,
    **MEASURES,
    **PROBED,
}
