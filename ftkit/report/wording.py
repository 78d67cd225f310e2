"""What a verdict says in one line: of a run, and of a model."""

from collections.abc import Mapping
from typing import Any

from ftkit.display.wording import MISSING, fixed, interval, is_number, number, percent, percent_interval

__all__ = ["headline", "outcome"]

_OUTCOMES = {
    "worked": "{} worked",
    "copied": "{} copied its text",
    "broken": "{} is broken",
    "nothing": "{} learnt nothing",
    "forgot": "{} forgot",
    "unsure": "{} is undecided",
}


def outcome(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """The run in one line: what became of each model, or how many worked where they are many."""
    if not verdicts:
        return "No verdict yet"
    if len(verdicts) > 4:
        worked = sum(verdict["verdict"] == "worked" for verdict in verdicts.values())
        return f"{worked} of {len(verdicts)} models worked"
    parts = [
        _OUTCOMES.get(verdict["verdict"], "{}: " + verdict["verdict"]).format(name)
        for name, verdict in verdicts.items()
    ]
    return ", ".join(parts)


def headline(name: str, verdict: Mapping[str, Any], evidence: Mapping[str, Any], of_text: bool) -> str:
    """The verdict on one model in one sentence with the numbers that decide.

    Args:
        name: The model's name.
        verdict: Its entry in ``verdict.json``.
        evidence: Its entry in ``evidence.json``; empty where nothing was measured.
        of_text: Whether the model is named after the text that it should write like.
    """
    said = f"{name} {verdict['verdict'].upper()}"
    if not evidence:
        return f"{said}: the run folder holds no measurements of it."
    text = f"unseen text of {name}" if of_text else "unseen text"
    parts = verdict["reasons"][:1] if verdict["verdict"] == "broken" else []
    unknown = evidence.get("unknown_bytes", 0.0)
    parts.append(
        f"its tokenizer cannot write {percent(unknown)} of the text's bytes, so no bits per byte are claimed"
        if not is_number(evidence["heldout_tuned"]["value"]) and unknown
        else f"it needs {number(evidence['heldout_tuned']['value'])} bits per byte for {text}, "
        f"the base {number(evidence['heldout_base']['value'])} (gain {interval(evidence['gain'])})"
    )
    if "forgot" in [verdict["verdict"], *verdict["also"]]:
        parts.append(f"its loss on {evidence['general_name']} rose by {percent_interval(evidence['general_rise'])}")
    speaking = [style for style in evidence["styles"] if style["speaks"]]
    if speaking:
        who = "judges place" if len(speaking) > 1 else "a judge places"
        places = " and ".join(f"{_place(style['position']['value'])} ({style['judge']})" for style in speaking)
        parts.append(f"{who} it at {places} of the way from the base to real text")
    elif evidence["styles"]:
        parts.append("no judge may speak on its style")
    if copied := evidence["copying"]:
        rate, real = percent(copied["rate"]["value"]), percent(copied["heldout_rate"]["value"])
        parts.append(f"{rate} of its {copied['ngram']}-grams are copied (real text: {real})")
    if copied and verdict["verdict"] == "copied":
        parts.append(f"the longest copied run has {number(copied['longest_run'])} words")
    return f"{said}: {'; '.join(parts)}."


def _place(value: float) -> str:
    return fixed(value, 2) if is_number(value) else MISSING
