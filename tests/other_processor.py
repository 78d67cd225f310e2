"""A processor on which two loads of the same weights give outputs that differ by rounding.

On some processors (seen on an AMD EPYC) the last bit of a product depends on where its weights lie in memory. Here
every product with a parameter is multiplied by 1 or 1 +- epsilon, drawn once for each parameter in memory: one model
computes the same twice, two models of equal weights do not.
"""

import contextlib
import itertools
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["last_bits_by_load"]


@contextlib.contextmanager
def last_bits_by_load(most_outputs: int) -> Iterator[None]:
    """Let the last bit of products depend on which copy of a weight is in memory.

    Args:
        most_outputs: Only of matrices with at most so many outputs. It was seen for 2 (heads of classifiers); a large
            number finds every comparison that asks two models for equal bits.
    """
    linear, addmm, parameters = functional.linear, torch.addmm, itertools.count()

    def nudged(output: Tensor, weight: Tensor, outputs: int) -> Tensor:
        if outputs > most_outputs or torch.compiler.is_compiling() or not isinstance(weight, nn.Parameter):
            return output
        if not hasattr(weight, "last_bit"):
            weight.last_bit = random.Random(next(parameters)).randrange(3) - 1
        return output * (1 + weight.last_bit * torch.finfo(output.dtype).eps) if weight.last_bit else output

    def other_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # torch's names
        return nudged(linear(input, weight, bias), weight, weight.shape[0])

    def other_addmm(input: Tensor, mat1: Tensor, mat2: Tensor, **options: Any) -> Tensor:
        return nudged(addmm(input, mat1, mat2, **options), mat2, mat2.shape[1])

    functional.linear, torch.addmm = other_linear, other_addmm
    try:
        yield
    finally:
        functional.linear, torch.addmm = linear, addmm
