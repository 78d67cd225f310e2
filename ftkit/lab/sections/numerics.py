"""The section of numerical experiments: finding, figures and table of each. Its lines name how they are drawn."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from ftkit.display.figures import Figure, Kind, Lines, Points
from ftkit.report.run_files import Results
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
    {
        "numerics": Kind(
            "{measure}",
            (
                Lines(where={"drawn": "line"}, color="of"),
                Lines(where={"drawn": "dashed"}, color="of", line="dashed"),
                Points(where={"drawn": "points"}, color="of"),
                Lines(where={"drawn": "reference"}, color="of", line="dotted"),
            ),
            x="x",
            x_label="{across}",
            log="{log}",
        )
    },
    template=files("ftkit.lab.sections") / "numerics.html.j2",
    links=lambda found: [(name, name.replace("_", " ")) for name in found],
    outcome=_outcome,
    lines=_lines,
)
