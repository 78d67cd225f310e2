"""Imports go down the floors of docs/design.md, those inside functions too, and recipes are light to load."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Packages from the bottom to the top; those on one line stand side by side and know nothing of each other.
FLOORS = [
    {"errors", "display", "lazy"},
    {"memory"},
    {"config"},
    {"runs"},
    {"models", "data"},
    {"tuning"},
    {"inspection"},
    {"training", "generation"},
    {"evidence"},
    {"report", "metrics"},
    {"jobs", "hub"},
    {"studies"},
    {"cli", "lab", "recipe"},
]
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
FREE = {"__init__", "__main__"}  # the version, and the start of the command line


def sources() -> list[Path]:
    """The files of the package and the recipes."""
    return sorted([*(ROOT / "ftkit").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")])


def package_of(path: Path) -> str:
    """The part of ftkit that a file belongs to, or ``recipes``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "ftkit" else parts[0]


def imported(path: Path, source: str | None = None) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, by its full name, and whether at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    folder = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"ftkit.{alias.name}" for alias in node.names] if module == "ftkit" else [module]
        for name in names:
            yield name, node in tree.body


def upward(path: Path, source: str | None = None) -> list[str]:
    """Imports of a file that stay on its floor or go up."""
    package = package_of(path)
    found = []
    for name, _ in imported(path, source):
        parts = name.split(".")
        target = parts[1] if parts[0] == "ftkit" and len(parts) > 1 else None
        if target in FLOOR and target != package and FLOOR[target] >= FLOOR[package]:
            found.append(f"{path.relative_to(ROOT)}: {name}")
    return found


def test_every_package_has_a_floor_and_every_import_goes_down():
    files = [path for path in sources() if package_of(path) not in FREE | {"recipes"}]
    assert len(files) > 90
    assert {package_of(path) for path in files} == set(FLOOR)
    assert [problem for path in files for problem in upward(path)] == []


@pytest.mark.parametrize(
    "planted",
    [
        "from ftkit.training import Engine",
        "import ftkit.evidence.judges",
        "def late():\n    from ftkit import report",
        "from ..evidence.judges import Judge",
        "from ftkit.data.store import TokenStore",
    ],
)
def test_a_planted_import_that_goes_up_or_sideways_is_found(planted):
    assert len(upward(ROOT / "ftkit" / "models" / "loader.py", planted)) == 1
    allowed = "from ftkit.errors import ModelError\nfrom .tasks import TASKS\nimport torch"
    assert upward(ROOT / "ftkit" / "models" / "loader.py", allowed) == []


def test_recipes_know_ftkit_only_and_nothing_heavy_before_their_main():
    recipes = [path for path in sources() if path.is_relative_to(ROOT / "recipes")]
    assert len(recipes) >= 4
    for path in recipes:
        for name, at_top in imported(path):
            if name.split(".")[0] == "ftkit":
                assert not at_top or name == "ftkit.recipe", f"{path.name}: {name}"
            else:
                assert name.split(".")[0] in sys.stdlib_module_names | {"pydantic"}, f"{path.name}: {name}"


def test_the_recipes_of_the_laboratory_import_it_and_no_other_file_does():
    others = [path for path in sources() if package_of(path) != "lab"]
    users = {path for path in others if any(name.startswith("ftkit.lab") for name, _ in imported(path))}
    assert users == set((ROOT / "recipes" / "lab").glob("*.py"))
    assert len(users) == 4
