"""Checkpoints that exist whole or not at all, and prove what they hold.

A checkpoint is written into a temporary folder, hashed, sealed with ``manifest.json`` and renamed. Its tensors are
safetensors and its numbers JSON; there is no pickle. There is no state of random generators either, because every step
seeds them from (seed, step, process), and none of schedules or data, because both are pure functions of the step.
"""

import errno
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ftkit.errors import CheckpointError
from ftkit.runs.files import file_sha256, folder_written_whole, write_json

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
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise CheckpointError(self._full(target, needed, free))
        try:
            with folder_written_whole(target) as folder:
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in model.items()}, folder / "model.safetensors"
                )
                for number, optimizer in enumerate(optimizers):
                    _save_optimizer(optimizer, folder, number)
                write_json(folder / "state.json", {"step": step, **state})
                write_json(
                    folder / "manifest.json",
                    {p.name: [p.stat().st_size, file_sha256(p)] for p in sorted(folder.iterdir())},
                )
        except Exception as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
                raise CheckpointError(self._full(target, needed, shutil.disk_usage(self.path).free)) from None
            raise
        for old in self._numbered()[self.keep :]:
            (old / "manifest.json").unlink(missing_ok=True)
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _full(self, target: Path, needed: int, free: int) -> str:
        before = [p.name for p in self._numbered()]
        last = f"the newest checkpoint is {before[0]}" if before else "there is no earlier checkpoint"
        sizes = f"{needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"
        return f"{target}: the disk is full: {sizes}; {last}; free space and resume"

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
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for name, (size, sha256) in manifest.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size:
                return f"{name} has {file.stat().st_size:,} bytes instead of {size:,}"
            if file_sha256(file) != sha256:
                return f"{name} has changed since it was written"
        if not {"model.safetensors", "state.json"} <= manifest.keys():
            return "its manifest is incomplete"
    except FileNotFoundError:
        return "it has no manifest.json, so it was never sealed"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read: {error}"
    return None


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
