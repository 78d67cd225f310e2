"""How far the weights moved, and the proof that what was frozen did not.

The plainest evidence that anything happened at all, and that nothing else did: every frozen tensor, slice and row must
be bit-identical afterwards, every group that could change must have changed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ftkit.models import GROUPS, is_adapter, virtual_tokens
from ftkit.tuning.adapters import effective_model
from ftkit.tuning.effective_weights import effective_weights
from ftkit.tuning.groups import ParameterGroups, Piece, Selection, chosen_slices

__all__ = ["GroupMovement", "Movement", "SelectedValues", "Watch", "movement", "same_bits", "snapshot"]

_PART = 1 << 24
"""Elements that are compared in double precision at a time: 256 MB for both, where an embedding may have 2 GB."""


@dataclass(frozen=True)
class GroupMovement:
    """What changed in one group of one block."""

    group: str
    layer: int | None
    """Number of the block; ``None`` outside the blocks."""
    parameters: int
    """Elements that were compared."""
    trainable: int
    """Of these, elements that were allowed to change."""
    change: float
    """Frobenius norm of the change."""
    start: float
    """Frobenius norm of the start."""
    relative: float
    """One over the other; the plain norm of the change where the start was zero."""


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
    groups: tuple[GroupMovement, ...] = ()
    """The same for each group and block."""
    frozen: int = 0
    """Elements that were not allowed to change."""
    leaks: tuple[str, ...] = ()
    """Tensors, slices and rows that changed although frozen, by name of the tensor: there must be none."""
    still: tuple[str, ...] = ()
    """Groups that were allowed to change and did not: in no block, or ``GROUP@BLOCK`` in that one."""


def snapshot(model: nn.Module, copy: bool = True) -> dict[str, Tensor]:
    """All parameters on the CPU.

    Args:
        model: Any model.
        copy: Whether to copy what is on the CPU already; a reference changes along with a model that is trained on.

    A tensor that is tied is copied once and has all its names, so that a model in which it is untied can be compared.
    Of a model with an adapter, which may be trained on, there are the weights that it computes with as well.
    """
    if is_adapter(model) and not virtual_tokens(model):
        wrapped: Any = model
        return _on_cpu(model, copy) | _on_cpu(effective_model(wrapped), copy)
    return _on_cpu(model, copy)


def _on_cpu(model: nn.Module, copy: bool) -> dict[str, Tensor]:
    copies: dict[int, Tensor] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in copies:
            copies[id(parameter)] = parameter.detach().to("cpu", copy=copy)
        found[name] = copies[id(parameter)]
    return found


def movement(before: Mapping[str, Tensor], model: nn.Module, trainable: Selection | None = None) -> Movement:
    """Compare a model with an earlier snapshot of it.

    Args:
        before: What ``snapshot`` returned, of this model or, for one with an adapter, of its base.
        model: The model now; parameters that the snapshot does not know (a new head) are left out.
        trainable: What was allowed to change; ``None`` means everything.

    Returns:
        Relative change overall, for each tensor and for each group, with the proof that the rest did not change. Of a
        model with an adapter: what the adapter changes in effect, and the proof that the base under it is as it was.
    """
    if is_adapter(model):
        return _adapted(before, model)
    return _compared(before, model, trainable)


def _compared(
    before: Mapping[str, Tensor],
    model: nn.Module,
    trainable: Selection | None = None,
    value_of: Callable[[str], Tensor] | None = None,
) -> Movement:
    """Compare the tensors of a plain model, one at a time; ``value_of`` gives what stands in place of a parameter."""
    groups = ParameterGroups(model)
    allowed = groups.all if trainable is None else trainable
    now = _distinct(before, {name: parameter.detach() for name, parameter in model.named_parameters()})
    names = [name for name in now if name in before and before[name].shape == now[name].shape]
    pieces: dict[str, list[Piece]] = {}
    for piece in groups.pieces:
        pieces.setdefault(piece.name, []).append(piece)
    by_tensor: dict[str, float] = {}
    sums: dict[tuple[str, int | None], _Sums] = {}
    leaks: list[str] = []
    changed = 0
    for name in names:
        first, last = before[name], (value_of(name) if value_of else now[name]).cpu()
        by_tensor[name] = _relative(_norm(last, first), _norm(first))
        changed += not same_bits(first, last)
        if any(_leaked(piece, allowed, first, last) for piece in pieces.get(name, ())):
            leaks.append(name)
        for piece in pieces.get(name, ()):
            sums.setdefault((piece.group, piece.layer), _Sums()).add(
                _slice(first, piece, piece.mask), _slice(last, piece, piece.mask), allowed.numel(piece)
            )
    in_order = sorted(sums, key=lambda part: (GROUPS.index(part[0]), -1 if part[1] is None else part[1]))
    rows = tuple(sums[part].row(*part) for part in in_order)
    moved = {row.group for row in rows if row.relative > 0}
    change, norm = (sum(getattr(found, part) for found in sums.values()) for part in ("change", "start"))
    return Movement(
        relative=_relative(change**0.5, norm**0.5),
        changed=changed,
        tensors=len(names),
        by_tensor=by_tensor,
        groups=rows,
        frozen=sum(row.parameters - row.trainable for row in rows),
        leaks=tuple(leaks),
        still=tuple(
            dict.fromkeys(
                row.group if row.group not in moved else f"{row.group}@{row.layer}"
                for row in rows
                if row.trainable and not row.relative
            )
        ),
    )


def _leaked(piece: Piece, allowed: Selection, first: Tensor, last: Tensor) -> bool:
    """Whether a frozen part of a tensor changed."""
    free = allowed.masks.get(piece.name, torch.zeros_like(piece.mask)) & piece.mask
    kept = piece.mask & ~free
    return bool(kept.any()) and not same_bits(_slice(first, piece, kept), _slice(last, piece, kept))


def _distinct(before: Mapping[str, Tensor], now: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a second tensor that was one with the first before and still has its values: it was only stored apart."""
    first: dict[int, Tensor] = {}
    kept = {}
    for name, tensor in now.items():
        earlier = first.setdefault(id(before[name]), tensor) if name in before else tensor
        if earlier is tensor or not same_bits(earlier.cpu(), tensor.cpu()):
            kept[name] = tensor
    return kept


