"""The command ``check``: is a folder still what it was when it was sealed?"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check"]


def check(
    folder: Annotated[Path, typer.Argument(help="A run, a checkpoint of it, RUN/models/NAME, or a pulled model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a folder with the sizes and hashes that were written down when it was made.

    Leaves with 6 where something has changed. Nothing is repaired, nothing is loaded.
    """
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.errors import CheckpointError
        from ftkit.runs.checking import check_folder

        found = check_folder(folder)
        if as_json:
            typer.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        else:
            width = max((len(item.name) for item in found.items), default=0)
            for item in found.items:
                typer.echo(f"{item.name:<{width}}  {item.problem or 'ok'}")
        if found.broken:
            names = ", ".join(item.name for item in found.broken[:5])
            raise CheckpointError(
                f"{found.folder}: {len(found.broken)} of {len(found.items)} things in this {found.kind} are not what "
                f"was written: {names}{', ...' if len(found.broken) > 5 else ''}"
            )

    sys.exit(report_errors(start))
