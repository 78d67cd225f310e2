"""How far a model's style is from its base's and from real text, as one judge sees it.

A passage is a vector (``style_vectors``); sets of passages are compared by the energy distance (``distances``). The
position is ``1 - sqrt(D2(tuned, real) / D2(base, real))``: 0 at the base, 1 at real text, and falling again for a model
that overdoes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftkit.evidence.distances import EnergyDistances
from ftkit.evidence.intervals import Interval, bootstrap
from ftkit.evidence.judges import MIN_PASSAGES

if TYPE_CHECKING:
    from ftkit.evidence.gates import Gate
    from ftkit.evidence.judges import Judge
    from ftkit.evidence.style_vectors import StyleVectors

__all__ = ["Answer", "JudgeView", "StyleDistances", "StyleScore", "score_style"]

_MOST_LEFT_OUT = 0.1
"""Share of a model's passages that may be too short before its score says nothing."""
HALF_WAY = 0.5
"""Position that counts as the target's style; the threshold ``style_position`` has this default."""

Answer = Literal["for", "part", "against", "undecided"]
"""Whether a model writes like its target: yes; nearer to it than its base, but not by enough; no; not decided."""


@dataclass(frozen=True)
class JudgeView:
    """What a judge is used with, once it is built."""

    gate: Gate
    vectors: StyleVectors
    others: Mapping[str, np.ndarray]
    """Vectors of held-out passages of every class but the base model, by class."""


@dataclass(frozen=True)
class StyleDistances:
    """Squared energy distances of one model, each with its interval."""

    base: Interval
    """Of the base model and real text."""
    tuned: Interval
    """Of the tuned model and real text."""
    halves: Interval
    """Of two contiguous halves of real text: what is no distance."""
    other: str = ""
    """Another author, or corrupted target text, to which the tuned model is nearest; empty where there is none."""
    nearer: Interval | None = None
    """Distance to real text of the target, minus that to ``other``: above 0, it is nearer to the other."""


@dataclass(frozen=True)
class StyleScore:
    """What one judge says of a model: distances, and the mean probability of the target class, for passages of one
    length."""

    judge: str
    floor: Interval
    """Mean probability of the target for passages of the base model."""
    score: Interval
    """The same for the tuned model."""
    ceiling: Interval
    """The same for real held-out passages."""
    position: Interval
    """1 - sqrt(D2(tuned, real) / D2(base, real)): 0 is the base model, 1 is real text."""
    accuracy: Interval
    """Share of the tuned model's passages that the judge gives to the target."""
    speaks: bool
    """Whether the judge passed its gate and can tell the base model from real text."""
    reason: str
    length: int = 0
    """Every passage behind these figures is at least this long, in ``unit``."""
    unit: str = ""
    """What the judge reads: its tokens, or characters."""
    left_out: int = 0
    """Passages of the tuned model that were shorter."""
    level: float = 0.95
    """Of the intervals of position and distances; those of mean probabilities are 95 % intervals."""
    distances: StyleDistances | None = None
    """``None`` where there are too few passages."""
    exaggerated: bool = False
    """The mean probability is above real text's, while the distance to real text is surely above 0."""

    def answer(self, enough: float = HALF_WAY) -> Answer:
        """Whether the model writes like its target; ``undecided`` for a judge that is not used as well.

        Args:
            enough: Position that counts as the target's style.
        """
        if not self.speaks:
            return "undecided"
        if self.nearest_other or self.position.high < 0:
            return "against"
        return "for" if self.position.low > enough else "part" if self.position.low > 0 else "undecided"

    @property
    def nearest_other(self) -> str:
        """Another author, or corrupted target text, to which the model is surely nearer; empty where there is none."""
        found = self.distances
        return found.other if found and found.nearer and found.nearer.low > 0 else ""


