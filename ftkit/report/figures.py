"""Figures of a run, each as SVG and PNG beside the CSV it is drawn from.

A figure is one small panel, so that a page can lay panels out side by side or below each other. Drawing knows nothing
but the CSV and the order of the models, which gives each model one colour and one marker in all figures.
"""

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.report.reading import Results, read_results, visible
from ftkit.runs import RunFolder
from ftkit.runs.files import write_atomically

__all__ = ["Figure", "as_csv", "draw_csv", "draw_figures", "inline_svg", "rendered"]

Row = dict[str, str]
Styles = dict[str, tuple[str, str]]
"""Colour and marker of each model."""

INK = "#767778"
"""Text and axes: readable on white and on black; ``currentColor`` on the page."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b0508f", "#b37a00", "#3d8fc4")
"""Wong 2011's colours for colour-blind readers, purple, orange and sky blue darkened for contrast on white."""
_MARKERS = "os^Dvp"
_WIDTH = 3.8
_MOST_POINTS = 600
_MOST_TENSORS = 24
_COURSE_THRESHOLDS = (0.85, 0.90)
"""Mean probabilities at which the lessons call a style learnt."""


@dataclass(frozen=True)
class Figure:
    """A drawn figure."""

    name: str
    """File name without its ending."""
    title: str
    caption: str
    svg: str
    """The SVG file's text."""
    csv: Path


@dataclass(frozen=True)
class _Kind:
    """How the figures of one kind look; several judges make several figures of a kind."""

    measure: str
    """What the axis shows, with its unit."""
    draw: Callable[[Any, list[Row], Styles], None]
    height: Callable[[list[Row]], float]
    """Inches, from the rows."""


@dataclass(frozen=True)
class _Table:
    """A figure before it is drawn."""

    name: str
    title: str
    caption: str
    rows: list[dict[str, Any]]


def draw_figures(run: RunFolder) -> list[Figure]:
    """Draw what a run's files allow into ``figures/``.

    Args:
        run: A run, finished or not.

    Returns:
        The figures whose data exist, curves first.
    """
    results = read_results(run)
    folder = run.path / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for table in _tables(results):
        path = folder / f"{table.name}.csv"
        write_atomically(path, as_csv(table.rows))
        svg, png = _render(path, results.models, also_png=True)
        write_atomically(path.with_suffix(".svg"), svg)
        write_atomically(path.with_suffix(".png"), png)
        figures.append(Figure(table.name, table.title, table.caption, svg, path))
    return figures


def draw_csv(path: Path, models: Sequence[str]) -> str:
    """Draw one of ``figures/*.csv`` again.

    Args:
        path: The CSV; its name says the kind of figure.
        models: All models of the run in their order, for the colours.

    Returns:
        The SVG, the same to the byte for the same CSV and version of matplotlib.
    """
    return _render(path, models, also_png=False)[0]


def inline_svg(figure: Figure) -> str:
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


# --- From a run's results to tables ---


def _tables(results: Results) -> list[_Table]:
    """Every figure that has data."""
    found = [*_curve_tables(results), *_judge_tables(results), *_style_tables(results), *_copying_tables(results)]
    found += _movement_tables(results)
    return [table for table in found if any(_finite(row) for row in table.rows)]


def _finite(row: Mapping[str, Any]) -> bool:
    return any(
        isinstance(row.get(key), int | float) and math.isfinite(row[key]) for key in ("value", "score", "change")
    )


_CURVES = (
    # name, split, key of the record, title, caption
    ("heldout_bits", "heldout", "bits_per_byte", "Held-out loss", "Text that was never trained on."),
    ("train_loss", "train", "loss", "Training loss", "Thin: every step. Strong: centred mean over {} steps."),
    ("learning_rate", "train", "learning_rate", "Learning rate", "What the schedule gave each step."),
    ("gradient_norm", "train", "grad_norm", "Gradient norm", "Before clipping. Strong: centred mean over {} steps."),
)
_SMOOTHED = {"train_loss", "gradient_norm"}


