"""How far chosen tensors move from one step to the next."""

from collections.abc import Sequence

from torch import Tensor, nn

from ftkit.tuning.groups import Selection
from ftkit.tuning.slices import chosen_slices

__all__ = ["SelectedValues", "Watch"]


class SelectedValues:
    """The values of a selection, copied, and compared with earlier copies.

    Parameters are looked up by name each time, so that they are found again after the model was moved or wrapped.

    Args:
        model: The model; it is read, never changed.
        selection: Which elements.
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self._model = model
        self._places = [(piece.name, piece.dim, indices) for piece, _, indices in chosen_slices(model, selection)]

    def copies(self) -> list[Tensor]:
        """The values now; never references, which would move along with the model."""
        parameters = dict(self._model.named_parameters())
        return [
            parameters[name].detach().index_select(dim, indices.to(parameters[name].device))
            if parameters[name].ndim
            else parameters[name].detach().clone()
            for name, dim, indices in self._places
        ]

    @staticmethod
    def norm(values: Sequence[Tensor], without: Sequence[Tensor] | None = None) -> float:
        """Frobenius norm of copies, or of their difference from earlier ones, on any device."""
        if without is None:
            return float(sum(float(value.double().square().sum()) for value in values) ** 0.5)
        pairs = zip(values, without, strict=True)
        return float(sum(float((value - old.to(value.device)).double().square().sum()) for value, old in pairs) ** 0.5)


class Watch:
    """Measures the change of a selection between calls.

    Args:
        model: The model; it is read, never changed.
        selection: Which elements.
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self._values = SelectedValues(model, selection)
        self._last = self._values.copies()

    def change(self) -> float:
        """Frobenius norm of the change since the last call, or since the start."""
        now = self._values.copies()
        changed = self._values.norm(now, self._last)
        self._last = now
        return changed
