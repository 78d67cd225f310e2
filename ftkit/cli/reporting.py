"""The command ``report``: draw the page of a run again, or compare several runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["report"]


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