def _curve_tables(results: Results) -> Iterator[_Table]:
    for name, split, key, title, caption in _CURVES:
        rows, widths = [], set()
        for model in results.models:
            points = [
                (record["step"], record[key]) for record in results.metrics(model, split) if record.get(key) is not None
            ]
            means: Sequence[float | None] = [None] * len(points)
            if name in _SMOOTHED:
                width = max(len(points) // 25, 2) // 2 * 2 + 1
                means = _moving_mean([value for _, value in points], width)
                widths.add(width)
            rows += [
                {"model": model, "step": step, "value": value, "mean": mean}
                for (step, value), mean in zip(points, means, strict=True)
            ]
        yield _Table(name, title, caption.format(" or ".join(map(str, sorted(widths)))), rows)


def _moving_mean(values: Sequence[float], width: int) -> list[float | None]:
    """Centred mean over up to ``width`` values, fewer at the ends; values that are not finite are left out."""
    array = np.array(values, dtype=float)
    finite = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    half, places = width // 2, np.arange(len(array))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(array))
    return [
        float((sums[b] - sums[a]) / (counts[b] - counts[a])) if counts[b] > counts[a] else None
        for a, b in zip(first, last, strict=True)
    ]


def _judge_tables(results: Results) -> Iterator[_Table]:
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
        yield _Table(f"judge_score-{_slug(judge)}", f"Style by step, judge {judge}", caption, rows)


def _judge_rows(results: Results, model: str, judge: str) -> Iterator[dict[str, Any]]:
    """Floor, score by step, and ceiling."""
    empty = {"model": model, "source": "tuned", "step": None, "value": None, "low": None, "high": None}
    for record in results.metrics(model, "judge"):
        yield empty | {"step": record["step"], "value": record.get(f"{judge}_probability")}
    for style in results.evidence(model).get("styles", ()):
        if style["judge"] == judge:
            yield empty | {"source": "base", **style["floor"]}
            yield empty | {"source": "real", **style["ceiling"]}


def _slug(name: str) -> str:
    """A name as part of a file name and of an id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "judge"


def _style_tables(results: Results) -> Iterator[_Table]:
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
    yield _Table("style", "Style between floor and ceiling", caption, rows)


def _copying_tables(results: Results) -> Iterator[_Table]:
    rows = []
    for model in results.models:
        if copied := results.evidence(model).get("copying"):
            for text, key in (("generated", "rate"), ("held-out", "heldout_rate")):
                rows.append({"model": model, "text": text, "ngram": copied["ngram"], **copied[key]})
    caption = "Share of runs of words that stand in the training text. Colour: generated. Grey: real text, held out."
    yield _Table("copying", "Verbatim overlap with the training text", caption, rows)


_LAYER = re.compile(r"\b(?:layers?|h|blocks)\.(\d+)\.")


def _movement_tables(results: Results) -> Iterator[_Table]:
    moved = {model: results.evidence(model).get("movement", {}).get("by_tensor", {}) for model in results.models}
    by_layer = any(_LAYER.search(name) for tensors in moved.values() for name in tensors)
    rows = []
    for model, tensors in moved.items():
        groups: dict[str, list[float]] = {}
        for name, change in tensors.items():
            groups.setdefault(_part(name) if by_layer else name, []).append(change)
        largest = sorted(groups, key=lambda group: -np.median(groups[group]))[:_MOST_TENSORS]
        kept = groups if by_layer else [group for group in groups if group in largest]
        rows += [
            {"model": model, "part": part, "tensors": len(groups[part]), "change": float(np.median(groups[part]))}
            for part in kept
        ]
    unit = (
        "the median of each layer's tensors"
        if by_layer
        else f"one row a tensor, at most the {_MOST_TENSORS} that moved most"
    )
    yield _Table("movement", "How far the weights moved", f"Norm of the change over norm of the start; {unit}.", rows)


def _part(tensor: str) -> str:
    """Layer number of a tensor's name, or the module it belongs to."""
    if layer := _LAYER.search(tensor):
        return f"layer {layer[1]}"
    return tensor.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]


# --- CSV ---


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a CSV with the keys of the first as its head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: visible(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
    )
    return text.getvalue()


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _value(row: Row, key: str) -> float:
    """A cell as a number; NaN where it is empty or infinite, which leaves a gap in a line."""
    value = float(row[key] or "nan")
    return value if math.isfinite(value) else math.nan


def _values(rows: Sequence[Row], key: str) -> np.ndarray:
    return np.array([_value(row, key) for row in rows])


# --- From a CSV to a picture ---


_TICKS = {"color": INK, "major.width": 0.6, "major.size": 2.5}
_LOOK: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the layout is the same everywhere
    "font.size": 8,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.16,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "savefig.transparent": True,
}


@contextmanager
def _look(name: str) -> Iterator[None]:
    """Matplotlib's settings for our figures, put back afterwards."""
    from matplotlib import rc_context

    settings: Any = _LOOK | {f"{axis}tick.{key}": value for axis in "xy" for key, value in _TICKS.items()}
    with rc_context(settings | {"svg.hashsalt": name}), warnings.catch_warnings():
        # A name may be in a script that the bundled font lacks: boxes in the PNG; the SVG keeps text as text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _render(path: Path, models: Sequence[str], also_png: bool) -> tuple[str, bytes]:
    """SVG of one CSV, and PNG where it is asked for."""
    kind, rows = _KINDS[path.stem.partition("-")[0]], _read_csv(path)
    styles = {visible(name): (PALETTE[n % len(PALETTE)], _MARKERS[n % len(_MARKERS)]) for n, name in enumerate(models)}

    def draw(axes: Any) -> None:
        axes.set_title(kind.measure.format(**rows[0]), pad=8)
        kind.draw(axes, rows, styles)

    return rendered(path.stem, kind.height(rows), draw, also_png)


