"""Parameters changed for a moment, to learn what they are for, and put back bit for bit."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ftkit.errors import ConfigError, ModelError, nearest_name
from ftkit.tuning.groups import Piece, Selection, chosen_slices

__all__ = ["Perturbation", "perturb"]

Perturbation = Literal["noise", "constant", "zero", "shuffle"]
"""``noise``: normal, with the mean and standard deviation of what it replaces; ``constant``: one value; ``zero``;
``shuffle``: the same values elsewhere."""


@contextmanager
def perturb(
    model: nn.Module,
    selectors: str | Sequence[str] | Selection,
    kind: Perturbation = "noise",
    *,
    seed: int = 42,
    value: float | None = None,
) -> Iterator[Selection]:
    """Change selected parameters inside a ``with`` block; afterwards, and after an error, they are what they were.

    Each group's part of each tensor is changed for itself, so a fused matrix keeps the parts that are not selected, and
    what one part is given depends on nothing but the seed and the part.

    Args:
        model: The model, on any device.
        selectors: What to change; a shared tensor changes under all its names.
        kind: How.
        seed: Draws noise and order, on the CPU: the same on every device.
        value: For ``constant`` only.

    Yields:
        What was changed.

    Raises:
        ConfigError: A selector that cannot be read or matches nothing, an unknown kind, or a value without effect.
        ModelError: Parameters that are no floating-point numbers.
    """
    if kind not in get_args(Perturbation):
        raise ConfigError(f"kind is {kind!r}{nearest_name(kind, get_args(Perturbation))}")
    if (value is None) == (kind == "constant"):
        raise ConfigError(f"kind {kind!r} with value {value}; constant needs a value, the others take none")
    chosen = list(chosen_slices(model, selectors))
    if whole := next((piece.name for piece, parameter, _ in chosen if not parameter.is_floating_point()), None):
        raise ModelError(f"{whole} does not hold floating-point numbers, so it cannot be perturbed")
    before = [parameter.detach().index_select(piece.dim, indices) for piece, parameter, indices in chosen]
    try:
        with torch.no_grad():
            for (piece, parameter, indices), values in zip(chosen, before, strict=True):
                changed = _changed(piece, values, kind, seed, value)
                parameter.index_copy_(piece.dim, indices, changed.to(parameter))
        yield _selection(chosen)
    finally:
        with torch.no_grad():
            for (piece, parameter, indices), values in zip(chosen, before, strict=True):
                parameter.index_copy_(piece.dim, indices, values)


def _selection(chosen: Sequence[tuple[Piece, nn.Parameter, Tensor]]) -> Selection:
    masks: dict[str, Tensor] = {}
    for piece, _, indices in chosen:
        masks.setdefault(piece.name, torch.zeros_like(piece.mask))[indices.cpu()] = True
    return Selection(masks)


def _changed(piece: Piece, values: Tensor, kind: Perturbation, seed: int, value: float | None) -> Tensor:
    """What stands in place of a part's values, on the CPU."""
    if kind == "zero":
        return torch.zeros(values.shape)
    if kind == "constant":
        assert value is not None
        return torch.full(values.shape, value)
    own = hashlib.sha256(f"{seed} {piece.name} {piece.group}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))
    flat = values.cpu().flatten()
    if kind == "shuffle":
        return flat[torch.randperm(flat.numel(), generator=generator)].view(values.shape)
    noise = torch.randn(flat.numel(), generator=generator, dtype=torch.float64)
    std = flat.double().std(correction=0) if flat.numel() > 1 else torch.zeros(())
    standard = (noise - noise.mean()) / noise.std(correction=0).clamp_min(1e-12)
    return (flat.double().mean() + std * standard).view(values.shape)
