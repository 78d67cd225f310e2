"""Figures of a model's weights: how they are distributed, and what the loss says while some of them are destroyed.

Like the figures of a run each is written as SVG and PNG beside the CSV that holds its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.evidence.damage import DamagePoint
from ftkit.inspection.distributions import WeightStatistics
from ftkit.report.drawing import INK, PALETTE, as_csv, rendered
from ftkit.runs.files import write_atomically

__all__ = ["write_damage", "write_weights"]

_MARKERS = "os^Dvp"
_DEEPEST = 0.85
"""End of the colour scale for depth; beyond it yellow is too pale on white."""


def write_weights(statistics: Sequence[WeightStatistics], folder: Path) -> list[Path]:
    """Write a histogram of each group, with one line for each block, and the standard deviations by block.

    Args:
        statistics: What ``weight_statistics`` returned.
        folder: Where the files go; it is made if needed.

    Returns:
        The CSV files: ``weights.csv`` first, then one histogram for each group. Each has an SVG and a PNG beside it;
        ``weights.csv`` only where a group is in several blocks.
    """
    groups: dict[str, list[WeightStatistics]] = {}
    for row in statistics:
        groups.setdefault(row.group, []).append(row)
    in_blocks = {group: [row for row in rows if row.layer is not None] for group, rows in groups.items()}
    in_blocks = {group: rows for group, rows in in_blocks.items() if len(rows) > 1}
    draw = (lambda axes: _draw_std(axes, in_blocks)) if in_blocks else None
    height = 2.6 + 0.18 * -(-len(in_blocks) // 3)
    paths = [_write(folder / "weights.csv", [row.as_row() for row in statistics], draw, height)]
    for group, rows in groups.items():
        table = [bin_row for row in rows for bin_row in row.histogram_rows()]
        paths.append(_write(folder / f"histogram-{group}.csv", table, _histogram_of(group, rows)))
    return paths


def write_damage(points: Sequence[DamagePoint], what: str, folder: Path) -> Path:
    """Write the loss against the number of perturbed blocks.

    Args:
        points: What ``damage_curve`` returned.
        what: What was done, for the title.
        folder: Where ``damage.csv``, ``damage.svg`` and ``damage.png`` go; it is made if needed.

    Returns:
        The CSV.
    """
    return _write(
        folder / "damage.csv", [point.as_row() for point in points], lambda axes: _draw_damage(axes, points, what)
    )


def _write(
    path: Path, rows: Sequence[Mapping[str, Any]], draw: Callable[[Any], None] | None, height: float = 2.6
) -> Path:
    write_atomically(path, as_csv(rows))
    if draw:
        svg, png = rendered(path.stem, height, draw)
        write_atomically(path.with_suffix(".svg"), svg)
        write_atomically(path.with_suffix(".png"), png)
    return path


def _draw_std(axes: Any, groups: Mapping[str, Sequence[WeightStatistics]]) -> None:
    for number, (group, rows) in enumerate(groups.items()):
        # More groups than colours: the marker tells them apart.
        colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number // len(PALETTE) % len(_MARKERS)]
        layers = [row.layer for row in rows]
        axes.plot(layers, [row.std for row in rows], color=colour, marker=marker, markersize=3, label=group)
    axes.set_title("standard deviation of the weights", pad=8)
    axes.set_xlabel("block")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.figure.legend(loc="outside lower left", ncols=3, handlelength=1.4, columnspacing=1.2, handletextpad=0.5)


def _histogram_of(group: str, rows: Sequence[WeightStatistics]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for row, colour in zip(rows, _depth_colours(len(rows)), strict=True):
            widths = np.diff(row.edges)
            axes.stairs(np.array(row.counts) / row.elements / widths, row.edges, color=colour, linewidth=1)
        axes.set_title(f"{group}: density of the weights{_depth_legend(rows)}", pad=8)
        axes.set_xlabel("weight")
        axes.set_ylim(bottom=0)

    return draw


def _depth_colours(count: int) -> list[Any]:
    """One colour for each block, dark near the input; the colour of the axes for a group outside the blocks."""
    from matplotlib import colormaps

    return [colormaps["viridis"](place) for place in np.linspace(0, _DEEPEST, count)] if count > 1 else [INK]


def _depth_legend(rows: Sequence[WeightStatistics]) -> str:
    first = "outside the blocks" if rows[0].layer is None else f"block {rows[0].layer}"
    return f", {first} (dark) to block {rows[-1].layer} (light)" if len(rows) > 1 else ""


def _draw_damage(axes: Any, points: Sequence[DamagePoint], what: str) -> None:
    blocks = [point.blocks for point in points]
    intervals = [point.bits_per_byte for point in points]
    axes.fill_between(
        blocks, [i.low for i in intervals], [i.high for i in intervals], color=PALETTE[0], alpha=0.25, lw=0
    )
    axes.plot(blocks, [i.value for i in intervals], color=PALETTE[0], marker="o")
    axes.axhline(intervals[0].value, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_title(f"bits per byte, {what}", pad=8)
    axes.set_xlabel("perturbed blocks, from the input")
    axes.xaxis.get_major_locator().set_params(integer=True)
