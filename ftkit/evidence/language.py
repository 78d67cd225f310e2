"""Whether what a model writes is language: what its passages cost a competent reader, beside real and shuffled text.

    reference that passes its gates -> excess of the passages over real text, as a share of that of shuffled words
    no such reference               -> a classifier of real text against shuffled words and chains of letters

A reference is a language model with its tokenizer. The base is one where it can read the text well enough.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.data.words import words_of
from ftkit.evidence.corrupted import character_chain, shuffle_passages
from ftkit.evidence.ngram_models import NgramModel
from ftkit.evidence.texts import spread_evenly

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TokenizersBackend

__all__ = ["LanguageClassifier", "PassageCosts", "Reference", "counted_letters", "passage_costs"]

_LETTERS = 5
"""Letters in a run of the model that a reference must be better than: it knows spelling and no sentence."""
_MOST_LETTERS = 1_000_000
"""Of the training text that counted models read at most: about 12 seconds. A chain of letters of text that they have
not read looks new to them: when they read 300,000 letters of *Gulliver* only, 65 % of a chain of order 6 was taken for
real."""
_CHAINS = (4, 6)
"""Orders of the chains of letters. Of a longer one most of a passage stands in the training text, which is copying."""
_FEWEST = 20
"""Passages of the training text below which nothing is learned from them."""


@dataclass(frozen=True)
class Reference:
    """A language model that reads passages."""

    name: str
    model: PreTrainedModel
    tokenizer: TokenizersBackend
    beneath: bool = False
    """Whether it is the base under the adapter of ``model``."""

    @contextmanager
    def reader(self) -> Iterator[PreTrainedModel]:
        """The model that reads, as long as the context lasts."""
        from ftkit.models import base_or_beneath

        with base_or_beneath(None if self.beneath else self.model, self.model) as model:
            yield model


@dataclass(frozen=True)
class PassageCosts:
    """What passages cost a reference, [passages]."""

    bits: np.ndarray
    bytes: np.ndarray

    @property
    def each(self) -> np.ndarray:
        """Bits per byte of each passage."""
        return np.asarray(self.bits / np.maximum(self.bytes, 1))

    @property
    def mean(self) -> float:
        """Bits per byte of all passages together."""
        return float(self.bits.sum() / max(self.bytes.sum(), 1))

    def excess(self, real: PassageCosts, shuffled: PassageCosts) -> np.ndarray:
        """Bits per byte of each passage above real text, as a share of those of shuffled words above it; 1 of an empty
        passage."""
        found = (self.each - real.mean) / max(shuffled.mean - real.mean, 1e-6)
        return np.where(self.bytes > 0, found, 1.0)

    @property
    def table(self) -> np.ndarray:
        """Bits and bytes side by side, [passages, 2]."""
        return np.stack([self.bits, self.bytes], 1)


def passage_costs(reference: Reference, passages: Sequence[str], batch_rows: int = 16) -> PassageCosts:
    """What passages cost a reference, each read on its own; the first token of a passage is given. An empty one
    costs nothing and has no bytes.

    Args:
        reference: Model and tokenizer.
        passages: Texts; they are cut to the model's positions.
        batch_rows: Passages in a forward pass.
    """
    from ftkit.data import tokenize_each
    from ftkit.models import usable_positions
    from ftkit.training import HeldOutTexts, held_out_loss

    written = [number for number, text in enumerate(passages) if text.strip()]
    read_as = tokenize_each([passages[number] for number in written], reference.tokenizer)
    stores = dict(zip(written, read_as, strict=True))
    order = sorted(stores, key=lambda number: stores[number].num_tokens)  # hardly any padding in a batch
    with reference.reader() as model:
        read = HeldOutTexts([stores[number] for number in order], usable_positions(model))
        loss = held_out_loss(model, read, batch_rows=batch_rows)
    bits, num_bytes = np.zeros(len(passages)), np.zeros(len(passages))
    bits[order], num_bytes[order] = loss.nats / math.log(2), loss.bytes
    return PassageCosts(bits, num_bytes)


def counted_letters(train: Sequence[str], heldout: Sequence[str]) -> float:
    """Bits per byte of held-out passages under a model that counts runs of five letters of the training text."""
    model = NgramModel(train, _LETTERS)
    bits = sum(model.bits(passage).sum() for passage in heldout)
    return float(bits / max(sum(len(passage.encode()) for passage in heldout), 1))


class LanguageClassifier:
    """Tells real passages from shuffled words and from chains of letters, by what they cost models that count.

    Three logistic regressions, each real text against one kind of corrupted text; a passage counts as real where all
    say so. The counted models know one half of the training text while the other half stands for text that was not
    seen, as held-out text will be; what is corrupted is made of the half that they know, as a tuned model's text is.

    Args:
        passages: Passages of the training text.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        known, unseen = passages[0::2], passages[1::2]
        draw, characters = random.Random(0), max(map(len, passages))
        corrupted = [shuffle_passages(unseen, random.Random(0))]
        corrupted += [character_chain(known, order, len(unseen), characters, draw) for order in _CHAINS]
        self._count(known)
        real, self._models = self._features(unseen), list[Any]()
        for group in corrupted:
            labels = np.repeat([1, 0], [len(unseen), len(group)])
            model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
            self._models.append(model.fit(np.concatenate([real, self._features(group)]), labels))
        self._count(passages)

    def real_side(self, passages: Sequence[str]) -> np.ndarray:
        """Probability that a passage is real: the least of the three, [passages]."""
        features = self._features(passages)
        found: np.ndarray = np.min([model.predict_proba(features)[:, 1] for model in self._models], axis=0)
        return found

    def _count(self, passages: Sequence[str]) -> None:
        self._words = NgramModel([tuple(words_of(passage)) for passage in passages], 3)
        self._letters = NgramModel(passages, max(_CHAINS))

    def _features(self, passages: Sequence[str]) -> np.ndarray:
        return np.array([self._of(passage) for passage in passages])

    def _of(self, passage: str) -> list[float]:
        """Bits that the words before save, shares of unknown words and known pairs, bits of a word and of a letter, and
        how much those of letters vary."""
        words = tuple(words_of(passage))
        if len(words) < 2 or not passage:
            return [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        costs, alone, letters = self._words.bits(words), self._words.single_bits(words), self._letters.bits(passage)
        unknown = np.mean([word not in self._words.single for word in words])
        pairs = np.mean([self._words.follows((first,), second) for first, second in pairwise(words)])
        return [(alone - costs).mean(), float(unknown), float(pairs), costs.mean(), letters.mean(), letters.std()]


def learn_language(train_passages: Sequence[str]) -> LanguageClassifier | None:
    """A classifier of the training text; ``None`` where there is too little of it."""
    if len(train_passages) < _FEWEST:
        return None
    most = _MOST_LETTERS // max(len(train_passages[0]), 1)
    return LanguageClassifier(spread_evenly(train_passages, most))
