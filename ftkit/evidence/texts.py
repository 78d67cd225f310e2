"""Passages that can be compared: real and generated text cut to one length, measured in characters.

Characters, not tokens: the same rule then holds for a generator and a judge with different tokenizers. Line breaks and
runs of spaces become single spaces, so that nobody is recognised by the width of a page.
"""

from collections.abc import Sequence

import numpy as np

from ftkit.data.words import begins_inside_word, whole_characters, word_spans, words_of, written_pieces

__all__ = ["cut_passages", "fit_passage", "spread_evenly", "word_spans", "words_of"]

_LONGEST_WORD = 40  # characters; beyond it a "word" is writing without spaces


def spread_evenly(passages: Sequence[str], most: int) -> list[str]:
    """At most so many passages, taken evenly from all of them, in their order."""
    places = np.linspace(0, len(passages) - 1, min(len(passages), most)).astype(int)
    return [passages[place] for place in places]


def fit_passage(text: str, characters: int) -> str:
    """Cut a text to at most ``characters``, at spaces on both sides, white space folded.

    The first word is dropped where the text begins inside it, which a leading letter shows.
    """
    folded = " ".join(text.split())
    if begins_inside_word(text) and " " in folded[:_LONGEST_WORD]:
        folded = folded.partition(" ")[2]
    if len(folded) <= characters:
        return folded
    cut = folded[: characters + 1].rpartition(" ")[0]
    return cut if len(cut) > characters - _LONGEST_WORD else folded[: whole_characters(folded, characters)]


def cut_passages(texts: Sequence[str], characters: int) -> list[str]:
    """Cut real text into consecutive passages that do not overlap.

    Args:
        texts: Contiguous texts, such as one side of a split. One that is too short for a passage is read on with the
            next, so that a corpus of short documents has passages too.
        characters: Length of a passage; a remainder shorter than nine tenths of it is left out.

    Returns:
        The passages, in the order of the text.
    """
    passages: list[str] = []
    current: list[str] = []
    length = 0
    for text in texts:
        before = len(passages)
        for piece, spaced in written_pieces(text, _LONGEST_WORD):
            if length + len(piece) + (spaced and bool(current)) > characters:
                passages.append("".join(current))
                current, length = [], 0
            written = f" {piece}" if spaced and current else piece
            length += len(written)
            current.append(written)
        if length >= 0.9 * characters:
            passages.append("".join(current))
        if len(passages) > before:  # of what remains of a longer text nothing is left for the next
            current, length = [], 0
    return [passage for passage in passages if passage]
