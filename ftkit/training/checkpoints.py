"""Checkpoints that exist whole or not at all, and prove what they hold.

A checkpoint is written into a temporary folder, hashed, sealed with ``manifest.json`` and renamed. Its tensors are
safetensors and its numbers JSON; there is no pickle. There is no state of random generators either, because every step
seeds them from (seed, step, process), and none of schedules or data, because both are pure functions of the step.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ftkit.errors import CheckpointError
from ftkit.runs.checking import checkpoint_record, folder_record, record_problem
from ftkit.runs.files import disk_full, disk_is_full, folder_written_whole, write_json

__all__ = ["CheckpointFolder"]

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

    def save(
        self,
        step: int,
        model: Mapping[str, torch.Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
        state: dict[str, Any],
    ) -> Path:
        """Write and seal a checkpoint, then remove those beyond ``keep``.

        Args:
            step: Updates done.
            model: Named tensors of the model; a shared tensor stands once.
            optimizers: Their states go beside it.
            state: Numbers that JSON can hold; a resume must find the same ``fingerprint`` in it.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: The disk is full or cannot be written. Earlier checkpoints are untouched.
        """
        target = self.path / f"step-{step:06d}"
        needed = sum(t.numel() * t.element_size() for t in model.values()) + sum(
            t.numel() * t.element_size()
            for o in optimizers
            for s in o.state.values()
            for t in s.values()
            if isinstance(t, torch.Tensor)
        )
        self.path.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.path).free < needed:
            raise self._full(target, needed)
        try:
            with folder_written_whole(target) as folder:
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in model.items()}, folder / "model.safetensors"
                )
                for number, optimizer in enumerate(optimizers):
                    _save_optimizer(optimizer, folder, number)
                write_json(folder / "state.json", {"step": step, **state})
                write_json(folder / "manifest.json", folder_record(folder))
        except Exception as error:
            if disk_is_full(error):
                raise self._full(target, needed, error) from None
            raise
        self._rotate(step)
        return target

    def _rotate(self, step: int) -> None:
        """Remove what ``keep`` leaves no room for, and what the run did not go on from: later steps, unsealed ones."""
        sealed: list[Path] = []
        for path in self._numbered():
            trusted = int(path.name[5:]) <= step and (path / "manifest.json").is_file()
            if trusted and len(sealed) < self.keep:
                sealed.append(path)
                continue
            # Under a hidden name it is no checkpoint any more, however far a kill lets the removal come.
            hidden = path.with_name(f".{path.name}.{os.getpid()}.old")
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

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
        stored = load_file(path / "model.safetensors")
        if stored.keys() != model.keys():
            raise CheckpointError(
                f"{path}: holds other tensors than the model: {sorted(stored.keys() ^ model.keys())[:5]}"
            )
        for name, tensor in model.items():
            if tensor.shape != stored[name].shape:
                raise CheckpointError(
                    f"{path}: {name} has shape {tuple(stored[name].shape)}, the model's has {tuple(tensor.shape)}"
                )
            tensor.data.copy_(stored[name])
        for number, optimizer in enumerate(optimizers):
            _load_optimizer(optimizer, path, number)
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return state


def broken_because(path: Path) -> str | None:
    """Why a checkpoint cannot be trusted; ``None`` where every file is what its manifest says."""
    record = checkpoint_record(path)
    return record if isinstance(record, str) else record_problem(path, record)


def _save_optimizer(optimizer: torch.optim.Optimizer, folder: Path, number: int) -> None:
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": value.cpu().contiguous()
        for index, item in state["state"].items()
        for key, value in item.items()
        if isinstance(value, torch.Tensor)
    }
    numbers = {
        str(index): {key: value for key, value in item.items() if not isinstance(value, torch.Tensor)}
        for index, item in state["state"].items()
    }
    save_file(tensors, folder / f"optimizer-{number}.safetensors")
    write_json(
        folder / f"optimizer-{number}.json",
        {"numbers": numbers, "sizes": [len(group["params"]) for group in state["param_groups"]]},
    )


def _load_optimizer(optimizer: torch.optim.Optimizer, folder: Path, number: int) -> None:
    stored = json.loads((folder / f"optimizer-{number}.json").read_text(encoding="utf-8"))
    state = optimizer.state_dict()
    sizes = [len(group["params"]) for group in state["param_groups"]]
    if stored["sizes"] != sizes:
        raise CheckpointError(
            f"{folder}: optimizer {number} has groups of {stored['sizes']} tensors, the run needs {sizes}"
        )
    entries: dict[int, dict[str, Any]] = {int(index): dict(numbers) for index, numbers in stored["numbers"].items()}
    for name, tensor in load_file(folder / f"optimizer-{number}.safetensors").items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
