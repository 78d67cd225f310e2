"""The tensors in a model folder, one at a time, under the names that they have in the model.

Files name tensors as whoever wrote them did: a body that was saved alone lacks the prefix of a model with a head, a
tied matrix bears one of its two names, or was stored twice. Here each has one name, the one below the base model, so
that ``h.0.ln_1.weight`` is the same tensor in a model with and without a head.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ftkit.errors import ModelError, NetworkError
from ftkit.models.meta_models import Outline, outline
from ftkit.models.trust import WEIGHT_FILES, is_adapter_folder
from ftkit.models.weight_report import COMPUTED_BUFFERS
from ftkit.tuning.groups import ParameterGroups, Piece
from ftkit.tuning.movement import same_bits

__all__ = ["StoredTensors"]

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.safetensors.index.json")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


class StoredTensors:
    """A folder's tensors, without buffers that the model computes.

    Args:
        folder: A folder with safetensors weights, in one file or several, of a model or an adapter.

    Raises:
        ModelError: A folder without such weights, or a file that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._files = _files(folder)
        self.outline = _outline(folder)
        """What the configuration describes; ``None`` where it cannot be read."""
        self._pieces = _pieces(self.outline)
        self._prefix = _prefix(self.outline)
        self._order = {name: number for number, name in enumerate(self._pieces)}
        self._stack = ExitStack()
        self._source: dict[str, tuple[Any, str]] = {}
        self._digest = hashlib.sha256()
        self.bytes_by_dtype: dict[str, int] = {}
        """Of what was read so far."""

    def __enter__(self) -> "StoredTensors":
        with ExitStack() as stack:
            opened = []
            for path in self._files:
                try:
                    opened.append(stack.enter_context(safe_open(path, framework="pt")))
                except (SafetensorError, OSError) as error:
                    raise ModelError(f"{path} cannot be read: {error}") from error
            stored = [(file, name) for file in opened for name in file.keys()]  # noqa: SIM118 (a file is no mapping)
            # A tensor that bears its own name comes before another name of the same one.
            for file, name in sorted(stored, key=lambda item: (self._name(item[1]) != self._below(item[1]), item[1])):
                self._add(file, name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _add(self, file: Any, stored: str) -> None:
        if COMPUTED_BUFFERS.search(stored):
            return
        name = self._name(stored)
        if name in self._source:  # a tied tensor that was stored twice, or two tensors that should be one
            other, other_stored = self._source[name]
            if same_bits(file.get_tensor(stored), other.get_tensor(other_stored)):
                return
            name = self._below(stored)
        self._source[name] = (file, stored)

    def _name(self, stored: str) -> str:
        return self._below(self._pieces[stored][0].name if stored in self._pieces else stored)

    def _below(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return {*self._source}

    def read(self, name: str) -> Tensor:
        """Read one tensor; every tensor is to be read once, in the order of the names, for ``sha256``.

        Args:
            name: Its name in the model.
        """
        file, stored = self._source[name]
        tensor: Tensor = file.get_tensor(stored)
        dtype = str(tensor.dtype).removeprefix("torch.")
        self._digest.update(f"{name} {dtype} {list(tensor.shape)}\n".encode())
        self._digest.update(_bits(tensor).numpy().data)
        self.bytes_by_dtype[dtype] = self.bytes_by_dtype.get(dtype, 0) + tensor.nbytes
        return tensor

    def other_name(self, name: str) -> str | None:
        """The name under which a tied tensor is stored here.

        Args:
            name: Another of its names.
        """
        own = self._below(self._pieces[name][0].name) if name in self._pieces else None
        return own if own in self._source else None

    def again(self, name: str) -> Tensor:
        """A tensor once more, without an effect on ``sha256``.

        Args:
            name: Its name in the model.
        """
        file, stored = self._source[name]
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    @property
    def sha256(self) -> str:
        """Over names, dtypes, shapes and bytes of what was read, however it is divided between files."""
        return self._digest.hexdigest()

    def parts(self, name: str) -> Iterator[tuple[str, int | None, int, Tensor | None]]:
        """Take a tensor apart into groups.

        Args:
            name: Its name in the model.

        Yields:
            Group, block, dimension and indices of each part; indices are ``None`` where the part is the whole tensor,
            and the group is ``other`` where the tensor is unknown.
        """
        pieces = self._pieces.get(name, ())
        if not pieces:
            yield "other", None, 0, None
        for piece in pieces:
            yield piece.group, piece.layer, piece.dim, None if piece.mask.all() else torch.nonzero(piece.mask)[:, 0]

    def place(self, name: str) -> int:
        """Where a tensor stands in the model, for sorting."""
        return self._order.get(name, len(self._order))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError(f"The folder {folder} does not exist. Give the folder of a saved model")
    wanted = _ADAPTER_FILES if is_adapter_folder(folder) else (*WEIGHT_FILES, *_ADAPTER_FILES)
    name = next((name for name in wanted if (folder / name).is_file()), None)
    if name is None:
        names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        needed = " or ".join(name for name in wanted if not name.endswith(".index.json"))
        raise ModelError(f"The folder {folder} has no {needed}; it holds: {names}")
    if not name.endswith(".index.json"):
        return [folder / name]
    try:
        files = {*json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / name} cannot be read: {error!r}") from error
    return [folder / Path(file).name for file in sorted(files)]  # a name is no path out of the folder


def _outline(folder: Path) -> Outline | None:
    try:
        return outline(str(folder))
    except (ModelError, NetworkError):  # tensors can be compared without knowing what they are
        return None


def _prefix(described: Outline | None) -> str:
    return f"{getattr(described.model, 'base_model_prefix', '')}." if described else ""


def _pieces(described: Outline | None) -> dict[str, list[Piece]]:
    """Pieces of each tensor by every name that it may have in a file."""
    found: dict[str, list[Piece]] = {}
    if described is None:
        return found
    prefix = _prefix(described)
    for piece in ParameterGroups(described.model).pieces:
        known = {
            variant: None
            for name in (piece.name, *piece.also)
            # peft leaves the adapter's name out of its files
            for variant in (name, name.removeprefix(prefix), prefix + name, name.replace(".default.", "."))
        }
        for name in known:
            found.setdefault(name, []).append(piece)
    return found
