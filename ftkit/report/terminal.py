"""The end of a run on the terminal: each verdict with its reasons, or what was found, and where the report is."""

import logging
from collections.abc import Mapping
from typing import Any

from ftkit.report.reading import read_results
from ftkit.runs import RunFolder

__all__ = ["announce", "verdict_lines"]

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


def announce(run: RunFolder) -> None:
    """Say what came out of a run, from what lies in its folder.

    Args:
        run: A run whose evidence is written; of one that was finished before it is said again, and nothing is changed.
    """
    if not run.is_main:
        return
    results = read_results(run)
    for name, verdict in results.verdicts.items():
        _logger.info("\n%s: %s", name, "\n".join(verdict_lines(verdict)))
    experiments = results.measured.get("numerics", {})
    for name, found in experiments.items():
        unlike = "" if found["agrees"] else "NOT WHAT THEORY SAYS: "
        _logger.info("%s%-*s  %s%s", "\n", max(map(len, experiments)), name, unlike, found["finding"])
    if finding := results.measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
