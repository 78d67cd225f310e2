"""Cases and the words that they may get, read from ``cases.yaml``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BATTERIES", "WORDS", "Case", "Pair", "case_of", "cases_of", "is_right", "pairs"]

_FILE = Path(__file__).with_name("cases.yaml")
BATTERIES = (
    "synthetic", "synthetic_gibberish", "stories260k", "stories260k_gibberish", "smollm2", "smollm2_gibberish",
    "examples",
)  # fmt: skip
"""Every part of the file but the seed study."""
WORDS = ("worked", "copied", "broken", "nothing", "worse", "forgot", "unsure", "refused")
"""Main words of a verdict, and ``refused`` where the command ends with an error."""


@dataclass(frozen=True)
class Case:
    """One case of a battery; the head of ``cases.yaml`` describes the fields."""

    name: str
    words: tuple[str, ...]
    says: str = ""
    beside: str = ""
    never: str = ""
    honest: bool = False
    target: str = ""
    trained_on: str = ""
    claims: str = "train"
    model_of: str = ""
    steps: int | None = None
    learning_rate: float | None = None
    lora_rank: int | None = None
    noise: float = 0.0


@dataclass(frozen=True)
class Pair:
    """One pair of folders of the seed study."""

    name: str
    like: str
    """Battery that the case belongs to."""
    case: str
    words: tuple[str, ...]
    borderline: bool = False


@cache
def _file() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return found


def _checked(kind: type[Case] | type[Pair], name: str, described: dict[str, Any]) -> dict[str, Any]:
    """Values of one case, or an error that names what is wrong."""
    known = {each.name for each in fields(kind)}
    if unknown := set(described) - known:
        raise ValueError(f"{_FILE.name}: {name}: unknown field {', '.join(sorted(unknown))}")
    words = tuple(described["words"])
    if not words or set(words) - set(WORDS):
        raise ValueError(f"{_FILE.name}: {name}: words {list(words)}, expected some of {list(WORDS)}")
    return {**described, "name": name, "words": words}


def cases_of(battery: str) -> dict[str, Case]:
    """The cases of a battery by name, in the order of the file."""
    return {name: Case(**_checked(Case, name, described)) for name, described in _file()[battery].items()}


def pairs() -> dict[str, Pair]:
    """The pairs of the seed study by name."""
    return {name: Pair(**_checked(Pair, name, described)) for name, described in _file()["seed_study"].items()}


def case_of(battery: str, name: str) -> Case:
    """A case of a battery, or a pair of the seed study as a case."""
    if battery != "seed_study":
        return cases_of(battery)[name]
    pair = pairs()[name]
    return Case(name, pair.words, honest=cases_of(pair.like)[pair.case].honest)


def is_right(case: Case, word: str, also: Sequence[str], reasons: Sequence[str]) -> bool:
    """Whether a verdict is the committed one: main word, what is beside it, and the cause where it can be seen.

    Args:
        case: The case.
        word: Main word.
        also: Words beside it.
        reasons: The verdict's reasons, or the message of an error.
    """
    beside = not case.beside or case.beside in [word, *also]
    says = not case.says or any(case.says in reason for reason in reasons)
    return word in case.words and beside and case.never not in also and says