def _adapted(before: Mapping[str, Tensor], model: nn.Module) -> Movement:
    """What an adapter does to the weights; virtual tokens, which are no weights, come from zero or from the start."""
    wrapped: Any = model
    groups = ParameterGroups(model)
    replaced = {
        id(parameter) for parameter in getattr(model, "stored_embeddings", {}).values()
    }  # by the adapter's file
    frozen = {
        name: parameter.detach().cpu()
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
        and (name in before or (groups.plain_name(name) in before and id(parameter) not in replaced))
    }
    leaks = tuple(
        name
        for name, now in frozen.items()
        if not same_bits(before[name if name in before else groups.plain_name(name)], now)
    )
    if virtual_tokens(model):
        encoder = wrapped.prompt_encoder
        start = {
            name: before.get(f"prompt_encoder.{name}", torch.zeros_like(tensor))
            for name, tensor in encoder.named_parameters()
        }
        effect = movement(start, encoder)
        rows = tuple(replace(row, group="adapter") for row in effect.groups)
    else:
        effective = effective_weights(wrapped)
        effect = _compared(before, effective.plain, value_of=effective.value)
        rows = tuple(replace(row, trainable=row.parameters if row.relative else 0) for row in effect.groups)
    return replace(effect, groups=rows, frozen=sum(now.numel() for now in frozen.values()), leaks=leaks, still=())


@dataclass
class _Sums:
    """What is added up over the pieces of a group in a block; the norms squared."""

    change: float = 0.0
    start: float = 0.0
    parameters: int = 0
    trainable: int = 0

    def add(self, first: Tensor, last: Tensor, trainable: int) -> None:
        """Count a piece as it was and as it is."""
        self.change += _norm(last, first) ** 2
        self.start += _norm(first) ** 2
        self.parameters += first.numel()
        self.trainable += trainable

    def row(self, group: str, layer: int | None) -> GroupMovement:
        """The sums as norms."""
        change, start = self.change**0.5, self.start**0.5
        return GroupMovement(group, layer, self.parameters, self.trainable, change, start, _relative(change, start))


def _slice(tensor: Tensor, piece: Piece, mask: Tensor) -> Tensor:
    if mask.all() or tensor.ndim == 0:
        return tensor
    return tensor.index_select(piece.dim, mask.nonzero()[:, 0])


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same bits in the same dtype and shape; unlike ``==``, NaN is NaN and -0 is not 0."""
    same_kind = first.dtype == second.dtype and first.shape == second.shape
    return same_kind and torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (first, second)))


def _norm(tensor: Tensor, without: Tensor | None = None) -> float:
    """Frobenius norm of a tensor or of a difference, in double precision; of a large tensor in parts."""
    if tensor.numel() <= _PART:
        exact = tensor.double()
        return float((exact if without is None else exact - without).norm())
    flat, other = tensor.reshape(-1), None if without is None else without.reshape(-1)
    norms = [
        _norm(flat[at : at + _PART], None if other is None else other[at : at + _PART])
        for at in range(0, len(flat), _PART)
    ]
    return math.hypot(*norms)


def _relative(change: float, norm: float) -> float:
    return change / norm if norm else change


# How far chosen tensors move from one step to the next.


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
