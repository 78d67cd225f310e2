"""What to do next: for each verdict, and for each criterion that did not decide, a sentence that names the settings."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ftkit.display.wording import interval, is_number, number

__all__ = ["next_steps"]

Situation = tuple[str, dict[str, Any]]
"""A key of ``_ADVICE`` and the values of its sentences."""

_ADVICE: dict[str, tuple[str, ...]] = {
    "worked": (
        "Read the samples below: numbers cannot replace that.",
        "Repeat the run with two or three other values of seed before you build on the result.",
    ),
    "copied": (
        "{passes}: take fewer steps (max_steps), or give it more text.",
        "A lower learning_rate or fewer trainable weights also leave less room to learn by heart.",
    ),
    "not finite": ("Lower learning_rate (it was {rate}), set max_grad_norm to 1.0, and add warmup_steps.",),
    "reload": ("Do not use the saved folder: it computes something else than the model that was trained.",),
    "tokenizer": (
        "Save the tokenizer that it was trained with beside it: the base's would save {saved} bits per byte.",
    ),
    "disorder": (
        "Is the training text in its own order? The order of the words saves it {tuned} bits per byte, its "
        "base {base}: look at the first rows of a batch with ftkit plan.",
    ),
    "repeats": ("If it repeats itself: fewer steps, a lower learning_rate (it was {rate}), or another sampling.",),
    "no change": ("No weight changed: is learning_rate above 0 (it was {rate}), and is not everything frozen?",),
    "no effect": (
        "The weights moved by {moved} (relative) without effect: raise learning_rate (it was {rate}) or max_steps.",
        "If the base knew this text already, there is nothing to learn: compare its bits per byte.",
    ),
    "forgot": (
        "Take fewer steps or a lower learning_rate, or train fewer weights: freeze groups, or train an adapter.",
        "Mix some general text into the corpus, so that the old knowledge is exercised too.",
    ),
    "gain unsure": ("The gain on held-out text is uncertain: train longer, or hold out more text (heldout_share).",),
    "little gain": (
        "It did get better on held-out text, by {gain} bits per byte: too little. Raise max_steps or learning_rate (it "
        "was {rate}); random weights take a far higher one than a pretrained model.",
    ),
    "no gain": ("It did not get better on held-out text: fewer steps or a lower learning_rate (it was {rate}).",),
    "seen": (
        "{share:.0%} of the held-out text's 12-grams stand in text that the model or its base has learnt: nothing can "
        "be concluded from it. Take a text that the base does not know, or take out of the corpus what stands twice.",
    ),
    "short passages": (
        "Its passages have {ngrams:.1f} 12-grams on average, and {least:g} are needed to see copying: raise "
        "passage_chars (it was {chars}).",
    ),
    "unwritten": (
        "Its tokenizer cannot write {share:.0%} of the text's bytes: start from a model whose tokenizer knows this "
        "script, or from random weights with tokenizer train:SIZE or byte.",
    ),
    "no general": ("Name a text in general, so that forgetting and a style of its own can be told.",),
    "no style": ("It gains as much on other text: it learnt language, not yet a style. Start from a stronger base.",),
    "judge silent": (
        "Judge {judge} does not speak ({reason}): give more text, or a better judge (judge_model, judge_max_steps).",
    ),
    "judge fooled": (
        "Judge {judge} finds it more typical than real text. Sampling does that: take sampling plain (it was "
        "{sampling}), and read the samples.",
    ),
    "judge unsure": ("Judge {judge}: {position} crosses {enough}; raise num_passages, or train longer.",),
    "judge low": (
        "Judge {judge}: {position} is below {enough}; train longer, raise learning_rate, or start from a better base.",
    ),
    "overtrained": ("Its held-out loss was lowest at step {best_step} ({best} bits per byte; {last} at the end).",),
    "unfinished": ("Its held-out loss was still falling at step {last_step}: a higher max_steps may gain more.",),
    "unknown": ("Read the reasons above.",),
}


def next_steps(
    verdict: Mapping[str, Any],
    evidence: Mapping[str, Any],
    settings: Mapping[str, Any],
    curve: Sequence[tuple[int, float]],
    own: Callable[[Mapping[str, Any]], Sequence[str]] | None = None,
) -> list[str]:
    """What to do after a verdict; settings are called by their names.

    Args:
        verdict: The model's entry in ``verdict.json``.
        evidence: Its entry in ``evidence.json``; empty where nothing was measured.
        settings: The run's ``config.yaml``.
        curve: (step, bits per byte on held-out text) in order of the steps.
        own: Advice of the recipe's section, from the verdict, instead of the advice on text and training.

    Returns:
        Sentences.
    """
    found = list(_situations(verdict, evidence, settings, curve, with_text=own is None))
    more = list(own(verdict)) if own and evidence else []
    if not found and not more:
        found = [("unknown", {})]
    return [sentence.format(**values) for key, values in found for sentence in _ADVICE[key]] + more


def _situations(
    verdict: Mapping[str, Any],
    evidence: Mapping[str, Any],
    settings: Mapping[str, Any],
    curve: Sequence[tuple[int, float]],
    *,
    with_text: bool,
) -> Iterator[Situation]:
    words = [verdict["verdict"], *verdict["also"]]
    rate = number(settings.get("learning_rate"))
    if "worked" in words:
        yield "worked", {}
    if not evidence:
        return
    if "copied" in words:
        passes = evidence["passes"]
        yield (
            "copied",
            {"passes": f"It made {number(passes)} passes over its text" if passes else "It knows it by heart"},
        )
    if "broken" in words:
        if not evidence["finite"]:
            yield "not finite", {"rate": rate}
        if (evidence["reload_difference"] or 0.0) > verdict.get("thresholds", {}).get("reload_difference", 0.0):
            yield "reload", {}
        misfit = evidence.get("tokenizer_misfit")
        if misfit and misfit["low"] > verdict.get("thresholds", {}).get("tokenizer_misfit", 0.0):
            yield "tokenizer", {"saved": number(misfit["value"])}
        if any(decider.startswith("word order") for decider in verdict.get("decided_by", ())):
            order = evidence["order"]
            yield "disorder", {"tuned": number(order["tuned"]), "base": number(order["base"])}
        elif evidence["fluency_tuned"]:
            yield "repeats", {"rate": rate}
    if "nothing" in words:
        moved = evidence["movement"]
        yield "no effect" if moved["changed"] else "no change", {"rate": rate, "moved": number(moved["relative"])}
    if "forgot" in words:
        yield "forgot", {}
    if not with_text:
        return
    if "unsure" in words:
        yield from _undecided(evidence, settings, verdict.get("thresholds", {}))
    if verdict["verdict"] not in ("nothing", "broken"):
        # Whoever forgot is told to take fewer steps, and not more in the same breath.
        yield from (found for found in _shape(curve) if found[0] != "unfinished" or "forgot" not in words)


def _undecided(
    evidence: Mapping[str, Any], settings: Mapping[str, Any], limits: Mapping[str, float]
) -> Iterator[Situation]:
    """Every criterion that does not hold."""
    if evidence.get("unknown_bytes") and not is_number(evidence["gain"]["value"]):
        yield "unwritten", {"share": evidence["unknown_bytes"]}
        return
    gain, over, least = evidence["gain"], evidence["gain_over_general"], limits.get("worked_gain", 0.0)
    copying, rate = evidence.get("copying"), number(settings.get("learning_rate"))
    if copying and _above(copying["heldout_rate"]["value"], limits.get("seen_heldout", math.inf)):
        yield "seen", {"share": copying["heldout_rate"]["value"]}
        return
    if copying and copying["ngrams_per_passage"] < limits.get("min_ngrams", 0.0):
        values = {"ngrams": copying["ngrams_per_passage"], "least": limits["min_ngrams"]}
        yield "short passages", values | {"chars": number(settings.get("passage_chars"))}
    if _above(gain["high"], least) and not _above(gain["low"], least):
        yield "gain unsure", {}
    elif not _above(gain["low"], least):
        yield "little gain" if _above(gain["low"], 0.0) else "no gain", {"gain": number(gain["value"]), "rate": rate}
    if over is None and "general" in settings:
        yield "no general", {}
    if over is not None and not _above(over["low"], 0.0):
        yield "no style", {}
    enough = limits.get("style_position", 0.5)
    for style in evidence["styles"]:
        position = style["position"]
        values = {"judge": style["judge"], "position": interval(position), "enough": f"{enough:g}"}
        if not style["speaks"] and _above(style["score"]["value"], style["ceiling"]["high"] or math.inf):
            yield "judge fooled", values | {"sampling": settings.get("sampling", "plain")}
        elif not style["speaks"]:
            yield "judge silent", values | {"reason": style["reason"]}
        elif not _above(position["low"], enough):
            yield "judge unsure" if _above(position["high"], enough) else "judge low", values


def _above(value: Any, limit: float) -> bool:
    """Whether a value was measured and exceeds a limit."""
    return is_number(value) and bool(value > limit)


def _shape(curve: Sequence[tuple[int, float]]) -> Iterator[Situation]:
    """Whether the held-out loss had been lower before, or was still falling at the end."""
    points = [(step, value) for step, value in curve if is_number(value)]
    if len(points) < 3:
        return
    (best_step, best), (last_step, last), before = min(points, key=lambda point: point[1]), points[-1], points[-2][1]
    if last > best + 0.005 and best_step > points[0][0]:
        yield "overtrained", {"best_step": f"{best_step:,}", "best": number(best), "last": number(last)}
    elif before - last > 0.01 * last:
        yield "unfinished", {"last_step": f"{last_step:,}"}
