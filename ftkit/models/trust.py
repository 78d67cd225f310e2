"""Foreign folders are untrusted: what a model may bring along, and what of it is ignored or refused."""

import os
import re
from pathlib import Path
from typing import Any

from ftkit.errors import ModelError
from ftkit.models.loader_errors import ONLY_PICKLES

__all__ = [
    "WEIGHT_FILES",
    "check_full_precision",
    "checked_folder",
    "drop_foreign_settings",
    "is_adapter_folder",
    "is_local",
]

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
"""Names of a whole model's weights, in the order in which transformers' from_pretrained looks for them: where the first
is there, shards and index that an earlier save has left are never read."""
_WHOLE = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")
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


def is_adapter_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an adapter; a ``config.json`` without weights beside it changes nothing.

    Args:
        folder: Any path.

    Raises:
        ModelError: Whole weights and an adapter in one folder: nothing says whether these weights are the adapter's
            base or the two were merged already, and an adapter on top of merged weights is applied twice.
    """
    path = Path(folder).expanduser()
    if not (path / "adapter_config.json").is_file():
        return False
    names = sorted(entry.name for entry in path.iterdir())
    whole = [name for name in names if _WHOLE.fullmatch(name)]
    if not whole or "config.json" not in names:
        return True
    adapter = [name for name in names if name.startswith("adapter_")]
    raise ModelError(
        f"The folder {folder} holds whole weights ({', '.join(whole[:2])}) and an adapter ({', '.join(adapter)}), so it"
        " is unclear which model it is. If the adapter was merged into the weights, remove the adapter's files; if not,"
        " move them to a folder of their own."
    )


def check_full_precision(config: Any, where: str) -> None:
    """Refuse a model whose weights are stored in 4 or 8 bits.

    Args:
        config: Its configuration.
        where: What it is, in words.

    Raises:
        ModelError: With what to use instead.
    """
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return
    values = stored if isinstance(stored, dict) else stored.to_dict()
    bits = "4 bits, " if values.get("load_in_4bit") else "8 bits, " if values.get("load_in_8bit") else ""
    bits = bits or (f"{values['bits']} bits, " if values.get("bits") else "")
    method = str(getattr(values.get("quant_method"), "value", values.get("quant_method", "unknown")))[:40]
    raise ModelError(
        f"{where} is quantized ({bits}{method}), and ftkit computes with full-precision weights only. Use the model"
        " that it was made from; as the base of an adapter name that one with --base or adapter_base."
    )


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
    if is_adapter_folder(folder):
        raise ModelError(
            f"The folder {spec} holds an adapter, but a whole model is needed here. Merge the adapter into its base"
            " (ftkit.tuning.merge_adapter) and give the folder of the result."
        )
    names = sorted(entry.name for entry in folder.iterdir())
    found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    if "config.json" not in names:
        raise ModelError(f"The folder {spec} has no config.json, so it is no model folder; it holds: {found}.")
    if any(name.endswith(".safetensors") for name in names):
        return folder
    if allow_pickle and _LOADABLE_PICKLES & {*names}:
        return folder
    if any(name.endswith(_PICKLED) for name in names):
        raise ModelError(
            f"The folder {spec} {ONLY_PICKLES}. The folder holds: {found}. A model that ftkit saves is safetensors."
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
