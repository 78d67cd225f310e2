"""Memory that is free, and one error for memory that is not: where it ran out, what was asked, what to change.

Python, numpy, torch (CPU and accelerators), Rust extensions and the system each report a failed allocation in their own
way, and loaders wrap it in errors about files. ``memory_phase`` looks through all of them.
"""

import errno
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftkit.errors import FtkitError, OutOfMemory

__all__ = ["available_memory", "memory_phase"]

_TEXT = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|not enough memory|unable to allocate|bad_?alloc"
    r"|_ALLOC_FAILED",
    re.IGNORECASE,
)
"""What torch's allocators, CUDA's libraries, mmap and C++ say; they raise RuntimeError."""
_ASKED = re.compile(
    r"(?:tried to allocate|unable to allocate|unable to mmap|malloc of size)\s+([\d.]+)\s*(bytes|[KMGTPE]i?B)?",
    re.IGNORECASE,
)
_FREE = re.compile(r"of which ([\d.]+)\s*([KMGT]i?B) is free")  # torch, of an accelerator
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_REMEDIES = {
    "": ("a smaller model, batch or text",),
    "load": ("a smaller model", "a machine with more memory"),
    "train": ("a smaller per_device_train_batch_size, window_tokens or model",),
    "evaluate": ("a smaller window_tokens (a table: max_tokens)", "a smaller model"),
    "generate": ("a smaller passage_chars or num_passages", "a smaller model"),
    "judge": ("a smaller judge_batch_size or judge_tokens", "a smaller judge_model"),
}
"""What to change, by phase, where nobody who knows the settings has said it."""


@contextmanager
def memory_phase(name: str = "", remedies: Callable[[], Sequence[str]] | None = None) -> Iterator[None]:
    """Turn a failed allocation inside into ``OutOfMemory``; of nested phases the outermost that has a name is named.

    What the failed code held is let go at once, so that the error can be recorded with the memory that is left.

    Args:
        name: What is being done, a key of ``OutOfMemory.PHASES``; empty where the end of a program or run is guarded.
        remedies: What to change, with names and values of settings; ``None`` takes what helps in the phase in general.

    Raises:
        OutOfMemory: Memory ran out.
    """
    try:
        yield
    except Exception as error:
        if (cause := _failed_allocation(error)) is None:
            raise
        before = cause if isinstance(cause, OutOfMemory) else None
        if before and not name:
            raise before from None
        asked, free = (before.asked, before.free) if before else _amounts(cause)
        for failed in (error, cause):
            traceback.clear_frames(failed.__traceback__)
        said = remedies() if remedies else _REMEDIES.get(name, _REMEDIES[""])
        raise OutOfMemory(name, asked, free, said) from cause


def _failed_allocation(error: BaseException) -> BaseException | None:
    """The error in a chain that says that memory could not be had; ``None`` where none does."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, OutOfMemory | MemoryError) or getattr(found, "errno", None) == errno.ENOMEM:
            return found
        if not isinstance(found, FtkitError) and isinstance(found, RuntimeError) and _TEXT.search(str(found)):
            return found
        found = found.__cause__ or found.__context__
    return None


def _amounts(error: BaseException) -> tuple[int | None, int | None]:
    """Bytes that were asked, where the error says it, and bytes that are free."""
    said = _ASKED.search(str(error))
    asked = int(float(said[1]) * _unit(said[2])) if said else None
    if (left := _FREE.search(str(error))) is not None:
        return asked, int(float(left[1]) * _unit(left[2]))
    if type(error).__name__ == "OutOfMemoryError" or "CUDA" in str(error):
        return asked, None
    try:
        return asked, available_memory()
    except (OSError, MemoryError):
        return asked, None


def _unit(text: str | None) -> int:
    return _UNITS.get((text or "")[:1].lower(), 1)


def available_memory(device: Any = None) -> int:
    """Bytes that this process may still take on a device.

    On the CPU the least of what the system has, what a control group allows (containers), and the process's own limit
    on its address space.

    Args:
        device: A torch device; ``None`` is the CPU.
    """
    if device is not None and device.type == "cuda":
        import torch

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
