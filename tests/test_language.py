"""Messages, docstrings, help texts and pages use the field's terms: words that were replaced do not come back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftkit.config.other_names import RENAMED

ROOT = Path(__file__).parents[1]
BANNED = {
    r"learnt": "learned",
    r"(?:were|was|is|are) taught|taught by": "trained on",
    r"fooled": "score above real text",
    r"stands? twice": "duplicate",
    r"commonest": "most frequent, or majority-class",
    r"knowing nothing gives": "the loss of a uniform prediction",
    r"its words are few": "low lexical diversity",
    r"it reads words, not sentences": "insensitive to word order",
    r"not as sure as it is right": "poorly calibrated",
    r"who always says": "majority-class baseline",
    r"liking is planted|planted in a model": "bias a model towards chosen tokens",
    r"is no (?:probe|arm|recipe|measure|judge|setting)\b": "unknown probe 'x'",
    r"there is no '": "unknown 'x'; did you mean 'y'?",
    r"none of which": "a sentence of its own",
    r"(?<!be )what is asked": "name it",
    r"may speak|does not speak": "passed its gate, failed its gate",
    r"knows nothing": "is untrained",
    r"glances?\b": "measures, evaluates",
    r"diary": "log",
    r"kind film reviews": "positive film reviews",
    r"corpus with a hole": "skipping the file would silently change the corpus",
}
"""Words and phrases, each with what is said instead."""
SETTINGS = re.compile(rf"(?<![\w.])--(?:{'|'.join(RENAMED)})\b|^\s*(?:{'|'.join(RENAMED)}): ", re.MULTILINE)


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the package and recipes, and every page, with its place."""
    for path in sorted([*(ROOT / "ftkit").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]):
        name = str(path.relative_to(ROOT))
        if "voices" not in name:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{name}:{node.lineno}", node.value
                elif isinstance(node, ast.JoinedStr):  # as it is printed: quotes where a value has !r
                    parts = (
                        part.value if isinstance(part, ast.Constant) else "'x'" if part.conversion == ord("r") else "x"
                        for part in node.values
                        if isinstance(part, ast.Constant | ast.FormattedValue)
                    )
                    yield f"{name}:{node.lineno}", "".join(map(str, parts))
    recorded = {
        line
        for page in (ROOT / "docs" / "evidence").rglob("README.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.strip()
    }  # tables of runs, which nobody edits
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "evidence" not in path.relative_to(ROOT / "docs").parts]
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages, *(ROOT / "recipes").rglob("*.yaml")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line not in recorded:
                yield f"{path.relative_to(ROOT)}:{number}", line


ALL = list(texts())


@pytest.mark.parametrize("banned", BANNED)
def test_no_text_has_a_banned_phrase(banned):
    pattern = re.compile(rf"\b(?:{banned})" if banned[0].isalpha() else banned, re.IGNORECASE)
    assert {place: text[:100] for place, text in ALL if pattern.search(text)} == {}, f"say: {BANNED[banned]}"


def test_no_page_and_no_configuration_has_an_old_setting():
    assert len(ALL) > 5000
    assert {place: text for place, text in ALL if ".py:" not in place and SETTINGS.search(text)} == {}
