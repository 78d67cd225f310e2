"""The processes and devices that a run has; everything distributed goes through accelerate."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ftkit.config import TrainingSettings
from ftkit.errors import DeviceError

__all__ = ["make_accelerator"]


def make_accelerator(settings: TrainingSettings) -> Accelerator:
    """The accelerator that a run's settings ask for.

    Args:
        settings: ``bf16``, ``fp16`` and ``use_cpu`` are read.

    Raises:
        DeviceError: The device cannot do what was asked.
    """
    precision = "bf16" if settings.bf16 else "fp16" if settings.fp16 else "no"
    if settings.fp16 and (settings.use_cpu or not torch.accelerator.is_available()):
        raise DeviceError("fp16: needs an accelerator and there is none in use; train in float32, or with bf16")
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        # accelerate (1.15) keeps one precision for the life of a process; an earlier engine may have had another.
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=settings.use_cpu)
