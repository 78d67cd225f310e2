"""Gradient norms and clipping: what was measured before, what was cut, how much was lost.

Clipping acts on the global norm, so the norm of one layer does not tell what was clipped: both are measured, global and
by group, before anything is cut (lessons 07/017 and 07/019).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ftkit.config import TrainingSettings
from ftkit.tuning.groups import ParameterGroups, Selection, chosen_slices, select
from ftkit.tuning.shards import local_indices, local_part, norms_over_shards

__all__ = ["ClipReport", "Clipping", "GradientNorms", "clip_report"]


@dataclass(frozen=True)
class GradientNorms:
    """Euclidean norms of a gradient."""

    total: Tensor
    """Of all of it, 0-dimensional."""
    value: float
    """The same as a number."""
    groups: dict[str, float]
    """Of each group, and of each selector that is watched."""


@dataclass(frozen=True)
class _Unit:
    """A gradient, or a slice of one, whose norm is taken."""

    number: int
    """Place of its parameter."""
    dim: int
    indices: Tensor | None
    """Of what lies on this process; ``None``: all of it."""

    def norm(self, gradient: Tensor) -> Tensor:
        part = gradient if self.indices is None else gradient.index_select(self.dim, self.indices)
        norm: Tensor = torch.linalg.vector_norm(part)
        return norm


class Clipping:
    """Measures and clips the gradients of a model, as its settings say.

    By value comes first, then by group, then by the global norm; each sees what the one before has left.

    Args:
        model: The model, on its device and, if it is to be, divided between processes.
        groups: Its groups.
        settings: ``max_grad_value``, ``max_group_norms``, ``max_grad_norm``, ``clip_after`` and ``watch_gradients``.

    Raises:
        ConfigError: A selector that matches nothing.
    """

    def __init__(self, model: nn.Module, groups: ParameterGroups, settings: TrainingSettings) -> None:
        self.settings = settings
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._number = {id(parameter): number for number, parameter in enumerate(self.parameters)}
        by_group = {name: groups.group(name) for name in groups.names}
        watched = {text: select(groups, text) for text in settings.watch_gradients}
        limited = {text: select(groups, text) for text in settings.max_group_norms}
        self._units = {name: self._found(model, chosen) for name, chosen in {**by_group, **watched, **limited}.items()}
        self._units = {name: units for name, units in self._units.items() if units}
        self._sliced = [unit for units in self._units.values() for unit in units if unit.indices is not None]

    def _found(self, model: nn.Module, chosen: Selection) -> list[_Unit]:
        """The units of a selection that are trained."""
        return [
            _Unit(
                self._number[id(parameter)],
                piece.dim,
                None
                if len(indices) == (parameter.shape[piece.dim] if parameter.ndim else 1)
                else local_indices(parameter, piece.dim, indices),
            )
            for piece, parameter, indices in chosen_slices(model, chosen)
            if id(parameter) in self._number
        ]

    def norms(self) -> GradientNorms:
        """Norms of the gradients as they are; a parameter without gradient counts as 0."""
        present = {n: local_part(p.grad) for n, p in enumerate(self.parameters) if p.grad is not None}
        if not present:
            return GradientNorms(torch.zeros(()), 0.0, dict.fromkeys(self._units, 0.0))
        sliced = [unit for unit in self._sliced if unit.number in present]
        here = [*torch._foreach_norm(list(present.values())), *(unit.norm(present[unit.number]) for unit in sliced)]
        norms = norms_over_shards(torch.stack(here), self.parameters)
        total = torch.linalg.vector_norm(norms[: len(present)])
        value, *values = torch.cat([total[None], norms]).tolist()  # one transfer from an accelerator, not many
        norm_of: dict[int, float] = dict(zip([*present, *map(id, sliced)], values, strict=True))
        groups = {
            name: math.hypot(*(norm_of.get(u.number if u.indices is None else id(u), 0.0) for u in units))
            for name, units in self._units.items()
        }
        return GradientNorms(total, value, groups)

    def clip(self, step: int, norms: GradientNorms) -> float:
        """Clip what update ``step`` will use.

        Args:
            step: The update, counted from 1.
            norms: The norms as they are.

        Returns:
            Global norm afterwards divided by the one before: 1 where nothing was cut.
        """
        settings, total = self.settings, norms.total
        if step <= settings.clip_after or not norms.value:
            return 1.0
        if settings.max_grad_value:
            torch.nn.utils.clip_grad_value_(self.parameters, settings.max_grad_value)
        for text, limit in settings.max_group_norms.items():
            self._limit(self._units.get(text, ()), limit)
        if settings.max_grad_value or settings.max_group_norms:
            total = self._norm([local_part(p.grad) for p in self.parameters if p.grad is not None])
        left = norms.value if total is norms.total else float(total)
        if settings.max_grad_norm and left + 1e-6 > settings.max_grad_norm:  # else torch multiplies everything by 1
            torch.nn.utils.clip_grads_with_norm_(self.parameters, settings.max_grad_norm, total)
        return min(left, settings.max_grad_norm or left) / norms.value

    def _limit(self, units: Sequence[_Unit], limit: float) -> None:
        """Scale the gradients of units so that their common norm is at most ``limit``."""
        found = [(unit, self.parameters[unit.number].grad) for unit in units]
        present = [(unit, local_part(gradient)) for unit, gradient in found if gradient is not None]
        if not present:
            return
        norm = self._norm([unit.norm(gradient) for unit, gradient in present])
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch's own clipping
        for unit, gradient in present:
            if unit.indices is None:
                gradient.mul_(factor)
            else:
                gradient.index_copy_(unit.dim, unit.indices, gradient.index_select(unit.dim, unit.indices) * factor)

    def _norm(self, parts: list[Tensor]) -> Tensor:
        """Norm of gradients together, of which parts lie here."""
        norm: Tensor = torch.linalg.vector_norm(
            norms_over_shards(torch.stack(torch._foreach_norm(parts)), self.parameters)
        )
        return norm


@dataclass(frozen=True)
class ClipReport:
    """What clipping to a norm does to a gradient."""

    norm: float
    """Global norm before."""
    clipped_norm: float
    """Global norm afterwards."""
    factor: float
    """What every element is multiplied by."""
    cosine: float
    """Cosine between the gradients before and afterwards: 1, because only the length changes."""
    by_tensor: Mapping[str, tuple[float, float]]
    """Norm of each tensor's gradient before and afterwards."""

    @property
    def lost_norm(self) -> float:
        """How much of the norm was cut."""
        return self.norm - self.clipped_norm


def clip_report(model: nn.Module, max_norm: float) -> ClipReport:
    """What clipping the gradients that a model has now would do; nothing is changed.

    Args:
        model: A model after a backward pass.
        max_norm: Global norm to clip to.

    Raises:
        ValueError: No parameter has a gradient.
    """
    before = {name: p.grad.detach().double() for name, p in model.named_parameters() if p.grad is not None}
    if not before:
        raise ValueError("no parameter has a gradient: call backward first")
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in before.values()])))
    factor = min(max_norm / (norm + 1e-6), 1.0)
    after = {name: gradient * factor for name, gradient in before.items()}
    dot = sum(float((before[name] * after[name]).sum()) for name in before)
    clipped = norm * factor
    norms = {name: (float(before[name].norm()), float(after[name].norm())) for name in before}
    return ClipReport(norm, clipped, factor, dot / (norm * clipped) if clipped else 1.0, norms)
