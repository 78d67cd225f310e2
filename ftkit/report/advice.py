"""What to do next: for each verdict, and for each criterion that did not decide, a sentence that names the settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftkit.display.wording import is_number, number
from ftkit.evidence.document import Evidence
from ftkit.evidence.measure import Outcome
from ftkit.evidence.measures import all_measures

__all__ = ["next_steps", "outcome_of"]

_WORSE_AGAIN = 0.005
"""Bits per byte above the lowest held-out loss from which a curve has turned; evaluations differ by less."""
_STILL_FALLING = 0.01
"""Share by which the last evaluation lies below the one before where the loss was still falling."""


def outcome_of(verdict: Mapping[str, Any], evidence: Evidence | None, settings: Mapping[str, Any]) -> Outcome:
    """A verdict as measures see it, for their advice and their clause of the headline.

    Args:
        verdict: The model's entry in ``verdict.json``.
        evidence: What was measured on it.
        settings: The run's ``config.yaml``.
    """
    return Outcome(
        (verdict["verdict"], *verdict["also"]), verdict.get("rule", ""), verdict.get("decided_by", ()), settings,
        verdict.get("thresholds", {}), evidence.passes if evidence else None,
    )  # fmt: skip


def next_steps(
    outcome: Outcome, evidence: Evidence | None, curve: Sequence[tuple[int, float]], own: Sequence[str] | None = None
) -> list[str]:
    """What to do after a verdict; settings are called by their names.

    Args:
        outcome: The verdict.
        evidence: What was measured; ``None`` where nothing was.
        curve: (step, bits per byte on held-out text) in order of the steps.
        own: Advice of the recipe's section, instead of the advice on text and training.

    Returns:
        Sentences.
    """
    found = []
    if "worked" in outcome.words:
        found += [
            "Read the samples below: numbers cannot replace that.",
            "Repeat the run with two or three other values of seed before you build on the result.",
        ]
    if evidence is not None:
        if own is None:
            found += _on_gain(outcome, evidence)
        for measure in all_measures():
            if (result := evidence.measures.get(measure.name)) is not None:
                found += measure.advice(result, outcome)
        if own is None and outcome.words[0] not in ("nothing", "broken"):
            found += _on_curve(curve, fewer="forgot" in outcome.words)
        found += own or ()
    return found or ["Read the reasons above."]


def _on_gain(outcome: Outcome, evidence: Evidence) -> Iterator[str]:
    heldout, rate = evidence.heldout, number(outcome.settings.get("learning_rate"))
    gain, least = heldout.gain, outcome.limit("worked_gain", 0.0)
    if outcome.rule == "unreadable":
        yield (
            f"Its tokenizer cannot write {heldout.unknown_bytes:.0%} of the text's bytes: start from a model whose "
            "tokenizer knows this script, or from random weights with tokenizer train:SIZE or byte."
        )
    elif not outcome.undecided or gain.low > least:
        return
    elif gain.high > least:
        yield "The gain on held-out text is uncertain: train longer, or hold out more text (heldout_share)."
    elif gain.low > 0:
        yield (
            f"It did get better on held-out text, by {number(gain.value)} bits per byte: too little. Raise max_steps "
            f"or learning_rate (it was {rate}); random weights take a far higher one than a pretrained model."
        )
    else:
        yield f"It did not get better on held-out text: fewer steps or a lower learning_rate (it was {rate})."


def _on_curve(curve: Sequence[tuple[int, float]], *, fewer: bool) -> Iterator[str]:
    """Whether the held-out loss had been lower before, or was still falling at the end; ``fewer``: it is told to take
    fewer steps, and not more in the same breath."""
    points = [(step, value) for step, value in curve if is_number(value)]
    if len(points) < 3:
        return
    (best_step, best), (last_step, last), before = min(points, key=lambda point: point[1]), points[-1], points[-2][1]
    if last > best + _WORSE_AGAIN and best_step > points[0][0]:
        yield (
            f"Its held-out loss was lowest at step {best_step:,} ({number(best)} bits per byte; {number(last)} at the "
            "end)."
        )
    elif before - last > _STILL_FALLING * last and not fewer:
        yield f"Its held-out loss was still falling at step {last_step:,}: a higher max_steps may gain more."
