"""How much memory a step needs at its peak."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ftkit.config import TrainingSettings

__all__ = ["PeakMemory", "memory_remedies", "peak_memory"]


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


def memory_remedies(settings: TrainingSettings) -> list[str]:
    """What makes a training step smaller and is not set yet, the mildest change first.

    Args:
        settings: The training's.
    """
    rows, parts = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    found = []
    if rows > 1:
        fewer = next(number for number in range(rows // 2, 0, -1) if rows % number == 0)
        found.append(
            f"per_device_train_batch_size: {fewer} with gradient_accumulation_steps: {parts * rows // fewer} "
            "(the same rows in smaller parts)"
        )
    if not settings.activation_checkpointing:
        found.append("activation_checkpointing: true")
    found.append(f"a window_tokens below {settings.window_tokens}")
    if getattr(settings, "peft", "") == "none":
        found.append("peft: lora")
    if not (settings.bf16 or settings.fp16):
        found.append("bf16: true")
    return found
