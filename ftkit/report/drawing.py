"""How every figure of ftkit looks: colours, CSV, curves, legends and ticks.

A figure is one small panel drawn from its CSV and the order of the models alone.
"""

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.display.figures import Row, Styles
from ftkit.display.wording import visible

__all__ = [
    "INK",
    "PALETTE",
    "as_csv",
    "by_model",
    "cell",
    "column",
    "draw_curves",
    "legend",
    "log_ticks",
    "moving_mean",
    "panel_height",
    "read_csv",
    "rendered",
    "short",
    "slug",
    "step_ticks",
    "styles_of",
    "thinned",
    "value_ticks",
]

INK = "#767778"
"""Text and axes: readable on white and on black; ``currentColor`` on the page."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b0508f", "#b37a00", "#3d8fc4")
"""Wong 2011's colours for colour-blind readers, purple, orange and sky blue darkened for contrast on white."""
_MARKERS = "os^Dvp"
_WIDTH = 3.8
"""Inches, of every panel."""
_MOST_POINTS = 600


def styles_of(models: Sequence[str]) -> Styles:
    """Each model's colour and marker, the same in all figures of a run."""
    return {visible(name): (PALETTE[n % len(PALETTE)], _MARKERS[n % len(_MARKERS)]) for n, name in enumerate(models)}


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


def read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cell(row: Row, key: str) -> float:
    """A cell as a number; NaN where it is empty or infinite, which leaves a gap in a line."""
    value = float(row[key] or "nan")
    return value if math.isfinite(value) else math.nan


def column(rows: Sequence[Row], key: str) -> np.ndarray:
    return np.array([cell(row, key) for row in rows])


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
    "figure.facecolor": "none",
    "axes.facecolor": "none",
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


def rendered(
    name: str, height: float, draw: Callable[[Any], None], also_png: bool = True, panels: int = 1
) -> tuple[str, bytes]:
    """Draw one panel, or several side by side, in the look of all figures.

    Args:
        name: File name without its ending; the SVG's ids follow from it.
        height: Inches.
        draw: Draws on matplotlib's axes, of several panels on their list.
        also_png: Whether to make a PNG too.
        panels: How many stand side by side.

    Returns:
        The SVG's text and the PNG, which is empty where it was not asked for.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Panel

    svg, png = io.BytesIO(), io.BytesIO()
    with _look(name):
        panel = Panel(figsize=(panels * _WIDTH, height), layout="constrained")
        draw(panel.add_subplot() if panels == 1 else list(panel.subplots(1, panels)))
        # savefig would draw each picture twice, once of them unseen.
        FigureCanvasSVG(panel).print_svg(svg, metadata={"Date": None, "Creator": None})
        if also_png:
            panel.set_layout_engine("none")  # both pictures have the layout that the SVG was given
            panel.set_dpi(200)
            FigureCanvasAgg(panel).print_png(png, metadata={"Software": None})
    return svg.getvalue().decode(), png.getvalue()


def by_model(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return groups


def short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def slug(name: str) -> str:
    """A name as part of a file name and of an id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"


def legend(axes: Any, models: Mapping[str, Any]) -> None:
    """Names of the models above the panel, where there are several."""
    if len(models) > 1:
        columns = 2 if max(map(len, models)) > 12 else 3
        axes.figure.legend(
            loc="outside lower left", ncols=columns, handlelength=1.4, columnspacing=1.2, handletextpad=0.5
        )


def value_ticks(axis: Any) -> None:
    """Tick labels without offsets, which would stand where the measure is written."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    small = max(map(abs, axis.get_view_interval())) < 2e-3
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}") if small else ScalarFormatter(useOffset=False)
    )


def log_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers; formulas would need the math that figures do without."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def step_ticks(axis: Any) -> None:
    """Whole steps with thousands separated."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def thinned(values: np.ndarray) -> np.ndarray:
    """Places of about ``_MOST_POINTS`` values that keep every peak: the least and the largest of each stretch."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    kept: set[int] = {0, len(values) - 1}
    for first, last in pairwise(edges):
        if np.isfinite(values[first:last]).any():
            kept |= {first + int(np.nanargmin(values[first:last])), first + int(np.nanargmax(values[first:last]))}
    return np.array(sorted(kept))


def draw_curves(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    drawn: list[bytes] = []
    for model, points in groups.items():
        (colour, marker), label = styles[model], short(model)
        steps, values, means = (column(points, key) for key in ("step", "value", "mean"))
        if np.isfinite(means).any():
            kept = thinned(values)
            faint = 0.5 / len(groups) ** 0.5  # several models' noise lies on top of each other
            axes.plot(steps[kept], values[kept], color=colour, linewidth=0.5, alpha=faint, zorder=1.9)
            kept = thinned(means)
            axes.plot(steps[kept], means[kept], color=colour, label=label)
            continue
        # Models on one line, such as one schedule for all, share it in dashes.
        same, kept = drawn.count(values.tobytes()), thinned(values)
        dashes = (3.0 * same, (3.0, 3.0 * (len(groups) - 1))) if same else "-"
        drawn.append(values.tobytes())
        shown = marker if len(values) <= 25 and not same else None
        axes.plot(steps[kept], values[kept], color=colour, marker=shown, linestyle=dashes)
        axes.plot([], [], color=colour, marker=shown, label=label)  # in the legend a whole line, whatever the dashes
    axes.set_xlabel("step")
    step_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, groups)


def panel_height(rows: list[Row]) -> float:
    return 2.6 + 0.18 * (math.ceil(len(by_model(rows)) / 3) if len(by_model(rows)) > 1 else 0)


def moving_mean(values: Sequence[float], width: int) -> list[float | None]:
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
