"""Checkpoints that exist whole or not at all, and prove what they hold.

A checkpoint is written into a temporary folder, hashed, sealed with ``manifest.json`` and renamed. Its tensors are
safetensors and its numbers JSON; there is no pickle. There is no state of random generators either, because every step
seeds them from (seed, step, process), and none of schedules or data, because both are pure functions of the step. Where
FSDP has divided tensors between processes, each writes the rows that lie on it, and any number of processes reads them.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from ftkit.errors import CheckpointError
from ftkit.runs.files import atomic_folder, disk_full, disk_is_full, write_json
from ftkit.runs.integrity import checkpoint_record, file_record, record_problem
from ftkit.runs.processes import broadcast_from_main, gathered, sync_errors
from ftkit.tuning.shards import local_part, local_rows

__all__ = ["CheckpointFolder", "TensorFiles", "as_sharded", "write_tensors"]

_logger = logging.getLogger("ftkit.training")


class CheckpointFolder:
    """The checkpoints of one phase.

    Args:
        path: The folder, ``RUN/checkpoints/PHASE``.
        keep: How many are kept.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path, self.keep = path, keep

    def _numbered(self) -> list[Path]:
        """Checkpoint folders, newest first."""
        found = [p for p in self.path.glob("step-*") if p.is_dir() and p.name[5:].isdigit()]
        return sorted(found, key=lambda p: int(p.name[5:]), reverse=True)

    def folder_of(self, step: int) -> Path:
        """The folder of the checkpoint of a step, whether it exists or not."""
        return self.path / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Steps of the sealed checkpoints, newest first."""
        return [int(path.name[5:]) for path in self._numbered() if (path / "manifest.json").is_file()]

    def save(
        self,
        step: int,
        model: Mapping[str, torch.Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
        state: dict[str, Any],
        process: int = 0,
        of: int = 1,
    ) -> Path:
        """Write and seal a checkpoint, then remove those beyond ``keep``.

        Where tensors are divided between processes, every process comes here and writes what lies on it; process 0
        seals when all are done, and if one fails, nothing remains.

        Args:
            step: Updates done.
            model: Named tensors of the model; a shared tensor stands once.
            optimizers: Their states go beside it.
            state: Numbers that JSON can hold; a resume must find the same ``fingerprint`` in it.
            process: Number of this process.
            of: How many write; 1 where tensors are not divided.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: The disk is full or cannot be written. Earlier checkpoints are untouched.
        """
        target = self.folder_of(step)
        together = sync_errors if of > 1 else nullcontext
        with ExitStack() as stack:
            folder = Path()
            with together(), self._naming_a_full_disk(target, model, optimizers):
                if process == 0:
                    self._check_space(target, model, optimizers)
                    folder = stack.enter_context(atomic_folder(target))
            folder = broadcast_from_main(folder) if of > 1 else folder
            with together(), self._naming_a_full_disk(target, model, optimizers):
                sealed = _write(folder, model, optimizers, process, of)
            if of > 1:
                sealed = dict(gathered(list(sealed.items())))
            with together(), self._naming_a_full_disk(target, model, optimizers):
                if process == 0:
                    write_json(folder / "state.json", {"step": step, **state})
                    sealed |= {path.name: _proof(path) for path in folder.glob("*.json")}
                    write_json(folder / "manifest.json", dict(sorted(sealed.items())))
                    stack.close()
                    self._rotate(step)
        return target

    def _check_space(
        self, target: Path, model: Mapping[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        needed = _num_bytes(model, optimizers)
        if shutil.disk_usage(self.path).free < needed:
            raise self._full(target, needed)

    @contextmanager
    def _naming_a_full_disk(
        self, target: Path, model: Mapping[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if disk_is_full(error):
                raise self._full(target, _num_bytes(model, optimizers), error) from None
            raise

    def _rotate(self, step: int) -> None:
        """Remove what is not needed, and what the run did not go on from: later steps, unsealed ones."""
        needed = self._needed([sealed for sealed in self.steps() if sealed <= step])
        for path in self._numbered():
            if int(path.name[5:]) not in needed:
                _remove(path)

    def _needed(self, steps: list[int]) -> set[int]:
        """Which of the sealed checkpoints stay, from their steps, newest first."""
        return set(steps[: self.keep])

    def check_room(self, needed: int) -> None:
        """Refuse a disk on which not even one checkpoint fits, before anything is trained.

        Args:
            needed: Bytes of a checkpoint.

        Raises:
            CheckpointError: There is less.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.path).free < needed:
            raise self._full(self.path, needed)

    def _full(self, target: Path, needed: int, error: Exception | None = None) -> CheckpointError:
        before = [p.name for p in self._numbered()]
        last = f"the newest checkpoint is {before[0]}; " if before else "there is no earlier checkpoint; "
        return disk_full(target, error, needed, last)

    def newest_valid(self) -> Path | None:
        """The newest checkpoint whose files are all there and unchanged; broken ones are named in a warning."""
        for path in self._numbered():
            problem = broken_because(path)
            if problem is None:
                return path
            _logger.warning("%s: not used: %s", path, problem)
        return None

    def load(
        self, path: Path, model: Mapping[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Any]:
        """Copy a checkpoint into a model and its optimizers.

        Args:
            path: A valid checkpoint.
            model: The model's named tensors, which are overwritten.
            optimizers: Optimizers over the same parameters, in the same order.

        Returns:
            The state that was saved beside them.

        Raises:
            CheckpointError: Names or shapes differ from the model's.
        """
        if not (path / "manifest.json").exists():
            raise CheckpointError(
                f"{path}: is not here; a run folder must lie where all machines of the job can read it"
            )
        with TensorFiles(path, "model") as stored:
            shapes = stored.shapes
            if shapes.keys() != model.keys():
                raise CheckpointError(
                    f"{path}: holds other tensors than the model: {sorted(shapes.keys() ^ model.keys())[:5]}"
                )
            for name, tensor in model.items():
                if tensor.shape != shapes[name]:
                    raise CheckpointError(
                        f"{path}: {name} has shape {shapes[name]}, the model's has {tuple(tensor.shape)}"
                    )
                stored.read_into(name, tensor)
        for number, optimizer in enumerate(optimizers):
            _load_optimizer(optimizer, path, number)
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return state


def _remove(path: Path) -> None:
    """Remove a checkpoint: under a hidden name it is none any more, however far a kill lets the removal come."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def broken_because(path: Path) -> str | None:
    """Why a checkpoint cannot be trusted; ``None`` where every file is what its manifest says."""
    record = checkpoint_record(path)
    return record if isinstance(record, str) else record_problem(path, record)


def _num_bytes(model: Mapping[str, torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> int:
    states = [value for optimizer in optimizers for state in optimizer.state.values() for value in state.values()]
    tensors = [*model.values(), *(value for value in states if isinstance(value, torch.Tensor))]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _proof(path: Path) -> list[Any]:
    """Size and hash of a file, which is on the disk when they are known."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return file_record(path)


def _write(
    folder: Path,
    model: Mapping[str, torch.Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    process: int,
    of: int,
) -> dict[str, list[Any]]:
    """Write what lies on this process; names of its files with size and hash."""
    made = [write_tensors(model, folder, "model", process, of)]
    for number, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()
        tensors = {
            f"{index}.{key}": value
            for index, item in state["state"].items()
            for key, value in item.items()
            if isinstance(value, torch.Tensor)
        }
        made.append(write_tensors(tensors, folder, f"optimizer-{number}", process, of))
        if process == 0:
            numbers = {
                str(index): {key: value for key, value in item.items() if not isinstance(value, torch.Tensor)}
                for index, item in state["state"].items()
            }
            sizes = [len(group["params"]) for group in state["param_groups"]]
            write_json(folder / f"optimizer-{number}.json", {"numbers": numbers, "sizes": sizes})
    return {path.name: _proof(path) for path in made if path}


def _load_optimizer(optimizer: torch.optim.Optimizer, folder: Path, number: int) -> None:
    stored = json.loads((folder / f"optimizer-{number}.json").read_text(encoding="utf-8"))
    state = optimizer.state_dict()
    sizes = [len(group["params"]) for group in state["param_groups"]]
    if stored["sizes"] != sizes:
        raise CheckpointError(
            f"{folder}: saved optimizer {number} has {stored['sizes']} tensors per parameter group, but this run has "
            f"{sizes}; continue with the same trainable parameters, or start a new run"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Any]] = {int(index): dict(numbers) for index, numbers in stored["numbers"].items()}
    with TensorFiles(folder, f"optimizer-{number}") as files:
        for name in files.shapes:
            index, _, key = name.partition(".")
            entries.setdefault(int(index), {})[key] = as_sharded(files, name, parameters[int(index)])
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})


# Named tensors in safetensors files: one file for all, or one for each process with the rows that lie there.
#
# What was written by some processes is read by any number of them: a shard says which rows it holds, and whoever reads
# takes the rows that it needs.


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
