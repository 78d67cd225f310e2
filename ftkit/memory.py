"""Memory that is free, and one error for memory that is not: where it ran out, what was asked, what to change.

Python, numpy, torch (CPU and accelerators), Rust extensions and the system each report a failed allocation in their own
way, and loaders wrap it in errors about files. ``memory_phase`` looks through all of them.
"""

import ctypes
import errno
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from ftkit.errors import FtkitError, OutOfMemory

__all__ = [
    "MemoryMeter",
    "available_memory",
    "current_phase",
    "memory_phase",
    "resident_memory",
    "return_freed_memory",
]

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


class MemoryMeter:
    """The process's resident memory at the worst moment of each phase, above what it was when the meter was made.

    Linux keeps the highest value (VmHWM) and lets it be set back; elsewhere nothing is measured and all is 0.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        """Growth in bytes by phase; what is between the phases is that of the phase ``""``."""
        self._start = resident_memory()
        _set_back()

    def note(self) -> int:
        """The peak since the last note, which is taken down for the phase that is at work."""
        peak = max(resident_memory("VmHWM") - self._start, 0)
        phase = _PHASE.get()
        self.peaks[phase] = max(self.peaks.get(phase, 0), peak)
        _set_back()
        return peak

    def peak_of(self, action: Callable[[], object]) -> int:
        """Growth at the worst moment of an action, whatever the phases inside it."""
        return_freed_memory()
        self.note()
        token = _METER.set(None)
        try:
            action()
        finally:
            _METER.reset(token)
        return self.note()

    def growth(self) -> int:
        """Bytes by which the process has grown until now."""
        return max(resident_memory() - self._start, 0)

    @contextmanager
    def inside(self) -> Iterator[Self]:
        """Let the phases that run inside be measured."""
        token = _METER.set(self)
        try:
            yield self
        finally:
            _METER.reset(token)
            self.note()


_METER: ContextVar[MemoryMeter | None] = ContextVar("ftkit_memory_meter", default=None)
_PHASE: ContextVar[str] = ContextVar("ftkit_memory_phase", default="")


def current_phase() -> str:
    """The outermost phase that is at work; empty between phases."""
    return _PHASE.get()


def return_freed_memory() -> None:
    """Let glibc give what was freed back to the system; it keeps up to hundreds of MB in pieces otherwise."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def resident_memory(field: str = "VmRSS") -> int:
    """Resident bytes of this process, or another field of /proc/self/status; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _set_back() -> None:
    """Let the highest value of the resident memory begin at what it is now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def memory_phase(name: str = "", remedies: Callable[[], Sequence[str]] | None = None) -> Iterator[None]:
    """Turn a failed allocation inside into ``OutOfMemory``; of nested phases the outermost that has a name is named.

    What the failed code held is let go at once, so that the error can be recorded with the memory that is left. At the
    end of a phase other than training, which comes every step, freed memory goes back to the system.

    Args:
        name: What is being done, a key of ``OutOfMemory.PHASES``; empty where the end of a program or run is guarded.
        remedies: What to change, with names and values of settings; ``None`` takes what helps in the phase in general.

    Raises:
        OutOfMemory: Memory ran out.
    """
    try:
        with _named(name) if name and not _PHASE.get() else nullcontext():
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
    finally:
        if name and name != "train":
            return_freed_memory()


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name what runs inside, for whoever measures it."""
    if meter := _METER.get():
        meter.note()
    token = _PHASE.set(name)
    try:
        yield
    finally:
        if meter:
            meter.note()
        _PHASE.reset(token)


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
