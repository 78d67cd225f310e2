"""Foreign text in Markdown: escaped or fenced, so that it can be neither markup nor metadata."""

import html
import re
from collections.abc import Iterable
from pathlib import PureWindowsPath
from typing import Any

from ftkit.display.wording import visible
from ftkit.hub.shareable import redacted

__all__ = ["fenced", "inline", "public", "table"]

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$@:])")


def inline(value: Any) -> str:
    """A text inside a line or a table: one line, no markup, no markdown, no secrets."""
    text = " ".join(visible(redacted(str(value))).split())
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False))


def fenced(text: str, language: str = "text") -> str:
    """A text as a block of code that it cannot leave: the fence is longer than any in the text."""
    text = visible(redacted(text))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def public(value: Any) -> Any:
    """A setting without the folders of this machine."""
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, str) and (value.startswith(("/", "~", ".", "\\")) or PureWindowsPath(value).drive):
        return PureWindowsPath(value).name or "FOLDER"
    return value


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    lines.insert(1, "|" + " --- |" * len(list(heads)))
    return "\n".join(lines)
