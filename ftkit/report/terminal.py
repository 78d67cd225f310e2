"""The end of a run on the terminal: each verdict with its reasons and a sample, or what was found; and the report."""

import logging
import shlex
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftkit.display.wording import best_step
from ftkit.report.advice import advised
from ftkit.report.run_files import Results, read_results
from ftkit.report.sections import Section, sections_of
from ftkit.runs import RunFolder, written_passages
from ftkit.runs.models import SERVING_MODELS, model_kind

__all__ = ["announce", "next_commands", "sample_lines", "verdict_lines", "write_verdicts"]

_logger = logging.getLogger("ftkit.report")

_WIDTH, _NARROWEST = 110, 40
"""Characters in a line of a sample: as many as the terminal has, between these."""
_SAMPLE_LINES = 10
"""Lines of a sample: a passage has four or five, an answer may be a list without end."""


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


def sample_lines(evidence: Mapping[str, Any], model: str) -> list[str]:
    """The first measured passage of the base and of a model, side by side; none where one of them wrote nothing.

    Args:
        evidence: What ``evidence.json`` holds.
        model: The model's name there.
    """
    base, tuned = written_passages(evidence, model)
    width = max(min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH), _NARROWEST)
    found = []
    for name, text in [("base", base[0]), ("tuned", tuned[0])] if base and tuned else []:
        lines = []
        for line in text.splitlines():
            shown = "".join(character if character.isprintable() else " " for character in line)
            lines += textwrap.wrap(shown, width, initial_indent="    ", subsequent_indent="    ")
        more = len(lines) - _SAMPLE_LINES
        rest = [f"    ... ({more} more lines)"] if more > 0 else []
        found += [f"  {name} writes:", *lines[:_SAMPLE_LINES], *rest]
    return found


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
        samples = sample_lines(results.measured, name)
        _logger.info("\n%s: %s", name, "\n".join([*verdict_lines(verdict), *samples]))
    for section in sections_of(results, sections):
        for line in section.lines(results.measured[section.key]) if section.lines else ():
            _logger.info("\n%s", line)
    if finding := results.measured.get("finding"):
        _logger.info("\n%s", finding)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())
    if not run.is_part:
        _logger.info("\nnext:\n%s", "\n".join(f"  {word:<6}  {line}" for word, line in next_commands(run, results)))


def next_commands(run: RunFolder, results: Results) -> list[tuple[str, str]]:
    """What to do after a run: look at the report, let the model write, and share it, or what its verdict advises.

    Args:
        run: A run whose report is written.
        results: Its files.

    Returns:
        A word and a command for each, or a sentence instead of the last command.
    """
    found = [("look", f"python -m webbrowser {shlex.quote(str(run.path / 'report.html'))}")]
    made = [name for name in run.manifest.get("models", ()) if name not in SERVING_MODELS]
    if not made:
        return found
    worked = [name for name in made if results.verdicts.get(name, {}).get("verdict") == "worked"]
    name = (worked or made)[0]
    folder = shlex.quote(str(run.model(name)))
    kind = model_kind(run.model(name))
    if kind == "classifier":
        found.append(("try", f"ftkit predict {folder} 'A text of yours'"))
    elif results.settings.get("examples"):
        found.append(("write", f"ftkit chat {folder}"))
    elif kind == "language model":
        prompt = results.settings.get("prompt") or results.settings.get("sample_prompt") or "Once upon a time"
        compared = "" if str(results.settings.get("model", "")).startswith("new:") else " --compare_with_base"
        found.append(("write", f"ftkit generate {folder} --prompt {shlex.quote(prompt)}{compared}"))
    if worked or name not in results.verdicts:
        found.append(("share", f"ftkit push {folder} OWNER/NAME"))
    else:
        found.append(("change", results.verdicts[name].get("next", ["Read the reasons above."])[0]))
    return found
