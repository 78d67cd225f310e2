"""The help page of a recipe, drawn from its settings class."""

import ast
import types
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ftkit.config.catalogue import described_sources
from ftkit.config.settings import Settings

__all__ = ["describe_type", "show_help"]


def describe_type(field: FieldInfo) -> str:
    """The type of a setting and its range, in a few characters: ``int >= 1``, ``linear|cosine``, ``name=text``."""
    limits = " ".join(
        f"{sign} {getattr(item, key):g}"
        for item in field.metadata
        for key, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(item, key, None) is not None
    )
    return f"{_name(field.annotation)} {limits}".strip()


def _name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return "|".join(_name(member) for member in typing.get_args(annotation) if member is not type(None))
    if origin is typing.Literal:
        return "|".join(str(value) for value in typing.get_args(annotation))
    if origin is dict:
        return f"name={_name(typing.get_args(annotation)[1])}"
    if origin is list:
        return f"list of {_name(typing.get_args(annotation)[0])}"
    return {str: "text", bool: "switch"}.get(annotation, getattr(annotation, "__name__", str(annotation)))


def show_help(program: Path, settings_class: type[Settings]) -> None:
    """Print what a recipe does and every setting with its type, default and meaning."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or program.stem))
    rows = [
        ("config", "name|file", "", "A configuration: a name that 'ftkit list' shows, or a YAML file."),
        ("fast", "switch", "", "A tiny version of everything, offline, in under a minute."),
        ("sweep", "name=value,value", "", "Run a study: every combination of the values (see docs/studies.md)."),
        ("seeds", "list of int", "", "Run a study: each point once for each seed."),
    ]
    for name, field in settings_class.model_fields.items():
        if field.is_required():
            default = "required"
        else:
            value = field.get_default(call_default_factory=True)
            default = f"default {value}" if value not in (None, "", {}, []) else ""
        meaning = (field.description or "").replace("{sources}", described_sources())
        rows.append((name, describe_type(field), default, " ".join(meaning.split())))
    console.print("\nSettings, the same in YAML (name: value) and as flags:\n")
    for name, kind, default, meaning in rows:
        console.print(Text.assemble((f"--{name}", "bold"), "  ", (kind, "cyan"), "  ", (default, "dim")))
        console.print(Padding(Text(meaning), (0, 0, 0, 6)))
