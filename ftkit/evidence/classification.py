"""How good a classifier is on texts that it never saw: each figure with its interval and with what chance would give.

Intervals are 95 % and cover the sampling of the test texts for one trained model; another training seed would give
another model. Two models are compared on the same texts, pair by pair, because that is far sharper than two intervals
side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, log_loss

from ftkit.display.wording import interval, percent
from ftkit.errors import DataError
from ftkit.evidence.intervals import Interval, wilson
from ftkit.runs.notebook import html_table
from ftkit.training import Predictions

__all__ = [
    "ClassifierScores",
    "calibration_error",
    "classifier_finding",
    "macro_auc",
    "macro_f1",
    "paired_difference",
    "score_classifier",
    "wilson",
]

BINS = 15
"""Of the calibration error, as in its source."""
_DRAWS = 1000
"""Redraws of a bootstrap: an end of a 95 % interval then rests on 25 of them."""
_MOST_CELLS = 1_000_000
"""Texts that are redrawn at once."""


@dataclass(frozen=True)
class ClassifierScores:
    """What was measured on the test texts of one classifier."""

    texts: int
    classes: tuple[str, ...]
    accuracy: Interval
    """Share of texts whose likeliest class is the true one; Wilson's interval."""
    macro_f1: Interval
    """Mean over classes of the harmonic mean of precision and recall."""
    log_loss: Interval
    """Nats for each text."""
    auc: Interval
    """Area under the ROC curve; of several classes the mean of each against the rest."""
    calibration_error: Interval
    """Mean distance between confidence and accuracy, over bins of confidence; few texts make it larger."""
    overconfidence: Interval
    """Mean confidence minus accuracy; above 0 the model is surer than it is right."""
    chance_accuracy: float
    """Of the majority-class baseline."""
    chance_log_loss: float
    """Log-loss of a prediction that is always the shares of the classes, nats."""
    confusion: tuple[tuple[int, ...], ...]
    """Texts by true class (rows) and predicted class (columns)."""
    above_chance: bool
    """Whether the accuracy's interval lies above chance."""

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: what the test texts said."""
        shown = {"accuracy": self.accuracy, "macro F1": self.macro_f1, "log-loss, nats": self.log_loss, "AUC": self.auc}
        rows = [(name, interval(measured)) for name, measured in shown.items()]
        chance = ("accuracy of a majority class", percent(self.chance_accuracy))
        return html_table(f"ftkit evidence: {self.texts:,} test texts", [*rows, chance])

    def metrics(self, found: Predictions) -> dict[str, Any]:
        """For studies, which compare runs text by text.

        Args:
            found: What was measured here.
        """
        items = {"accuracy": found.right.astype(int).tolist(), "log_loss": np.round(found.nats, 6).tolist()}
        names = ("accuracy", "log_loss", "macro_f1", "auc", "calibration_error")
        return {name: asdict(getattr(self, name)) | ({"items": items[name]} if name in items else {}) for name in names}


def score_classifier(found: Predictions, classes: Sequence[str], seed: int = 0) -> ClassifierScores:
    """Measure a classifier.

    Args:
        found: What it says of the test texts; every class is among their labels.
        classes: Names of the classes.
        seed: Seed of the redraws.

    Raises:
        DataError: A class without test texts, for which nothing could be said.
    """
    labels, n = found.labels, len(found.labels)
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        raise DataError(f"no test text of the class {classes[int(counts.argmin())]!r}; give some, or leave it out")
    predicted, shares = found.log_probabilities.argmax(1), counts / n
    probabilities = np.exp(found.log_probabilities)
    confidence, right = probabilities.max(1), found.right.astype(float)
    accuracy = wilson(int(right.sum()), n)

    def redrawn(statistic: Callable[[np.ndarray], np.ndarray], centred: bool = False) -> Interval:
        return _bootstrap(statistic, n, seed, centred)

    return ClassifierScores(
        texts=n,
        classes=tuple(classes),
        accuracy=accuracy,
        macro_f1=redrawn(lambda i: macro_f1(labels[i], predicted[i], len(classes))),
        log_loss=redrawn(lambda i: found.nats[i].mean(-1)),
        auc=redrawn(lambda i: macro_auc(labels, probabilities, i)),
        calibration_error=redrawn(lambda i: calibration_error(confidence[i], right[i]), centred=True),
        overconfidence=redrawn(lambda i: (confidence - right)[i].mean(-1)),
        chance_accuracy=float(shares.max()),
        chance_log_loss=float(log_loss(labels, np.tile(shares, (n, 1)), labels=range(len(classes)))),
        confusion=tuple(map(tuple, confusion_matrix(labels, predicted, labels=range(len(classes))).tolist())),
        above_chance=bool(accuracy.low > shares.max()),
    )


def paired_difference(base: np.ndarray, other: np.ndarray, comparisons: int = 1, seed: int = 0) -> Interval:
    """Mean of ``other`` minus mean of ``base`` over the same texts.

    Args:
        base: One number for each text, such as whether it was classified rightly, or its loss.
        other: The same of another model.
        comparisons: How many such intervals are looked at together; each is widened so that all of them hold with 95 %
            (Bonferroni).
        seed: Seed of the redraws.
    """
    difference = other.astype(float) - base.astype(float)
    return _bootstrap(lambda i: difference[i].mean(-1), len(difference), seed, tail=0.025 / comparisons)


def classifier_finding(name: str, scores: Mapping[str, ClassifierScores], said: Mapping[str, Predictions]) -> str:
    """What came out, in one sentence: a classifier beside chance and beside what is simpler.

    Args:
        name: The classifier among the scores.
        scores: What was measured on it and on the simpler methods; ``untrained`` is passed over.
        said: Their predictions.
    """
    simpler = [other for other in scores if other not in (name, "untrained")]
    parts = []
    for other in simpler:
        more = paired_difference(said[other].right, said[name].right, len(simpler))
        amount = f"{100 * abs(more.value):.1f} points [{100 * more.low:+.1f}, {100 * more.high:+.1f}]"
        if more.low <= 0 <= more.high:
            parts.append(f"as many as {other} as far as can be told [{100 * more.low:+.1f}, {100 * more.high:+.1f}]")
        else:
            parts.append(f"{amount} {'more' if more.value > 0 else 'fewer'} than {other}")
    found = scores[name]
    right = ", ".join(f"{100 * edge:.1f}" for edge in (found.accuracy.low, found.accuracy.high))
    return (
        f"The {name} gets {100 * found.accuracy.value:.1f} % [{right}] of {found.texts:,} test texts right (chance "
        f"{100 * found.chance_accuracy:.1f} %): {' and '.join(parts)}."
    )


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean F1 over classes, [...] from labels and predictions [..., texts]; a class that nobody names counts 0."""
    scores = []
    for number in range(num_classes):
        true, said = labels == number, predicted == number
        both, either = (true & said).sum(-1), true.sum(-1) + said.sum(-1)
        scores.append(2 * both / np.maximum(either, 1))
    mean: np.ndarray = np.mean(scores, axis=0)
    return mean


