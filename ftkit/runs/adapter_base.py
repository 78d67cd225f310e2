"""Where an adapter's folder says that its base is: plain JSON, so that a tokenizer is found without peft or weights."""

import json
from pathlib import Path
from typing import Any

from ftkit.errors import ModelError

__all__ = ["base_of_adapter", "named_base", "place_of_base"]

_CONFIG, _RECORD = "adapter_config.json", "base.json"


def base_of_adapter(folder: Path) -> tuple[str, str | None]:
    """The base that an adapter names: a folder or a Hub id, and its revision.

    Args:
        folder: The adapter's folder.

    Raises:
        ModelError: Files that cannot be read, no name in them, or a relative path to a folder that is not there.
    """
    revision = _values(folder).get("revision")
    return place_of_base(folder, named_base(folder)), str(revision) if revision else None


def named_base(folder: Path) -> str:
    """The base that an adapter names, in its words.

    Args:
        folder: The adapter's folder.

    Raises:
        ModelError: Files that cannot be read, or no name in them.
    """
    values = _values(folder)
    named = values.get("base", values.get("base_model_name_or_path"))
    if not named or not isinstance(named, str):
        raise ModelError(
            f"The adapter {folder} names no base model; write base_model_name_or_path into its adapter_config.json, or"
            " name the base with --base or adapter_base"
        )
    return named


def _values(folder: Path) -> dict[str, Any]:
    """What both files say; ftkit's own counts first."""
    return _read(folder / _CONFIG) | (_read(folder / _RECORD) if (folder / _RECORD).is_file() else {})


def place_of_base(folder: Path, named: str) -> str:
    """A base beside the adapter as a folder; anything else as it is named.

    A relative path never counts from the working directory, where another folder may have that name.

    Args:
        folder: The adapter's folder.
        named: What it says.

    Raises:
        ModelError: A relative path to a folder that is not there.
    """
    place = folder / named
    if place.exists():
        return str(place.resolve())
    if named.startswith("."):
        raise ModelError(
            f"The adapter {folder} names its base {named!r}, which is not there (it counts from the adapter). Keep the"
            " two folders together, write the base's place or Hub id into base.json, or name it with --base or"
            " adapter_base."
        )
    return named


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return dict(values)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The adapter {path.parent} cannot be read: {path.name}: {error!r}") from error
