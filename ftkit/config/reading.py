"""YAML that remembers its lines and refuses what people do not mean.

Differences from plain PyYAML: ``1e-5`` is a number, a key that stands twice is an error, aliases and tags are not
followed, and every value knows its line.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ftkit.errors import ConfigError

__all__ = ["Located", "parse_scalar", "read_yaml"]

_LARGEST_FILE = 256 * 1024  # bytes; a configuration is a page, not a data set
_DEEPEST = 20  # levels; settings are one or two levels deep, and PyYAML takes minutes for thousands of brackets

# YAML 1.2 floats: PyYAML follows 1.1, where 1e-5 (no dot, no sign) is a string.
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
# YAML 1.1 reads yes, no, on, off as booleans; YAML 1.2 does not, and a corpus may be called "no".
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 scalars."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", _BOOL, "tTfF"),
    ("tag:yaml.org,2002:int", _INT, "-+0123456789"),
    ("tag:yaml.org,2002:float", _FLOAT, "-+0123456789."),
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))


@dataclass(frozen=True)
class Located:
    """The values of a file and where each stands."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    """Line of ``key`` and of ``key.inner``, counted from 1."""


def parse_scalar(text: str) -> Any:
    """Read one flag value as YAML would: a number, a boolean, null or the text itself."""
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    node = yaml.ScalarNode(tag, text)
    try:
        return loader.construct_object(node)
    except (ValueError, yaml.YAMLError):
        return text


def read_yaml(path: Path) -> Located:
    """Read a configuration file.

    Args:
        path: The file.

    Returns:
        Its values, with the line of each key.

    Raises:
        ConfigError: Not a file, not UTF-8, too large, not YAML, a key twice, an alias, a tag, or no mapping at the top.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a configuration: {error.strerror or error}") from None
    if len(raw) > _LARGEST_FILE:
        raise ConfigError(f"{path}: has {len(raw):,} bytes; a configuration has at most {_LARGEST_FILE:,}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}; save it as UTF-8"
        ) from None
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem or error.context or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if root is None:
        return Located(path, {}, {})
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{path}:{root.start_mark.line + 1}: holds a {_kind(root)}; a configuration is 'key: value' lines"
        )
    problems: list[str] = []
    lines: dict[str, int] = {}
    values = _mapping(root, "", path, lines, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Located(path, values, lines)


def _kind(node: yaml.Node) -> str:
    return {yaml.ScalarNode: "single value", yaml.SequenceNode: "list"}.get(type(node), "mapping")


def _compose(text: str) -> yaml.Node | None:
    """The node tree of a text; refuses what can expand or take long as it is met: anchors, aliases, tags, depth."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = "it is nested too deeply for a configuration" if depth > _DEEPEST else ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not used in configurations"
        elif tag := getattr(event, "tag", None):
            problem = f"the tag {tag!r} is not used in configurations"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def _mapping(
    node: yaml.MappingNode, prefix: str, path: Path, lines: dict[str, int], problems: list[str]
) -> dict[str, Any]:
    """Build a mapping, noting the line of each key and every key that stands twice."""
    loader = _Loader("")
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{path}:{line}: a key must be a plain name, found a {_kind(key_node)}")
            continue
        key = str(key_node.value)
        full = f"{prefix}{key}"
        if full in lines:
            problems.append(f"{path}:{line}: {full!r} stands twice, first on line {lines[full]}; keep one")
            continue
        lines[full] = line
        if isinstance(value_node, yaml.MappingNode):
            result[key] = _mapping(value_node, f"{full}.", path, lines, problems)
        else:
            try:
                result[key] = loader.construct_object(value_node, deep=True)
            except (ValueError, yaml.YAMLError) as error:
                problems.append(f"{path}:{line}: the value of {full!r} cannot be read: {error}")
    return result
