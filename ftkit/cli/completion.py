"""Shell completion of names of recipes and configurations, of their settings and of the settings' choices."""

from typing import Any, NamedTuple

from typer.core import TyperCommand

__all__ = ["RecipeCommand", "complete_entry"]


class _Suggestion(NamedTuple):
    """What typer's shells read of a completion."""

    value: str
    help: str = ""
    type: str = "plain"


def complete_entry(incomplete: str) -> list[tuple[str, str]]:
    """Names of recipes and configurations that begin so, each with its question."""
    from ftkit.config import list_entries

    names = {_as_typed(entry.name, incomplete): entry.question for entry in list_entries()}
    return [(name, question) for name, question in names.items() if name.startswith(incomplete)]


def _as_typed(name: str, incomplete: str) -> str:
    """A name with dashes where a person types dashes."""
    return name.replace("_", "-") if "-" in incomplete else name


class RecipeCommand(TyperCommand):
    """A command whose first argument names a recipe, and whose further options are the recipe's settings."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The command's own completions, and those of the recipe's settings."""
        try:
            found = _complete_setting(ctx.params.get("name") or "", ctx.args, incomplete)
        except Exception:  # a name or a file that cannot be read yet: a shell that is completing shows no error
            found = []
        own = super().shell_complete(ctx, incomplete)
        return [*own, *(item for item in found if item.value not in {known.value for known in own})]


def _complete_setting(name: str, before: list[str], incomplete: str) -> list[_Suggestion]:
    """Flags that begin as ``incomplete``, or values of the flag before it; those used first where nothing is begun."""
    from ftkit.cli.plan import find_program
    from ftkit.config.catalogue import list_entries, load_recipe
    from ftkit.config.help import choices, first_settings
    from ftkit.config.launch import main_settings
    from ftkit.config.other_names import own_name

    program, _ = find_program(name, [])
    fields = main_settings(load_recipe(program).main).model_fields
    if incomplete.startswith("-"):
        begun = incomplete.lstrip("-")
        flags = {known: (field.description or "").split("\n")[0] for known, field in fields.items()}
        flags |= {
            "config": "A configuration.",
            "fast": "Tiny and offline.",
            "sweep": "Run a study.",
            "seeds": "Repeat.",
        }
        flags |= {"help": "The first settings.", "help-all": "All settings."}
        as_typed = {_as_typed(known, begun): text for known, text in flags.items()}
        return [_Suggestion(f"--{known}", text) for known, text in as_typed.items() if known.startswith(begun)]
    last = next((word for word in reversed(before) if word != "="), "")
    if not last.startswith("--"):
        return [] if incomplete else [_Suggestion(f"--{known}") for known in first_settings(fields)]
    flag = own_name(last.removeprefix("--").replace("-", "_"), fields)
    if flag == "config":
        values = [entry.name for entry in list_entries() if entry.kind == "config" and entry.recipe == program.stem]
    else:
        values = choices(fields[flag].annotation)
    return [_Suggestion(value) for value in values if value.startswith(incomplete)]
