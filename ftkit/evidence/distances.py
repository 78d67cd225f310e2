"""Energy distance between samples of vectors, with intervals by the block jackknife.

The energy distance is 0 only where two distributions are equal. It is estimated by a U-statistic, because the plain
mean over all pairs, each passage with itself included, is too large. Neighbouring passages of a text resemble each
other, so whole blocks of neighbours are left out at a time: a bootstrap of single passages gives intervals that are too
narrow.

Sources: Székely and Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018 (distance); Künsch 1989,
https://doi.org/10.1214/aos/1176347265 (block jackknife); Fieller 1954 (ratio).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ftkit.evidence.intervals import Interval

__all__ = ["BLOCKS", "EnergyDistances"]

BLOCKS = 10
"""Blocks of a sample: with 30 passages, the fewest that are judged, a block has three neighbours."""


class EnergyDistances:
    """Squared energy distances between named samples, of all vectors and without each block of them.

    Args:
        samples: Vectors in the order of the text, [passages, dimensions], by name; every sample has two blocks or more.
        blocks: Blocks of each sample.
    """

    def __init__(self, samples: Mapping[str, np.ndarray], blocks: int = BLOCKS) -> None:
        from scipy.spatial.distance import cdist

        self._sizes, self._places = list[int](), dict[str, np.ndarray]()
        for name, vectors in samples.items():
            sizes = [len(part) for part in np.array_split(vectors, min(blocks, len(vectors)))]
            self._places[name] = np.arange(len(self._sizes), len(self._sizes) + len(sizes))
            self._sizes += sizes
        points = np.concatenate(list(samples.values()))
        starts = np.cumsum([0, *self._sizes[:-1]])
        by_rows = np.add.reduceat(cdist(points, points), starts, axis=0)
        self._sums = np.add.reduceat(by_rows, starts, axis=1)
        self._sample_of = np.repeat(np.arange(len(self._places)), [len(each) for each in self._places.values()])

    def halves(self, name: str) -> tuple[str, str]:
        """Names of the first and of the second half of a sample's blocks."""
        first, second = f"{name}, first half", f"{name}, second half"
        self._places[first], self._places[second] = np.array_split(self._places[name], 2)
        return first, second

    def squared(self, first: str, second: str) -> np.ndarray:
        """Squared energy distance of two samples, [1 + blocks]: of all vectors, then without each block.

        It may be below 0 where the samples are alike.
        """
        one, other = self._kept(first), self._kept(second)
        sizes = np.array(self._sizes)
        n, m = one @ sizes, other @ sizes
        across = ((one @ self._sums) * other).sum(1) / (n * m)
        within, within_other = (
            ((kept @ self._sums) * kept).sum(1) / (count * (count - 1)) for kept, count in ((one, n), (other, m))
        )
        return np.asarray(2 * across - within - within_other)

    def _kept(self, name: str) -> np.ndarray:
        """Which blocks of a sample are kept, [1 + blocks, blocks]."""
        kept = np.zeros((1 + len(self._sizes), len(self._sizes)))
        kept[:, self._places[name]] = 1
        kept[np.arange(1, len(kept)), np.arange(len(self._sizes))] = 0
        return kept

    def interval(self, statistic: np.ndarray, level: float = 0.95) -> Interval:
        """A statistic and its interval.

        Args:
            statistic: Made of ``squared``, [1 + blocks].
            level: Of the interval.
        """
        value, half = float(statistic[0]), math.sqrt(self._covariance(statistic, statistic))
        half *= self._quantile(statistic, level)
        return Interval(value, value - half, value + half)

    def ratio(self, above: np.ndarray, below: np.ndarray, level: float = 0.95) -> Interval:
        """A ratio of two statistics: every ratio r for which the interval of ``above - r below`` holds 0.

        Args:
            above: Made of ``squared``, [1 + blocks].
            below: The same.
            level: Of the interval.

        Returns:
            The ratio; the ends are not finite where ``below`` may be 0.
        """
        a, b = float(above[0]), float(below[0])
        if b <= 0:
            return Interval(math.nan, -math.inf, math.inf)
        z2 = self._quantile(above - a / b * below, level) ** 2
        square = b * b - z2 * self._covariance(below, below)
        middle = a * b - z2 * self._covariance(above, below)
        rest = a * a - z2 * self._covariance(above, above)
        if square <= 0:
            return Interval(a / b, -math.inf, math.inf)
        half = math.sqrt(max(middle * middle - square * rest, 0.0))
        return Interval(a / b, (middle - half) / square, (middle + half) / square)

    def _covariance(self, one: np.ndarray, other: np.ndarray) -> float:
        return float(self._covariances(one, other).sum())

    def _covariances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The part of each sample in the jackknife's covariance, [samples]."""
        found = []
        for sample in range(self._sample_of[-1] + 1):
            places = 1 + np.flatnonzero(self._sample_of == sample)
            apart = [each[places] - each[places].mean() for each in (one, other)]
            found.append((len(places) - 1) / len(places) * float(apart[0] @ apart[1]))
        return np.array(found)

    def _quantile(self, statistic: np.ndarray, level: float) -> float:
        """Student's quantile with the degrees of freedom of Welch and Satterthwaite."""
        from scipy.stats import t

        parts = self._covariances(statistic, statistic)
        counts = np.bincount(self._sample_of)
        if not parts.sum():
            return float(t.ppf((1 + level) / 2, counts.min() - 1))
        freedom = parts.sum() ** 2 / (parts**2 / (counts - 1)).sum()
        return float(t.ppf((1 + level) / 2, freedom))
