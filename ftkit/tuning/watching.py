"""How far chosen tensors move from one step to the next."""

import torch
from torch import nn

from ftkit.tuning.groups import ParameterGroups, Selection

__all__ = ["Watch"]


class Watch:
    """Measures the change of a selection between calls.

    Args:
        model: The model; it is read, never changed.
        selection: Which elements.
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self._dims = ParameterGroups(model).dims
        self._parameters = {name: p for name, p in model.named_parameters() if name in selection.masks}
        self._indices = {name: selection.masks[name].nonzero()[:, 0] for name in self._parameters}
        self._last = self._values()

    def _values(self) -> dict[str, torch.Tensor]:
        """Copies, never references."""
        return {
            name: p.detach().index_select(self._dims[name], self._indices[name].to(p.device))
            for name, p in self._parameters.items()
        }

    def change(self) -> float:
        """Frobenius norm of the change since the last call, or since the start."""
        now = self._values()
        squared = sum(float((now[name] - before).double().square().sum()) for name, before in self._last.items())
        self._last = now
        return float(squared**0.5)
