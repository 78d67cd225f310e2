"""How far the weights moved: the plainest evidence that anything happened at all."""

from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Movement", "movement", "snapshot"]


@dataclass(frozen=True)
class Movement:
    """What changed between a snapshot and now."""

    relative: float
    """Frobenius norm of the change over that of the start, over all parameters."""
    changed: int
    """Tensors with at least one changed element."""
    tensors: int
    """Tensors compared; a shared tensor counts once."""
    by_tensor: dict[str, float]
    """Relative Frobenius norm for each tensor; a tensor that was zero has its absolute norm."""


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters on the CPU (copies: a reference would move along with the model)."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in model.named_parameters()}


def movement(before: dict[str, torch.Tensor], model: nn.Module) -> Movement:
    """Compare a model with an earlier snapshot of it.

    Args:
        before: What ``snapshot`` returned.
        model: The model now; parameters that the snapshot does not know (a new head) are left out.

    Returns:
        Relative change overall and for each tensor.
    """
    by_tensor: dict[str, float] = {}
    changed, squared_change, squared_start = 0, 0.0, 0.0
    for name, parameter in model.named_parameters():
        if name not in before:
            continue
        start, now = before[name], parameter.detach().to("cpu")
        difference = float((now.double() - start.double()).norm())
        norm = float(start.double().norm())
        changed += not torch.equal(now, start)
        by_tensor[name] = difference / norm if norm else difference
        squared_change += difference**2
        squared_start += norm**2
    relative = (squared_change / squared_start) ** 0.5 if squared_start else squared_change**0.5
    return Movement(relative, changed, len(by_tensor), by_tensor)
