"""Passages that can be compared: real and generated text cut to one length, measured in characters.

Characters, not tokens: the same rule then holds for a generator and a judge with different tokenizers. Line breaks and
runs of spaces become single spaces, so that nobody is recognised by the width of a page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeVar

import numpy as np

from ftkit.data.words import begins_inside_word, located_pieces, whole_characters, word_spans, words_of

__all__ = [
    "PromptedPassage",
    "cut_passages",
    "fit_passage",
    "last_words",
    "prompted_passages",
    "prompts_of",
    "spread_evenly",
    "word_spans",
    "words_of",
]

T = TypeVar("T")

_LONGEST_WORD = 40  # characters; beyond it a "word" is writing without spaces


def spread_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of some items, taken evenly from all of them, in their order."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).astype(int)
    return [items[place] for place in places]


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


@dataclass(frozen=True)
class PromptedPassage:
    """Real text in two parts: the words that a model is given, and the passage that follows them."""

    prompt: str
    """The last words before the passage, as they are written in the text."""
    passage: str
    """White space folded."""


def prompted_passages(texts: Sequence[str], characters: int, words: int) -> list[PromptedPassage]:
    """Cut real text into consecutive passages that do not overlap, each with the words before it.

    The first words of a text are the first prompt and belong to no passage.

    Args:
        texts: Contiguous texts, such as one side of a split. One that is too short for a passage is read on with the
            next, so that a corpus of short documents has passages too.
        characters: Length of a passage; a remainder shorter than nine tenths of it is left out.
        words: Words of a prompt; characters in scripts without spaces.

    Returns:
        The passages, in the order of the text.
    """
    found: list[PromptedPassage] = []
    before: list[_Place] = []
    current: list[_Place] = []
    written, length = list[str](), 0
    for number, text in enumerate(texts):
        so_far = len(found)
        for first, last, spaced in located_pieces(text, _LONGEST_WORD):
            if len(before) < words:
                before.append((number, first, last))
                continue
            gap = " " if spaced and written else ""
            if written and length + len(gap) + last - first > characters:
                found.append(PromptedPassage(_as_written(texts, before), "".join(written)))
                before = [*before, *current][-words:] if words else []
                written, current, length, gap = [], [], 0, ""
            written += [gap, text[first:last]]
            current.append((number, first, last))
            length += len(gap) + last - first
        if written and length >= 0.9 * characters:
            found.append(PromptedPassage(_as_written(texts, before), "".join(written)))
        if len(found) > so_far:  # of what remains of a longer text nothing is left for the next
            before, current, written, length = [], [], [], 0
    return found


_Place = tuple[int, int, int]
"""Number of a text, and where a word of it begins and ends."""


def _as_written(texts: Sequence[str], places: Sequence[_Place]) -> str:
    """The words at consecutive places with the white space between them, one line for each text."""
    lines = [
        texts[number][rows[0][1] : rows[-1][2]]
        for number, rows in ((number, list(group)) for number, group in groupby(places, key=lambda place: place[0]))
    ]
    return "\n".join(lines)


def cut_passages(texts: Sequence[str], characters: int) -> list[str]:
    """Cut real text into consecutive passages that do not overlap; see ``prompted_passages``.

    Args:
        texts: Contiguous texts, such as one side of a split.
        characters: Length of a passage.

    Returns:
        The passages, in the order of the text.
    """
    return [cut.passage for cut in prompted_passages(texts, characters, words=0)]


def prompts_of(texts: Sequence[str], characters: int, words: int) -> list[str]:
    """Return the words before each passage of a text; its first words where it is too short for a passage.

    Args:
        texts: Contiguous texts.
        characters: Length of a passage.
        words: Words of a prompt.
    """
    if cut := prompted_passages(texts, characters, words):
        return [each.prompt for each in cut]
    places = (
        (number, first, last)
        for number, text in enumerate(texts)
        for first, last, _ in located_pieces(text, _LONGEST_WORD)
    )
    return [_as_written(texts, list(islice(places, words)))]


def last_words(text: str, words: int) -> str:
    """Return the end of a text, so many words long."""
    places = list(located_pieces(text, _LONGEST_WORD))
    return text[places[-words][0] :] if len(places) > words else text
