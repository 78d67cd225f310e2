"""The end of a run on the terminal: each verdict with its reasons, and where the report is."""

import json
import logging

from ftkit.runs import RunFolder

__all__ = ["announce"]

_logger = logging.getLogger("ftkit.report")


def announce(run: RunFolder) -> None:
    """Say what came out of a run, from what lies in its folder.

    Args:
        run: A run whose verdict is written; of one that was finished before it is said again, and nothing is changed.
    """
    if not run.is_main:
        return
    verdicts = json.loads((run.path / "verdict.json").read_text(encoding="utf-8"))
    for name, verdict in verdicts.items():
        also = f" (also: {', '.join(verdict['also'])})" if verdict["also"] else ""
        _logger.info("\n%s: %s%s", name, verdict["verdict"].upper(), also)
        for reason in verdict["reasons"]:
            _logger.info("  - %s", reason)
    measured = json.loads((run.path / "evidence.json").read_text(encoding="utf-8"))
    if finding := measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
