"""Commands on the folder of a run: check its files, draw its report again, or compare several runs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["check", "report"]


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; one is drawn again, several are compared.")],
    out: Annotated[Path, typer.Option(help="Folder for the comparison of several runs.")] = Path("comparison"),
) -> None:
    """Draw the report of a run again from its files, or compare runs that were made one by one."""
    from ftkit.config.launch import configure_output, report_errors

    configure_output()

    def start() -> None:
        from ftkit.report import announce, write_report
        from ftkit.report.several import compare_runs
        from ftkit.runs import read_run

        found = [read_run(path) for path in runs]
        if len(found) > 1:
            compare_runs(found, out)
            return
        (run,) = found
        if (run.path / "points").is_dir():
            points = sorted(path.parent for path in (run.path / "points").glob("*/manifest.json"))
            compare_runs([read_run(point) for point in points], out)
            return
        sections = _recipe_sections()
        write_report(run, *sections)
        announce(run, *sections)

    sys.exit(report_errors(start))


def _recipe_sections() -> list[Any]:
    """Return the sections that the package's recipes add to the report."""
    from ftkit.config.catalogue import entry_paths, load_recipe

    recipes = [load_recipe(path) for path in entry_paths().values() if path.suffix == ".py"]
    return [recipe.report_section() for recipe in recipes if hasattr(recipe, "report_section")]


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
        from ftkit.runs.integrity import check_folder

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
