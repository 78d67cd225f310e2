"""Where recipes and their configurations are found, in a checkout and in an installed package alike."""

import ast
import functools
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ftkit.config.yaml_files import read_yaml
from ftkit.errors import ConfigError, nearest_name

__all__ = [
    "Entry",
    "described_sources",
    "entry_paths",
    "find_config",
    "find_entry",
    "find_recipe",
    "list_entries",
    "load_recipe",
    "recipe_of",
    "recipes_folder",
    "source_forms",
]


@dataclass(frozen=True)
class Entry:
    """A recipe or a configuration that ``ftkit run`` knows by name."""

    name: str
    kind: str
    """``recipe`` or ``config``."""
    question: str
    """The one-line question that it answers."""
    path: Path
    recipe: str
    """The recipe that runs it; a recipe's own name."""
    lab: bool = False
    """Whether it belongs to the laboratory: experiments of the lessons that no main job needs."""
    needs: str = ""
    """What a person must have for it: ``nothing``, ``a text``, ``books``, ``download``, ``GPU``."""
    minutes: str = ""
    """How long it took on two CPU cores, on embedded texts where it needs a text; empty where nobody measured it."""

    @property
    def is_main_job(self) -> bool:
        """Whether it is a recipe that answers a question of its own, or the demonstration."""
        return self.name == "demo" or (self.kind == "recipe" and not self.lab)


def recipes_folder() -> Path:
    """The folder of recipes: ``ftkit/recipes`` in a wheel, ``recipes`` beside the package in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def _described(path: Path) -> str:
    """What a file says of itself: the docstring of a recipe, the comments of a configuration."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    return "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))


def _noted(name: str, described: str) -> str:
    """The value of ``Needs: ...`` or ``Minutes: ...`` in a description."""
    found = re.search(rf"\b{name}: (.+?)\.(?:\s|$)", described)
    return found[1] if found else ""


def _needs_of_config(values: dict[str, Any], has_small: bool, paths: dict[str, Path]) -> str:
    """What the sources of a configuration need, and those of its base: books, downloads from the Hub, a GPU."""
    model = str(values.get("model", ""))
    sources = [values.get(name) for name in ("corpus", "corpora", "general", "classes", "labelled", "examples")]
    texts = " ".join(str(source) for source in sources if source)
    needs = ["GPU"] if has_small else []
    if "hub:" in texts or any(_is_hub_id(str(values.get(name, ""))) for name in ("model", "judge_model", "donor")):
        needs.append("download")
    if "gutenberg:" in texts:
        needs.append("books")
    if "notebooks:" in texts:
        needs.append("notebooks")
    base = paths.get(model.removeprefix("base:")) if model.startswith("base:") else None
    of_base = _needs_of_config(read_yaml(base).values, False, paths) if base else "nothing"
    needs += [need for need in of_base.split(", ") if need not in ("nothing", *needs)]
    return ", ".join(needs) or "nothing"


def _is_hub_id(model: str) -> bool:
    return "/" in model and not model.startswith(("new:", "base:", ".", "/", "~"))


def entry_paths() -> dict[str, Path]:
    """The file of each recipe and configuration of the package by name, unread.

    Returns:
        The main recipes, those of the laboratory, then the configurations, each sorted by name.
    """
    folder = recipes_folder()
    recipes = [*sorted(folder.glob("[a-z]*.py")), *sorted((folder / "lab").glob("[a-z]*.py"))]
    return {path.stem: path for path in [*recipes, *sorted((folder / "configs").glob("*.yaml"))]}


def list_entries() -> list[Entry]:
    """All recipes and configurations of the package with their questions, in the order of ``entry_paths``."""
    paths, entries = entry_paths(), []
    for name, path in paths.items():
        described = _described(path)
        kind, recipe, needs = "recipe", name, _noted("Needs", described)
        if path.suffix == ".yaml":
            values = read_yaml(path).values
            kind, recipe = "config", str(values.get("recipe", ""))
            needs = needs or _needs_of_config(values, f"{name}_small" in paths, paths)
        question = described.split("\n", 1)[0].strip()
        lab = recipe in paths and paths[recipe].parent.name == "lab"
        entries.append(Entry(name, kind, question, path, recipe, lab, needs, _noted("Minutes", described)))
    return entries


def _names(suffix: str) -> list[str]:
    return [name for name, path in entry_paths().items() if path.suffix == suffix]


def find_entry(name: str, what: str = "recipe or configuration", suffix: str = "") -> Path:
    """The file of a recipe or configuration of the package.

    Args:
        name: Its name; dashes are taken for underscores.
        what: What it is called in the message.
        suffix: ``.py`` for recipes alone, ``.yaml`` for configurations alone.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    paths = {known: path for known, path in entry_paths().items() if path.suffix.endswith(suffix)}
    plain = name.replace("-", "_")
    if plain not in paths:
        near = nearest_name(plain, paths, most=3, otherwise="; 'ftkit list' shows all names")
        raise ConfigError(f"unknown {what} {name!r}{near}")
    return paths[plain]


def _is_path(name: str, suffix: str) -> bool:
    return name.endswith(suffix) or "/" in name or "\\" in name


def find_recipe(name: str) -> Path:
    """The program of a recipe.

    Args:
        name: A recipe's name, or the path of a ``.py`` file.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    if _is_path(name, ".py"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"recipe {name!r}: there is no such file")
        return path
    return find_entry(name, "recipe", ".py")


def find_config(name: str) -> Path:
    """The file of a configuration.

    Args:
        name: A configuration's name, or the path of a ``.yaml`` file.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    if _is_path(name, ".yaml") or name.endswith(".yml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"configuration {name!r}: there is no such file; 'ftkit list' shows the names that need no path"
            )
        return path
    return find_entry(name, "configuration", ".yaml")


def recipe_of(config: Path) -> Path:
    """The program that a configuration names; a path in it counts from the configuration's own folder.

    Raises:
        ConfigError: It names none, or there is no such recipe.
    """
    name = read_yaml(config).values.get("recipe")
    if not isinstance(name, str):
        known = ", ".join(_names(".py"))
        raise ConfigError(f"{config}: names no recipe; add the line 'recipe: NAME' with one of {known}")
    return find_recipe(str(config.parent / Path(name).expanduser()) if _is_path(name, ".py") else name)


def load_recipe(path: Path) -> ModuleType:
    """Import a recipe's program under a name of its own."""
    name = f"ftkit_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # find_recipe returns .py files only
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def source_forms() -> dict[str, str]:
    """How each source of text is written, with its line of help: those of paths first, then by the alphabet.

    The texts are read from the files of ``ftkit/data/sources`` without importing them, so that help pages stay fast.
    """
    found: list[tuple[bool, str, str]] = []
    for path in sorted((Path(__file__).parent.parent / "data" / "sources").glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "SOURCE"
                and isinstance(node.value, ast.Call)
            ):
                values = {keyword.arg: keyword.value for keyword in node.value.keywords}
                form, meaning = (str(ast.literal_eval(values[name])) for name in ("form", "help"))
                found.append(("prefixes" in values, form, meaning))
    return {form: meaning for _, form, meaning in sorted(found, key=lambda item: item[0])}


def described_sources() -> str:
    """The forms of all sources in one line."""
    *forms, last = source_forms()
    return f"{', '.join(forms)} or {last}" if forms else last
