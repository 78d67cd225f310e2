"""Figures of a model's weights: how they are distributed, and what the loss says while some of them are destroyed.

Like the figures of a run each is written as SVG and PNG beside the CSV that holds its numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules, Stairs
from ftkit.report.renderer import as_csv, write_figure
from ftkit.runs.files import write_atomically

if TYPE_CHECKING:
    from ftkit.evidence.damage import DamagePoint
    from ftkit.inspection.distributions import WeightStatistics

__all__ = ["write_damage", "write_weights"]

_SPREAD = Kind("standard deviation of the weights", (Lines("std", color="group"),), x="layer", x_label="block")
_HISTOGRAM = Kind("{group}: density by block", (Stairs("count", color="layer"),), x="low", x_label="weight")


def write_weights(statistics: "Sequence[WeightStatistics]", folder: Path) -> list[Path]:
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
    path = folder / "weights.csv"
    table = [row.as_row() for row in statistics]
    if any(len([row for row in rows if row.layer is not None]) > 1 for rows in groups.values()):
        write_figure(path, Figure("weights", "", "", table), _SPREAD)
    else:
        write_atomically(path, as_csv(table))
    paths = [path]
    for group, rows in groups.items():
        bins = [bin_row for row in rows for bin_row in row.histogram_rows()]
        paths.append(folder / f"histogram-{group}.csv")
        write_figure(paths[-1], Figure("histogram", "", "", bins), _HISTOGRAM)
    return paths


def write_damage(points: "Sequence[DamagePoint]", what: str, folder: Path) -> Path:
    """Write the loss against the number of perturbed blocks.

    Args:
        points: What ``damage_curve`` returned.
        what: What was done, for the title.
        folder: Where ``damage.csv``, ``damage.svg`` and ``damage.png`` go; it is made if needed.

    Returns:
        The CSV.
    """
    rows = [point.as_row() for point in points]
    escaped = what.replace("{", "{{").replace("}", "}}")  # a regular expression may have them
    kind = Kind(
        f"bits per byte, {escaped}",
        (Rules(where={"blocks": "0"}), Lines(color=None), Points(color=None)),
        x="blocks",
        x_label="perturbed blocks, from the input",
    )
    return write_figure(folder / "damage.csv", Figure("damage", "", "", rows), kind).csv
