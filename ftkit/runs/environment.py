"""What a launcher or a shell has set for accelerate: it does what the settings say, or the run is refused by name.

accelerate reads its variables where it is used, far from any message: ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4 alone
divides every gradient by 4. So they are looked at before anything is loaded.
"""

import os
from collections.abc import Iterator, Mapping

from ftkit.config import Settings
from ftkit.errors import ConfigError, DeviceError

__all__ = ["HARMLESS", "REFUSED", "check_environment", "check_unsupported"]

_OFF = ("", "0", "no", "false", "off", "n", "f")
"""Values that accelerate (1.15) takes for a variable that is off; in any case of letters."""

REFUSED: dict[str, str] = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed updates the weights inside the backward pass, where clipping, freezing, "
    "accumulation and checkpoints of ftkit have no hold on it; use FSDP (recipes/accelerate/fsdp.yaml)",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM replaces model and loss; use FSDP (recipes/accelerate/fsdp.yaml)",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context and hybrid parallelism divide a batch otherwise than the "
    "settings say; use FSDP (recipes/accelerate/fsdp.yaml)",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker has its own way to join processes; start with torchrun or accelerate launch",
    "ACCELERATE_DYNAMO_BACKEND": "compiled operations give other numbers than the settings describe; set "
    "dynamo_backend: 'no' in the launcher's configuration",
    "ACCELERATE_DOWNCAST_BF16": "it turns float32 into bfloat16; use the setting bf16",
    "ACCELERATE_TORCH_DEVICE": "it chooses another device than the settings; use the setting use_cpu, or "
    "CUDA_VISIBLE_DEVICES",
    "FSDP_IGNORED_MODULES": "the gradients of these modules would not be added over processes; leave "
    "fsdp_ignored_modules out of the launcher's configuration",
}
"""Variables that would change what is computed, each with the reason and what to do instead."""

HARMLESS = (
    "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE", "ACCELERATE_DEBUG_RDV_FILE", "ACCELERATE_ENABLE_RICH",
    "ACCELERATE_LOG_LEVEL", "ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_IN_TPU_POD",
    "ACCELERATE_NUM_PROCESSES", "ACCELERATE_BYPASS_DEVICE_MAP", "ACCELERATE_INIT_INCLUDE_BUFFERS",
    "ACCELERATE_ALLOW_CP_STANDALONE",
)  # fmt: skip
"""Variables that change no number (of FSDP: not beyond the order of additions), or that ftkit reads itself."""


def check_unsupported(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables under which accelerate would compute something else than any setting says.

    Raises:
        DeviceError: With the name of each, its value, and what to do.
    """
    found = [
        f"{name} is {environment[name]!r}: {reason}"
        for name, reason in REFUSED.items()
        if environment.get(name, "").strip().lower() not in _OFF
    ]
    if found:
        raise DeviceError("; ".join(found) + "; or unset it")


def check_environment(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables of accelerate that say something else than the settings of a run.

    Args:
        settings: ``gradient_accumulation_steps``, ``bf16`` and ``fp16`` are read, where there are such.
        environment: The variables.

    Raises:
        DeviceError: A variable that no setting has an equal for.
        ConfigError: A variable and a setting that differ, with both values.
    """
    check_unsupported(environment)
    if found := list(_differing(settings, environment)):
        raise ConfigError("; ".join(found))


def _differing(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    steps = getattr(settings, "gradient_accumulation_steps", 1)
    name = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
    asked = environment.get(name, "").strip()
    if asked not in ("", "1", str(steps)):
        yield (
            f"{name} is {asked!r}, but gradient_accumulation_steps is {steps}; unset the variable, or set "
            "gradient_accumulation_steps"
        )
    precision = "bf16" if getattr(settings, "bf16", False) else "fp16" if getattr(settings, "fp16", False) else "no"
    name = "ACCELERATE_MIXED_PRECISION"
    asked = environment.get(name, "").strip().lower()
    if asked not in (*_OFF, precision):
        known = f"set {asked}: true" if asked in ("bf16", "fp16") else "use bf16 or fp16"
        launcher = "or mixed_precision: 'no' for the launcher"
        yield f"{name} is {asked!r}, but the settings say {precision!r}; {known}, {launcher}"
