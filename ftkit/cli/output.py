"""How commands end and what they print: one message for an error, one JSON object, or a table."""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

__all__ = ["json_line", "print_json", "run_command", "safe_text", "show_table"]


_STEERING = ("Cc", "Cf", "Cs")
"""Unicode categories whose characters steer a terminal, turn the direction of writing, or cannot be printed."""


def _is_safe(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in _STEERING


def safe_text(text: str) -> str:
    """A text without characters that steer a terminal or turn the direction of writing."""
    return "".join(character for character in text if _is_safe(character))


def json_line(value: Any) -> str:
    """One line of JSON; characters that would steer a terminal are written as JSON's escapes."""
    from ftkit.runs.files import json_value

    line = json.dumps(json_value(value), ensure_ascii=False, allow_nan=False)
    return "".join(c if _is_safe(c) else json.dumps(c)[1:-1] for c in line)


def run_command(start: Callable[[], None]) -> None:
    """Leave with the exit code of ``start``; warnings go where Python puts them, so that the output is the result."""
    from ftkit.config.launch import report_errors

    sys.exit(report_errors(start))


def print_json(value: Any) -> None:
    from ftkit.runs.files import json_value

    typer.echo(json.dumps(json_value(value), indent=2, ensure_ascii=False, allow_nan=False))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # nothing is cut off in a file
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=any(headings))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
