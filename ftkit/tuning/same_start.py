"""Did one model start from the other? Their matrices tell, because tuning moves them little."""

import math
from statistics import median

import torch
from torch import Tensor
from transformers import PreTrainedModel

__all__ = ["MIN_CORRELATION", "median_correlation"]

MIN_CORRELATION = 0.1
"""Measured on stories260k: 0.00 for its weights in another order and for other random weights, 0.02 for its rows in
another order; 0.99 after 100 steps of AdamW at 1e-3, 0.79 after 200 at 1e-2, a rate at which it is damaged."""
_SMALLEST = 4096
"""Elements of a matrix that is read; in smaller ones chance is larger than the limit."""
_MOST = 1 << 20
"""Elements of a matrix that are read, evenly from all of it: enough for three digits."""
_OTHER_SIZE = 3.0
"""Factor between the norms beyond which nothing is said: weights that noise or a diverged training drowned are not
correlated with their start any more, and are much larger."""


def median_correlation(base: PreTrainedModel, tuned: PreTrainedModel) -> float | None:
    """Return the correlation of the weights of two models, matrix by matrix, and of these the median.

    Args:
        base: A model.
        tuned: Another one.

    Returns:
        Pearson's correlation; ``None`` where they have no matrix of one shape, where values are not finite, or where
        the norms differ so much that the start could not be seen.
    """
    before = dict(base.named_parameters())
    found = []
    for name, last in tuned.named_parameters():
        first = before.get(name)
        if first is None or first.shape != last.shape or first.ndim < 2 or first.numel() < _SMALLEST:
            continue
        one, other = (_some(matrix) for matrix in (first, last))
        ratio = float(other.norm() / one.norm().clamp_min(1e-12))
        if not 1 / _OTHER_SIZE < ratio < _OTHER_SIZE:
            return None
        found.append(float(torch.corrcoef(torch.stack([one, other]))[0, 1]))
    return median(found) if found and all(map(math.isfinite, found)) else None


def _some(matrix: Tensor) -> Tensor:
    flat = matrix.detach().reshape(-1)
    return flat[:: max(flat.numel() // _MOST, 1)].double().cpu()
