"""Weights in the processor's own order while a model decodes: a step multiplies few rows by every weight.

torch hands such a product to a library that reads the weight in its usual order and brings it into the order of its
kernels anew, at every token. oneDNN, which comes with torch, can do that once and multiply by the copy. With 8 rows of
SmolLM2-135M a step took 1.6 times less, with 32 rows 1.3 and with 96 rows 1.25 times (AMD EPYC, one thread).

The two functions are those that torch's compiler calls when it freezes weights; they have no public name in torch 2.13.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

__all__ = ["packed_bytes", "packed_weights"]

_MOST_BYTES = 2**30
"""Weights that are copied at most: a model of 270 million parameters. Above it, memory is worth more than time."""
_FEWEST_WEIGHTS = 2**12
"""Numbers in a weight: below it a call takes longer than its product."""
_FEWEST_ROWS, _FEWEST_TOKENS = 2, 16
"""A product of one row reads the weight and does little else; and copying takes the time of a few tokens."""


@contextmanager
def packed_weights(model: nn.Module, rows: int, new_tokens: int) -> Iterator[None]:
    """Let the linear maps of a model use such copies as long as the context lasts: equal but for rounding.

    Args:
        model: It is not to be trained meanwhile. Maps that are not in float32 on a CPU are left as they are.
        rows: Rows of a step.
        new_tokens: Steps.
    """
    worth_it = rows >= _FEWEST_ROWS and new_tokens >= _FEWEST_TOKENS and _works()
    maps = _packable(model) if worth_it else []
    try:
        for module in maps:
            module.forward = _forward(module, rows)
        yield
    finally:
        for module in maps:
            module.__dict__.pop("forward", None)


def packed_bytes(model: nn.Module) -> int:
    """What the copies take while passages are written."""
    return sum(module.weight.nbytes for module in _packable(model)) if _works() else 0


def _packable(model: nn.Module) -> list[Any]:
    """The maps that get a copy; none of a model that is too large."""
    maps: list[Any] = [module for module in model.modules() if _is_plain(module)]
    return maps if sum(module.weight.nbytes for module in maps) <= _MOST_BYTES else []


def _is_plain(module: Any) -> bool:
    """Whether a module is nothing but a linear map in float32 on a CPU, whose own ``forward`` would be called."""
    if type(module) not in (nn.Linear, Conv1D) or "forward" in module.__dict__:
        return False
    weight = module.weight
    usual = type(weight) is nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return bool(usual and weight.numel() >= _FEWEST_WEIGHTS and not torch.is_autocast_enabled("cpu"))


def _forward(module: Any, rows: int) -> Callable[[Tensor], Tensor]:
    """A map's ``forward`` by a copy of its weight."""
    own, weight_OI = module.forward, module.weight.detach()
    if type(module) is Conv1D:
        weight_OI = weight_OI.T.contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI, rows)
    bias = None if module.bias is None else module.bias.detach()

    def forward(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)  # type: ignore[no-any-return]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return y

    return forward


@cache
def _works() -> bool:
    """Whether this build of torch has both functions, and they multiply. No random state is touched."""
    module = nn.utils.skip_init(nn.Linear, 8, 4)
    x = torch.linspace(-1, 1, 16).view(2, 8)
    try:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
            return torch.backends.mkldnn.is_available() and torch.allclose(_forward(module, 2)(x), module(x), atol=1e-5)
    except (AttributeError, RuntimeError):
        return False
