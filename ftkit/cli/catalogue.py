"""``ftkit list``: the main jobs, then the experiments, each with its question, what it needs, and its minutes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ftkit.config import Entry

__all__ = ["list_", "show_main_jobs"]

_ORDER = (
    "demo", "finetune", "sft", "imitate", "pretrain", "classify", "code_completion", "targeted_freezing",
    "compare_tuning",
)  # fmt: skip
"""The main jobs as people ask for them; another one comes last."""


def list_() -> None:
    """Show the main jobs, then all recipes and configurations, each with what it needs."""
    from ftkit.config import list_entries

    entries, console = list_entries(), _console()
    _show_main_jobs(console, entries)
    recipes = [entry for entry in entries if entry.kind == "recipe"]
    first_of_lab = next((recipe for recipe in recipes if recipe.lab), None)
    console.print("\nExperiments: configurations of the recipes. _small: minutes to an hour on two cores.")
    for recipe in recipes:
        if recipe is first_of_lab:
            console.print("\nThe laboratory: experiments of the lessons, which no main job needs")
        console.print(f"\n{recipe.name}: {recipe.question}")
        configs = [entry for entry in entries if entry.kind == "config" and entry.recipe == recipe.name]
        _show_experiments(console, configs)
    console.print(
        "\nIn brackets: what an experiment needs. books: from Project Gutenberg or the folder FTKIT_BOOKS; min: "
        "minutes on two CPU cores, where they were measured ('ftkit plan NAME' predicts them); of the main jobs with "
        "texts that ship with ftkit. With --fast each needs "
        "nothing and takes less than a minute."
    )


def show_main_jobs() -> None:
    """Show the main jobs, one line each."""
    from ftkit.config import list_entries

    console = _console()
    _show_main_jobs(console, list_entries())
    console.print("\nSettings of a job: ftkit run NAME --help. Experiments: ftkit list.")


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False)


def _show_main_jobs(console: "Console", entries: Iterable["Entry"]) -> None:
    from rich.table import Table

    console.print("The main jobs: ftkit run NAME [--SETTING VALUE ...]\n")
    table = Table.grid(padding=(0, 2, 0, 0))
    for job in sorted(entries, key=lambda entry: _ORDER.index(entry.name) if entry.name in _ORDER else len(_ORDER)):
        if job.is_main_job:
            table.add_row(f"  {job.name}", job.question, job.needs, f"{job.minutes} min" if job.minutes else "")
    console.print(table)


def _show_experiments(console: "Console", experiments: Sequence["Entry"]) -> None:
    from rich.table import Table

    if not experiments:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for entry in experiments:
        notes = [entry.needs, f"{entry.minutes} min" if entry.minutes else ""]
        table.add_row(f"  {entry.name:<27}", f"{entry.question} [{'; '.join(note for note in notes if note)}]")
    console.print(table)
