"""How every figure of ftkit looks: one renderer draws a kind's marks from the CSV and the order of the models alone."""

import csv
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftkit.display.figures import Bars, Diagonal, Figure, Kind, Lines, Mark, Panels, Points, Row, Rules, Stairs
from ftkit.display.wording import visible
from ftkit.runs.files import write_atomically

__all__ = [
    "INK",
    "PALETTE",
    "DrawnFigure",
    "as_csv",
    "drawn",
    "moving_mean",
    "read_csv",
    "short",
    "thinned",
    "write_figure",
]

INK = "#767778"
"""Text and axes: readable on white and on black; ``currentColor`` on the page."""
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b0508f", "#b37a00", "#3d8fc4")
"""Wong 2011's colors for color-blind readers, purple, orange and sky blue darkened for contrast on white."""
_MARKERS = "os^Dvp"
_DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 3)), "dashdot": (0, (6, 2, 1, 2)), "dotted": (0, (1, 2))}
_MORE_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_WIDTH = 3.8
"""Inches, of every panel."""
_MOST_POINTS = 600
"""Points of a line; more are not visible in its width."""
_MOST_MARKERS = 25
"""Points of a line that has markers; more would hide it."""
_MOST_ORDERED = 9
"""Blocks or steps that the legend names; the title explains the colors of more by their ends."""
_ORDERED = re.compile(r"(block )?\d+")
"""Names with an order, such as depth or time: their colors go from blue to orange."""


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


def write_figure(path: Path, figure: Figure, panels: Panels, models: Sequence[str] = ()) -> DrawnFigure:
    """Write a figure's CSV, and beside it the SVG and the PNG that are drawn from the CSV.

    Args:
        path: The CSV.
        figure: The data.
        panels: How figures of its kind look.
        models: All models of the run in their order, for the colors.
    """
    write_atomically(path, as_csv(figure.rows))
    svg, png = drawn(path.stem, panels, read_csv(path), models)
    write_atomically(path.with_suffix(".svg"), svg)
    write_atomically(path.with_suffix(".png"), png)
    return DrawnFigure(figure.name, figure.title, figure.caption, svg, path, wide=isinstance(panels, tuple))


def drawn(
    name: str, panels: Panels, rows: Sequence[Row], models: Sequence[str] = (), also_png: bool = True
) -> tuple[str, bytes]:
    """Draw one panel, or several side by side, in the look of all figures.

    Args:
        name: File name without its ending; the SVG's ids follow from it.
        panels: What to draw.
        rows: The CSV.
        models: All models of the run in their order, for the colors.
        also_png: Whether to make a PNG too.

    Returns:
        The SVG's text and the PNG, which is empty where it was not asked for.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    kinds = panels if isinstance(panels, tuple) else (panels,)
    svg, png = io.BytesIO(), io.BytesIO()
    with _look(name):
        canvas = Canvas(layout="constrained")
        parts = [
            _Panel(axes, kind, rows, [visible(model) for model in models])
            for axes, kind in zip(canvas.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True)
        ]
        legend_height = _draw_legend(
            canvas, {label: sign for part in reversed(parts) for label, sign in part.legend.items()}
        )
        canvas.set_size_inches(len(kinds) * _WIDTH, max(part.height() for part in parts) + legend_height)
        # savefig would draw each picture twice, once of them unseen.
        FigureCanvasSVG(canvas).print_svg(svg, metadata={"Date": None, "Creator": None})
        if also_png:
            canvas.set_layout_engine("none")  # both pictures have the layout that the SVG was given
            canvas.set_dpi(200)
            FigureCanvasAgg(canvas).print_png(png, metadata={"Software": None})
    return svg.getvalue().decode(), png.getvalue()


def _draw_legend(canvas: Any, signs: Mapping[str, Any]) -> float:
    """Draw the legend below the panels, and return the inches that it needs."""
    if not signs:
        return 0.0
    columns = 2 if max(map(len, signs)) > 12 else 3
    canvas.legend(
        signs.values(), [short(label, 28) for label in signs], loc="outside lower left", ncols=columns,
        handlelength=1.8, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
    return 0.18 * math.ceil(len(signs) / columns)


# --- From a declaration to marks ---


class _Style(NamedTuple):
    """Look of one color's marks."""

    color: str
    marker: str = "o"
    dashes: Any = "-"


