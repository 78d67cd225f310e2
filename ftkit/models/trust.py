"""Foreign folders are untrusted: what a model may bring along, and what of it is ignored or refused."""

import os
from pathlib import Path
from typing import Any

from ftkit.errors import ModelError

__all__ = ["checked_folder", "drop_foreign_settings", "is_local"]

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_LOADABLE_PICKLES = {"pytorch_model.bin", "pytorch_model.bin.index.json"}

# How to compute is the caller's choice, not the file's: a name such as "owner/kernel" in one of these would make
# transformers fetch compiled code, and ``transformers_weights`` names another file to read.
_FOREIGN_SETTINGS = ("_attn_implementation_autoset", "kernel_config", "transformers_weights", "use_kernels")


def is_local(spec: str) -> bool:
    """Whether a spec means a path: it says so, or it exists, or it has more parts than a Hub id can have.

    Args:
        spec: A model as the user names it.

    Raises:
        ModelError: An empty one.
    """
    if not spec:
        raise ModelError("The model is an empty string; give new:FAMILY, a folder, or a Hub id")
    looks = spec.startswith((".", "/", "~")) or spec.endswith(("/", os.sep)) or Path(spec).is_absolute()
    return looks or spec.count("/") > 1 or Path(spec).exists()


def checked_folder(spec: str, allow_pickle: bool = False) -> Path:
    """The folder of a model, after all that can be said without reading weights.

    Args:
        spec: Its path.
        allow_pickle: Whether ``pytorch_model.bin`` will do where there are no safetensors.

    Raises:
        ModelError: No folder, no configuration, or no weights that may be read.
    """
    folder = Path(spec).expanduser()
    if not folder.exists():
        raise ModelError(f"The model folder {spec} does not exist. Check the path (it counts from {Path.cwd()}).")
    if not folder.is_dir():
        raise ModelError(f"The model {spec} is a file. Give the folder that holds config.json and the weights.")
    names = sorted(entry.name for entry in folder.iterdir())
    found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise ModelError(
                f"The folder {spec} holds an adapter without its base model. Load the base model that"
                " adapter_config.json names and attach the adapter to it, or merge the two and save the result."
            )
        raise ModelError(f"The folder {spec} has no config.json, so it is no model folder; it holds: {found}.")
    if any(name.endswith(".safetensors") for name in names):
        return folder
    if allow_pickle and _LOADABLE_PICKLES & {*names}:
        return folder
    if any(name.endswith(_PICKLED) for name in names):
        raise ModelError(
            f"The folder {spec} has no safetensors weights, only pickled ones, which can run code when they are"
            f" opened carelessly; it holds: {found}. Where you trust them set allow_pickle (it reads pytorch_model.bin,"
            " tensors only), then save the model again, which writes model.safetensors."
        )
    raise ModelError(f"The folder {spec} has a config.json but no model.safetensors; it holds: {found}.")


def drop_foreign_settings(config: Any) -> None:
    """Take out of a loaded configuration what would choose kernels or other files; the caller's choice then holds.

    Args:
        config: A configuration of transformers, changed in place together with its parts.
    """
    config._attn_implementation = None  # the setter passes it on to sub-configurations
    config._experts_implementation = None
    for part in [config, *(getattr(config, name) for name in config.sub_configs)]:
        for name in _FOREIGN_SETTINGS:
            if name in getattr(part, "__dict__", {}):
                delattr(part, name)
