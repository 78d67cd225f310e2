"""The simple judge: logistic regression on character n-grams and function words."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from ftkit.data.words import plain_words
from ftkit.evidence.judges import BuiltJudge, JudgeRequest, JudgeTexts, labelled
from ftkit.runs.planner import planner

__all__ = ["JUDGE", "NgramJudge", "spelling_model"]

_FUNCTION_WORDS = 150
"""Most frequent words of the texts; in prose of any language these are function words."""


def spelling_model(seed: int = 0) -> Pipeline:
    """Logistic regression on character n-grams and on the rates of the most frequent words, which are function words.

    Args:
        seed: Seed of the solver.
    """
    characters = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 4), min_df=2, max_features=50_000, sublinear_tf=True, lowercase=False
    )
    words = TfidfVectorizer(max_features=_FUNCTION_WORDS, tokenizer=plain_words, token_pattern=None, use_idf=False)
    model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000, random_state=seed)
    return make_pipeline(FeatureUnion([("characters", characters), ("words", words)]), model)


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
