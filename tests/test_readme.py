"""The README promises only what is there."""

import re
from pathlib import Path

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_name_recipes_settings_and_scripts_that_exist():
    entries = {entry.name: entry for entry in list_entries()}
    commands = re.findall(r"(?:ftkit run|ftkit copy) ([\w./]+)(.*)", README)
    assert len(commands) >= 5
    for name, rest in commands:
        assert name in entries or name == "NAME", name
        for flag in re.findall(r"--([\w-]+)", rest.partition("#")[0]):
            recipe = next(
                entry for entry in entries.values() if entry.name == entries[name].recipe and entry.kind == "recipe"
            )
            fields = main_settings(load_recipe(recipe.path).main).model_fields
            assert flag in {*fields, "config", "fast", "help", "help-all", "sweep", "seeds"}, flag
    for config in re.findall(r"--config (\w+)", README):
        assert config in entries, config
    scripts = set(re.findall(r"scripts/(\w[\w-]*)", README))
    assert {"demo", "test", "check"} <= scripts
    for script in scripts:
        assert (ROOT / "scripts" / script).is_file(), script


def test_the_main_jobs_are_those_of_ftkit_list():
    rows = dict(re.findall(r"^\| ([^|]+) \| `ftkit run (\w+)` \|", README, re.MULTILINE))
    assert rows == {
        entry.question: entry.name for entry in list_entries() if entry.is_main_job and entry.name != "demo"
    }


def test_it_is_short_and_shows_both_commands_with_their_output():
    assert len(README.splitlines()) <= 135
    blocks = re.findall(r"    (scripts/demo|ftkit verdict)[^\n]*\n\n```text\n(.*?)```", README, re.DOTALL)
    assert [command for command, _ in blocks] == ["scripts/demo", "ftkit verdict"]
    assert all("WORKED (also: forgot)" in output and "decided by: " in output for _, output in blocks)


def test_the_measured_tables_are_the_recorded_ones():
    measured = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8") + "\n## "
    sections = re.findall(r"^## [^\n]+\n(.*?)(?=^## )", measured, re.MULTILINE | re.DOTALL)
    assert len(sections) == 4
    for section in sections:
        names = re.findall(r"\]\((evidence/\w+)/README\.md\)", section)
        pages = [(ROOT / "docs" / name / "README.md").read_text(encoding="utf-8") for name in names]
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 5
        if "**Models from random weights.**" in section:  # a column for each run
            for row in rows[2:]:
                label, *cells = (cell.strip() for cell in row[1:-1].split("|"))
                recorded = [f"| {label} | {cell} |" in page for cell, page in zip(cells, pages, strict=True) if cell]
                assert all(recorded), row
            continue
        for row in rows:
            assert any(row in page for page in pages), row
    bases = re.findall(r"\[([\d.]+) bits per byte\]\((evidence/\w+/README\.md)\)", measured)
    assert bases
    for number, page in bases:
        assert f"| held-out bits per byte, tuned | {number} [" in (ROOT / "docs" / page).read_text(encoding="utf-8")