def score_style(
    judge: Judge, target: str, base: Sequence[str], tuned: Sequence[str], real: Sequence[str], view: JudgeView,
    level: float = 0.95,
) -> StyleScore:  # fmt: skip
    """Score passages of one model.

    Args:
        judge: The judge.
        target: The class that the tuned model should write like.
        base: Passages of the base model that the judge has not seen.
        tuned: Passages of the tuned model.
        real: Real held-out passages of the target, in the order of the text.
        view: The judge's gate, and its vectors.
        level: Of the intervals of position and distances.

    Returns:
        Distances, means and intervals; whether the judge can be used, and why not.
    """
    place, passed = judge.classes.index(target), view.gate
    sources = {"base": base, "tuned": tuned, "real": real}
    long = {name: _long_enough(judge, passages, passed.length) for name, passages in sources.items()}
    left_out = len(tuned) - len(long["tuned"])
    probabilities = {name: judge.probabilities(long[name] or sources[name]) for name in sources}
    low, mid, high = (probabilities[name][:, place] for name in ("base", "tuned", "real"))
    floor, score, ceiling = (bootstrap(_mean, values) for values in (low, mid, high))
    accuracy = bootstrap(_mean, (probabilities["tuned"].argmax(1) == place).astype(float))
    few = [f"{name} ({len(passages)})" for name, passages in long.items() if len(passages) < MIN_PASSAGES]
    position, distances, silent = Interval(math.nan, math.nan, math.nan), None, ""
    if few:
        silent = f"fewer than {MIN_PASSAGES} passages that are long enough: {', '.join(few)}"
    else:
        vectors = {name: view.vectors(values) for name, values in probabilities.items()}
        others = {name: found for name, found in view.others.items() if name != target and len(found) >= MIN_PASSAGES}
        position, distances, silent = _distances(vectors, others, level)
    if left_out > _MOST_LEFT_OUT * len(tuned):
        silent = (
            f"{left_out} of {len(tuned)} passages are shorter than the minimum of {passed.length} {passed.unit}; "
            "set a smaller passage_chars, or generate longer passages"
        )
    if not passed.speaks:
        silent = passed.reason
    return StyleScore(
        judge.name, floor, score, ceiling, position, accuracy, not silent, silent or passed.reason,
        passed.length, passed.unit, left_out, level, distances,
        distances is not None and score.value > ceiling.high and distances.tuned.low > 0,
    )  # fmt: skip


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1))


def _distances(
    vectors: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], level: float
) -> tuple[Interval, StyleDistances, str]:
    """Position, distances, and why there is nothing to compare: the base is no farther than two halves of real text."""
    # The names of classes are a user's: those of the three samples cannot be among them.
    named = {f"class {name}": found for name, found in others.items()}
    found = EnergyDistances({**vectors, **named})
    base, tuned = found.squared("base", "real"), found.squared("tuned", "real")
    halves = found.squared(*found.halves("real"))
    ratio = found.ratio(tuned, base, level)
    high, value, low = (1 - math.sqrt(max(each, 0.0)) for each in (ratio.low, ratio.value, ratio.high))
    one_of = 1 - (1 - level) / max(len(others), 1)  # Bonferroni: the nearest of several is asked
    nearer = {name: found.interval(tuned - found.squared("tuned", f"class {name}"), one_of) for name in others}
    nearest = max(nearer, key=lambda name: nearer[name].value, default="")
    distances = StyleDistances(
        found.interval(base, level), found.interval(tuned, level), found.interval(halves, level), nearest,
        nearer.get(nearest),
    )  # fmt: skip
    position, silent = Interval(value, low, high), ""
    if found.interval(base - halves, level).low <= 0:
        silent = (
            f"the base model's distance from real text ({distances.base}) is not clearly above that of two halves of "
            f"real text ({distances.halves}): the base writes like it already"
        )
    return position, distances, silent


def _long_enough(judge: Judge, passages: Sequence[str], length: int) -> list[str]:
    """Passages of the length that is guaranteed."""
    if not length or not passages:
        return list(passages)
    return [passage for passage, own in zip(passages, judge.lengths(passages), strict=True) if own >= length]
