"""The pages say what is there: every lesson has a row, every name exists, every measured number is a recorded one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXPERIMENTS = (DOCS / "experiments.md").read_text(encoding="utf-8")
LESSONS = [
    *("04/01", "04/02", "04/03", "04/04", "04/05", "04/06", "04/07", "04/08", "04/09", "04/010", "04/011", "04/012"),
    *("04/013", "04/014", "04/015", "04/016", "04/017", "04/018", "04/019", "04/020", "04/021", "04/022", "04/023"),
    *("04/024", "04/025", "04/026", "04/027", "04/028", "04/029", "04/kien_truc"),
    *("06/01", "06/02", "06/03", "06/04", "06/05", "06/06", "06/07", "06/08", "06/09", "06/010", "06/011", "06/012"),
    *("06/013", "06/014", "06/015", "06/016", "06/017", "06/018", "06/019", "06/020"),
    *("07/01", "07/02", "07/03", "07/04", "07/05", "07/06", "07/07", "07/08", "07/09", "07/010", "07/011", "07/012"),
    *("07/013", "07/014", "07/015", "07/016", "07/017", "07/018", "07/019", "07/020", "07/021", "07/022", "07/023"),
    *("07/fine_tuning 04_3", "07/fine_tuning 05_4", "07/fine_tuning 06_5", "08/04 to 08/06", "09"),
]
REFERENCE_RUNS = [
    *("pretrain_model1", "pretrain_model5", "dropout_lasttoken", "like_x_scratch", "gulliver_ft", "gulliver_lr"),
    *("x_factor", "alice_edgar", "quantify", "chat", "freeze_gulliver", "targeted_freeze", "codegen_calculus"),
    *("imdb_freeze", "imdb_clip_sched", "author_judge", "style_evolution"),
]  # fmt: skip
OTHER_SOURCES = {
    "docs/recipes/code_completion.md": "the run that it names, until codegen_calculus_small is recorded",
    "docs/evaluate.md": "files of Python's standard library, which are not recorded",
    "docs/rivals.md": "docs/evidence/rivals, whose tables tests/recipes/test_rivals.py compares",
    "docs/studies.md": "an earlier gulliver_lr_small, from random weights",
    "docs/judges.md": "python -m benchmarks.style_measures, which prints the table",
    "docs/verdict.md": "scripts/battery, and Clopper and Pearson's intervals of its counts",
}
"""Pages with measured tables whose numbers do not come from docs/evidence, and where they come from."""
INTERVAL = re.compile(r"([-+−]?\d[\d,]*\.?\d*) ?%? \[([-+−]?\d[\d,]*\.?\d*)%?, ([-+−]?\d[\d,]*\.?\d*)%?\]")


def pages() -> list[Path]:
    """README and all pages but the recorded ones."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [page for page in found if page.parent.parent != DOCS / "evidence"]


def entries() -> dict[str, Any]:
    return {entry.name: entry for entry in list_entries()}


def test_every_lesson_and_every_reference_run_has_a_row():
    tables = [line for line in EXPERIMENTS.splitlines() if line.startswith("| ")]
    first = [row.split("|")[1].strip() for row in tables]
    assert sorted(set(LESSONS) - set(first)) == []
    assert len(LESSONS) == len(set(LESSONS)) == 78
    for name in REFERENCE_RUNS:
        row = [row for row in tables if f"`ftkit run {name}` | `ftkit run {name}_small`" in row]
        assert len(row) == 1, name


def test_every_command_names_recipes_settings_and_subcommands_that_exist():
    known = entries()
    checked = 0
    for page in pages():
        for name, rest in re.findall(r"ftkit (?:run|plan|copy) ([\w./-]+)([^`\n|]*)", page.read_text(encoding="utf-8")):
            if not name.isidentifier() or name.isupper():
                continue
            assert name in known, f"{page.name}: {name}"
            recipe = known[known[name].recipe]
            fields = main_settings(load_recipe(recipe.path).main).model_fields
            own = {"config", "fast", "help", "help-all", "sweep", "seeds", "figure", "memory-gb", "json"}
            for flag in re.findall(r" --([\w-]+)", rest.partition("  #")[0]):
                assert flag in {*fields, *own}, f"{page.name}: ftkit run {name} --{flag}"
            checked += 1
    assert checked > 150


def recorded_triples(names: set[str]) -> list[tuple[float, float, float]]:
    """Every value with its interval in the recorded evidence of some runs."""

    def walk(value: Any) -> Iterator[tuple[float, float, float]]:
        if isinstance(value, dict):
            if {"mean", "low", "high"} <= set(value) and isinstance(value["low"], int | float):  # of a study
                yield value["mean"], value["low"], value["high"]
            if {"value", "low", "high"} <= set(value) and isinstance(value["value"], int | float):
                yield value["value"], value["low"], value["high"]
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    files = [path for name in names for path in sorted((DOCS / "evidence" / name).glob("*.json"))]
    return [triple for file in files for triple in walk(json.loads(file.read_text(encoding="utf-8")))]


