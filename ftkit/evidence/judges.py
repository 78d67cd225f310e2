"""Judges of style; ``gates`` says when one may speak.

A judge that knows only real authors is easily fooled: barely trained gibberish can score above the author himself.
Both judges therefore also learn what the base model writes, and their scores are read between a floor (the base model)
and a ceiling (real held-out text).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from accelerate import PartialState
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import TrainingSettings
from ftkit.data.words import plain_words, words_of
from ftkit.errors import ModelError
from ftkit.evidence.baselines import text_features
from ftkit.models import load_model, save_model
from ftkit.runs import progress
from ftkit.training import CLASSIFICATION, CheckpointFolder, ClassifiedTexts, Engine, predict_classes

__all__ = ["EncoderJudge", "Judge", "JudgeTexts", "NgramJudge", "spelling_model", "vocabulary_of"]

_logger = logging.getLogger("ftkit.evidence")

MIN_PASSAGES = 30
"""Held-out passages of each class below which a judge is not asked: its gate's AUC would be too uncertain."""
_FUNCTION_WORDS = 150
"""Commonest words of the texts; in prose of any language these are function words."""


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

    def relearn(self, train: dict[str, list[str]], seed: int) -> "Judge":
        """A quick judge of the same kind that has learnt other passages: a second opinion, or a control."""


def spelling_model(seed: int = 0) -> Pipeline:
    """Logistic regression on character n-grams and on how often the commonest words stand, which are function words.

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
        texts: Passages by class; the ``train`` part is learnt.
        seed: Seed of the solver.
    """

    name, unit = "ngrams", "characters"

    def __init__(self, texts: JudgeTexts, seed: int = 0) -> None:
        self.classes = texts.classes
        self._model = spelling_model(seed).fit(*_labelled(texts.train))

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


def _labelled(groups: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Passages and the numbers of their classes."""
    passages = [passage for group in groups.values() for passage in group]
    return passages, [number for number, group in enumerate(groups.values()) for _ in group]


class EncoderJudge:
    """A sequence classifier of the BERT family.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        max_tokens: Longer passages are cut here, in training and in use alike.
    """

    name, unit = "encoder", "tokens"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model.eval(), tokenizer, max_tokens
        self.classes = [str(label) for _, label in sorted((model.config.id2label or {}).items())]

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = np.exp(predict_classes(self.model, self.tokenizer, passages, self.max_tokens))
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Tokens of each passage that are read."""
        ids = self.tokenizer(list(passages), truncation=True, max_length=self.max_tokens)["input_ids"]
        return np.array([len(row) for row in ids])

    def relearn(self, train: dict[str, list[str]], seed: int) -> "_HeadJudge":
        """A new head on this encoder's frozen body: training another encoder would double the cost."""
        return _HeadJudge(self, train, seed)

    @classmethod
    def train(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: JudgeTexts,
        settings: TrainingSettings,
        max_tokens: int,
        checkpoints: CheckpointFolder | None = None,
    ) -> "EncoderJudge":
        """Fine-tune a classifier on passages, every class equally often.

        Args:
            model: A sequence classifier with one label for each class.
            tokenizer: Its tokenizer.
            texts: Passages by class; the ``train`` part is learnt.
            settings: Steps, batch and rate.
            max_tokens: Longer passages are cut here.
            checkpoints: Where training is kept and resumed from.
        """
        passages, labels = _labelled(texts.train)
        rows = (
            settings.per_device_train_batch_size * settings.gradient_accumulation_steps * PartialState().num_processes
        )
        source = ClassifiedTexts(passages, labels, tokenizer, max_tokens, rows, settings.seed)
        with (
            Engine(model, CLASSIFICATION, source, settings, checkpoints) as engine,
            progress("judge", settings.max_steps, engine.step) as bar,
        ):
            for record in engine:
                bar.advance(f"loss {record.loss:.3f}")
        return cls(model, tokenizer, max_tokens)

    def save(self, folder: Path) -> None:
        """Write classifier, tokenizer and label map."""
        save_model(self.model, self.tokenizer, folder)

    @classmethod
    def load(cls, folder: Path | str, max_tokens: int, classes: Sequence[str]) -> "EncoderJudge":
        """Read a judge from a folder.

        Raises:
            ModelError: Its label map does not hold the classes that are asked for.
        """
        model = load_model(str(folder), task="sequence-classification")
        judge = cls(model, AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False), max_tokens)
        if missing := sorted(set(classes) - set(judge.classes)):
            raise ModelError(
                f"judge {folder}: knows the classes {judge.classes}, not {missing}. Give the folder as judge_model, so"
                " that it is trained on these texts with a new head, or start a new run in another output_dir"
            )
        return judge


class _HeadJudge:
    """Logistic regression on what an encoder's frozen body says of a passage."""

    name, unit = "head", "tokens"

    def __init__(self, encoder: EncoderJudge, train: dict[str, list[str]], seed: int) -> None:
        self._encoder, self.classes = encoder, encoder.classes
        passages, labels = _labelled({name: train[name] for name in self.classes})
        linear = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000, random_state=seed)
        self._model = make_pipeline(StandardScaler(), linear).fit(self._features(passages), labels)

    def _features(self, passages: Sequence[str]) -> np.ndarray:
        encoder = self._encoder
        return text_features(encoder.model, encoder.tokenizer, passages, encoder.max_tokens)

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = self._model.predict_proba(self._features(passages))
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Tokens of each passage that are read."""
        return self._encoder.lengths(passages)

    def relearn(self, train: dict[str, list[str]], seed: int) -> "_HeadJudge":
        """Another head."""
        return _HeadJudge(self._encoder, train, seed)


def vocabulary_of(texts: Sequence[str]) -> set[str]:
    """Every word of some texts, lower case."""
    return {word for text in texts for word in words_of(text)}