_PLAIN = _Style(INK)


def _styles(names: Sequence[str], models: Sequence[str]) -> dict[str, _Style]:
    """Return each name's style: of models the same in all figures; others beside models have the axes' color."""
    is_model = any(name in models for name in names)
    if len(names) > 1 and not is_model and all(map(_ORDERED.fullmatch, names)):
        return {name: _Style(color) for name, color in zip(names, _ramp(len(names)), strict=True)}
    styles = {}
    for n, name in enumerate(dict.fromkeys([*models, *names] if is_model else names)):
        # More names than colors: the same color has another marker and other dashes.
        more = n // len(PALETTE)
        color = INK if is_model and name not in models else PALETTE[n % len(PALETTE)]
        styles[name] = _Style(color, _MARKERS[(n + more) % len(_MARKERS)], _MORE_DASHES[more % len(_MORE_DASHES)])
    return styles


def _ramp(count: int) -> list[str]:
    """Colors from blue to orange, all of them readable on white and on black."""
    from matplotlib.colors import to_hex, to_rgb

    first, last = np.array(to_rgb(PALETTE[0])), np.array(to_rgb(PALETTE[1]))
    return [to_hex((1 - place) * first + place * last) for place in np.linspace(0, 1, count)]


def _distinct(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


class _Cell(str):
    """A cell in a template: a number where the template has a format for it, otherwise text."""

    most = 10_000
    """Characters that are shown."""

    def __format__(self, spec: str) -> str:
        return format(float(self or "nan"), spec) if spec else short(self, self.most)


def _filled_in(template: str, row: Row, scaled: Mapping[str, float] | None = None, most: int = _Cell.most) -> str:
    """Return a template with a row's cells in place of its braces; ``scaled`` replaces some of them."""
    cells = {key: _Cell(text) for key, text in row.items()}
    for text in cells.values():
        text.most = most
    return template.format(**{**cells, **(scaled or {})})


class _Panel:
    """One kind's marks on one pair of axes."""

    def __init__(self, axes: Any, kind: Kind, rows: Sequence[Row], models: Sequence[str]) -> None:
        self.axes, self.kind = axes, kind
        self.rows = [row for row in rows if any(_shows(mark, row) for mark in kind.marks)]
        columns = {mark.color for mark in kind.marks if mark.color}
        self.styles = {column: _styles(_distinct(rows, column), models) for column in sorted(columns)}
        most = 22 if kind.rows.count("{") == 1 else 14
        self.places = {_filled_in(kind.rows, row): _filled_in(kind.rows, row, most=most) for row in self.rows}
        self.neighbors = _distinct(self.rows, kind.beside) if kind.beside else [""]
        self.names = [] if kind.rows else _names(self.rows, kind.x)
        self.legend: dict[str, Any] = {}
        covered = [kind.scale * value for value in kind.covers]
        axes.update_datalim([(value, value) for value in covered], updatex=bool(kind.rows), updatey=not kind.rows)
        for mark in kind.marks:
            _DRAW[type(mark)](self, mark)
        axes.set_title(kind.measure.format(**rows[0]) + self._order(), pad=8)
        if len(self.legend) < 2 and not any(mark.name for mark in kind.marks):
            self.legend = {}
        (self._finish_rows if kind.rows else self._finish_axes)()

    def height(self) -> float:
        """Inches without the legend."""
        if not self.kind.rows:
            return 2.6
        text = any(isinstance(mark, Points | Bars) and mark.text for mark in self.kind.marks)
        each = 0.17 + 0.06 * len(self.neighbors) + 0.04 * text + 0.14 * self.kind.rows.count("\n")
        return 0.85 + each * len(self.places)

    def _order(self) -> str:
        """Words for the title in place of a long legend of ordered colors."""
        for styles in self.styles.values():
            if len(styles) > _MOST_ORDERED and all(map(_ORDERED.fullmatch, styles)):
                self.legend = {label: sign for label, sign in self.legend.items() if label not in styles}
                return f", {next(iter(styles))} (blue) to {list(styles)[-1]} (orange)"
        return ""

    def _finish_rows(self) -> None:
        axes = self.axes
        axes.set_yticks(range(len(self.places)), list(self.places.values()))
        axes.set_ylim(len(self.places) - 0.4, -0.7)
        bars = any(isinstance(mark, Bars) for mark in self.kind.marks)
        axes.grid(axis="y", visible=not bars)
        axes.margins(x=0.16 if bars else 0.08)  # bars begin at 0 all the same; the text right of them needs room
        _value_ticks(axes.xaxis)

    def _finish_axes(self) -> None:
        axes, kind, places = self.axes, self.kind, self._x(self.rows)
        asked = kind.log.format(**self.rows[0])
        log_x, log_y = "x" in asked and axes.dataLim.x1 > 0, "y" in asked and axes.dataLim.y1 > 0
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        (_log_ticks if log_y else _value_ticks)(axes.yaxis)
        axes.set_xlabel((kind.x_label or kind.x).format(**self.rows[0]))
        if self.names:
            axes.set_xticks(range(len(self.names)), [textwrap.fill(name, 11) for name in self.names])
            axes.set_xlim(-0.4, len(self.names) - 0.6)
        elif log_x:
            _log_ticks(axes.xaxis, sorted(set(places)))
        else:
            whole = all(value.is_integer() for value in places if math.isfinite(value))
            (_step_ticks if whole else _value_ticks)(axes.xaxis)

    # --- Where and how ---

    def _groups(self, mark: Mark) -> Iterator[tuple[str, list[Row], _Style]]:
        """The rows that a mark shows, color by color: the color's name, its rows and its style."""
        rows = [row for row in self.rows if _shows(mark, row)]
        if mark.color is None:
            yield from [("", rows, _PLAIN)] if rows else []
            return
        for name in _distinct(rows, mark.color):
            yield name, [row for row in rows if row[mark.color] == name], self.styles[mark.color][name]

    def _explain(self, mark: Mark, name: str, style: _Style, **look: Any) -> None:
        """Note a sign for the legend, unless the labels of the rows say the same."""
        from matplotlib.lines import Line2D

        label = mark.name or ("" if self.kind.rows and not self.kind.beside else name)
        if label and label not in self.legend:
            several = bool(mark.name) and len(list(self._groups(mark))) > 1
            self.legend[label] = Line2D([], [], color=INK if several else style.color, **look)

    def _x(self, rows: Sequence[Row]) -> np.ndarray:
        if self.names:
            return np.array([self.names.index(row[self.kind.x]) for row in rows], dtype=float)
        return column(rows, self.kind.x)

    def _at(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the places of rows along the axis that has no measure."""
        if not self.kind.rows:
            return self._x(rows)
        numbers = {place: number for number, place in enumerate(self.places)}
        places = np.array([numbers[_filled_in(self.kind.rows, row)] for row in rows], dtype=float)
        if not self.kind.beside:
            return places
        count = len(self.neighbors)
        order = np.array([self.neighbors.index(row[self.kind.beside]) for row in rows])
        return places + 0.8 / count * (order - (count - 1) / 2)

    def _measured(self, rows: Sequence[Row], key: str) -> np.ndarray:
        return self.kind.scale * column(rows, key)

    def _plot(self, at: np.ndarray, values: np.ndarray, **look: Any) -> None:
        self.axes.plot(*((values, at) if self.kind.rows else (at, values)), **look)

    def _draw_intervals(self, rows: Sequence[Row], at: np.ndarray, value: str, **look: Any) -> None:
        if ends := _ends(rows[0], value):
            low, high = (self._measured(rows, end) for end in ends)
            self._plot(*_segments(at, low, high), solid_capstyle="butt", **look)

    def _write(self, template: str, row: Row, numbers: Mapping[str, float], place: Any, **where: Any) -> None:
        if template and all(map(math.isfinite, (*numbers.values(), *place))):
            text = _filled_in(template, row, numbers)
            self.axes.annotate(text, place, textcoords="offset points", fontsize=7, **where)

    # --- Marks ---

    def lines(self, mark: Lines) -> None:
        groups, before = list(self._groups(mark)), list[bytes]()
        for name, points, style in groups:
            rows = sorted(points, key=lambda row: cell(row, self.kind.x)) if mark.sort else points
            at, values = self._at(rows), self._measured(rows, mark.value)
            if not (np.isfinite(at) & np.isfinite(values)).any():
                continue
            means = self._measured(rows, mark.mean) if mark.mean in rows[0] else np.array([np.nan])
            smoothed = bool(np.isfinite(means).any())
            if smoothed:
                kept = thinned(values)
                faint = 0.5 / len(groups) ** 0.5  # several models' noise lies on top of each other
                self._plot(at[kept], values[kept], color=style.color, linewidth=0.5, alpha=faint, zorder=1.9)
                values = means
            bare = smoothed or mark.stepped or mark.line == "dotted" or len(groups) > _MOST_ORDERED
            look: dict[str, Any] = {
                "linestyle": style.dashes if mark.line == "solid" else _DASHES[mark.line],
                "marker": None if bare or len(values) > _MOST_MARKERS else style.marker,
                "markerfacecolor": style.color if mark.filled else "none",
            }
            self._explain(mark, name, style, **look)
            # Models on one line, such as one schedule for all, share it in dashes.
            course = at.tobytes() + values.tobytes()
            if same := before.count(course):
                look |= {"marker": None, "linestyle": (3.0 * same, (3.0, 3.0 * (len(groups) - 1)))}
            before.append(course)
            kept = thinned(values)
            drawstyle = "steps-post" if mark.stepped else "default"
            self._plot(at[kept], values[kept], color=style.color, drawstyle=drawstyle, **look)

    def points(self, mark: Points) -> None:
        for name, rows, style in self._groups(mark):
            at, values = self._at(rows), self._measured(rows, mark.value)
            width, alpha = (4.0, 0.45) if self.kind.rows else (1.0, 0.6)
            self._draw_intervals(rows, at, mark.value, color=style.color, linewidth=width, alpha=alpha)
            if not self.kind.rows and (ends := _ends(rows[0], self.kind.x)):
                across, up = _segments(values, *(column(rows, end) for end in ends))
                self.axes.plot(up, across, color=style.color, linewidth=width, alpha=alpha)
            small = mark.small or len(rows) > _MOST_MARKERS
            look: dict[str, Any] = {
                "linestyle": "none",
                "marker": mark.marker or style.marker,
                "markersize": 2.5 if small else 5,
                "markerfacecolor": style.color if mark.filled else "none",
                "alpha": 0.6 if small else 1,
            }
            self._explain(mark, name, style, **look)
            kept = thinned(values)
            self._plot(at[kept], values[kept], color=style.color, **look)
            above: dict[str, Any] = {"xytext": (0, 5), "ha": "center"} if self.kind.rows else {"xytext": (4, 4)}
            for row, place, value in zip(rows, at, values, strict=True):
                point = (value, place) if self.kind.rows else (place, value)
                self._write(mark.text, row, {mark.value: value}, point, **above)

    def bars(self, mark: Bars) -> None:
        for name, rows, style in self._groups(mark):
            at, values = self._at(rows), self._measured(rows, mark.value)
            face = style.color if mark.filled else "none"
            self._explain(mark, name, style, linestyle="none", marker="s", markersize=6, markerfacecolor=face)
            alpha = 0.55 if style.color == INK else 1.0  # the interval has that color, too
            height = 0.66 / len(self.neighbors)
            self.axes.barh(at, values, height=height, color=face, edgecolor=style.color, alpha=alpha)
            self._draw_intervals(rows, at, mark.value, color=INK, linewidth=1.1)
            ends = _ends(rows[0], mark.value)
            tops = np.fmax(values, self._measured(rows, ends[1])) if ends else values
            for row, place, value, top in zip(rows, at, values, tops, strict=True):
                self._write(mark.text, row, {mark.value: value}, (top, place), xytext=(4, 0), va="center")

    def rules(self, mark: Rules) -> None:
        axes, upright = self.axes, (mark.across == "x") != bool(self.kind.rows)
        line, span = (axes.axvline, axes.axvspan) if upright else (axes.axhline, axes.axhspan)
        scale = self.kind.scale if mark.across == "measure" else 1.0
        for name, rows, style in self._groups(mark):
            look: dict[str, Any] = {"linestyle": _DASHES[mark.line], "linewidth": 0.6 if mark.line == "solid" else 0.9}
            distinct = {row[mark.value]: row for row in rows} if isinstance(mark.value, str) else {"": rows[0]}
            for row in distinct.values():
                key = mark.value if isinstance(mark.value, str) else ""
                value = scale * (cell(row, key) if key else float(mark.value))
                low, high = axes.get_xlim() if upright else axes.get_ylim()
                if math.isnan(value) or not (mark.extends or low <= value <= high + 0.1 * (high - low)):
                    continue
                line(value, color=style.color, **look)
                if mark.name:
                    self._explain(replace(mark, name=_filled_in(mark.name, row, {key: value})), name, style, **look)
                ends = [scale * cell(row, end) for end in _ends(row, key) or ()]
                if ends and all(map(math.isfinite, ends)):
                    span(*ends, color=style.color, alpha=0.12, linewidth=0)

    def stairs(self, mark: Stairs) -> None:
        for name, rows, style in self._groups(mark):
            counts: dict[tuple[float, float], float] = {}
            for row in rows:
                ends = (cell(row, "low"), cell(row, "high"))
                counts[ends] = counts.get(ends, 0.0) + cell(row, mark.value)
            lows, highs = (np.array(side) for side in zip(*counts, strict=True))
            values = np.array(list(counts.values()))
            density = values / values.sum() / (highs - lows)
            self._explain(mark, name, style)
            self.axes.stairs(density, np.append(lows, highs[-1]), color=style.color, linewidth=0.9)

    def diagonal(self, mark: Diagonal) -> None:
        ends = self.axes.dataLim.extents
        ends = [min(ends[:2]), max(ends[2:])]
        self.axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=_DASHES["dashed"], zorder=1.9)


_DRAW: dict[type[Mark], Callable[[_Panel, Any], None]] = {
    Lines: _Panel.lines, Points: _Panel.points, Bars: _Panel.bars, Rules: _Panel.rules, Stairs: _Panel.stairs,
    Diagonal: _Panel.diagonal,
}  # fmt: skip


def _shows(mark: Mark, row: Row) -> bool:
    return all(row[key] == value for key, value in mark.where.items())


def _ends(row: Row, value: str) -> tuple[str, str] | None:
    """Columns of the interval of a column, where the CSV has them."""
    low, high = ("low", "high") if value == "value" else (f"{value}_low", f"{value}_high")
    return (low, high) if low in row and high in row else None


def _segments(at: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals as one line with gaps: where they are, and from where to where they go."""
    gap = np.full(len(at), np.nan)
    return np.column_stack([at, at, gap]).ravel(), np.column_stack([low, high, gap]).ravel()


def _names(rows: Sequence[Row], key: str) -> list[str]:
    """Texts of a column in their order; none where it has numbers."""
    try:
        column(rows, key)
    except ValueError:
        return _distinct(rows, key)
    return []


# --- Ticks ---


def _value_ticks(axis: Any) -> None:
    """Set tick labels without offsets, which would be where the measure is written."""
    from matplotlib.ticker import FuncFormatter, ScalarFormatter

    small = max(map(abs, axis.get_view_interval())) < 2e-3
    if axis.axis_name == "x":
        axis.get_major_locator().set_params(nbins=7)  # more labels such as -0.075 would touch each other
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}") if small else ScalarFormatter(useOffset=False)
    )


def _log_ticks(axis: Any, values: Sequence[float] = ()) -> None:
    """Set ticks of a logarithmic axis as plain numbers, at the values themselves where they are few."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    if 0 < len(values) <= _MOST_ORDERED:
        axis.set_major_locator(FixedLocator(list(values)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # formulas need math, which figures lack
    axis.set_minor_formatter(NullFormatter())


def _step_ticks(axis: Any) -> None:
    """Set whole steps with thousands separated."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


# --- Names and numbers ---


def short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


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
