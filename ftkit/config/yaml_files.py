"""Read YAML 1.2 files and the lines of their keys; refuse what nobody means in a configuration.

``ruamel.yaml`` follows YAML 1.2: ``1e-5`` is a number, ``no`` and ``on`` are text. Errors are duplicate keys, anchors,
aliases, tags and deep nesting.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ftkit.errors import ConfigError

__all__ = ["Located", "parse_scalar", "read_yaml"]

_LARGEST_FILE = 256 * 1024  # bytes; a configuration is a page, not a data set
_DEEPEST = 20  # levels; settings are one or two levels deep, and thousands of brackets take minutes


class _Composer(Composer):
    """Refuses an anchor, an alias or a tag as soon as it is met."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        problem = ""
        if isinstance(event, AliasEvent) or event.anchor:
            problem = "anchors and aliases are not used in configurations"
        elif event.tag:
            problem = f"the tag {event.tag!r} is not used in configurations"
        if problem:
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Constructor(SafeConstructor):
    """Reads dates as text: settings have no dates, and a folder may have the name of a day."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_scalar)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = _DEEPEST
    yaml.Composer = _Composer
    yaml.Constructor = _Constructor
    return yaml


@dataclass(frozen=True)
class Located:
    """The values of a file and the line of each key."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    """Line of ``key`` and of ``key.inner``, counted from 1."""


def parse_scalar(text: str) -> Any:
    """Read one flag value as YAML would: a number, a boolean, null or the text itself."""
    yaml = _yaml()
    try:
        return yaml.constructor.construct_object(
            ScalarNode(yaml.resolver.resolve(ScalarNode, text, (True, False)), text)
        )
    except (ValueError, YAMLError):
        return text


def read_yaml(path: Path) -> Located:
    """Read a configuration file.

    Args:
        path: The file.

    Returns:
        Its values, with the line of each key.

    Raises:
        ConfigError: Not a file, not UTF-8, too large, not YAML, a duplicate key, an alias or a tag, no mapping.
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
    yaml = _yaml()
    try:
        root = yaml.compose(text)
    except MaxDepthExceededError as error:
        raise ConfigError(f"{path}:{error.problem_mark.line + 1}: has more than {_DEEPEST} levels") from None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not valid YAML: {error.problem or error.context or error}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if root is None:
        return Located(path, {}, {})
    if not isinstance(root, MappingNode):
        raise ConfigError(
            f"{path}:{root.start_mark.line + 1}: contains a {_kind(root)}; a configuration has 'key: value' lines"
        )
    problems: list[str] = []
    lines: dict[str, int] = {}
    values = _mapping(root, yaml.constructor, "", path, lines, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Located(path, values, lines)


def _kind(node: Node) -> str:
    return {ScalarNode: "single value", SequenceNode: "list"}.get(type(node), "mapping")


def _mapping(
    node: MappingNode,
    constructor: SafeConstructor,
    prefix: str,
    path: Path,
    lines: dict[str, int],
    problems: list[str],
) -> dict[str, Any]:
    """Build a mapping; add the line of each key to ``lines``, and a message for each duplicate key to ``problems``."""
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            problems.append(f"{path}:{line}: a key must be a plain name, found a {_kind(key_node)}")
            continue
        key = str(key_node.value)
        full = f"{prefix}{key}"
        if full in lines:
            problems.append(f"{path}:{line}: duplicate key {full!r} in lines {lines[full]} and {line}; keep one")
            continue
        lines[full] = line
        if isinstance(value_node, MappingNode):
            result[key] = _mapping(value_node, constructor, f"{full}.", path, lines, problems)
        else:
            try:
                result[key] = constructor.construct_object(value_node, deep=True)
            except (ValueError, YAMLError) as error:
                problems.append(f"{path}:{line}: the value of {full!r} cannot be read: {error}")
    return result
