"""The end of a run on the terminal: each verdict with its reasons, or what was found, and where the report is."""

import logging

from ftkit.report.reading import read_results
from ftkit.runs import RunFolder

__all__ = ["announce"]

_logger = logging.getLogger("ftkit.report")


def announce(run: RunFolder) -> None:
    """Say what came out of a run, from what lies in its folder.

    Args:
        run: A run whose evidence is written; of one that was finished before it is said again, and nothing is changed.
    """
    if not run.is_main:
        return
    results = read_results(run)
    for name, verdict in results.verdicts.items():
        also = f" (also: {', '.join(verdict['also'])})" if verdict["also"] else ""
        _logger.info("\n%s: %s%s", name, verdict["verdict"].upper(), also)
        for reason in verdict["reasons"]:
            _logger.info("  - %s", reason)
        if decided := verdict.get("decided_by"):
            _logger.info("  decided by: %s", "; ".join(decided))
    if finding := results.measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
