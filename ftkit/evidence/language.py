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

from ftkit.data.words import shuffled_words, words_of
from ftkit.evidence.corrupted import character_chain
from ftkit.evidence.ngram_models import NgramModel
from ftkit.evidence.texts import spread_evenly

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TokenizersBackend

    from ftkit.data import TokenStore

__all__ = ["LanguageClassifier", "PassageCosts", "Reference", "counted_letters", "passage_costs", "shuffle_passages"]

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
        """Bits per byte of each passage above real text, as a share of those of shuffled words above it."""
        return np.asarray((self.each - real.mean) / max(shuffled.mean - real.mean, 1e-6))

    @property
    def table(self) -> np.ndarray:
        """Bits and bytes side by side, [passages, 2]."""
        return np.stack([self.bits, self.bytes], 1)


def shuffle_passages(passages: Sequence[str], seed: int = 0) -> list[str]:
    """Each passage with its words in random order."""
    draw = random.Random(seed)
    return [shuffled_words(passage, draw) for passage in passages]


def passage_costs(reference: Reference, passages: Sequence[str], batch_rows: int = 16) -> PassageCosts:
    """What passages cost a reference, each read on its own; the first token of a passage is given.

    Args:
        reference: Model and tokenizer.
        passages: Texts; they are cut to the model's positions.
        batch_rows: Passages in a forward pass.
    """
    from ftkit.data import tokenize_texts

    stores = [tokenize_texts([passage], reference.tokenizer) for passage in passages]
    with reference.reader() as model:
        return _costs(model, stores, batch_rows)


def _costs(model: PreTrainedModel, stores: Sequence[TokenStore], batch_rows: int) -> PassageCosts:
    import torch

    from ftkit.models import usable_positions
    from ftkit.training.evaluation import rows_at_once
    from ftkit.training.objectives import IGNORED

    most = usable_positions(model)
    rows = [np.asarray(store.ids)[:most].astype(np.int64) for store in stores]
    batch_rows = rows_at_once(model, max(map(len, rows), default=1), batch_rows)
    bits, num_bytes = np.zeros(len(rows)), np.zeros(len(rows))
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    with torch.inference_mode():
        for first in range(0, len(order), batch_rows):
            part = order[first : first + batch_rows]
            width = max(len(rows[number]) for number in part)
            if width < 2:
                continue
            ids = torch.zeros((len(part), width), dtype=torch.int64)
            targets = torch.full((len(part), width), IGNORED)
            for place, number in enumerate(part):
                ids[place, : len(rows[number])] = torch.from_numpy(rows[number])
                targets[place, 1 : len(rows[number])] = ids[place, 1 : len(rows[number])]
            logits = model(input_ids=ids.to(device)).logits[:, :-1].float()
            nats = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets[:, 1:].flatten().to(device), ignore_index=IGNORED, reduction="none"
            )
            bits[part] = (nats.view(len(part), -1).double().sum(1) / math.log(2)).cpu().numpy()
            num_bytes[part] = [int(np.asarray(stores[n].byte_lengths)[1:most].sum()) for n in part]
    model.train(was_training)
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
        corrupted = [shuffle_passages(unseen)]
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
