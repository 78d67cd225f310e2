# mypy: allow-untyped-calls
# (transformers and safetensors are typed in part only.)
"""Bare weights in one file, for programs that know nothing of folders: safetensors, or PyTorch's own format.

A folder written by ``save_model`` also holds shape and tokenizer; a state dict fits only a model that is already built.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ftkit.errors import ModelError
from ftkit.runs.files import atomic_file

__all__ = ["load_state_dict", "save_state_dict"]

_SAFE, _PICKLED = ".safetensors", ".pt"


def save_state_dict(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model's weights to one file, whole or not at all; tensors that are tied are written once.

    Args:
        model: Any model.
        path: A file that ends in ``.safetensors`` or ``.pt``; its folder is made, an existing file is replaced.

    Raises:
        ModelError: Another ending, or weights without values.
    """
    path = Path(path)
    _check_ending(path)
    if empty := [name for name, tensor in model.state_dict().items() if tensor.is_meta]:
        raise ModelError(f"{path}: {empty[0]} has no values (it is on the meta device), so there is nothing to save")
    tensors = {names[0]: tensor.detach().cpu().contiguous() for names, tensor in _distinct(model)}
    with atomic_file(path) as temporary:
        if path.suffix == _SAFE:
            save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            torch.save(tensors, temporary)


def load_state_dict(model: nn.Module, path: str | os.PathLike[str], allow_pickle: bool = False) -> None:
    """Copy weights from a file into a model that has exactly these; the model keeps its dtype, device and ties.

    Args:
        model: The model; it is changed only if every tensor fits.
        path: A file that ends in ``.safetensors`` or ``.pt``.
        allow_pickle: Whether ``.pt`` may be read; tensors only, so that code in it does not run.

    Raises:
        ModelError: A file that cannot be read, or tensors that are missing, left over or of another shape.
    """
    path = Path(path)
    tensors = _read(path, allow_pickle)
    wanted = _distinct(model)
    problems = _problems(wanted, tensors)
    if problems:
        raise ModelError(f"{path} does not fit this {type(model).__name__}: {'; '.join(problems)}")
    with torch.no_grad():
        for names, tensor in wanted:
            tensor.copy_(tensors[next(name for name in names if name in tensors)])


def _check_ending(path: Path) -> None:
    if path.suffix not in (_SAFE, _PICKLED):
        raise ModelError(f"{path}: a state dict is kept in a file that ends in {_SAFE} or {_PICKLED}")


def _distinct(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each tensor of the state dict once, with all its names; tied ones have several."""
    found: dict[Any, tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.data_ptr() else id(tensor)
        found.setdefault(place, ([], tensor))[0].append(name)
    return list(found.values())


def _read(path: Path, allow_pickle: bool) -> dict[str, Tensor]:
    _check_ending(path)
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    if path.suffix == _PICKLED and not allow_pickle:
        raise ModelError(
            f"{path} is a pickle file, and opening a pickle can run code. Use {_SAFE}, which is safe, or, if you trust "
            "this file, set allow_pickle: then only tensors are read."
        )
    try:
        found = load_file(path) if path.suffix == _SAFE else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a spoilt file raises what its parser raises
        raise ModelError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} holds something else than a state dict (names with their tensors)")
    return dict(found)


def _problems(wanted: list[tuple[list[str], Tensor]], tensors: dict[str, Tensor]) -> list[str]:
    """What does not fit, in words."""
    known = {name for names, _ in wanted for name in names}
    missing = [names[0] for names, _ in wanted if not tensors.keys() & set(names)]
    shapes, ties = [], []
    for names, tensor in wanted:
        given = [name for name in names if name in tensors]
        shapes += [
            f"{name} (file {tuple(tensors[name].shape)}, model {tuple(tensor.shape)})"
            for name in given
            if tensors[name].shape != tensor.shape
        ]
        if any(not torch.equal(tensors[name], tensors[given[0]]) for name in given[1:]):
            ties.append(" and ".join(given))
    kinds = {"missing": missing, "left over": sorted(tensors.keys() - known), "wrong shape": shapes}
    kinds["tied in the model but different in the file"] = ties
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
