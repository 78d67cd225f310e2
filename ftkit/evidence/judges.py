"""Judges of style, and the gate that each must pass before it may speak.

A judge that knows only real authors is easily fooled: barely trained gibberish can score above the author himself.
Both judges therefore also learn what the base model writes, and their scores are read between a floor (the base model)
and a ceiling (real held-out text).
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from accelerate import PartialState
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import TrainingSettings
from ftkit.errors import ModelError
from ftkit.evidence.texts import words_of
from ftkit.models import load_model, save_model
from ftkit.runs import progress
from ftkit.training import CLASSIFICATION, CheckpointFolder, ClassifiedTexts, Engine, predict_classes

__all__ = ["EncoderJudge", "Gate", "Judge", "JudgeTexts", "NgramJudge", "gate", "mask_names"]

_logger = logging.getLogger("ftkit.evidence")

MIN_AUC = 0.95
MIN_PASSAGES = 30


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

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""


class NgramJudge:
    """Logistic regression on character n-grams: simple, fast, and blind to everything but spelling and function words.

    Args:
        texts: Passages by class; the ``train`` part is learnt.
        seed: Seed of the solver.
    """

    name = "ngrams"

    def __init__(self, texts: JudgeTexts, seed: int = 0) -> None:
        self.classes = texts.classes
        passages = [passage for group in texts.train.values() for passage in group]
        labels = [number for number, group in enumerate(texts.train.values()) for _ in group]
        self._features = TfidfVectorizer(
            analyzer="char", ngram_range=(1, 4), min_df=2, max_features=50_000, sublinear_tf=True, lowercase=False
        )
        self._model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000, random_state=seed)
        self._model.fit(self._features.fit_transform(passages), labels)

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = self._model.predict_proba(self._features.transform(passages))
        return found


class EncoderJudge:
    """A sequence classifier of the BERT family.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        max_tokens: Longer passages are cut here, in training and in use alike.
    """

    name = "encoder"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model.eval(), tokenizer, max_tokens
        self.classes = [str(label) for _, label in sorted((model.config.id2label or {}).items())]

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = np.exp(predict_classes(self.model, self.tokenizer, passages, self.max_tokens))
        return found

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
        passages = [passage for group in texts.train.values() for passage in group]
        labels = [number for number, group in enumerate(texts.train.values()) for _ in group]
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
        if missing := set(classes) - set(judge.classes):
            raise ModelError(
                f"judge {folder}: knows the classes {judge.classes}, not {sorted(missing)}; train it on these corpora"
            )
        return judge


@dataclass(frozen=True)
class Gate:
    """How well a judge tells held-out passages apart, and whether that is enough to speak."""

    auc: dict[str, float]
    """Area under the ROC curve, each class against the rest."""
    auc_names_masked: dict[str, float]
    """The same with names replaced: style must not rest on who appears in the story."""
    accuracy: float
    passages: dict[str, int]
    speaks: bool
    reason: str


_NAME = re.compile(r"(?<=[a-z,;:] )(?:[A-Z][\w’']+)(?: [A-Z][\w’']+)*")


def mask_names(passage: str) -> str:
    """Replace capitalised words inside sentences, which are names or titles, by one placeholder."""
    return _NAME.sub("Someone", passage)


def gate(judge: Judge, heldout: dict[str, list[str]], targets: Sequence[str], min_auc: float = MIN_AUC) -> Gate:
    """Test a judge on held-out passages.

    Args:
        judge: The judge.
        heldout: Held-out passages of every class.
        targets: The classes whose scores will be used; each must reach ``min_auc``.
        min_auc: The bar.

    Returns:
        The figures, and whether the judge may speak.
    """
    passages = [passage for name in judge.classes for passage in heldout[name]]
    truth = np.array([number for number, name in enumerate(judge.classes) for _ in heldout[name]])

    def aucs(probabilities: np.ndarray) -> dict[str, float]:
        return {
            name: float(roc_auc_score(truth == number, probabilities[:, number]))
            for number, name in enumerate(judge.classes)
        }

    plain = judge.probabilities(passages)
    auc = aucs(plain)
    masked = aucs(judge.probabilities([mask_names(passage) for passage in passages]))
    counts = {name: len(heldout[name]) for name in judge.classes}
    few = [f"{name} ({counts[name]})" for name in judge.classes if counts[name] < MIN_PASSAGES]
    low = [f"{name} ({auc[name]:.3f})" for name in targets if auc[name] < min_auc]
    if few:
        reason = f"fewer than {MIN_PASSAGES} held-out passages of {', '.join(few)}"
    elif low:
        reason = f"AUC on held-out passages below {min_auc}: {', '.join(low)}"
    else:
        reason = f"AUC on held-out passages at least {min(auc[name] for name in targets):.3f}"
    return Gate(auc, masked, float((plain.argmax(1) == truth).mean()), counts, not (few or low), reason)


def vocabulary_of(texts: Sequence[str]) -> set[str]:
    """Every word of some texts, lower case."""
    return {word for text in texts for word in words_of(text)}
