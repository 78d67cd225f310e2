"""From defaults, a file, ``--fast`` and flags to one checked settings object, or to all problems at once."""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from ftkit.config.catalogue import find_config
from ftkit.config.other_names import TEXTS, own_name, read_config, unknown_setting
from ftkit.config.settings import Settings
from ftkit.config.yaml_files import parse_scalar
from ftkit.errors import ConfigError, nearest_name

__all__ = ["STUDY_KEYS", "Flags", "Resolved", "accepts", "flag_value", "read_flags", "resolve"]

STUDY_KEYS = ("arms", "sweep", "seeds")
"""Keys of a configuration that make several runs of it (see ``sweeps``)."""

S = TypeVar("S", bound=Settings)

_TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "name: value lines",
    list: "a list",
}


@dataclass
class Flags:
    """What the command line said."""

    config: str | None = None
    fast: bool = False
    help: bool = False
    every: bool = False
    """Whether the help page has all settings."""
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """Checked settings and where they came from."""

    settings: S
    config: Path | None
    fast: bool


def accepts(annotation: Any, kind: type) -> bool:
    """Whether an annotation, or a member of its union, is ``kind``."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(member, kind) for member in typing.get_args(annotation))
    if origin is typing.Literal:
        return any(isinstance(value, kind) for value in typing.get_args(annotation))
    return (origin or annotation) is kind


def _dict_values(annotation: Any) -> Any:
    """What the values of a setting that takes a dictionary must be."""
    kinds = (annotation, *typing.get_args(annotation))
    return next(typing.get_args(kind)[1] for kind in kinds if typing.get_origin(kind) is dict)


def flag_value(annotation: Any, text: str) -> Any:
    """The value of a flag: text stays text where a setting takes text, else it is read as YAML would read it."""
    if accepts(annotation, str):
        return None if text in ("null", "none") and accepts(annotation, type(None)) else text
    if accepts(annotation, list):
        return [parse_scalar(part.strip()) for part in text.strip("[] ").split(",") if part.strip()]
    return parse_scalar(text)


def read_flags(settings_class: type[Settings], argv: Sequence[str]) -> Flags:
    """Read ``--key value``, ``--key=value``, ``--switch``, ``--no-switch`` and ``--map name=value`` (repeatable).

    Args:
        settings_class: The recipe's settings; flags have the names of its fields.
        argv: Arguments after the recipe's name.

    Returns:
        The values, and a line for each argument that cannot be read.
    """
    flags = Flags()
    fields = settings_class.model_fields
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if argument in ("-h", "--help", "--help-all", "--help_all"):
            flags.help = True
            flags.every = flags.every or argument.endswith("all")
            continue
        if not argument.startswith("--"):
            text = next((name for name in TEXTS if name in fields), None)
            hint = f", e.g. --{text} {argument}" if text else ""
            flags.problems.append(f"{argument!r}: a setting is given as --name value{hint}")
            continue
        name, has_value, value = argument[2:].partition("=")
        name = own_name(name.replace("-", "_"), fields)
        switched_off = own_name(name[3:], fields) if name.startswith("no_") and name not in fields else ""
        if name == "fast":
            flags.fast = True
        elif switched_off in fields and accepts(fields[switched_off].annotation, bool):
            flags.values[switched_off] = False
        elif name != "config" and name not in fields:
            flags.problems.append(f"--{name}: {unknown_setting(name, [*fields, 'config', 'fast'])}")
            if not has_value and rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif name in fields and fields[name].annotation is bool and not has_value:
            flags.values[name] = parse_scalar(rest.pop(0)) if rest and rest[0].lower() in ("true", "false") else True
        elif not has_value and (not rest or rest[0].startswith("--")):
            flags.problems.append(f"--{name}: needs a value; one that begins with -- is given as --{name}=VALUE")
        else:
            value = value if has_value else rest.pop(0)
            if name == "config":
                flags.config = value
            elif accepts(fields[name].annotation, dict):
                inside = _dict_values(fields[name].annotation)
                # A selector may hold "=", and so may a source; a number never does.
                key, equals, inner = value.partition("=") if accepts(inside, str) else value.rpartition("=")
                if not equals or not key:
                    flags.problems.append(f"--{name}: takes name=value, found {value!r}; give it once for each name")
                else:
                    flags.values.setdefault(name, {})[key] = flag_value(inside, inner)
            elif name in flags.values and accepts(fields[name].annotation, list):
                before = flags.values[name]
                flags.values[name] = [*(before if isinstance(before, list) else [before]), value]
            else:
                flags.values[name] = flag_value(fields[name].annotation, value)
    return flags


def _message(error: dict[str, Any], settings_class: type[Settings]) -> str:
    """One pydantic error in words: what was asked, what is allowed."""
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    top = str(error["loc"][0])
    if kind == "extra_forbidden":
        return unknown_setting(top, settings_class.model_fields)
    if kind == "missing":
        return "is missing and has no default"
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        return f"is {found!r}; allowed: {', '.join(words)}{_near(str(found), words)}"
    limits = {
        "greater_than": ("gt", "above"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "below"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in limits:
        key, words_of_limit = limits[kind]
        return f"is {found!r}; it must be {words_of_limit} {context[key]:g}"
    if kind == "finite_number":
        return f"is {found!r}; it must be a finite number"
    annotation = settings_class.model_fields[top].annotation if top in settings_class.model_fields else None
    if len(error["loc"]) > 1 and accepts(annotation, dict):
        annotation = _dict_values(annotation)
    wanted = " or ".join(
        text
        for plain, text in _TYPE_NAMES.items()
        if accepts(annotation, plain) and not (plain is int and accepts(annotation, float))
    )
    kind_found = _TYPE_NAMES.get(type(found), type(found).__name__)
    return f"is {found!r} ({kind_found}); it must be {wanted or error['msg'].lower()}"


def _near(name: str, choices: Sequence[str]) -> str:
    tail = nearest_name(name, choices)
    return tail if "did you mean" in tail else ""


def _place(problem: str) -> tuple[str, int]:
    """Sorts flags first, then the file from top to bottom."""
    found = re.match(r"(.*?):(\d+): ", problem)
    return (found[1], int(found[2])) if found else ("", 0)


def resolve(
    settings_class: type[S], recipe: str, flags: Flags, over: Mapping[str, tuple[Any, str]] | None = None
) -> Resolved[S]:
    """Merge defaults, file, ``--fast`` and flags, and check the result.

    Args:
        settings_class: The recipe's settings.
        recipe: The recipe's name, which the file's ``recipe:`` must match.
        flags: What the command line said.
        over: For a point of a study: settings that stand above everything, each with its value and where it was asked.

    Returns:
        The settings, strictly checked.

    Raises:
        ConfigError: One line for each problem, with ``file:line`` or the flag's name.
    """
    problems = [*flags.problems]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    path: Path | None = None
    if flags.config is not None:
        path = find_config(flags.config)
        located = read_config(path, settings_class.model_fields)
        values.update(located.values)
        origin.update({key: f"{path}:{line}: {key}" for key, line in located.lines.items()})
        of = values.pop("recipe", recipe)
        if of != recipe and Path(str(of)).stem != recipe:
            problems.append(f"{origin['recipe']}: this configuration is for the recipe {of!r}, not for {recipe!r}")
    for key in STUDY_KEYS:
        if key in values and key not in settings_class.model_fields:
            del values[key]
            if over is None:
                problems.append(f"{origin[key]}: makes several runs, a study; start it with 'ftkit run {path}'")
    asked = flags.values | {key: value for key, (value, _) in (over or {}).items()}
    if flags.fast:
        tiny = "model" not in asked
        asked |= {key: settings_class.fast_value(key, value, tiny) for key, (value, _) in (over or {}).items()}
        fast = settings_class.fast_values(values, asked)
        values.update(fast)
        origin.update({key: f"--fast: {key}" for key in fast})
    values.update(asked)
    origin.update({key: f"--{key}" for key in flags.values})
    for key, (_, place) in (over or {}).items():
        origin = {known: where for known, where in origin.items() if not known.startswith(f"{key}.")} | {key: place}

    def where(location: tuple[Any, ...]) -> str:
        for end in range(len(location), 0, -1):
            if (full := ".".join(str(part) for part in location[:end])) in origin:
                return origin[full]
        return str(location[0])

    wrong: set[str] = set()
    try:
        settings_class(**values)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            wrong.add(str(item["loc"][0]))
            line = f"{where(item['loc'])}: {_message(dict(item), settings_class)}"
            if line not in problems:
                problems.append(line)
    settings = settings_class.model_construct(
        **{key: value for key, value in values.items() if key not in wrong and key in settings_class.model_fields}
    )
    if not any(
        field.is_required() and name not in settings.model_fields_set
        for name, field in settings_class.model_fields.items()
    ):
        problems.extend(f"{where((key,))}: {text}" for key, text in settings.problems() if key not in wrong)
    if problems:
        raise ConfigError("\n".join(sorted(problems, key=_place)))
    return Resolved(settings_class(**values), path, flags.fast)
