"""Can a simple classifier tell what a model writes from real text of its target? Reported beside the judges.

A judge asks who wrote a passage, and every passage that it does not know must be somebody's. A discriminator asks only
whether the passage is real: 0.5 means that it cannot tell, 1 that it always can.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.evidence.intervals import Interval, wilson
from ftkit.evidence.texts import spread_evenly
from ftkit.memory import memory_phase

__all__ = ["Discriminator", "auc_interval", "discriminate"]

_FOLDS = 5
"""Folds of the cross-validation: scikit-learn's default."""
_FEWEST = 2 * _FOLDS
"""Passages of each kind below which nothing can be learned and tested."""
_MOST = 300
"""Passages of each kind that are used at most: it keeps the question to seconds."""


@dataclass(frozen=True)
class Discriminator:
    """AUC of real against generated passages, by cross-validation."""

    tuned: Interval
    """Passages of the tuned model."""
    base: Interval
    """Passages of the base model, for comparison."""
    passages: int
    """Real passages that were used."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@memory_phase("judge")
def discriminate(real: Sequence[str], tuned: Sequence[str], base: Sequence[str], seed: int = 0) -> Discriminator | None:
    """Learn to tell real passages from generated ones.

    Args:
        real: Real held-out passages of the target.
        tuned: Passages of the tuned model.
        base: Passages of the base model.
        seed: Seed of the folds.

    Returns:
        How well it can be told; ``None`` where there are too few passages.
    """
    if min(len(real), len(tuned), len(base)) < _FEWEST:
        return None
    real, tuned, base = (spread_evenly(passages, _MOST) for passages in (real, tuned, base))
    return Discriminator(_told_apart(real, tuned, seed), _told_apart(real, base, seed), len(real))


def _told_apart(real: Sequence[str], generated: Sequence[str], seed: int) -> Interval:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from ftkit.evidence.baselines import spelling_model

    labels = np.array([1] * len(real) + [0] * len(generated))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    said = cross_val_predict(spelling_model(seed), [*real, *generated], labels, cv=folds, method="decision_function")
    return auc_interval(said[labels == 1], said[labels == 0])


def auc_interval(positive: np.ndarray, negative: np.ndarray) -> Interval:
    """Area under the ROC curve with a 95 % interval, never of width 0.

    Args:
        positive: Scores of what should score high [n].
        negative: Scores of the rest [m].

    Returns:
        The AUC; the wider of DeLong's interval and that of a share of the smaller side.

    Source: DeLong, DeLong and Clarke-Pearson 1988, https://doi.org/10.2307/2531595.
    """
    above = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    auc = float(above.mean())
    rows, columns = above.mean(1), above.mean(0)
    half = 1.96 * math.sqrt(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))
    fewest = min(above.shape)
    counted = wilson(round(auc * fewest), fewest)
    return Interval(auc, max(min(auc - half, counted.low), 0.0), min(max(auc + half, counted.high), 1.0))
