"""How far chosen tensors move from one step to the next."""

from torch import Tensor, nn

from ftkit.tuning.groups import Selection
from ftkit.tuning.slices import chosen_slices

__all__ = ["Watch"]


class Watch:
    """Measures the change of a selection between calls.

    Args:
        model: The model; it is read, never changed.
        selection: Which elements.
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self._slices = list(chosen_slices(model, selection))
        self._last = self._values()

    def _values(self) -> list[Tensor]:
        """Copies, never references."""
        return [parameter.detach().index_select(piece.dim, indices) for piece, parameter, indices in self._slices]

    def change(self) -> float:
        """Frobenius norm of the change since the last call, or since the start."""
        now = self._values()
        squared = sum(float((new - old).double().square().sum()) for new, old in zip(now, self._last, strict=True))
        self._last = now
        return float(squared**0.5)
