"""The simple judge: logistic regression on character n-grams and function words."""

from collections.abc import Sequence

import numpy as np

from ftkit.evidence.baselines import spelling_model
from ftkit.evidence.judges import BuiltJudge, JudgeRequest, JudgeTexts, labelled
from ftkit.runs.planner import planner

__all__ = ["JUDGE", "NgramJudge"]


class NgramJudge:
    """The simple judge: fast, and blind to everything but spelling and function words.

    Args:
        texts: Passages by class; the ``train`` part is learned.
        seed: Seed of the solver.
    """

    name, unit = "ngrams", "characters"

    def __init__(self, texts: JudgeTexts, seed: int = 0) -> None:
        self.classes = texts.classes
        self._model = spelling_model(seed).fit(*labelled(texts.train))

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = self._model.predict_proba(passages)
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Characters of each passage."""
        return np.array([len(passage) for passage in passages])

    def relearn(self, train: dict[str, list[str]], seed: int) -> "NgramJudge":
        """The same judge on other passages."""
        return NgramJudge(JudgeTexts(train, {}), seed)


def build_ngram_judge(request: JudgeRequest) -> BuiltJudge | None:
    """Fit it; a plan measures nothing that takes seconds."""
    return None if planner() else BuiltJudge(NgramJudge(request.texts, request.seed))


JUDGE = build_ngram_judge
