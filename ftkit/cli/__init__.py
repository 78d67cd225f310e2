"""The ``ftkit`` command. Each command imports what it needs when it runs, so that ``--help`` needs nothing."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ftkit import __version__
from ftkit.cli import blend, catalogue, chat, convert, generate, inspect, mcp, plan, predict, runs, share, verdict
from ftkit.cli.completion import RecipeCommand, complete_entry
from ftkit.cli.near_misses import Commands

__all__ = ["main"]

app = typer.Typer(
    name="ftkit",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},  # both are typed
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


_WITH_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True}


@app.command(cls=RecipeCommand, context_settings={**_WITH_SETTINGS, "help_option_names": []})
def run(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A recipe, a configuration, or a file of either.", autocompletion=complete_entry
        ),
    ] = "",
) -> None:
    """Run a recipe or a configuration, with its settings as flags: ftkit run NAME --SETTING VALUE ...

    'ftkit list' shows the names. 'ftkit run NAME --help' shows the settings of one, with type, default and meaning.

    --config FILE reads settings from YAML; --fast makes everything tiny and offline. With --sweep SETTING=VALUE,VALUE
    and --seeds 1,2 it is run at several points, which are compared.

    Examples: ftkit run finetune --corpus my_text.txt; ftkit run demo; ftkit run ./my_settings.yaml
    """
    if name in ("-h", "--help"):
        typer.echo(context.get_help())
        raise typer.Exit
    if not name:
        catalogue.show_main_jobs()
        raise typer.Exit(2)
    from ftkit.config.launch import report_errors

    def start() -> None:
        _start(*plan.find_program(name, context.args))

    sys.exit(report_errors(start))


def _start(program: Path, arguments: list[str]) -> None:
    """Run a recipe, or a study of it where the arguments or their configuration ask for several runs."""
    from ftkit.config import launch
    from ftkit.config.catalogue import load_recipe
    from ftkit.config.launch import configure_output, main_settings
    from ftkit.config.sweeps import find_study

    main = load_recipe(program).main
    study = find_study(main_settings(main), program.stem, arguments)
    if study is None:
        launch(main, arguments)
    configure_output()
    from ftkit.studies import run_study

    run_study(study, program, main)


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="The folder of a run or of a study.")]) -> None:
    """Continue a run from its newest checkpoint, or a study from its open point.

    A finished run is left as it is.
    """
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.config.catalogue import recipe_of
        from ftkit.errors import CheckpointError
        from ftkit.runs.run_state import read_run, restore_config

        restore_config(folder)
        if not (folder / "config.yaml").is_file():
            read_run(folder)  # says what is in its place
            raise CheckpointError(f"{folder}: is not the folder of a run: there is no config.yaml in it")
        config = folder / "config.yaml"
        _start(recipe_of(config), ["--config", str(config), "--output_dir", str(folder), "--resume"])

    sys.exit(report_errors(start))


app.command("list")(catalogue.list_)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A recipe or a configuration.", autocompletion=complete_entry)],
) -> None:
    """Copy a recipe or configuration here, to edit."""
    from ftkit.config.launch import report_errors

    def start() -> None:
        from ftkit.config.catalogue import find_entry, recipe_of
        from ftkit.errors import ConfigError

        found = find_entry(name)
        paths = [found] if found.suffix == ".py" else [recipe_of(found), found]
        if existing := [path.name for path in paths if Path(path.name).exists()]:
            raise ConfigError(f"{', '.join(existing)}: already in this folder; nothing was copied")
        for path in paths:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".yaml":  # the copy runs the copied program
                text = text.replace(f"recipe: {paths[0].stem}\n", f"recipe: ./{paths[0].name}\n", 1)
            Path(path.name).write_text(text, encoding="utf-8")
            typer.echo(path.name)
        typer.echo(f"edit, then: ftkit run ./{paths[-1].name}")

    sys.exit(report_errors(start))


app.command(cls=RecipeCommand, context_settings=_WITH_SETTINGS)(plan.plan)
for _command in (runs.check, runs.report, share.pack, share.unpack, share.push, share.pull):
    app.command()(_command)
inspect.add_commands(app)
predict.add_commands(app)
app.command()(convert.convert)
app.command()(verdict.verdict)
app.command()(blend.blend)
app.command()(chat.chat)
app.command()(generate.generate)
app.command()(mcp.mcp)


def main() -> NoReturn:
    """Entry point of the ``ftkit`` command."""
    app()
    raise AssertionError("typer leaves by itself")
