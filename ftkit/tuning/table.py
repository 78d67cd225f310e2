"""What a model consists of and what of it may change, as one table before anything is trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftkit.tuning.groups import ParameterGroups, Piece, Selection

__all__ = ["GroupRow", "ParameterTable", "parameter_table"]


@dataclass(frozen=True)
class GroupRow:
    """One group of the model."""

    group: str
    parameters: int
    """Elements; a shared tensor counts once."""
    share: float
    """Of all elements of the model."""
    trainable: int
    """Elements that may change."""
    weights: int
    """Elements of matrices and embeddings; the rest are biases and gains."""
    shapes: tuple[str, ...]
    """Different shapes in the group, each as ``2 x [64, 192]``."""
    layers: tuple[int, ...]
    """Blocks that it is in."""
    learning_rates: tuple[float, ...] = ()
    """Different peak learning rates, from low to high."""
    shared_with: tuple[str, ...] = ()
    """Groups whose tensor this is too: a tied head lives in the embedding."""


@dataclass(frozen=True)
class ParameterTable:
    """All groups of a model."""

    rows: tuple[GroupRow, ...]

    @property
    def total(self) -> int:
        """Elements of the model."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Elements that may change."""
        return sum(row.trainable for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """``total``, ``trainable`` and ``groups`` by name, for JSON."""
        return {
            "total": self.total,
            "trainable": self.trainable,
            "groups": {row.group: {key: v for key, v in asdict(row).items() if key != "group"} for row in self.rows},
        }


def parameter_table(
    groups: ParameterGroups, trainable: Selection | None = None, rates: Mapping[str, float] | None = None
) -> ParameterTable:
    """Count every group once.

    Args:
        groups: The model's groups.
        trainable: What may change; ``None`` means everything.
        rates: Peak learning rate by parameter name; ``None`` shows none.
    """
    chosen = groups.all if trainable is None else trainable
    total = sum(piece.numel for piece in groups.pieces)
    return ParameterTable(
        tuple(
            _row(group, [piece for piece in groups.pieces if piece.group == group], chosen, total, rates or {})
            for group in groups.names
        )
    )


def _row(group: str, pieces: list[Piece], chosen: Selection, total: int, rates: Mapping[str, float]) -> GroupRow:
    counts: dict[str, int] = {}
    for piece in pieces:
        shape = str(list(piece.shape))
        counts[shape] = counts.get(shape, 0) + 1
    parameters = sum(piece.numel for piece in pieces)
    return GroupRow(
        group=group,
        parameters=parameters,
        share=parameters / total,
        trainable=sum(chosen.numel(piece) for piece in pieces),
        weights=sum(piece.numel for piece in pieces if len(piece.shape) > 1),
        shapes=tuple(f"{count} x {shape}" for shape, count in counts.items()),
        layers=tuple(sorted({piece.layer for piece in pieces if piece.layer is not None})),
        learning_rates=tuple(
            sorted({rates[piece.name] for piece in pieces if piece.name in rates and chosen.numel(piece)})
        ),
        shared_with=tuple(sorted({name for piece in pieces for name in piece.also_groups})),
    )
