"""Every test that docs/trust.md names exists, and every row of its table names one or says why there is none."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
RESUME = (ROOT / "docs" / "resume.md").read_text(encoding="utf-8")


def names_in(file: Path) -> set[str]:
    """The test functions of a file."""
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_test_on_the_page_exists():
    named = re.findall(r"`(?:tests/)?([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 50
    files = {file: names_in(ROOT / "tests" / file) for file, _ in named}
    assert [pair for pair in named if pair[1] not in files[pair[0]]] == []
    mentioned = set(re.findall(r"\btest_\w+", PAGE))
    assert mentioned == {name for _, name in named} | {Path(file).stem for file in files}


def test_the_table_has_thirty_rows_and_each_has_a_proof_or_a_reason():
    rows = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 31))
    for number, failure, duty, proof in rows:
        assert failure.strip(), number
        assert duty.strip(), number
        assert "::test_" in proof or proof.strip().startswith("none: "), number


def test_the_settings_that_may_change_are_those_of_the_code():
    from ftkit.runs.integrity import BATCH_SHARES, SAFE_SETTINGS

    (line,) = [line for line in RESUME.splitlines() if line.startswith("May change on a resume: ")]
    assert set(re.findall(r"`(\w+)`", line)) == (SAFE_SETTINGS | BATCH_SHARES) - {"resume"}


def test_the_commands_on_the_page_exist():
    from typer.main import get_command

    from ftkit.cli import app

    commands = set(re.findall(r"^    ftkit (\w+)", PAGE, re.MULTILINE))
    assert {"check", "resume"} <= commands <= set(get_command(app).commands)
