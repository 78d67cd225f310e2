"""What a verdict says in one line: of a run, and of a model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftkit.display.wording import interval, number, percent
from ftkit.evidence.document import Evidence
from ftkit.evidence.measure import Outcome
from ftkit.evidence.measures import all_measures

__all__ = ["OUTCOMES", "headline", "outcome"]

OUTCOMES = {
    "worked": "{} worked",
    "copied": "{} copied its text",
    "broken": "{} is broken",
    "nothing": "{} learned nothing",
    "worse": "{} became worse on its own text",
    "unsure": "{} is undecided",
}
"""What each main word of a verdict says of a model."""
_SHARE, _SPACED = re.compile(r"(?<=\d)%"), "\u00a0%"
"""Reasons are written for terminals; a sentence of the page has a space before the sign, as its other numbers do."""


def outcome(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """The run in one line: what became of each model, or how many worked where they are many."""
    if not verdicts:
        return "No verdict yet"
    if len(verdicts) > 4:
        worked = sum(verdict["verdict"] == "worked" for verdict in verdicts.values())
        return f"{worked} of {len(verdicts)} models worked"
    parts = [
        OUTCOMES.get(verdict["verdict"], "{}: " + verdict["verdict"]).format(name)
        + (" and forgot" if "forgot" in verdict.get("also", ()) else "")
        for name, verdict in verdicts.items()
    ]
    return ", ".join(parts)


def headline(name: str, outcome: Outcome, reasons: Sequence[str], evidence: Evidence | None, of_text: bool) -> str:
    """The numbers that decide, in one sentence that stands beside the word, above bars that show the others.

    Args:
        name: The model's name.
        outcome: Its verdict.
        reasons: The verdict's.
        evidence: What was measured on it; ``None`` where nothing was.
        of_text: Whether the model is named after the text that it should write like.
    """
    if evidence is None:
        return "The run folder holds no measurements of it."
    heldout, gain = evidence.heldout, evidence.heldout.gain
    unseen = "unseen text" if heldout.rows == "windows" else "unseen completions"
    text = f"{unseen} of {name}" if of_text else unseen
    parts = list(reasons[:1]) if outcome.words[0] == "broken" else []
    parts.append(
        f"its tokenizer cannot write {percent(heldout.unknown_bytes)} of the text's bytes, so no bits per byte are "
        "claimed"
        if heldout.unclaimed
        else f"it needs {number(heldout.tuned.value)} bits per byte for {text}, the base {number(heldout.base.value)} "
        f"({f'gain {interval(gain)}' if gain.high >= 0 else f'worse by {interval(gain.negated())}'})"
    )
    for measure in all_measures():
        if (result := evidence.measures.get(measure.name)) is not None:
            parts += measure.headline(result, outcome)
    said = _SHARE.sub(_SPACED, "; ".join(parts))
    return f"{said[0].upper()}{said[1:]}."
