"""Cut a corpus into a training part and a held-out part before it is tokenized, so that they share no character.

Cuts fall between documents where a border is near, else between paragraphs, lines, sentences or words.
"""

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ftkit.data.corpus import Corpus
from ftkit.errors import DataError, nearest_name

__all__ = ["Split", "split_corpus"]

POLICIES = ("blocks", "head", "tail")
# Where a text may be cut, best first: each pattern ends at the cut.
BOUNDARIES = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    re.compile(
        r"[.!?][\"')\]\u2019\u201d]*\s+|[\u3002\uff01\uff1f\uff61\u0964\u104b\u17d4][\u300d\u300f\u2019\u201d\uff09]*\s*"
    ),
    re.compile(r"\s+"),
)
TOLERANCE = 0.1  # a cut moves at most this share of the held-out piece to reach a better boundary
DOCUMENT_TOLERANCE = 0.2  # and this share to leave a document whole


@dataclass(frozen=True)
class Split:
    """A corpus in two parts.

    Args:
        train: Contiguous pieces of the text to train on, in order.
        heldout: Contiguous pieces of the text never trained on, in order.
        heldout_spans: First and one past the last character of each held-out piece in ``Corpus.text``.
        train_documents: The training pieces, divided where a document ends, without the blank lines between documents.
            Of a corpus of one document they are the pieces themselves.
        heldout_documents: The held-out pieces likewise.
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    heldout_spans: tuple[tuple[int, int], ...]
    train_documents: tuple[str, ...]
    heldout_documents: tuple[str, ...]


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
    text, documents = corpus.text, _document_spans(corpus)
    starts = [start for start, _ in documents[1:]]
    if policy == "blocks":
        spans = _random_spans(text, starts, heldout_share, num_blocks, seed)
    else:
        share = heldout_share if policy == "head" else 1 - heldout_share
        size = min(share, 1 - share) * len(text)
        target = round(share * len(text))
        cut = _start_near(starts, target, round(DOCUMENT_TOLERANCE * size))
        cut = _cut_near(text, target, round(TOLERANCE * size)) if cut is None else cut
        spans = [(0, cut)] if policy == "head" else [(cut, len(text))]
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    rest = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]
    train = tuple(text[start:end] for start, end in rest)
    heldout = tuple(text[start:end] for start, end in spans)
    for side, pieces in (("training", train), ("held-out", heldout)):
        if not any(piece.strip() for piece in pieces):
            raise DataError(
                f"Corpus {corpus.source!r}: the {side} part would be empty, {heldout_share:g} of {corpus.num_words:,} "
                f"words held out by policy {policy!r}. Give more text, or another heldout_share."
            )
    if len(documents) == 1:
        return Split(train, heldout, tuple(spans), train, heldout)
    return Split(train, heldout, tuple(spans), _divided(text, rest, documents), _divided(text, spans, documents))


def _document_spans(corpus: Corpus) -> list[tuple[int, int]]:
    """First and one past the last character of each document in ``Corpus.text``."""
    spans: list[tuple[int, int]] = []
    for document in corpus.documents:
        start = spans[-1][1] + len(Corpus.BETWEEN) if spans else 0
        spans.append((start, start + len(document.text)))
    return spans


def _divided(text: str, pieces: Sequence[tuple[int, int]], documents: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """What stands of each document in each piece; blank ends of documents are left out."""
    ends = [end for _, end in documents]
    found = []
    for start, end in pieces:
        for first, last in documents[bisect_right(ends, start) :]:
            if first >= end:
                break
            found.append(text[max(first, start) : min(last, end)])
    return tuple(part for part in found if part.strip())


def _start_near(starts: Sequence[int], target: int, reach: int) -> int | None:
    """The start of a document nearest to ``target``, at most ``reach`` characters from it."""
    near = starts[bisect_left(starts, target - reach) : bisect_right(starts, target + reach)]
    return min(near, key=lambda start: abs(start - target), default=None)


def _cut_near(text: str, target: int, reach: int) -> int:
    """The nearest cut of the best kind at most ``reach`` characters from ``target``, else ``target`` itself."""
    low, high = max(target - reach, 0), min(target + reach, len(text))
    for pattern in BOUNDARIES:
        cuts = [found.end() for found in pattern.finditer(text, low, high) if 0 < found.end() < len(text)]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - target))
    return min(max(target, 1), len(text) - 1)


def _random_spans(
    text: str, starts: Sequence[int], heldout_share: float, num_blocks: int, seed: int
) -> list[tuple[int, int]]:
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
        start = _cell_border(text, starts, cell, size, num_cells)
        end = _cell_border(text, starts, cell + 1, size, num_cells)
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        elif end > start:
            spans.append((start, end))
    return spans


def _cell_border(text: str, starts: Sequence[int], cell: int, size: float, num_cells: int) -> int:
    if cell in (0, num_cells):
        return 0 if cell == 0 else len(text)
    near = _start_near(starts, round(cell * size), round(size / 4))
    return _cut_near(text, round(cell * size), round(size / 4)) if near is None else near
