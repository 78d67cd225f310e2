"""Cut a corpus into a training part and a held-out part before it is tokenized, so that they share no character.

Cuts fall between paragraphs where one is near, else between lines, sentences or words.
"""

import random
import re
from dataclasses import dataclass

from ftkit.data.sources import Corpus
from ftkit.errors import DataError, nearest_name

__all__ = ["Split", "split_corpus"]

POLICIES = ("blocks", "head", "tail")
# Where a text may be cut, best first: each pattern ends at the cut.
BOUNDARIES = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"[.!?][\"')\]\u2019\u201d]*\s+"),
    re.compile(r"\s+"),
)
TOLERANCE = 0.1  # a cut moves at most this share of the held-out piece to reach a better boundary


@dataclass(frozen=True)
class Split:
    """A corpus in two parts.

    Args:
        train: Contiguous pieces of the text to train on, in order.
        heldout: Contiguous pieces of the text never trained on, in order.
        heldout_spans: First and one past the last character of each held-out piece in ``Corpus.text``.
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    heldout_spans: tuple[tuple[int, int], ...]


def split_corpus(
    corpus: Corpus, *, policy: str = "tail", heldout_share: float = 0.1, num_blocks: int = 10, seed: int = 0
) -> Split:
    """Cut a corpus; the pieces of both parts, put back in order, are exactly ``corpus.text``.

    Args:
        corpus: What to cut.
        policy: ``"tail"`` holds out the end, ``"head"`` the beginning, ``"blocks"`` some random stretches.
        heldout_share: Share of the characters to hold out, above 0 and below 1.
        num_blocks: For ``"blocks"``, how many stretches; neighbours become one.
        seed: For ``"blocks"``, which stretches.

    Returns:
        The two parts, neither of them empty.

    Raises:
        DataError: Unknown policy, impossible numbers, or a text too short to give both parts some words.
    """
    if policy not in POLICIES:
        raise DataError(f"Split policy {policy!r} does not exist{nearest_name(policy, POLICIES)}")
    if not 0 < heldout_share < 1:
        raise DataError(f"heldout_share is {heldout_share}; give a share above 0 and below 1, such as 0.1.")
    text = corpus.text
    if policy == "blocks":
        spans = _random_spans(text, heldout_share, num_blocks, seed)
    else:
        share = heldout_share if policy == "head" else 1 - heldout_share
        cut = _cut_near(text, round(share * len(text)), round(TOLERANCE * min(share, 1 - share) * len(text)))
        spans = [(0, cut)] if policy == "head" else [(cut, len(text))]
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    train = tuple(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start)
    heldout = tuple(text[start:end] for start, end in spans)
    for side, pieces in (("training", train), ("held-out", heldout)):
        if not any(piece.strip() for piece in pieces):
            raise DataError(
                f"Corpus {corpus.source!r}: the {side} part would be empty, {heldout_share:g} of {corpus.num_words:,} "
                f"words held out by policy {policy!r}. Give more text, or another heldout_share."
            )
    return Split(train, heldout, tuple(spans))


def _cut_near(text: str, target: int, reach: int) -> int:
    """The nearest cut of the best kind at most ``reach`` characters from ``target``, else ``target`` itself."""
    low, high = max(target - reach, 0), min(target + reach, len(text))
    for pattern in BOUNDARIES:
        cuts = [found.end() for found in pattern.finditer(text, low, high) if 0 < found.end() < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - target))
    return min(max(target, 1), len(text) - 1)


def _random_spans(text: str, heldout_share: float, num_blocks: int, seed: int) -> list[tuple[int, int]]:
    """Some of many cells of equal length, neighbours merged, their borders moved to the nearest good cut."""
    num_cells = round(num_blocks / heldout_share)
    if num_blocks < 1 or num_cells <= num_blocks:
        raise DataError(
            f"{num_blocks} blocks cannot hold out a share of {heldout_share:g}. Give num_blocks of at least 1 and "
            f"heldout_share of at most {num_blocks / (num_blocks + 1) if num_blocks > 0 else 0.5:.2f}."
        )
    generator = random.Random(f"split {seed}")
    # Sorting by random numbers rather than random.sample, whose draws may change between Python versions.
    cells = sorted(sorted(range(num_cells), key=lambda _: generator.random())[:num_blocks])
    size = len(text) / num_cells
    spans: list[tuple[int, int]] = []
    for cell in cells:
        start = _cell_border(text, cell, size, num_cells)
        end = _cell_border(text, cell + 1, size, num_cells)
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        elif end > start:
            spans.append((start, end))
    return spans


def _cell_border(text: str, cell: int, size: float, num_cells: int) -> int:
    if cell in (0, num_cells):
        return 0 if cell == 0 else len(text)
    return _cut_near(text, round(cell * size), round(size / 4))
