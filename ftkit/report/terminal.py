"""The end of a run on the terminal: each verdict with its reasons and a sample, or what was found; and the report."""

import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftkit.display.wording import best_step
from ftkit.report.advice import advised
from ftkit.report.reading import read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder

__all__ = ["announce", "sample_lines", "verdict_lines", "write_verdicts"]

_logger = logging.getLogger("ftkit.report")

_WIDTH = 110
"""Characters in a line of a sample: a wide terminal."""


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


def sample_lines(passages: Mapping[str, Sequence[str]], model: str) -> list[str]:
    """The first measured passage of the base and of a model, side by side; none where one of them wrote nothing.

    Args:
        passages: ``passages`` of ``evidence.json``.
        model: The model's name there.
    """
    base = passages.get(f"base model, {model}", passages.get("base model", ()))
    tuned = passages.get(model, ())
    lines = []
    for name, text in [("base", base[0]), ("tuned", tuned[0])] if base and tuned else []:
        lines.append(f"  {name} writes:")
        for line in text.splitlines():
            shown = "".join(character if character.isprintable() else " " for character in line)
            lines += textwrap.wrap(shown, _WIDTH, initial_indent="    ", subsequent_indent="    ")
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
        samples = sample_lines(results.measured.get("passages", {}), name)
        _logger.info("\n%s: %s", name, "\n".join([*verdict_lines(verdict), *samples]))
    for section in sections_of(results, sections):
        for line in section.lines(results.measured[section.key]) if section.lines else ():
            _logger.info("\n%s", line)
    if finding := results.measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
