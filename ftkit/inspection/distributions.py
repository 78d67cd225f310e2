"""How weights are distributed: for each group and block, with query, key and value apart also where they are fused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ftkit.errors import ConfigError
from ftkit.tuning.groups import Piece, Selection, chosen_slices

__all__ = ["WeightStatistics", "weight_statistics"]


@dataclass(frozen=True)
class WeightStatistics:
    """The values of one group in one block."""

    group: str
    layer: int | None
    """``None`` outside the blocks."""
    elements: int
    mean: float
    std: float
    """With the unbiased variance; 0 for one element."""
    minimum: float
    maximum: float
    zeros: float
    """Share of elements that are exactly 0."""
    edges: tuple[float, ...]
    """Of the histogram's bins, one more than there are bins; the last bin includes its upper edge."""
    counts: tuple[int, ...]
    """Elements in each bin; those outside all bins are in none."""

    def as_row(self) -> dict[str, Any]:
        """The numbers without the histogram, as one row of a table."""
        return {
            "group": self.group, "layer": self.layer, "elements": self.elements, "mean": self.mean, "std": self.std,
            "minimum": self.minimum, "maximum": self.maximum, "zeros": self.zeros,
        }  # fmt: skip

    def histogram_rows(self) -> list[dict[str, Any]]:
        """The histogram as rows of a table, one for each bin."""
        return [
            {"group": self.group, "layer": self.layer, "low": low, "high": high, "count": count}
            for low, high, count in zip(self.edges[:-1], self.edges[1:], self.counts, strict=True)
        ]


def weight_statistics(
    model: nn.Module,
    selectors: str | Sequence[str] | Selection = "all",
    *,
    bins: int = 100,
    value_range: tuple[float, float] | None = None,
) -> list[WeightStatistics]:
    """Describe the values of each selected group in each block.

    Biases are left out, which would stand as a peak at 0, unless nothing but biases of a group is selected.

    Args:
        model: The model, with values.
        selectors: What to describe.
        bins: Bins of the histogram.
        value_range: Lower and upper end of the histogram; ``None`` means from the least to the largest value of each
            group over all blocks, so that its blocks can be laid over each other.

    Returns:
        Groups in the order of the model's parts, blocks from the first to the last.

    Raises:
        ConfigError: A selector that cannot be read or matches nothing, or bins and ends that make no histogram.
    """
    if bins < 1 or (value_range is not None and not value_range[0] < value_range[1]):
        raise ConfigError(
            f"bins={bins} with value_range={value_range} make no histogram; give bins >= 1 and low < high"
        )
    values: dict[str, dict[int | None, list[Tensor]]] = {}
    found = list(chosen_slices(model, selectors))
    with_weights = {piece.group for piece, _, _ in found if not piece.name.endswith("bias")}
    for piece, parameter, indices in found:
        if not piece.name.endswith("bias") or piece.group not in with_weights:
            layers = values.setdefault(piece.group, {})
            layers.setdefault(piece.layer, []).append(_values(piece, parameter, indices))
    return [row for group, layers in values.items() for row in _described(group, layers, bins, value_range)]


def _values(piece: Piece, parameter: Tensor, indices: Tensor) -> Tensor:
    return parameter.detach().index_select(piece.dim, indices).flatten().float().cpu()


def _described(
    group: str, layers: dict[int | None, list[Tensor]], bins: int, value_range: tuple[float, float] | None
) -> list[WeightStatistics]:
    joined = {layer: torch.cat(tensors) for layer, tensors in layers.items()}
    if value_range is None:
        low = min(float(values.min()) for values in joined.values())
        high = max(float(values.max()) for values in joined.values())
        value_range = (low, high) if low < high else (low - 0.5, high + 0.5)  # as torch.histc does
    edges = tuple(torch.linspace(*value_range, bins + 1, dtype=torch.float64).tolist())
    rows = []
    for layer in sorted(joined, key=lambda number: -1 if number is None else number):
        values = joined[layer]
        counts = torch.histc(values, bins, *value_range)
        rows.append(
            WeightStatistics(
                group=group,
                layer=layer,
                elements=values.numel(),
                mean=float(values.mean(dtype=torch.float64)),
                std=float(values.std()) if values.numel() > 1 else 0.0,
                minimum=float(values.min()),
                maximum=float(values.max()),
                zeros=float((values == 0).double().mean()),
                edges=edges,
                counts=tuple(int(count) for count in counts.tolist()),
            )
        )
    return rows
