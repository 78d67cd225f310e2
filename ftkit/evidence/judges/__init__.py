"""The judges of style, one file each; ``gates`` tests each on passages whose author is known before it is used.

A judge that knows only real authors gives high scores to the text of a barely trained model, and to gibberish. Judges
therefore also learn what the base model writes, and corrupted text of the target (``ftkit.evidence.corrupted``).

A file here with a function ``JUDGE`` is a judge; so is an entry point ``ftkit.judges``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ftkit.data.words import words_of

if TYPE_CHECKING:
    from ftkit.config import TrainingSettings
    from ftkit.runs import RunFolder

__all__ = [
    "BASE", "CHAIN", "CORRUPTED", "MIN_PASSAGES", "MOST_TRAINING", "SHUFFLED", "BuiltJudge", "Judge", "JudgeBuilder",
    "JudgeRequest", "JudgeSettings", "JudgeTexts", "all_judges", "authors_of", "labelled", "vocabulary_of",
]  # fmt: skip

BASE = "base model"
"""Class of what the base model writes."""
SHUFFLED, CHAIN = CORRUPTED = "shuffled words", "character chain"
"""Classes of corrupted target text."""
MIN_PASSAGES = 30
"""Held-out passages of each class below which a judge is not used: its gate's AUC would be too uncertain."""
MOST_TRAINING = 2000
"""Training passages of a class at most; more improve no judge."""


@dataclass(frozen=True)
class JudgeTexts:
    """Passages for one judge, by class; the held-out ones come from other parts of the text, or are other passages."""

    train: dict[str, list[str]]
    heldout: dict[str, list[str]]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the judge's outputs."""
        return list(self.train)


class Judge(Protocol):
    """Says how likely each class is for each passage."""

    name: str
    classes: list[str]
    unit: str
    """What ``lengths`` counts."""

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """How much of each passage the judge reads, int64 [passages]."""

    def relearn(self, train: dict[str, list[str]], seed: int) -> Judge:
        """A quick judge of the same kind that has learned other passages: a second opinion, or a control."""


class JudgeSettings(Protocol):
    """Settings of the judges that are trained."""

    @property
    def judge_model(self) -> str:
        """Folder, Hub id or ``new:CONFIG`` of the encoder."""

    @property
    def judge_tokens(self) -> int:
        """Tokens of a passage that it reads."""

    @property
    def judge_seeds(self) -> int:
        """2 trains it twice, so that its agreement over two seeds is that of whole encoders and not of two heads."""

    @property
    def save_total_limit(self) -> int:
        """Checkpoints that are kept."""

    def judge_settings(self) -> TrainingSettings:
        """What it is trained with."""


@dataclass(frozen=True)
class JudgeRequest:
    """What a judge is built from."""

    texts: JudgeTexts
    seed: int
    settings: JudgeSettings | None = None
    """``None``: only judges that need no training run."""
    run: RunFolder | None = None
    """Where trained judges are kept."""


@dataclass(frozen=True)
class BuiltJudge:
    """A judge, and the same judge from another seed where it was trained twice."""

    judge: Judge
    twin: Judge | None = None


JudgeBuilder = Callable[[JudgeRequest], BuiltJudge | None]
"""Builds a judge; ``None`` where the request asks for none of its kind."""


@cache
def all_judges() -> tuple[JudgeBuilder, ...]:
    """Every judge that is installed, the package's own first, by the names of their files."""
    own = [import_module(f"{__name__}.{module.name}").JUDGE for module in iter_modules(__path__)]
    return (*own, *(point.load() for point in entry_points(group="ftkit.judges")))


def authors_of(classes: Iterable[str]) -> list[str]:
    """The classes that are real text, in their order."""
    return [name for name in classes if name not in (BASE, *CORRUPTED)]


def labelled(groups: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Passages and the numbers of their classes."""
    passages = [passage for group in groups.values() for passage in group]
    return passages, [number for number, group in enumerate(groups.values()) for _ in group]


def vocabulary_of(texts: Sequence[str]) -> set[str]:
    """Every word of some texts, lower case."""
    return {word for text in texts for word in words_of(text)}
