"""The verdict on a classifier: what it gains on test texts over a majority class, over chance, and over its start.

The mean F1 over classes counts rare classes as much as frequent ones. A constant answer is its floor, but not the only
one: guessing has a higher F1, so the gain must hold over the classifier's own answers in random order too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftkit.evidence.classification import macro_f1
from ftkit.evidence.intervals import Interval, bootstrap, wilson
from ftkit.evidence.verdict import Verdict
from ftkit.training import Predictions

__all__ = ["ClassifierCase", "decide_classifier"]

_WORSE = 0.01
"""A point of F1: a loss within it is none, and a gain within it is none."""
_MOST_SEEN = 0.1
"""Share of test texts that stand in the training texts from which a test is none; as for n-grams of held-out text."""
_RELOAD = 1e-4
"""Nats by which the saved folder's validation loss may differ: what two loads round differently, ten times."""


@dataclass(frozen=True)
class ClassifierCase:
    """What a verdict on a classifier rests on."""

    tuned: Predictions
    """Of test texts."""
    start: Predictions | None
    """Of the model before, where it could tell the classes; ``None`` where its last layer was new."""
    seen: float
    """Share of the test texts that stand in the training texts as well."""
    changed: int
    """Tensors that changed."""
    leaks: Sequence[str]
    """Tensors that changed although frozen."""
    reload_difference: float


def decide_classifier(case: ClassifierCase) -> Verdict:
    """Decide: the first rule that holds gives the word.

    1. ``broken``: no finite answer, a saved folder with another loss, a frozen tensor that changed.
    2. ``nothing``: no tensor changed.
    3. ``unsure``: test texts stand in the training texts.
    4. ``worse``: the start model told the classes better.
    5. ``worked``: macro F1 surely above a majority class, above its own answers in random order, and above the start.
    6. ``nothing``: it names one class for all texts, or its F1 is a majority class's, to a point.
    7. ``unsure``: what is left.

    Args:
        case: What was measured.
    """
    finite = bool(np.isfinite(case.tuned.log_probabilities).all())
    for bad, reason, fault in (
        (not finite, "its answers are not finite", "not finite"),
        (bool(case.leaks), f"{len(case.leaks)} tensors changed although frozen", f"leaks {len(case.leaks)} > 0"),
        (
            case.reload_difference > _RELOAD, "the saved folder answers otherwise than the trained model",
            f"reload_difference {case.reload_difference:.2g} > {_RELOAD}",
        ),
    ):  # fmt: skip
        if bad:
            return Verdict("broken", reasons=[reason], decided_by=[fault], rule="fault")
    gains = _gains(case)
    reasons = [_accuracy(case.tuned)]
    reasons += [f"macro F1 of test texts above {floor}: {100 * gain.value:+.1f} points {_points(gain)}"
               for floor, gain in gains.items()]  # fmt: skip
    if not case.changed:
        return Verdict("nothing", reasons=["no tensor changed", *reasons], decided_by=["changed 0"], rule="unchanged")
    if case.seen > _MOST_SEEN:
        said = f"{case.seen:.0%} of the test texts stand in the training texts: the test is none"
        by = [f"seen {case.seen:.3f} > {_MOST_SEEN}"]
        return Verdict("unsure", reasons=[said, *reasons], decided_by=by, rule="not_held_out")
    if (lost := gains.get("the start model")) is not None and lost.high < -_WORSE:
        by = [f"F1 above the start model, high {lost.high:z.3f} < -{_WORSE}"]
        return Verdict(
            "worse", reasons=["the start model told the classes better", *reasons], decided_by=by, rule="worse"
        )
    by = [
        f"F1 above {floor}, low {gain.low:z.3f} {'>' if gain.low > _WORSE else '<='} {_WORSE}"
        for floor, gain in gains.items()
    ]
    if all(gain.low > _WORSE for gain in gains.values()):
        return Verdict("worked", reasons=reasons, decided_by=by, rule="gain")
    majority, constant = gains["a majority class"], len(np.unique(case.tuned.log_probabilities.argmax(1))) == 1
    if constant or (majority.low > -_WORSE and majority.high < _WORSE):
        said = "it names one class for all texts" if constant else "it is no better than a majority class"
        by = ["classes named 1"] if constant else by
        return Verdict("nothing", reasons=[said, *reasons], decided_by=by, rule="no_change")
    return Verdict("unsure", reasons=reasons, decided_by=by, rule="undecided")


def _accuracy(tuned: Predictions) -> str:
    """How many test texts are right, beside chance."""
    found, chance = (
        wilson(int(tuned.right.sum()), len(tuned.labels)),
        np.bincount(tuned.labels).max() / len(tuned.labels),
    )
    return (
        f"{found.value:.1%} [{100 * found.low:z.1f}, {100 * found.high:z.1f}] of {len(tuned.labels):,} test texts are "
        f"right (a majority class: {chance:.1%})"
    )


def _gains(case: ClassifierCase) -> dict[str, Interval]:
    """Macro F1 above each floor, by what the floor is; texts are resampled in pairs."""
    labels, said = case.tuned.labels, case.tuned.log_probabilities.argmax(1)
    classes = case.tuned.log_probabilities.shape[1]
    majority = np.full(len(labels), np.bincount(labels, minlength=classes).argmax())
    before = None if case.start is None else case.start.log_probabilities.argmax(1)

    def over(floor: np.ndarray) -> Interval:
        def gain(drawn: np.ndarray) -> np.ndarray:
            mine, its = (macro_f1(labels[drawn], answers[drawn], classes) for answers in (said, floor))
            return np.asarray(mine - its)

        return bootstrap(gain, np.arange(len(labels)))

    def over_chance(drawn: np.ndarray) -> np.ndarray:
        mine = macro_f1(labels[drawn], said[drawn], classes)
        return np.asarray(mine - _random_f1(labels[drawn], said[drawn], classes))

    found = {
        "a majority class": over(majority),
        "its own answers in random order": bootstrap(over_chance, np.arange(len(labels))),
    }
    return found if before is None else found | {"the start model": over(before)}


def _random_f1(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Expected macro F1, [...], of answers [..., texts] in random order: true x named / texts of a class are right."""
    scores = []
    for number in range(classes):
        true, named = (labels == number).sum(-1), (said == number).sum(-1)
        scores.append(2 * true * named / labels.shape[-1] / np.maximum(true + named, 1))
    return np.asarray(np.mean(scores, axis=0))


def _points(gain: Interval) -> str:
    return f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
