"""What ``run`` and ``plan`` share: from a name on the command line to a recipe's program and its arguments."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["find_program"]


def find_program(name: str, arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """The recipe's file and the arguments after its name.

    Args:
        name: A recipe, a configuration, or a file of either.
        arguments: What follows.

    Raises:
        ConfigError: There is no such recipe or configuration.
    """
    from ftkit.config import find_config, find_recipe, list_entries
    from ftkit.config.catalogue import recipe_of
    from ftkit.errors import ConfigError, nearest_name

    names = {entry.name: entry for entry in list_entries()}
    if name.endswith((".yaml", ".yml")) or (name in names and names[name].kind == "config"):
        if any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
            raise ConfigError(f"{name!r} is a configuration already; give --config with a recipe's name instead")
        config = find_config(name)
        return recipe_of(config), ["--config", str(config), *arguments]
    if name not in names and "/" not in name and not name.endswith(".py"):
        raise ConfigError(f"there is no recipe or configuration {name!r}{nearest_name(name, names)}")
    return find_recipe(name), list(arguments)
