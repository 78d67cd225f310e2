"""Named tensors in safetensors files: one file for all, or one for each process with the rows that lie there.

What was written by some processes is read by any number of them: a shard says which rows it holds, and whoever reads
takes the rows that it needs.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from ftkit.errors import CheckpointError
from ftkit.tuning.shards import local_part, local_rows

__all__ = ["TensorFiles", "as_sharded", "write_tensors"]


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, stem: str, process: int = 0, of: int = 1) -> Path | None:
    """Write tensors, or the rows of them that lie on this process.

    Args:
        tensors: By name; those that are not divided are written by process 0.
        folder: Where.
        stem: Beginning of the file's name.
        process: Number of this process.
        of: How many write; 1 writes ``STEM.safetensors``.

    Returns:
        The file; ``None`` where this process has nothing to write.
    """
    here, rows = {}, {}
    for name, tensor in tensors.items():
        part, lies = local_part(tensor), local_rows(tensor)
        if (part.numel() and (process == 0 or isinstance(tensor, DTensor))) or (of == 1):
            here[name], rows[name] = part.cpu().contiguous(), lies.start
    if not here and process:
        return None
    path = folder / (f"{stem}.safetensors" if of == 1 else f"{stem}-{process:05d}-of-{of:05d}.safetensors")
    save_file(here, path, metadata={"first_rows": json.dumps(rows)})
    return path


class TensorFiles:
    """Tensors that ``write_tensors`` has written; a context manager.

    Args:
        folder: Where they are.
        stem: Beginning of their files' names.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._pieces: dict[str, list[tuple[int, tuple[int, ...], Any]]] = {}
        whole = folder / f"{stem}.safetensors"
        for path in [whole] if whole.exists() else sorted(folder.glob(f"{stem}-*-of-*.safetensors")):
            file = self._open.enter_context(safe_open(path, "pt"))
            first_rows = json.loads((file.metadata() or {}).get("first_rows", "{}"))
            for name in file.keys():  # noqa: SIM118  # it is no dictionary
                shape = tuple(file.get_slice(name).get_shape())
                self._pieces.setdefault(name, []).append((first_rows.get(name, 0), shape, file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and whole shapes."""
        return {
            name: (sum(shape[0] for _, shape, _ in pieces), *pieces[0][1][1:]) if pieces[0][1] else ()
            for name, pieces in self._pieces.items()
        }

    def rows(self, name: str, rows: range) -> Tensor:
        """Rows of a tensor, from whatever files they are in.

        Raises:
            CheckpointError: Some of them are in none.
        """
        pieces = sorted(self._pieces[name], key=lambda piece: piece[0])
        if not pieces[0][1]:
            found: Tensor = pieces[0][2].get_tensor(name)
            return found
        parts, reached = [], rows.start
        for first, shape, file in pieces:
            low, high = max(first, rows.start), min(first + shape[0], rows.stop)
            if low < high and low == reached:
                parts.append(file.get_slice(name)[low - first : high - first])
                reached = high
        if reached != rows.stop:
            raise CheckpointError(f"{self.folder}: {name}: rows {reached} to {rows.stop} are in no file")
        return torch.cat(parts) if parts else pieces[0][2].get_slice(name)[:0]

    def read_into(self, name: str, tensor: Tensor) -> None:
        """Overwrite a tensor, or what of it lies on this process."""
        local_part(tensor).copy_(self.rows(name, local_rows(tensor)))


def as_sharded(files: TensorFiles, name: str, like: Tensor) -> Tensor:
    """A tensor from files, divided as another is if it has its shape; whole otherwise.

    Args:
        files: Where it is.
        name: Its name.
        like: A parameter, of whose optimizer state it is a part.
    """
    shape = files.shapes[name]
    if not isinstance(like, DTensor) or shape != tuple(like.shape):
        return files.rows(name, range(shape[0] if shape else 1))
    part = files.rows(name, local_rows(like)).to(like.device)
    sharded: Tensor = DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride(), run_check=False
    )
    return sharded