def rendered(name: str, height: float, draw: Callable[[Any], None], also_png: bool = True) -> tuple[str, bytes]:
    """Draw one panel in the look of all figures.

    Args:
        name: File name without its ending; the SVG's ids follow from it.
        height: Inches.
        draw: Draws on matplotlib's axes.
        also_png: Whether to make a PNG too.

    Returns:
        The SVG's text and the PNG, which is empty where it was not asked for.
    """
    from matplotlib.figure import Figure as Canvas

    svg, png = io.BytesIO(), io.BytesIO()
    with _look(name):
        canvas = Canvas(figsize=(_WIDTH, height), layout="constrained")
        draw(canvas.add_subplot())
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        if also_png:
            canvas.set_layout_engine("none")  # both pictures have the layout that the SVG was given
            canvas.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return svg.getvalue().decode(), png.getvalue()


def _by_model(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return groups


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _legend(axes: Any, models: Mapping[str, Any]) -> None:
    """Names of the models above the panel, where there are several."""
    if len(models) > 1:
        columns = 2 if max(map(len, models)) > 12 else 3
        axes.figure.legend(
            loc="outside lower left", ncols=columns, handlelength=1.4, columnspacing=1.2, handletextpad=0.5
        )


def _value_ticks(axis: Any) -> None:
    """Tick labels without offsets, which would stand where the measure is written."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    small = max(map(abs, axis.get_view_interval())) < 2e-3
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}") if small else ScalarFormatter(useOffset=False)
    )


def _step_ticks(axis: Any) -> None:
    """Whole steps with thousands separated."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _thinned(values: np.ndarray) -> np.ndarray:
    """Places of about ``_MOST_POINTS`` values that keep every peak: the least and the largest of each stretch."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    kept: set[int] = {0, len(values) - 1}
    for first, last in pairwise(edges):
        if np.isfinite(values[first:last]).any():
            kept |= {first + int(np.nanargmin(values[first:last])), first + int(np.nanargmax(values[first:last]))}
    return np.array(sorted(kept))


def _draw_curves(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = _by_model(rows)
    drawn: list[bytes] = []
    for model, points in groups.items():
        (colour, marker), label = styles[model], _short(model)
        steps, values, means = (_values(points, key) for key in ("step", "value", "mean"))
        if np.isfinite(means).any():
            kept = _thinned(values)
            faint = 0.5 / len(groups) ** 0.5  # several models' noise lies on top of each other
            axes.plot(steps[kept], values[kept], color=colour, linewidth=0.5, alpha=faint, zorder=1.9)
            kept = _thinned(means)
            axes.plot(steps[kept], means[kept], color=colour, label=label)
            continue
        # Models on one line, such as one schedule for all, share it in dashes.
        same, kept = drawn.count(values.tobytes()), _thinned(values)
        dashes = (3.0 * same, (3.0, 3.0 * (len(groups) - 1))) if same else "-"
        drawn.append(values.tobytes())
        shown = marker if len(values) <= 25 and not same else None
        axes.plot(steps[kept], values[kept], color=colour, marker=shown, linestyle=dashes)
        axes.plot([], [], color=colour, marker=shown, label=label)  # in the legend a whole line, whatever the dashes
    axes.set_xlabel("step")
    _step_ticks(axes.xaxis)
    _value_ticks(axes.yaxis)
    _legend(axes, groups)


def _draw_judge(axes: Any, rows: list[Row], styles: Styles) -> None:
    """Curves from the base model, left of the first step, to real text, right of the last."""
    groups = _by_model(rows)
    last = max(float(np.nanmax(_values(rows, "step"))), 1.0)
    margin = 0.12 * last
    ends = {"base": -margin, "real": last + margin}
    for limit in _COURSE_THRESHOLDS:
        axes.axhline(limit, color=INK, linewidth=0.6, linestyle=(0, (1, 2)), alpha=0.7)
    for place, (model, points) in enumerate(groups.items()):
        colour, marker = styles[model]
        shift = (place - (len(groups) - 1) / 2) * min(0.3, 1 / len(groups)) * margin
        curve = [row for row in points if row["source"] == "tuned"]
        axes.plot(_values(curve, "step"), _values(curve, "value"), color=colour, marker=marker, label=_short(model))
        for row in points:
            if row["source"] in ends:
                x, value, low, high = (
                    ends[row["source"]] + shift,
                    *(_value(row, key) for key in ("value", "low", "high")),
                )
                axes.axhline(value, color=colour, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.6)
                axes.plot([x, x], [low, high], color=colour, linewidth=2.4, alpha=0.5)
                axes.plot(
                    [x], [value], color=colour, marker="D" if row["source"] == "real" else "o", markerfacecolor="none"
                )
    axes.set(xlim=(-1.6 * margin, last + 1.6 * margin), ylim=(-0.04, 1.04), xlabel="step")
    _step_ticks(axes.xaxis)
    inside = [tick for tick in axes.get_xticks() if 0 < tick <= last]
    labels = [f"{tick:,.0f}" for tick in inside]
    known = [end for end in ends if any(row["source"] == end for row in rows)]
    axes.set_xticks([*inside, *(ends[end] for end in known)], [*labels, *known])
    axes.grid(axis="x", visible=False)
    _legend(axes, groups)


def _draw_style(axes: Any, rows: list[Row], styles: Styles) -> None:
    for place, row in enumerate(rows):
        colour, marker = styles[row["model"]]
        floor, score, ceiling = (_value(row, key) for key in ("floor", "score", "ceiling"))
        axes.plot([floor, ceiling], [place, place], color=INK, linewidth=1, alpha=0.6)
        for key, symbol, face, tone in (
            ("floor", "o", "none", INK),
            ("ceiling", "D", "none", INK),
            ("score", marker, None, colour),
        ):
            low, high = _value(row, f"{key}_low"), _value(row, f"{key}_high")
            axes.plot([low, high], [place, place], color=tone, linewidth=4, alpha=0.45, solid_capstyle="butt")
            axes.plot(
                [_value(row, key)],
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
    labels = [f"{_short(row['model'], 16)}\n{_short(row['judge'], 12)}{silent.get(row['speaks'], '')}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlim=(-0.04, 1.04), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    _value_ticks(axes.xaxis)


def _draw_copying(axes: Any, rows: list[Row], styles: Styles) -> None:
    for place, row in enumerate(rows):
        generated = row["text"] == "generated"
        colour = styles[row["model"]][0] if generated else INK
        value, low, high = (100 * _value(row, key) for key in ("value", "low", "high"))
        axes.barh(place, value, height=0.62, color=colour, alpha=0.95 if generated else 0.55)
        axes.plot([low, high], [place, place], color=INK, linewidth=1)
        if math.isfinite(value):
            beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(f"{value:.1f} %", (max(value, high), place), **beside, fontsize=7)
    labels = [_short(row["model"], 16) if row["text"] == "generated" else "real text" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    largest = max(100 * np.nan_to_num([_values(rows, "value"), _values(rows, "high")]).max(), 5.0)
    axes.set(xlim=(0, 1.2 * largest), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    _value_ticks(axes.xaxis)


def _draw_movement(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = _by_model(rows)
    parts = list(dict.fromkeys(row["part"] for row in rows))
    for place, (model, moved) in enumerate(groups.items()):
        colour, marker = styles[model]
        shift = (place - (len(groups) - 1) / 2) * 0.5 / len(groups)
        heights = [parts.index(row["part"]) + shift for row in moved]
        axes.hlines(heights, 0, _values(moved, "change"), color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(_values(moved, "change"), heights, color=colour, marker=marker, linestyle="none", label=_short(model))
    axes.set_yticks(range(len(parts)), [_short(part, 26) for part in parts])
    axes.set(ylim=(len(parts) - 0.4, -0.6))
    axes.set_xlim(left=0, right=None if np.nanmax(_values(rows, "change")) > 0 else 1)
    axes.grid(axis="y", visible=False)
    _value_ticks(axes.xaxis)
    _legend(axes, groups)


def _panel_height(rows: list[Row]) -> float:
    return 2.6 + 0.18 * (math.ceil(len(_by_model(rows)) / 3) if len(_by_model(rows)) > 1 else 0)


_KINDS = {
    "heldout_bits": _Kind("bits per byte", _draw_curves, _panel_height),
    "train_loss": _Kind("nats per token", _draw_curves, _panel_height),
    "learning_rate": _Kind("learning rate", _draw_curves, _panel_height),
    "gradient_norm": _Kind("norm of the gradient", _draw_curves, _panel_height),
    "judge_score": _Kind("mean probability of the target", _draw_judge, _panel_height),
    "style": _Kind("mean probability of the target", _draw_style, lambda rows: 0.75 + 0.42 * len(rows)),
    "copying": _Kind(
        "{ngram}-grams found in the training text, %", _draw_copying, lambda rows: 0.75 + 0.24 * len(rows)
    ),
    "movement": _Kind(
        "relative change",
        _draw_movement,
        lambda rows: 0.95 + (0.15 + 0.04 * len(_by_model(rows))) * len({row["part"] for row in rows}),
    ),
}
