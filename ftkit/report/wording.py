"""Numbers and sentences for people: how a value is written, and what a verdict says."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "MISSING",
    "headline",
    "interval",
    "is_number",
    "number",
    "outcome",
    "percent",
    "percent_interval",
    "table_cell",
]

MISSING = "not measured"

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_OUTCOMES = {
    "worked": "{} worked",
    "copied": "{} copied its text",
    "broken": "{} is broken",
    "nothing": "{} learnt nothing",
    "forgot": "{} forgot",
    "unsure": "{} is undecided",
}


def is_number(value: Any) -> bool:
    """Whether a value was measured and is finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def _fixed(value: float, decimals: int) -> str:
    """A number with a true minus sign and no negative zero."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "" if not any(digit in text for digit in "123456789") else "−")


def _decimals(largest: float, most: int) -> int:
    """Decimals that show three significant digits of the largest of some values."""
    return 2 if largest == 0 else min(max(2 - math.floor(math.log10(largest)), 0), most)


def _with_range(value: str, low: str, high: str) -> str:
    """A line may break before the bracket, not inside it."""
    return f"{value} [{low},\u00a0{high}]"


def number(value: Any) -> str:
    """Three significant digits, or all digits of a whole number, thousands separated."""
    if not is_number(value):
        return MISSING
    if isinstance(value, int) or value == 0:
        return f"{value or 0:,.0f}".replace("-", "−")
    if abs(value) < 1e-3:
        mantissa, _, power = f"{value:.2e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
        return f"{mantissa} × 10{str(int(power)).translate(_RAISED)}"
    return _fixed(value, _decimals(abs(value), most=5))


def percent(value: Any) -> str:
    """A share in percent, one decimal."""
    return f"{_fixed(100 * value, 1)}\u00a0%" if is_number(value) else MISSING


def interval(measured: Mapping[str, float] | None) -> str:
    """A value and its interval with the same decimals, such as "0.340 [0.310, 0.371]"."""
    if measured is None or not all(is_number(measured[key]) for key in ("value", "low", "high")):
        return MISSING
    values = [measured[key] for key in ("value", "low", "high")]
    value, low, high = (_fixed(item, _decimals(max(map(abs, values)), most=3)) for item in values)
    return _with_range(value, low, high)


def percent_interval(measured: Mapping[str, float] | None) -> str:
    """A share and its interval in percent."""
    if measured is None or not all(is_number(measured[key]) for key in ("value", "low", "high")):
        return MISSING
    value, low, high = (_fixed(100 * measured[key], 1) for key in ("value", "low", "high"))
    return _with_range(f"{value}\u00a0%", low, high)


def table_cell(text: str, measured: Any = None) -> dict[str, Any]:
    """A cell of a table of arms: the text that is shown, and the exact number behind it.

    Args:
        text: What people read.
        measured: A number, or an interval with ``value``, ``low`` and ``high`` as attributes or keys; ``None``, like a
            number that is not finite, where the cell holds none.
    """
    if measured is None or isinstance(measured, int | float):
        return {"text": text, "value": measured if is_number(measured) else None}
    ends = measured if isinstance(measured, Mapping) else vars(measured)
    return {"text": text, **{key: ends[key] for key in ("value", "low", "high")}}


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
    return _fixed(value, 2) if is_number(value) else MISSING
