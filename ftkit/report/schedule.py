"""The learning rate of a run before it starts: a line of blocks for a terminal, and a figure beside its CSV."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from ftkit.display.figures import CURVES, Kind
from ftkit.report.renderer import as_csv, drawn, read_csv
from ftkit.runs.files import write_atomically

__all__ = ["sparkline", "write_schedules"]

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Values from 0 to their largest as a line of blocks; a value of 0 is a blank, so that idle updates show.

    Args:
        values: Numbers of at least 0.
        width: Most blocks; each shows the mean of its stretch.
    """
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    most = max(means, default=0.0)
    return "".join(_BLOCKS[min(int(mean / most * 8), 7)] if mean > 0 else " " for mean in means)


def write_schedules(schedules: Mapping[str, Sequence[float]], path: Path) -> list[Path]:
    """Draw the learning rate of each update.

    Args:
        schedules: Rates of the updates, from the first, by name.
        path: The SVG; the CSV is written beside it.

    Returns:
        Both files.
    """
    rows = [
        {"model": name, "step": step, "value": rate, "mean": None}
        for name, rates in schedules.items()
        for step, rate in enumerate(rates, 1)
    ]
    data = path.with_suffix(".csv")
    write_atomically(data, as_csv(rows))
    svg, _ = drawn("schedule", Kind("learning rate", CURVES), read_csv(data), list(schedules), also_png=False)
    write_atomically(path, svg)
    return [path, data]
