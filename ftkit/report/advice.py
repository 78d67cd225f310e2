"""What to do next: for each verdict, and for each criterion that did not decide, a sentence that names the settings."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftkit.display.wording import is_number, number
from ftkit.evidence.document import Evidence
from ftkit.evidence.measure import Advice, Outcome
from ftkit.evidence.measures import all_measures
from ftkit.report.classification import classifier_steps
from ftkit.report.run_files import Results
from ftkit.report.sections import Section

__all__ = ["advised", "next_steps", "outcome_of"]

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
    outcome: Outcome,
    evidence: Evidence | None,
    curve: Sequence[tuple[int, float]],
    own: Sequence[str] | None = None,
    best: Mapping[str, Any] | None = None,
) -> list[str]:
    """What to do after a verdict; settings are called by their names.

    Args:
        outcome: The verdict.
        evidence: What was measured; ``None`` where nothing was.
        curve: (step, bits per byte on held-out text) in order of the steps.
        own: Advice of the recipe's section, instead of the advice on text and training.
        best: The model's entry under ``best`` in the manifest, where the best step was looked for.

    Returns:
        Sentences.
    """
    asked_of_curve = own is None and evidence is not None and outcome.words[0] not in ("nothing", "broken")
    of_curve = list(_on_curve(curve, best)) if asked_of_curve else []
    unfinished = _unfinished(outcome, evidence, of_curve)
    found: list[str | Advice] = of_curve if unfinished else []
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
        found += [] if unfinished else of_curve
        found += own or ()
    less = any(isinstance(advice, Advice) and advice.training == "less" for advice in found)
    dropped = "less" if unfinished else "more" if less else ""
    kept = [a for a in found if not (isinstance(a, Advice) and a.training == dropped)]
    return [a.text if isinstance(a, Advice) else a for a in kept] or ["Read the reasons above."]


def advised(results: Results, sections: Iterable[Section]) -> dict[str, list[str]]:
    """What to do next, for every model that has a verdict.

    Args:
        results: The run's files.
        sections: What the recipe adds to the report; its advice stands instead of that on text and training.
    """
    own = next((section.advice for section in sections if section.advice), None)
    found = {}
    for name, verdict in results.verdicts.items():
        if name in results.measured.get("classifiers", {}):
            found[name] = classifier_steps(verdict)
            continue
        curve = [(record["step"], record.get("bits_per_byte", math.nan)) for record in results.metrics(name, "heldout")]
        evidence = results.evidence(name)
        outcome = outcome_of(verdict, evidence, results.asked)
        best = results.manifest.get("best", {}).get(name)
        found[name] = next_steps(outcome, evidence, curve, own(verdict) if own else None, best)
    return found


def _unfinished(outcome: Outcome, evidence: Evidence | None, of_curve: Sequence[str | Advice]) -> bool:
    """Whether it gained, is not there yet, and still got better: it needs more training, whatever it forgets."""
    if evidence is None or not outcome.undecided:
        return False
    falling = any(isinstance(advice, Advice) and advice.training == "more" for advice in of_curve)
    return falling and evidence.heldout.gain.low > outcome.limit("worked_gain", 0.0)


def _on_gain(outcome: Outcome, evidence: Evidence) -> Iterator[str | Advice]:
    heldout, rate = evidence.heldout, outcome.was("learning_rate")
    gain, least = heldout.gain, outcome.limit("worked_gain", 0.0)
    if outcome.rule == "unreadable":
        yield (
            f"Its tokenizer cannot write {heldout.unknown_bytes:.0%} of the text's bytes: start from a model whose "
            "tokenizer knows this script, or from random weights with tokenizer train:SIZE or byte."
        )
    elif gain.low > least or not (outcome.undecided or "worse" in outcome.words):
        return
    elif gain.high > least:
        yield "The gain on held-out text is uncertain: hold out more text (heldout_share)."
        yield Advice("More steps (max_steps) may make the gain large enough to be sure.", "more")
    elif gain.low > 0:
        yield Advice(
            f"It did get better on held-out text, by {number(gain.value)} bits per byte: too little. Raise max_steps "
            f"or learning_rate{rate}; random weights take a far higher one than a pretrained model.",
            "more",
        )
    else:
        text = f"It did not get better on held-out text: fewer steps or a lower learning_rate{rate}."
        yield Advice(text, "less")


def _on_curve(curve: Sequence[tuple[int, float]], saved: Mapping[str, Any] | None) -> Iterator[str | Advice]:
    """Whether the held-out loss had been lower before the model was saved, or was still falling at the end."""
    if saved and saved["saved_step"] != saved["last_step"]:
        return
    points = [(step, value) for step, value in curve if is_number(value)]
    if len(points) < 3:
        return
    (best_step, best), (last_step, last), before = min(points, key=lambda point: point[1]), points[-1], points[-2][1]
    if last > best + _WORSE_AGAIN and best_step > points[0][0]:
        yield Advice(
            f"Its held-out loss was lowest at step {best_step:,} ({number(best)} bits per byte; {number(last)} at the "
            f"end): set max_steps to {best_step}, or load_best_model_at_end to true.",
            "less",
        )
    elif before - last > _STILL_FALLING * last:
        text = f"Its held-out loss was still falling at step {last_step:,}: a higher max_steps may gain more."
        yield Advice(text, "more")
