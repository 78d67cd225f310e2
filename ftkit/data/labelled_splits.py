"""Divide labelled texts into a side to learn from and a side to be tested on, with no text on both.

Published sets hold texts twice, also across their own training and test parts; who is tested on what it has learned by
heart looks better than it is.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftkit.data.labelled import LabelledTexts
from ftkit.errors import DataError

__all__ = ["LabelledSplit", "separate_labelled", "split_labelled"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledSplit:
    """Texts to learn from and texts to be tested on, both shuffled; no text is on both sides."""

    train: LabelledTexts
    test: LabelledTexts
    repeated: int
    """Texts that stand in the source more than once, each counted once; all of a kind are on one side."""
    contradicted: int
    """Those of them that have several classes."""
    order: tuple[dict[str, Any], ...] = ()
    """Shares of the classes along the source, before anything was shuffled; see ``LabelledTexts.label_order``."""


def split_labelled(texts: LabelledTexts, *, heldout_share: float = 0.2, seed: int = 0) -> LabelledSplit:
    """Divide texts so that both sides have the classes' shares.

    Texts that differ only in white space and capitals count as one and stay together.

    Args:
        texts: What to divide.
        heldout_share: Share of each class for the test, above 0 and below 1.
        seed: Which texts, and their order.

    Raises:
        DataError: A class with fewer than two different texts.
    """
    kinds = _kinds(texts)
    by_class: list[list[list[int]]] = [[] for _ in texts.classes]
    for places in kinds.values():
        by_class[texts.labels[places[0]]].append(places)
    test: list[int] = []
    for number, (name, found) in enumerate(zip(texts.classes, by_class, strict=True)):
        if len(found) < 2:
            raise DataError(
                f"{texts.source}: {len(found)} different text of the class {name!r}; training and test need one each. "
                "Give more texts of it."
            )
        wanted, taken = heldout_share * sum(map(len, found)), 0
        for place in np.random.default_rng([seed, number]).permutation(len(found))[:-1]:  # one is left to learn from
            if taken and taken + len(found[place]) / 2 > wanted:
                break
            test += found[place]
            taken += len(found[place])
    held = set(test)
    train = [place for place in range(len(texts)) if place not in held]
    return _split(texts.take(_shuffled(train, seed)), texts.take(_shuffled(test, seed + 1)), kinds, texts)


def separate_labelled(train: LabelledTexts, test: LabelledTexts, *, seed: int = 0) -> LabelledSplit:
    """Use a test set of its own: what stands in it is taken out of the texts to learn from, and both are shuffled.

    Args:
        train: Texts to learn from.
        test: Texts to be tested on, of the same classes.
        seed: Their order.

    Raises:
        DataError: Nothing of a class is left to learn from.
    """
    tested = _kinds(test)
    kept = train.take([place for place, text in enumerate(train.texts) if _folded(text) not in tested])
    if len(kept) < len(train):
        logger.warning(
            "%s of %s texts to learn from stand in the test set too and are left out",
            f"{len(train) - len(kept):,}",
            f"{len(train):,}",
        )
    if empty := [name for name, count in kept.counts.items() if not count]:
        raise DataError(
            f"{train.source}: no text of the class {empty[0]!r} is left to learn from, all stand in {test.source} too. "
            "Give another test set, or let heldout_share divide one."
        )
    places = [_shuffled(range(len(part)), seed + number) for number, part in enumerate((kept, test))]
    return _split(kept.take(places[0]), test.take(places[1]), _kinds(kept), kept)


def _split(
    train: LabelledTexts, test: LabelledTexts, kinds: Mapping[str, list[int]], source: LabelledTexts
) -> LabelledSplit:
    repeated = [places for places in kinds.values() if len(places) > 1]
    contradicted = sum(len({source.labels[place] for place in places}) > 1 for places in repeated)
    if contradicted:
        logger.warning(
            "%d texts stand in %s in several classes; nothing can be learned from them", contradicted, train.source
        )
    return LabelledSplit(train, test, len(repeated), contradicted, tuple(source.label_order()))


def _folded(text: str) -> str:
    """What is the same for texts that count as one."""
    return " ".join(text.casefold().split())


def _kinds(texts: LabelledTexts) -> dict[str, list[int]]:
    """Places of each different text."""
    kinds: dict[str, list[int]] = {}
    for place, text in enumerate(texts.texts):
        kinds.setdefault(_folded(text), []).append(place)
    return kinds


def _shuffled(places: Sequence[int], seed: int) -> list[int]:
    return [places[i] for i in np.random.default_rng([seed, len(places)]).permutation(len(places))]
