"""Two model folders side by side: which tensors differ, by how much, and in which part of the model.

Files are read tensor by tensor, one of each folder at a time, so that models of any size fit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ftkit.inspection.stored_tensors import StoredTensors
from ftkit.runs.files import json_value
from ftkit.tuning.movement import same_bits

__all__ = ["Change", "FolderDifference", "diff_folders"]


@dataclass(frozen=True)
class Change:
    """One group's part of one tensor, or of several tensors together."""

    name: str
    """Of the tensor below the base model, of the group, or of the block."""
    group: str
    """Empty for a block."""
    layer: int | None
    """Number of the block; ``None`` outside the blocks and for a group."""
    relative: float
    """Frobenius norm of the difference over that of the first folder; the norm itself where the first is zero."""
    largest: float
    """Largest absolute difference; infinite where either is not finite and they are not the same bits."""
    identical: bool
    """The same bits in the same dtype."""
    elements: int
    squared_difference: float
    squared_first: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is infinite is ``None``."""
        known = {key: value for key, value in asdict(self).items() if not key.startswith("squared")}
        found: dict[str, Any] = json_value(known)
        return found


@dataclass(frozen=True)
class FolderDifference:
    """All tensors of two folders."""

    changes: tuple[Change, ...]
    """One for each group's part of each tensor that both have: a fused matrix comes apart."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    misshapen: tuple[str, ...]
    """Tensors with two different shapes."""
    sha256: tuple[str, str]
    """Over names, dtypes, shapes and bytes of all tensors of each folder, however they are divided between files."""
    bytes_by_dtype: tuple[dict[str, int], dict[str, int]]

    @property
    def identical(self) -> bool:
        """Whether both hold the same tensors, bit for bit."""
        return self.sha256[0] == self.sha256[1]

    @property
    def total(self) -> Change:
        """The change over all tensors that both have."""
        return _joined("all", "", None, self.changes)

    @property
    def by_group(self) -> tuple[Change, ...]:
        """Changes of whole groups."""
        groups = dict.fromkeys(change.group for change in self.changes)
        return tuple(
            _joined(group, group, None, [change for change in self.changes if change.group == group])
            for group in groups
        )

    @property
    def by_layer(self) -> tuple[Change, ...]:
        """Changes of whole blocks, in their order; what lies outside the blocks is left out."""
        layers = sorted({change.layer for change in self.changes if change.layer is not None})
        return tuple(
            _joined(f"block {layer}", "", layer, [change for change in self.changes if change.layer == layer])
            for layer in layers
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "identical": self.identical,
            "relative": json_value(self.total.relative),
            "tensors": [change.as_dict() for change in self.changes],
            "groups": [change.as_dict() for change in self.by_group],
            "blocks": [change.as_dict() for change in self.by_layer],
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "misshapen": list(self.misshapen),
            "sha256": list(self.sha256),
            "bytes_by_dtype": list(self.bytes_by_dtype),
        }


def diff_folders(first: str | Path, second: str | Path) -> FolderDifference:
    """Compare the tensors in two folders.

    Args:
        first: A folder with safetensors weights, in one file or several; also of an adapter.
        second: Another.

    Returns:
        Every change, by tensor, group and block.

    Raises:
        ModelError: A folder without safetensors weights, or a file that cannot be read.
    """
    changes: list[Change] = []
    misshapen: list[str] = []
    with StoredTensors(Path(first)) as a, StoredTensors(Path(second)) as b:
        lacking: tuple[list[str], list[str]] = [], []
        for name in sorted(a.names | b.names):
            mine, yours = (_tensor(stored, name) for stored in (a, b))
            if mine is None or yours is None:
                lacking[mine is None].append(name)
            elif mine.shape != yours.shape:
                misshapen.append(f"{name} {list(mine.shape)} and {list(yours.shape)}")
            else:
                changes += _changes(name, mine, yours, a)
        return FolderDifference(
            changes=tuple(sorted(changes, key=lambda change: a.place(change.name))),
            only_first=tuple(lacking[0]),
            only_second=tuple(lacking[1]),
            misshapen=tuple(misshapen),
            sha256=(a.sha256, b.sha256),
            bytes_by_dtype=(a.bytes_by_dtype, b.bytes_by_dtype),
        )


def _tensor(stored: StoredTensors, name: str) -> Tensor | None:
    """A folder's tensor; where one matrix serves both ends here and two do there, each is compared with the one."""
    if name in stored.names:
        return stored.read(name)
    other = stored.other_name(name)
    return None if other is None else stored.again(other)


def _changes(name: str, first: Tensor, second: Tensor, stored: StoredTensors) -> Iterator[Change]:
    """One change for each group's part of a tensor."""
    for group, layer, dim, indices in stored.parts(name):
        a, b = (tensor if indices is None else tensor.index_select(dim, indices) for tensor in (first, second))
        identical = same_bits(a, b)
        squared, largest = 0.0, 0.0
        if not identical:
            difference = (a.double() - b.double()).abs()
            squared, largest = float(difference.square().sum()), float(difference.max())
        squared_first = float(a.double().square().sum())
        yield Change(
            name=name,
            group=group,
            layer=layer,
            relative=_relative(squared, squared_first),
            largest=largest if math.isfinite(largest) else math.inf,
            identical=identical,
            elements=a.numel(),
            squared_difference=squared,
            squared_first=squared_first,
        )


def _relative(squared_difference: float, squared_first: float) -> float:
    if squared_difference == 0:
        return 0.0
    ratio = squared_difference / squared_first if squared_first > 0 else squared_difference
    return math.sqrt(ratio) if math.isfinite(ratio) else math.inf


def _joined(name: str, group: str, layer: int | None, changes: Sequence[Change]) -> Change:
    """Several changes as one."""
    squared = sum(change.squared_difference for change in changes)
    squared_first = sum(change.squared_first for change in changes)
    return Change(
        name=name,
        group=group,
        layer=layer,
        relative=_relative(squared, squared_first),
        largest=max((change.largest for change in changes), default=0.0),
        identical=all(change.identical for change in changes),
        elements=sum(change.elements for change in changes),
        squared_difference=squared,
        squared_first=squared_first,
    )
