"""The end of a run on the terminal: each verdict with its reasons, or what was found, and where the report is."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftkit.display.wording import best_step
from ftkit.report.advice import advised
from ftkit.report.reading import read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder

__all__ = ["announce", "verdict_lines", "write_verdicts"]

_logger = logging.getLogger("ftkit.report")


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """A verdict as it stands on the terminal: the words, the reasons, the numbers that decided.

    Args:
        verdict: An entry of ``verdict.json``.
    """
    also = f" (also: {', '.join(verdict['also'])})" if verdict["also"] else ""
    lines = [verdict["verdict"].upper() + also, *(f"  - {reason}" for reason in verdict["reasons"])]
    if decided := verdict.get("decided_by"):
        lines.append(f"  decided by: {'; '.join(decided)}")
    return lines


def write_verdicts(run: RunFolder, verdicts: Mapping[str, Mapping[str, Any]], *sections: Section) -> dict[str, Any]:
    """Write ``verdict.json``, with what to do next beside each verdict.

    Args:
        run: A run whose evidence is written.
        verdicts: By model.
        sections: What the run's recipe adds to the report.

    Returns:
        The verdicts with their key ``next``.
    """
    results = replace(read_results(run), verdicts=dict(verdicts))
    steps = advised(results, sections_of(results, sections))
    found = {name: {**verdict, "next": steps[name]} for name, verdict in verdicts.items()}
    run.write_json("verdict.json", found)
    return found


def announce(run: RunFolder, *sections: Section) -> None:
    """Say what came out of a run, from what lies in its folder.

    Args:
        run: A run whose evidence is written; of one that was finished before it is said again, and nothing is changed.
        sections: What the run's recipe adds to the report.
    """
    if not run.is_main:
        return
    results = read_results(run)
    for name, best in run.manifest.get("best", {}).items():
        _logger.info("\n%s: %s", name, best_step(best))
    for name, verdict in results.verdicts.items():
        _logger.info("\n%s: %s", name, "\n".join(verdict_lines(verdict)))
    for section in sections_of(results, sections):
        for line in section.lines(results.measured[section.key]) if section.lines else ():
            _logger.info("\n%s", line)
    if finding := results.measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
