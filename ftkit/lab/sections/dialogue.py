"""The section of a run in which models wrote in turns: every turn and its entropy."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from ftkit.display.figures import CURVES, Figure, Kind
from ftkit.report.run_files import Results
from ftkit.report.sections import Section

__all__ = ["DIALOGUE"]


def _figures(results: Results) -> Iterator[Figure]:
    """Entropy by turn, a line for each speaker."""
    turns = results.measured["dialogue"]["turns"]
    rows = [
        {"model": turn["speaker"], "step": number, "value": turn["entropy"], "mean": None}
        for number, turn in enumerate(turns, 1)
    ]
    caption = "Mean entropy of the next token, before any sampling rule, over the tokens of a turn."
    yield Figure("talk_entropy", "How open each turn was", caption, rows)


def _outcome(found: Mapping[str, Any]) -> str:
    names = dict.fromkeys(turn["speaker"] for turn in found["turns"])
    return f"{len(found['turns'])} turns of {' and '.join(names)}"


DIALOGUE = Section(
    "dialogue",
    _figures,
    {"talk_entropy": Kind("bits per token", CURVES, x_label="turn")},
    template=files("ftkit.lab.sections") / "dialogue.html.j2",
    links=lambda found: [("dialogue", "Dialogue")],
    outcome=_outcome,
)
