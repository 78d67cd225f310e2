"""How much memory a step needs at its peak."""

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakMemory", "available_memory", "peak_memory"]


@dataclass
class PeakMemory:
    """What ``peak_memory`` found."""

    num_bytes: int = 0
    """Bytes in tensors at the worst moment: weights, gradients, moments and activations."""


@contextmanager
def peak_memory(alive: Iterable[torch.Tensor] = (), device: torch.device | None = None) -> Iterator[PeakMemory]:
    """Measure the peak of what runs inside.

    On an accelerator the allocator's own count is taken. On the CPU, where a process does not give freed memory back,
    every live tensor that torch's operators make is counted, and what kernels use inside is not.

    Args:
        alive: Tensors that live already; the count begins with them.
        device: Where it runs; ``None`` is the CPU.

    Yields:
        The result, complete when the block ends.
    """
    found = PeakMemory()
    if device is not None and device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)
        yield found
        found.num_bytes = int(torch.accelerator.max_memory_allocated(device))
        return
    with _LiveBytes() as live:
        for tensor in alive:
            live.see(tensor)
        yield found
    found.num_bytes = live.peak


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages of all tensors that operators return, for as long as each lives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def see(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return result


def available_memory(device: torch.device) -> int:
    """Bytes that this process may still take on a device.

    On the CPU the least of what the system has, what a control group allows (containers), and the process's own limit
    on its address space.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil  # type: ignore[import-untyped]  # accelerate depends on it

    found = [int(psutil.virtual_memory().available), *_control_group_room(Path("/sys/fs/cgroup"))]
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return min(found)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found.append(limit - int(psutil.Process(os.getpid()).memory_info().vms))
    return max(min(found), 0)


def _control_group_room(root: Path) -> Iterator[int]:
    """What the process's control group (version 2) may still take; nothing where there is no limit."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::")[2].strip().lstrip("/")
        for folder in (root / own, *(root / own).parents):
            if not folder.is_relative_to(root) or not (folder / "memory.max").exists():
                continue
            most = (folder / "memory.max").read_text(encoding="utf-8").strip()
            if most != "max":
                yield int(most) - int((folder / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