def macro_auc(labels: np.ndarray, probabilities: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, [...], of two classes, or the mean over classes of each against the rest.

    Args:
        labels: Classes, [texts].
        probabilities: [texts, classes].
        drawn: Places of texts, [..., texts]; a draw without one of the classes gives NaN.
    """
    num_classes = probabilities.shape[1]
    asked = range(num_classes) if num_classes > 2 else [1]
    areas = [_auc(labels == number, probabilities[:, number], drawn) for number in asked]
    mean: np.ndarray = np.mean(areas, axis=0)
    return mean


def _auc(positive: np.ndarray, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Share of pairs of a positive and a negative text that are in order, ties half: from counts at every score."""
    level = np.unique(scores, return_inverse=True)[1]
    levels, flat = int(level.max()) + 1, drawn.reshape(-1, drawn.shape[-1])
    cells = np.arange(len(flat))[:, None] * levels + level[flat]
    counts = [
        np.bincount(cells[positive[flat] == side], minlength=len(flat) * levels).reshape(len(flat), levels)
        for side in (True, False)
    ]
    ups, downs = counts
    below = downs.cumsum(1) - downs / 2
    pairs = (ups.sum(1) * downs.sum(1)).astype(float)
    area: np.ndarray = np.divide((ups * below).sum(1), pairs, out=np.full(len(flat), np.nan), where=pairs > 0)
    return area.reshape(drawn.shape[:-1])


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Expected calibration error, [...] from confidence and hits [..., texts], with equal bins of confidence.

    Source: Guo, Pleiss, Sun and Weinberger 2017, equation 3.
    """
    gaps = (confidence - right).reshape(-1, confidence.shape[-1])
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1).reshape(gaps.shape)
    cells = (np.arange(len(gaps))[:, None] * BINS + bins).ravel()
    sums = np.bincount(cells, weights=gaps.ravel(), minlength=len(gaps) * BINS).reshape(len(gaps), BINS)
    errors: np.ndarray = np.abs(sums).sum(1) / gaps.shape[1]
    return errors.reshape(confidence.shape[:-1])


def _bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, seed: int, centred: bool = False, tail: float = 0.025
) -> Interval:
    """Bootstrap over texts; ``statistic`` takes places [..., texts].

    Redrawing adds noise a second time, which makes a mean of distances larger: ``centred`` moves the redraws back to
    the value, and cuts at 0.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    generator = np.random.default_rng(seed)
    at_once = max(_MOST_CELLS // n, 1)
    parts = [
        np.atleast_1d(statistic(generator.integers(0, n, size=(min(at_once, _DRAWS - first), n))))
        for first in range(0, _DRAWS, at_once)
    ]
    value, redrawn = float(statistic(np.arange(n))), np.concatenate(parts)
    low, high = (float(edge) for edge in np.nanpercentile(redrawn, [100 * tail, 100 * (1 - tail)]))
    if centred:
        bias = float(np.nanmean(redrawn)) - value
        low, high = max(low - bias, 0.0), high - bias
    return Interval(value, low, high)
