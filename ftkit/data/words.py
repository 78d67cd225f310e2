"""Words of every script: the one place where ftkit cuts text into words.

Letters keep their combining marks (हिन्दी is one word), and an accent counts alike whether it is written in one
character or two. Scripts that put no space between words (Han, Kana, Thai, Lao, Khmer, Myanmar and their relatives) are
cut into characters, each with its marks: a dictionary would cut better, but another one for each language, and what is
counted here is compared with real text that is cut alike.
"""

import random
import unicodedata
from collections.abc import Iterator

import regex

__all__ = [
    "begins_inside_word",
    "character_share",
    "count_words",
    "join_words",
    "located_pieces",
    "plain_words",
    "shuffled_words",
    "whole_characters",
    "word_spans",
    "words_of",
    "written_pieces",
]

# Line_Break=SA, "complex context", is Unicode's own list of the scripts of South East Asia that are written so.
_UNSPACED = (
    r"\p{Script_Extensions=Han}\p{Script_Extensions=Hiragana}\p{Script_Extensions=Katakana}"
    r"\p{Script=Bopomofo}\p{Script=Yi}\p{Line_Break=SA}"
)
_NUMERALS = r"\p{L}\p{Nl}\p{No}"  # what Python's \w matches, without decimal digits and the underscore
_SINGLE = rf"[[{_NUMERALS}]&&[{_UNSPACED}]]"
_LETTER = rf"[[{_NUMERALS}]--[{_UNSPACED}]]"
_MARKS = r"\p{M}\u200c\u200d"  # joiners stand inside words of Persian and of Indian scripts
_LETTERS = rf"{_LETTER}[{_LETTER}{_MARKS}]*+"
_CHARACTER = rf"{_SINGLE}[{_MARKS}]*+"
_WORD = regex.compile(rf"(?V1){_LETTERS}(?:['’]{_LETTERS})*+|{_CHARACTER}|\d+")
_PLAIN = regex.compile(rf"(?V1){_CHARACTER}|[{_LETTER}\d_][{_LETTER}\d_{_MARKS}]*+")
_PIECE = regex.compile(rf"(?V1)[\p{{Ps}}\p{{Pi}}]*+{_CHARACTER}[^{_LETTER}{_SINGLE}\d\s]*+|[^{_SINGLE}\s]++")
_TOUCHES = regex.compile(rf"(?V1){_SINGLE}")
_SPACE = regex.compile(r"\s")
_COUNTED = 1 << 20
"""Characters whose words are counted at once."""
_INSIDE = regex.compile(rf"(?V1)[{_LETTER}\p{{M}}--[{_UNSPACED}]--[{_NUMERALS}--\p{{L}}]]")


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation is left out."""
    return [_folded(word) for word in _WORD.findall(text.replace("’", "'"))]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each of ``words_of`` begins and ends in the text, in characters."""
    return [match.span() for match in _WORD.finditer(text)]


def plain_words(text: str) -> list[str]:
    """Words for models that count them: an apostrophe divides, digits and underscores belong; case stays."""
    return [_composed(word) for word in _PLAIN.findall(text)]


def count_words(text: str) -> int:
    """Pieces between white space; where a script puts none, its characters."""
    unspaced = _TOUCHES.search(text) is not None
    return sum(
        sum(len(_PIECE.findall(word)) for word in part.split()) if unspaced else len(part.split())
        for part in _parts(text)
    )


def _parts(text: str) -> Iterator[str]:
    """A text in parts that end with white space: all its words at once take ten times its own memory."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + _COUNTED)
        end = space.end() if space else len(text)
        yield text[start:end]
        start = end


def character_share(text: str) -> float:
    """Share of a text's words that are single characters of a script without spaces."""
    words = _WORD.findall(text)
    return sum(_TOUCHES.match(word) is not None for word in words) / len(words) if words else 0.0


def join_words(words: list[str]) -> str:
    """Words as they are read: a space between two, none between characters of a script without spaces."""
    alone = [_TOUCHES.match(word) is not None for word in words]
    return "".join(
        word if number == 0 or (alone[number] and alone[number - 1]) else f" {word}"
        for number, word in enumerate(words)
    )


def begins_inside_word(text: str) -> bool:
    """Whether text that was cut out of more begins with a letter, of a script with spaces, or with a mark."""
    return _INSIDE.match(text) is not None


def written_pieces(text: str, longest: int) -> Iterator[tuple[str, bool]]:
    """What may stand at the end of a line: words with their punctuation, characters where words have no spaces.

    Args:
        text: Any text.
        longest: Characters in a piece; what is longer is divided, but not before a mark.

    Yields:
        The piece, and whether a space stands before it.
    """
    for first, last, spaced in located_pieces(text, longest):
        yield text[first:last], spaced


def located_pieces(text: str, longest: int) -> Iterator[tuple[int, int, bool]]:
    """The places of ``written_pieces``.

    Args:
        text: Any text.
        longest: Characters in a piece; what is longer is divided, but not before a mark.

    Yields:
        Where the piece begins and ends, and whether a space stands before it.
    """
    end = 0
    for word in text.split():
        end, spaced = text.index(word, end), True
        for piece in [word] if word.isascii() else _PIECE.findall(word):
            first = 0
            while first < len(piece):
                last = min(whole_characters(piece, first + longest), len(piece))
                yield end, end + last - first, spaced
                end, first, spaced = end + last - first, last, False


def whole_characters(text: str, at: int) -> int:
    """The nearest place from ``at`` on where text can be cut without parting a character from its marks."""
    while at < len(text) and unicodedata.category(text[at])[0] == "M":
        at += 1
    return at


def shuffled_words(text: str, draw: random.Random) -> str:
    """The same words with their punctuation in random order, white space folded.

    Args:
        text: A paragraph.
        draw: What draws the order.
    """
    pieces, gaps = list[str](), list[str]()
    for word in text.split():
        found = _PIECE.findall(word)
        pieces += found
        gaps += [" ", *[""] * (len(found) - 1)]
    draw.shuffle(pieces)
    return "".join(gap + piece for gap, piece in zip(gaps, pieces, strict=True))[1:]


def _folded(word: str) -> str:
    return word.lower() if word.isascii() else _composed(word.lower())


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)
