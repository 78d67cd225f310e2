"""How commands end and what they print: one message for an error, one JSON object, or a table."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

__all__ = ["print_json", "run_command", "show_table"]


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
