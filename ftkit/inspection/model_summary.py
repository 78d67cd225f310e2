"""Summary of a model: parameters, shapes and bytes by group, and which of them selectors would train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ftkit.models.meta_models import Outline
from ftkit.tuning.groups import ParameterGroups, ParameterTable, parameter_table, requiring_grad, trainable_selection

__all__ = ["Inspection", "inspect_model", "module_tree"]

_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Inspection:
    """A model's table with its totals."""

    model: str
    """Name of its class."""
    family: str
    task: str
    num_layers: int
    table: ParameterTable
    tied: tuple[tuple[str, ...], ...]
    """All names of each shared tensor."""
    counted_by_name: int
    """Elements if a shared tensor is counted once for each of its names, as a sum over a state dict does."""

    @property
    def weights(self) -> int:
        """Elements of matrices and embeddings."""
        return sum(row.weights for row in self.table.rows)

    @property
    def num_bytes(self) -> dict[str, int]:
        """Bytes of all parameters by dtype."""
        return {str(dtype).removeprefix("torch."): self.table.total * dtype.itemsize for dtype in _DTYPES}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "family": self.family,
            "task": self.task,
            "layers": self.num_layers,
            **self.table.as_dict(),
            "weights": self.weights,
            "biases_and_gains": self.table.total - self.weights,
            "tied": [list(names) for names in self.tied],
            "counted_by_name": self.counted_by_name,
            "bytes": self.num_bytes,
        }


def inspect_model(
    described: Outline, train: str | Sequence[str] | None = None, freeze: str | Sequence[str] | None = None
) -> Inspection:
    """Count a model's groups.

    Args:
        described: The model; values are not needed.
        train: Selectors of what may change; ``None`` means all, or of a model with an adapter what the adapter trains.
        freeze: Selectors of what may not; ``None`` means nothing.

    Returns:
        The table and its totals.

    Raises:
        ConfigError: A selector that cannot be read or matches nothing, or nothing left to train.
    """
    groups = ParameterGroups(described.model)
    if described.has_adapter and train is None and freeze is None:
        trainable = requiring_grad(described.model, groups)
    else:
        trainable = trainable_selection(groups, train, freeze)
    return Inspection(
        model=described.name,
        family=groups.family,
        task=described.task,
        num_layers=groups.num_layers,
        table=parameter_table(groups, trainable),
        tied=tuple(dict.fromkeys((piece.name, *piece.also) for piece in groups.pieces if piece.also)),
        counted_by_name=sum(piece.numel * (1 + len(piece.also)) for piece in groups.pieces),
    )


def module_tree(model: nn.Module) -> Iterator[tuple[int, str, str, str, str]]:
    """Go through the modules from the outside in.

    Args:
        model: The model; values are not needed.

    Yields:
        Depth from 0, the module's own name, its class, the shapes of its own parameters, and their groups.
    """
    groups: dict[str, list[str]] = {}
    for piece in ParameterGroups(model).pieces:
        for name in (piece.name, *piece.also):
            groups.setdefault(name, []).append(piece.group)
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        held = dict.fromkeys(group for name in own for group in groups[f"{path}.{name}" if path else name])
        shapes = ", ".join(f"{name} {list(parameter.shape)}" for name, parameter in own.items())
        yield path.count(".") + bool(path), path.rpartition(".")[2], type(module).__name__, shapes, ", ".join(held)
