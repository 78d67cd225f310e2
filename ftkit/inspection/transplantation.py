"""Weights of one model placed into another: copied, proved equal, and sharing nothing with the donor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ftkit.errors import ModelError
from ftkit.tuning.groups import Piece, chosen_slices

__all__ = ["Transplant", "transplant"]


@dataclass(frozen=True)
class Transplant:
    """One tensor, or a part of one, that was copied."""

    source: str
    target: str
    group: str
    layer: int | None
    elements: int


def transplant(source: nn.Module, target: nn.Module, selectors: str | Sequence[str] = "embedding") -> list[Transplant]:
    """Copy what selectors mean from one model into another, also between families.

    Tensors are paired by group, block, and their order in the model; matrices that GPT-2 stores transposed are turned.
    Nothing is written unless everything fits.

    Args:
        source: The donor, which is not changed.
        target: Receives the values, in its own dtype and on its own device.
        selectors: What to copy; must mean as much in both.

    Returns:
        What was copied; each was compared with its source afterwards.

    Raises:
        ConfigError: A selector that cannot be read, or that matches nothing in one of them.
        ModelError: Parts that do not fit, with both shapes, or models that share storage.
    """
    pairs = _pairs(_parts(source, selectors), _parts(target, selectors))
    done = []
    for (piece, parameter, indices, dim), (theirs, other, chosen, other_dim) in pairs:
        values = other.detach().index_select(other_dim, chosen)
        if parameter.ndim > 1:
            values = values.movedim(other_dim, dim)
        values = values.to(parameter)
        with torch.no_grad():
            parameter.index_copy_(dim, indices, values)
        if not torch.equal(parameter.detach().index_select(dim, indices), values):
            raise ModelError(f"{piece.name} is not equal to {theirs.name} after the copy: it holds NaN")
        done.append(Transplant(theirs.name, piece.name, piece.group, piece.layer, values.numel()))
    return done


_Part = tuple[Piece, nn.Parameter, Tensor, int]
_Key = tuple[str, int | None, str, int]


def _parts(model: nn.Module, selectors: str | Sequence[str]) -> dict[_Key, _Part]:
    """Selected parts and the dimension of their outputs, by group, block, the parameter's own name, and a number."""
    modules = dict(model.named_modules())
    parts: dict[_Key, _Part] = {}
    for piece, parameter, indices in chosen_slices(model, selectors):
        path, _, own = piece.name.rpartition(".")
        transposed = isinstance(modules[path], Conv1D) and parameter.ndim == 2
        if transposed and piece.dim == 0:  # whole tensors only: rows are chosen in embeddings, which are not transposed
            indices = torch.arange(parameter.shape[1], device=parameter.device)
        number = sum(key[:3] == (piece.group, piece.layer, own) for key in parts)
        parts[piece.group, piece.layer, own, number] = (piece, parameter, indices, int(transposed))
    return parts


def _pairs(source: dict[_Key, _Part], target: dict[_Key, _Part]) -> list[tuple[_Part, _Part]]:
    """Target and source parts that belong together, after all checks."""
    if lonely := source.keys() ^ target.keys():
        key = sorted(lonely, key=str)[0]
        piece, where = (source[key][0], "source") if key in source else (target[key][0], "target")
        raise ModelError(
            f"{piece.name} ({piece.group}) of the {where} has no counterpart in the other model; {len(lonely)} parts "
            "have none. Select what both have"
        )
    for key, (piece, parameter, indices, dim) in target.items():
        theirs, other, chosen, other_dim = source[key]
        shape, wanted = _shape(other, chosen, other_dim), _shape(parameter, indices, dim)
        if shape != wanted:
            raise ModelError(
                f"{theirs.name} of the source has shape {shape} and {piece.name} of the target {wanted} (outputs "
                "first): they do not fit. Give models of equal width and vocabulary; of new:FAMILY,hidden_size=NUMBER "
                "the width can be chosen"
            )
        if other.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr():
            raise ModelError(f"{theirs.name} and {piece.name} share their storage, so there is nothing to copy")
    return [(part, source[key]) for key, part in target.items()]


def _shape(parameter: Tensor, indices: Tensor, dim: int) -> list[int]:
    """Shape of the chosen part, outputs first."""
    return [len(indices), *(size for number, size in enumerate(parameter.shape) if number != dim)]
