"""How much two computations of the same outputs may differ: by rounding, and by no more."""

import math

import torch
from torch import Tensor

__all__ = ["ROUNDING", "relative_difference"]

ROUNDING = 1e-5
"""Relative difference of outputs that float32 arithmetic may leave between two loads of the same weights.

The last bit of a product depends on where its operands lie in memory on some processors (3.7e-9 measured on an AMD
EPYC). 1e-5 is also what ``torch.testing.assert_close`` allows for float32.
"""


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two outputs, relative to the largest expected magnitude where that is above 1.

    Args:
        found: Outputs of any shape.
        expected: Outputs of the same shape.

    Returns:
        A number of at least 0; infinity where the shapes differ or a value is not finite.
    """
    if found.shape != expected.shape:
        return math.inf
    bounds = [float(bound) for values in (found, expected) for bound in torch.aminmax(values)]  # NaN stays NaN
    if not all(map(math.isfinite, bounds)):
        return math.inf
    return float((found - expected).abs_().max()) / max(1.0, -bounds[2], bounds[3])
