"""What mkdocs asks while it builds: recorded runs join the menu by themselves, and no public name may be missing.

A folder ``docs/evidence/NAME`` that scripts/record has written is a page, an entry under "Measured", and a row of the
overview, where the question is the first line of the configuration or recipe of that name. A page ``docs/api/NAME.md``
shows every name in ``__all__`` of the package ``ftkit.NAME``.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
RECIPES = DOCS.parent / "recipes"
OVERVIEW = "evidence/index.md"


def recorded() -> list[str]:
    """Names of all recorded runs."""
    return sorted(page.parent.name for page in (DOCS / "evidence").glob("*/README.md"))


def question(name: str) -> str:
    """What the configuration, or the recipe, of that name asks."""
    for path in (RECIPES / "configs" / f"{name}.yaml", RECIPES / f"{name}.py", RECIPES / "lab" / f"{name}.py"):
        if path.is_file():
            return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removeprefix('"""')
    return ""


def on_config(config: Any) -> Any:
    """Fill the menu's entry for recorded runs."""
    measured = next(entry for entry in config.nav if "Measured" in entry)
    measured["Measured"] = [OVERVIEW, *({name: f"evidence/{name}/README.md"} for name in recorded())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the overview."""
    rows = [f"| [{name}]({name}/README.md) | {question(name)} |" for name in recorded()]
    head = "Runs that were recorded by `scripts/record`: tables, figures and the first samples, not chosen."
    text = ["# Measured", "", head, "", "| run | question |", "|---|---|", *rows]
    files.append(File.generated(config, OVERVIEW, content="\n".join(text) + "\n"))
    return files


def public_names(package: str) -> list[str]:
    """``__all__`` of a package, read and not run."""
    path = DOCS.parent / "ftkit" / package
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    lists = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return [name for found in lists for name in ast.literal_eval(found)]


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Refuse a page of the reference that leaves a name out."""
    folder, _, package = page.file.src_uri.removesuffix(".md").partition("/")
    if folder == "api" and package != "index":
        missing = [
            name for name in public_names(package) if not re.search(rf'id="ftkit\.{package}\.{name}(\.{name})?"', html)
        ]
        if missing:
            raise PluginError(
                f"{page.file.src_uri} does not show {', '.join(missing)}: no docstring, or a module of that name hides "
                f"it; then name it as '::: ftkit.{package}.NAME.NAME'"
            )
    return html
