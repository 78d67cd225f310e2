"""The ``ftkit`` command. Each command imports what it needs when it runs, so that ``--help`` needs nothing."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ftkit import __version__
from ftkit.cli import checking, classifying, looking, sharing

__all__ = ["main"]

app = typer.Typer(
    name="ftkit",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fine-tune small language models and learn, with evidence, whether it worked.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ftkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def run(
    context: typer.Context, name: Annotated[str, typer.Argument(help="A recipe, a configuration, or a file of either.")]
) -> None:
    """Run a recipe or a configuration.

    'ftkit run NAME --help' shows its settings.
    """
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.config import find_config, find_recipe, launch, list_entries
        from ftkit.config.catalogue import load_recipe, recipe_of
        from ftkit.errors import ConfigError, nearest_name

        arguments = list(context.args)
        is_path = "/" in name or name.endswith((".yaml", ".yml", ".py"))
        names = {} if is_path else {entry.name: entry for entry in list_entries()}
        if name.endswith((".yaml", ".yml")) or (name in names and names[name].kind == "config"):
            if any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
                raise ConfigError(f"{name!r} is a configuration already; give --config with a recipe's name instead")
            config = find_config(name)
            program, arguments = recipe_of(config), ["--config", str(config), *arguments]
        elif name not in names and not is_path:
            raise ConfigError(f"there is no recipe or configuration {name!r}{nearest_name(name, names)}")
        else:
            program = find_recipe(name)
        launch(load_recipe(program).main, arguments)

    sys.exit(report_errors(start))


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Continue a run from its newest checkpoint.

    A finished run is left as it is.
    """
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.config import launch
        from ftkit.config.catalogue import load_recipe, recipe_of
        from ftkit.errors import CheckpointError

        if not (folder / "config.yaml").is_file():
            raise CheckpointError(f"{folder}: is not the folder of a run: there is no config.yaml in it")
        config = folder / "config.yaml"
        launch(load_recipe(recipe_of(config)).main, ["--config", str(config), "--output_dir", str(folder), "--resume"])

    sys.exit(report_errors(start))


@app.command("list")
def list_() -> None:
    """Show recipes and configurations."""
    from rich.console import Console
    from rich.table import Table

    from ftkit.config.catalogue import list_entries

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "recipe", "question"):
        table.add_column(heading, no_wrap=heading != "question")
    for entry in list_entries():
        table.add_row(entry.name, "" if entry.kind == "recipe" else entry.recipe, entry.question)
    Console(highlight=False).print(table)


@app.command()
def copy(name: Annotated[str, typer.Argument(help="A recipe or a configuration.")]) -> None:
    """Copy a recipe or configuration here, to edit."""
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.config.catalogue import find_recipe, list_entries
        from ftkit.errors import ConfigError, nearest_name

        names = {entry.name: entry for entry in list_entries()}
        if name not in names:
            raise ConfigError(f"there is no recipe or configuration {name!r}{nearest_name(name, names)}")
        paths = (
            [names[name].path] if names[name].kind == "recipe" else [find_recipe(names[name].recipe), names[name].path]
        )
        if existing := [path.name for path in paths if Path(path.name).exists()]:
            raise ConfigError(f"{', '.join(existing)}: already in this folder; nothing was copied")
        for path in paths:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".yaml":  # the copy runs the copied program
                text = text.replace(f"recipe: {names[name].recipe}\n", f"recipe: ./{names[name].recipe}.py\n", 1)
            Path(path.name).write_text(text, encoding="utf-8")
            typer.echo(path.name)
        typer.echo(f"edit, then: ftkit run ./{paths[-1].name}")

    sys.exit(report_errors(start))


for _command in (checking.check, sharing.pack, sharing.unpack, sharing.push, sharing.pull):
    app.command()(_command)
looking.add_commands(app)
classifying.add_commands(app)


def main() -> NoReturn:
    """Entry point of the ``ftkit`` command."""
    app()
    raise AssertionError("typer leaves by itself")
