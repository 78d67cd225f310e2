"""Numbers and sentences for people: how a value is written, what a verdict says, and what to do next."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["THRESHOLDS", "headline", "interval", "next_steps", "number", "outcome", "percent", "percent_interval"]

MISSING = "not measured"

THRESHOLDS = {
    "nothing_gain": "nothing: the whole interval of the held-out gain lies nearer to 0 than this (bits per byte)",
    "worked_gain": "worked: the lower bound of the held-out gain lies above this (bits per byte)",
    "style_position": "worked: the lower bound of each speaking judge's position is at least this (0 base, 1 real text)",
    "copied_excess": "copied: the lower bound of the copy rate above that of real held-out text exceeds this (share)",
    "copied_run": "copied: a verbatim run is longer than this, and longer than any in held-out text (words)",
    "forgot_rise": "forgot: the lower bound of the relative rise of the loss on general text exceeds this (share)",
    "reload_difference": "broken: the saved folder computes other logits than the trained model by more than this",
}

_OUTCOMES = {
    "worked": "{} worked",
    "copied": "{} copied its text",
    "broken": "{} is broken",
    "nothing": "{} learnt nothing",
    "forgot": "{} forgot",
    "unsure": "{} is undecided",
}


def _is_number(value: Any) -> bool:
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
    """Three significant digits, all digits of whole numbers, thousands separated; "not measured" where there is none."""
    if not _is_number(value):
        return MISSING
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace("-", "−")
    if abs(value) < 1e-3:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')} × 10^{int(power)}".replace("-", "−")
    return _fixed(value, _decimals(abs(value), most=5))


def percent(value: Any) -> str:
    """A share in percent, one decimal."""
    return f"{_fixed(100 * value, 1)}\u00a0%" if _is_number(value) else MISSING


def interval(measured: Mapping[str, float] | None) -> str:
    """A value and its interval with the same decimals, such as "0.340 [0.310, 0.371]"."""
    if measured is None or not all(_is_number(measured[key]) for key in ("value", "low", "high")):
        return MISSING
    values = [measured[key] for key in ("value", "low", "high")]
    value, low, high = (_fixed(item, _decimals(max(map(abs, values)), most=3)) for item in values)
    return _with_range(value, low, high)


def percent_interval(measured: Mapping[str, float] | None) -> str:
    """A share and its interval in percent."""
    if measured is None or not all(_is_number(measured[key]) for key in ("value", "low", "high")):
        return MISSING
    value, low, high = (_fixed(100 * measured[key], 1) for key in ("value", "low", "high"))
    return _with_range(f"{value}\u00a0%", low, high)


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
    parts = [
        f"it needs {number(evidence['heldout_tuned']['value'])} bits per byte for {text}, "
        f"the base {number(evidence['heldout_base']['value'])} (gain {interval(evidence['gain'])})"
    ]
    if rise := evidence.get("general_rise"):
        change = "rose" if rise["value"] >= 0 else "fell"
        if "forgot" in [verdict["verdict"], *verdict["also"]]:
            parts.append(f"its loss on {evidence['general_name']} {change} by {percent(abs(rise['value']))}")
    speaking = [style for style in evidence["styles"] if style["speaks"]]
    if speaking:
        who = "judges place" if len(speaking) > 1 else "a judge places"
        places = " and ".join(f"{_place(style['position']['value'])} ({style['judge']})" for style in speaking)
        parts.append(f"{who} it at {places} of the way from the base to real text")
    elif evidence["styles"]:
        parts.append("no judge may speak on its style")
    copied = evidence["copying"]
    parts.append(
        f"{percent(copied['rate']['value'])} of its {copied['ngram']}-grams are copied (real text: {percent(copied['heldout_rate']['value'])})"
    )
    return f"{said}: {'; '.join(parts)}."


def _place(value: float) -> str:
    return _fixed(value, 2) if _is_number(value) else MISSING


def next_steps(
    verdict: Mapping[str, Any],
    evidence: Mapping[str, Any],
    settings: Mapping[str, Any],
    curve: Sequence[tuple[int, float]],
) -> list[str]:
    """What to do after a verdict; settings are called by their names.

    Args:
        verdict: The model's entry in ``verdict.json``.
        evidence: Its entry in ``evidence.json``; empty where nothing was measured.
        settings: The run's ``config.yaml``.
        curve: (step, bits per byte on held-out text) in order of the steps.
    """
    words = [verdict["verdict"], *verdict["also"]]
    advice: list[str] = []
    if "worked" in words:
        advice.append("Read the samples below: numbers cannot replace that.")
        advice.append("Repeat the run with two or three other values of seed before you build on the result.")
    if "copied" in words:
        advice.append(
            f"Take fewer steps{_of_passes(evidence)} (max_steps), or give it more text: it has seen each sentence too often."
        )
        advice.append("A lower learning_rate or fewer trainable weights also leave less room to learn by heart.")
    if "broken" in words:
        advice.extend(_repair(evidence, settings))
    if "nothing" in words:
        advice.extend(_nothing(evidence, settings))
    if "forgot" in words:
        advice.append(
            "Take fewer steps or a lower learning_rate, or train fewer weights: freeze groups, or train an adapter."
        )
        advice.append("Mix some general text into the corpus, so that the old knowledge is exercised too.")
    if "unsure" in words and evidence:
        advice.extend(_missing_evidence(evidence, settings, verdict.get("thresholds", {})))
    if evidence and verdict["verdict"] in ("worked", "copied", "forgot", "unsure"):
        advice.extend(_curve_hint(curve))
    return advice or ["Read the reasons above."]


def _of_passes(evidence: Mapping[str, Any]) -> str:
    passes = evidence.get("passes")
    return f" than the {number(passes)} passes over the text that it made" if _is_number(passes) else ""


def _repair(evidence: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    rate = number(settings["learning_rate"]) if "learning_rate" in settings else MISSING
    advice = []
    if not evidence.get("finite", True):
        advice.append(
            f"Values became infinite: lower learning_rate (it was {rate}), set max_grad_norm to 1.0, add warmup_steps."
        )
    if evidence.get("reload_difference", 0.0) > 1e-4:
        advice.append(
            "Do not use the saved folder: it computes something else than the model that was trained. Save it again and compare."
        )
    return [
        *advice,
        f"If it repeats itself: fewer steps, a lower learning_rate (it was {rate}), or another preset for sampling.",
    ]


def _nothing(evidence: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    moved = evidence.get("movement", {})
    rate = number(settings["learning_rate"]) if "learning_rate" in settings else MISSING
    if moved.get("changed") == 0:
        return [
            f"No weight changed. Check that learning_rate is above 0 (it was {rate}) and that not everything is frozen."
        ]
    return [
        f"The weights moved by {number(moved.get('relative'))} (relative) without effect: raise learning_rate (it was {rate}) or max_steps, "
        "or unfreeze more.",
        "If the base knew this text already, there is nothing to learn: its bits per byte on held-out text tell.",
    ]


def _missing_evidence(
    evidence: Mapping[str, Any], settings: Mapping[str, Any], limits: Mapping[str, float]
) -> list[str]:
    """For every criterion that does not decide: what would make it decide."""
    advice = []
    gain = evidence["gain"]
    if gain["low"] <= limits.get("worked_gain", 0.0) < gain["high"]:
        advice.append(
            "The gain on held-out text is uncertain: train longer, or hold out more text (heldout_share, or a longer text)."
        )
    elif gain["high"] <= limits.get("worked_gain", 0.0):
        advice.append(
            "It did not get better on held-out text: fewer steps or a lower learning_rate; compare the two loss curves."
        )
    over = evidence["gain_over_general"]
    if over is None and "general" in settings:
        advice.append(
            "No general text was given: name one in general, so that a style of its own and forgetting can be told."
        )
    elif over is not None and over["low"] <= 0:
        advice.append(
            "It gains as much on other text as on the target, so it learnt language rather than a style: start from a stronger base."
        )
    for style in evidence["styles"]:
        advice.extend(_judge_hint(style, limits.get("style_position", 0.5)))
    return advice


def _judge_hint(style: Mapping[str, Any], enough: float) -> list[str]:
    name, position = style["judge"], style["position"]
    if not style["speaks"]:
        return [
            f"Judge {name} does not speak ({style['reason']}): give more text, shorter passage_chars, or a better judge (judge_model, judge_max_steps)."
        ]
    if position["low"] >= enough:
        return []
    if position["high"] >= enough:
        return [
            f"Judge {name}: the interval {interval(position)} crosses {enough:g}; raise num_passages for a narrower one, or train longer."
        ]
    return [
        f"Judge {name} places it at {interval(position)}, below {enough:g}: train longer or with a higher learning_rate, or start from a stronger base."
    ]


def _curve_hint(curve: Sequence[tuple[int, float]]) -> list[str]:
    """Whether the held-out loss was still falling at the end, or had been lower before."""
    points = [(step, value) for step, value in curve if _is_number(value)]
    if len(points) < 3:
        return []
    (best_step, best), (last_step, last), before = min(points, key=lambda point: point[1]), points[-1], points[-2][1]
    if last > best + 0.005 and best_step > points[0][0]:
        return [
            f"Its held-out loss was lowest at step {best_step:,} ({number(best)} bits per byte) and {number(last)} at the end: stop earlier."
        ]
    if before - last > 0.01 * last:
        return [f"Its held-out loss was still falling at step {last_step:,}: a higher max_steps may gain more."]
    return []
