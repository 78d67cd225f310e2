"""The section of numerical experiments: finding, figures and table of each. Its lines name how they are drawn."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.report.drawing import INK, PALETTE, cell, legend, log_ticks, step_ticks, value_ticks
from ftkit.report.reading import Results
from ftkit.report.sections import Section

__all__ = ["NUMERICS"]


def _figures(results: Results) -> Iterator[Figure]:
    """Figures of each experiment."""
    for experiment, found in results.measured["numerics"].items():
        for panel in found["panels"]:
            common = {key: panel[key] for key in ("measure", "across", "log")}
            rows = [
                {"of": line["of"], "drawn": line["drawn"], "x": x, "value": y, **common}
                for line in panel["lines"]
                for x, y in zip(line["x"], line["y"], strict=True)
            ]
            name = "-".join(part for part in ("numerics", experiment, panel["name"]) if part)
            yield Figure(name, panel["title"], panel["caption"], rows)


def _by_name(rows: list[Row]) -> dict[str, dict[str, list[Row]]]:
    """Lines by their name, and of each name by how they are drawn."""
    lines: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        lines.setdefault(row["of"], {}).setdefault(row["drawn"], []).append(row)
    return lines


def _places(rows: list[Row]) -> list[str] | None:
    """The texts that stand along the axis; ``None`` where they are numbers."""
    try:
        [float(row["x"]) for row in rows]
    except ValueError:
        return list(dict.fromkeys(row["x"] for row in rows))
    return None


def _look(drawn: str, colour: str, points: int) -> dict[str, Any]:
    if drawn == "points":
        return {"color": colour, "marker": "o", "linestyle": "none", "alpha": 0.8}
    if drawn == "reference":
        return {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 3))}
    dashed = drawn == "dashed"
    return {
        "color": colour,
        "linewidth": 1.1 if dashed else 1.4,
        "linestyle": (0, (3, 2)) if dashed else "-",
        "marker": "o" if points <= 12 and not dashed else None,
        "markersize": 3,
    }


def _draw(axes: Any, rows: list[Row], styles: Styles) -> None:
    names, lines = _places(rows), _by_name(rows)
    for number, (of, ways) in enumerate(lines.items()):
        for place, (drawn, points) in enumerate(ways.items()):
            x = [names.index(row["x"]) if names else float(row["x"]) for row in points]
            look = _look(drawn, PALETTE[number % len(PALETTE)], len(points))
            axes.plot(x, [cell(row, "value") for row in points], label=None if place else of, **look)
    log = rows[0]["log"]
    whole = not names and all(float(row["x"]).is_integer() for row in rows)
    for side, axis, scale in (("x", axes.xaxis, axes.set_xscale), ("y", axes.yaxis, axes.set_yscale)):
        if side in log:
            scale("log")
        (log_ticks if side in log else step_ticks if side == "x" and whole else value_ticks)(axis)
    if names:
        axes.set_xticks(range(len(names)), [textwrap.fill(name, 11) for name in names])
        axes.set_xlim(-0.4, len(names) - 0.6)
    axes.set_xlabel(rows[0]["across"])
    legend(axes, lines)


def _height(rows: list[Row]) -> float:
    names = list(_by_name(rows))
    columns = 2 if max(map(len, names)) > 12 else 3
    return 2.5 + (0.18 * math.ceil(len(names) / columns) if len(names) > 1 else 0)


def _outcome(found: Mapping[str, Any]) -> str:
    return f"{len(found)} numerical experiment{'s' if len(found) > 1 else ''}"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Findings, and which of them theory contradicts."""
    width = max(map(len, found))
    for name, experiment in found.items():
        unlike = "" if experiment["agrees"] else "NOT WHAT THEORY SAYS: "
        yield f"{name:<{width}}  {unlike}{experiment['finding']}"


NUMERICS = Section(
    "numerics",
    _figures,
    {"numerics": Kind("{measure}", _draw, _height)},
    template=files("ftkit.lab.sections") / "numerics.html.j2",
    links=lambda found: [(name, name.replace("_", " ")) for name in found],
    outcome=_outcome,
    lines=_lines,
)
