"""What a judge sees in a passage, as a vector: its log-probabilities of all classes, on one scale.

A score, the probability of the target, ends at 1: it cannot tell text that is like the author's from text that overdoes
it. The vector can, because the other classes move as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["StyleVectors", "fit_vectors"]

_LOWEST = 1e-4
"""Probability to which smaller ones are raised: below it a logarithm says how sure a judge is, not what it sees."""
_FLAT = 0.1
"""Share of the largest variance: directions with less of it are stretched no further, since they are mostly noise. With
0.01 and 0.1, and with probabilities down to 1e-2, 1e-3 and 1e-4, the cases of docs/judges.md have nearly one order."""


@dataclass(frozen=True)
class StyleVectors:
    """Turns probabilities into vectors."""

    temperature: float
    """What log-probabilities are divided by."""
    center: np.ndarray
    """Mean of the log-probabilities, [classes]."""
    stretch: np.ndarray
    """Makes the directions comparable, [classes, classes]."""

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Vectors [passages, classes] of probabilities [passages, classes]."""
        return np.asarray((_logarithms(probabilities, self.temperature) - self.center) @ self.stretch)


def fit_vectors(probabilities: np.ndarray, truth: np.ndarray) -> StyleVectors:
    """Fit temperature, center and scale on held-out passages, every class with the same weight.

    Args:
        probabilities: What the judge says, [passages, classes].
        truth: Number of each passage's class, [passages].
    """
    from scipy.optimize import minimize_scalar

    weights = 1.0 / np.bincount(truth, minlength=probabilities.shape[1])[truth]
    weights /= weights.sum()

    def loss(exponent: float) -> float:
        scaled = _scaled(probabilities, float(np.exp(exponent)))
        return -float(weights @ scaled[np.arange(len(truth)), truth])

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    values = _logarithms(probabilities, temperature)
    center = weights @ values
    variance, directions = np.linalg.eigh(((values - center) * weights[:, None]).T @ (values - center))
    spread = np.sqrt(np.maximum(variance, max(_FLAT * variance.max(), 1e-12)))
    return StyleVectors(temperature, center, directions / spread)


def _logarithms(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probabilities at a temperature, none below ``_LOWEST``."""
    return np.asarray(np.maximum(_scaled(probabilities, temperature), np.log(_LOWEST)))


def _scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    logits = np.log(np.maximum(probabilities, 1e-30)) / temperature
    logits -= logits.max(1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