def is_recorded(shown: tuple[str, str, str], triples: list[tuple[float, float, float]]) -> bool:
    """Whether three numbers are a recorded value and its interval, as they are or in per cent, rounded."""

    def same(text: str, number: float) -> bool:
        text = text.replace("−", "-").replace(",", "")
        digits = len(text.partition(".")[2])
        return any(abs(float(text) - number * scale) <= 0.501 * 10**-digits for scale in (1, 100))

    return any(all(same(text, number) for text, number in zip(shown, triple, strict=True)) for triple in triples)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_interval_in_a_table_is_a_recorded_one(page):
    name = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and INTERVAL.search(line)]
    if name in OTHER_SOURCES:
        assert rows, f"{name} has no measured table any more: take it out of OTHER_SOURCES"
        return
    runs = {name for name in re.findall(r"evidence/(\w+)", text) if (DOCS / "evidence" / name).is_dir()}
    assert runs or not rows, f"{name} has measured tables and links no page of docs/evidence"
    readmes = [DOCS / "evidence" / run / "README.md" for run in runs]  # a folder of verdicts has none
    recorded = "".join(readme.read_text(encoding="utf-8") for readme in readmes if readme.is_file())
    triples = recorded_triples(runs)
    for row in rows:
        if row not in recorded:
            for shown in INTERVAL.findall(row):
                assert is_recorded(shown, triples), f"{name}: {shown} in {row}"


def test_a_number_typed_by_hand_is_caught():
    triples = recorded_triples({"sentiment_small"})
    assert len(triples) > 10
    assert is_recorded(("0.829", "0.812", "0.844"), triples)
    assert is_recorded(("82.9", "81.2", "84.4"), triples)
    assert not is_recorded(("0.829", "0.812", "0.846"), triples)


def test_every_page_of_a_recipe_is_there_and_names_its_recipe():
    for name, entry in entries().items():
        if entry.kind == "recipe":
            page = DOCS / "recipes" / f"{name}.md"
            assert page.is_file(), f"docs/recipes/{name}.md is missing, and its line in mkdocs.yml"
            assert f"ftkit run {name}" in page.read_text(encoding="utf-8") or f"`{name}`" in page.read_text(
                encoding="utf-8"
            )
            assert f"recipes/{name}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_links_of_the_readme_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", readme)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_pages_that_the_code_names_exist():
    named = set()
    for folder in ("ftkit", "recipes", "scripts", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in ("", ".py", ".yaml", ".j2"):
                named |= set(re.findall(r"docs/[a-z_/]+\.md", path.read_text(encoding="utf-8")))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_first_page_shows_what_the_readme_shows():
    block = re.compile(r"```text\n(.*?)```", re.DOTALL)
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    assert block.search(first)[1] == block.search((ROOT / "README.md").read_text(encoding="utf-8"))[1]
    assert first[: first.index("```text")].count("\n") <= 10, "ten lines to the first result"


def test_what_contributing_names_exists():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 120
    paths = set(re.findall(r"\b((?:ftkit|recipes|docs|tests|scripts)/[\w./-]*\w)", page))
    written = {path for path in paths if "NAME" not in path}
    assert len(written) > 40
    assert [path for path in sorted(written) if not (ROOT / path).exists()] == []
    folders = (ROOT / folder for folder in ("ftkit", "recipes", "scripts"))
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in ("", ".py") and file.is_file()]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    names = set(re.findall(r"`(\w{4,})`", page))
    assert {"FAMILIES", "Judge", "Source", "MEASURE"} <= names
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []


def test_the_glossary_defines_each_term_once_and_each_is_used():
    rows = re.findall(r"^\| (?!term )(.+?) \| (.+?) \| (.+?) \|$", (DOCS / "glossary.md").read_text("utf-8"), re.M)
    terms = [term for term, _, _ in rows]
    assert {"bits per byte", "floor", "ceiling", "position", "passage", "window", "judge", "gate", "arm"} <= set(terms)
    assert {"held-out text", "general text"} <= set(terms)
    assert len(terms) == len(set(terms))
    assert [term for term, _, definition in rows if len(definition.split()) > 18] == []
    package = [path for folder in ("ftkit", "recipes") for path in (ROOT / folder).rglob("*.py")]
    files = [*package, *(page for page in pages() if page.name != "glossary.md")]
    words = " ".join(" ".join(path.read_text(encoding="utf-8") for path in files).lower().split())
    assert [term for term in terms if not re.search(rf"\b{re.escape(term)}", words)] == []
    assert "glossary.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_no_page_holds_control_characters():
    """Samples of byte-level models do; GitHub and editors then take a page for a binary file."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert {mark for mark in text if not mark.isprintable() and ord(mark) < 128} <= {"\n", "\t"}, page
