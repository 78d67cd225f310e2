"""The simple judge: logistic regression on character n-grams, function words and shares of known words and letters."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ftkit.evidence.baselines import spelling_features
from ftkit.evidence.judges import BuiltJudge, JudgeRequest, JudgeTexts, authors_of, labelled
from ftkit.evidence.known_shares import KnownShares, NgramCounts
from ftkit.runs.planner import planner

__all__ = ["JUDGE", "NgramJudge"]


_WEIGHT = 0.3
"""Of the shares beside the n-grams."""


class NgramJudge:
    """The simple judge: fast, and blind to everything but spelling, function words and words that occur together.

    Args:
        texts: Passages by class; the ``train`` part is learned.
        seed: Seed of the solver.
        counts: Counts of passages that another judge has made.
    """

    name, unit = "ngrams", "characters"

    def __init__(self, texts: JudgeTexts, seed: int = 0, counts: NgramCounts | None = None) -> None:
        self.classes = texts.classes
        passages, labels = labelled(texts.train)
        self._spelling, self._scaler = spelling_features(), StandardScaler()
        self._known = KnownShares(texts.train, authors_of(self.classes), counts)
        shares = self._scaler.fit_transform(self._known.training)
        self._model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000, random_state=seed)
        self._model.fit(_joined(self._spelling.fit_transform(passages), shares), labels)

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        shares = self._scaler.transform(self._known.shares(passages))
        found: np.ndarray = self._model.predict_proba(_joined(self._spelling.transform(passages), shares))
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Characters of each passage."""
        return np.array([len(passage) for passage in passages])

    def relearn(self, train: dict[str, list[str]], seed: int) -> "NgramJudge":
        """The same judge on other passages."""
        return NgramJudge(JudgeTexts(train, {}), seed, self._known.counts)


def _joined(spelling: csr_matrix, shares: np.ndarray) -> csr_matrix:
    return csr_matrix(hstack([spelling, _WEIGHT * shares]))


def build_ngram_judge(request: JudgeRequest) -> BuiltJudge | None:
    """Fit it; a plan measures nothing that takes seconds."""
    return None if planner() else BuiltJudge(NgramJudge(request.texts, request.seed))


JUDGE = build_ngram_judge
