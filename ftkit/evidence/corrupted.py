"""Corrupted target text as classes of the judges, so that text of the right words or letters is not taken for style.

Two classes, because they differ from real text in other ways: words in random order, and a chain of characters.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

from ftkit.data.words import shuffled_words
from ftkit.errors import DataError
from ftkit.evidence.judges import CHAIN, SHUFFLED, JudgeTexts
from ftkit.evidence.texts import fit_passage, spread_evenly

__all__ = ["character_chain", "shuffle_passages", "with_corrupted"]

_ORDERS = (4, 5, 6)
"""Of the chains. Below 4 every judge sees it; a chain of order 7 copies whole sentences of a short text."""
_TRAIN, _HELD_OUT = 300, 99
"""Passages of each class that a judge learns, and that test it, at most."""
_SOURCE = 600
"""Training passages that a chain is made of at most: it then takes two seconds."""


def with_corrupted(texts: JudgeTexts, targets: Sequence[str], seed: int) -> JudgeTexts:
    """Add shuffled words and character chains of the targets' text.

    Args:
        texts: Passages by class.
        targets: The classes whose text is corrupted; several are pooled.
        seed: Same seed, same text.

    Returns:
        The passages with two more classes. Held-out shuffled passages are made of held-out text. Chains are those of
        the training text on both sides, since a model can only repeat that.

    Raises:
        DataError: A text has a name that ftkit uses itself.
    """
    if taken := {SHUFFLED, CHAIN} & set(texts.train):
        raise DataError(f"{sorted(taken)[0]!r} is a name that ftkit uses itself; choose another for this text")
    train: dict[str, list[str]] = {SHUFFLED: [], CHAIN: []}
    heldout: dict[str, list[str]] = {SHUFFLED: [], CHAIN: []}
    for number, name in enumerate(targets):
        draw = random.Random(f"{seed} {number}")
        source = spread_evenly(texts.train[name], _SOURCE)
        if not source:
            continue
        length = max(map(len, source))
        for side, passages, most in ((train, source, _TRAIN), (heldout, texts.heldout[name], _HELD_OUT)):
            count = -(-most // len(targets))
            side[SHUFFLED] += shuffle_passages(spread_evenly(passages, count), draw)
            each = -(-min(count, max(len(passages), 1)) // len(_ORDERS))
            side[CHAIN] += [p for order in _ORDERS for p in character_chain(source, order, each, length, draw)]
    return JudgeTexts(texts.train | train, texts.heldout | heldout)


def shuffle_passages(passages: Sequence[str], draw: random.Random) -> list[str]:
    """Each passage with its words in random order.

    Args:
        passages: The text.
        draw: What draws the order.
    """
    return [shuffled_words(passage, draw) for passage in passages]


def character_chain(passages: Sequence[str], order: int, count: int, characters: int, draw: random.Random) -> list[str]:
    """Passages in which each character follows the ``order`` characters before it as it does in a text.

    Args:
        passages: The text.
        order: Characters that the next one depends on.
        count: How many passages.
        characters: Length of a passage.
        draw: What draws them.
    """
    following: defaultdict[str, list[str]] = defaultdict(list)
    text = " ".join(passages)
    text += " " + text[: order + 1]  # a circle, so that every place has a next character
    for place in range(len(text) - order):
        following[text[place : place + order]].append(text[place + order])
    found = []
    for _ in range(count):
        written = text[(start := draw.randrange(len(text) - order)) : start + order]
        while len(written) < characters + order:
            written += draw.choice(following[written[-order:]])
        found.append(fit_passage(written, characters))
    return found
