"""Remove from a text what its author did not write: byte order mark, Gutenberg's header and licence, producer's lines.

Only a text that carries Project Gutenberg's markers is cut. Any other text keeps every character except a byte order
mark and carriage returns. Cleaning a cleaned text changes nothing.
"""

import re
from dataclasses import dataclass

__all__ = ["CleanedText", "Removed", "clean_code", "clean_text"]

MAX_BLANK_LINES = 3  # more in a row are a page break of the e-book, not the author's

# The lines that Gutenberg puts around a book, over the years and with or without a space after the stars.
START = re.compile(r"\*{3}\s*START OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)", re.IGNORECASE)
END = re.compile(
    r"\*{3}\s*(?:END OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)|START: FULL LICENSE)", re.IGNORECASE
)
SMALL_PRINT_START = re.compile(r"\*+\s*START\s*\*+\s*THE SMALL PRINT", re.IGNORECASE)
SMALL_PRINT_END = re.compile(r"\*+\s*END\s*\*?\s*THE SMALL PRINT", re.IGNORECASE)
CLOSING_LINE = re.compile(r"(?:This is the )?End of (?:the |this )?Project Gutenberg", re.IGNORECASE)
PRODUCER = re.compile(
    r"(?:Produced by|(?:This )?e-?(?:text|book) (?:was )?(?:produced|prepared|scanned) by|Scanned and proofed by)\b",
    re.IGNORECASE,
)
TRANSCRIBED = re.compile(r"(?:This etext was )?(?:Transcribed|prepared) from (?:the|a) .*\bedition\b", re.IGNORECASE)
NOTE_HEADING = re.compile(r"\[?(?:Original )?Transcriber[\u2019']?s?[\u2019']? Notes?[:.]?\]?\Z", re.IGNORECASE)
NOTE_PARAGRAPH = re.compile(r"\[?(?:Original )?Transcriber[\u2019']?s?[\u2019']? Notes?\s*[:.—-]", re.IGNORECASE)

HEADER_LINES = 400  # a header is shorter, small print of the 1990s included; what is longer is a text
FRONT_PARAGRAPHS = 6  # a producer's line is looked for among these first paragraphs of a book, never further in
CLOSING_PARAGRAPHS = 3  # and the "End of Project Gutenberg's ..." line among these last ones


@dataclass(frozen=True)
class Removed:
    """One thing that was taken out of a text.

    Args:
        kind: What it was, such as ``"Gutenberg header"``.
        characters: How many characters went.
        sample: How it began, on one line.
    """

    kind: str
    characters: int
    sample: str


@dataclass(frozen=True)
class CleanedText:
    """A text without what its author did not write, and what was taken out.

    Args:
        text: The text, lines ended by ``\\n``.
        removed: What went, in the order in which it was found; empty if nothing did.
    """

    text: str
    removed: tuple[Removed, ...]


def clean_text(raw: str) -> CleanedText:
    """Take byte order mark, carriage returns and Project Gutenberg's additions out of a text.

    Form feeds and the Unicode line separators are characters of the text and stay.

    Args:
        raw: The text as read from its file.

    Returns:
        The cleaned text and a record of everything removed.
    """
    removed: list[Removed] = []
    text = raw
    while True:  # a file of several books, or a mark behind a header, can need a second pass; every pass shortens
        cleaned = _pass(text, removed)
        if cleaned == text:
            return CleanedText(text, tuple(removed))
        text = cleaned


def clean_code(raw: str) -> CleanedText:
    """Take byte order mark and carriage returns out of code; every tab, space and blank line stays.

    Args:
        raw: The code as read from its file.
    """
    removed: list[Removed] = []
    return CleanedText(_line_ends(raw, removed), tuple(removed))


def _line_ends(text: str, removed: list[Removed]) -> str:
    """The text without byte order mark and carriage returns."""
    without_mark = text.lstrip("\ufeff")
    if len(without_mark) < len(text):
        removed.append(Removed("byte order mark", len(text) - len(without_mark), "U+FEFF"))
    text = without_mark
    carriage_returns = text.count("\r")
    if carriage_returns:
        removed.append(Removed("line ends", carriage_returns, "\\r\\n" if "\r\n" in text else "\\r"))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _pass(text: str, removed: list[Removed]) -> str:
    text = _line_ends(text, removed)
    body = _without_frame(text, removed)
    if body is None:
        return text
    parts = re.split(r"(\n(?:[ \t]*\n)+)", body)  # paragraphs at even places, the blank lines between them at odd ones
    parts[::2] = _without_apparatus(parts[::2], removed)
    return _trimmed("".join(parts), removed)


def _record(removed: list[Removed], kind: str, text: str) -> None:
    if text.strip():
        removed.append(Removed(kind, len(text), " ".join(text.split())[:60]))


def _without_frame(text: str, removed: list[Removed]) -> str | None:
    """The lines between the markers; ``None`` if the text has no marker."""
    if "gutenberg" not in text.lower() and "small print" not in text.lower():
        return None
    lines = text.split("\n")
    kept: list[str] = []
    found = False
    begin = 0  # first line that has not been kept or removed yet
    inside = True  # whether the lines since `begin` are the book's, as far as the markers so far tell
    small_print_at: int | None = None
    for number, raw_line in enumerate(lines):
        line = raw_line.strip()
        if not line.startswith("*"):
            continue
        if START.match(line):
            after = _end_of_marker(lines, number)
            if inside and number - begin >= HEADER_LINES:  # too long for a header: a text stands before this book
                kept += lines[begin:number]
                begin = number
            _record(removed, "Gutenberg header", "\n".join(lines[begin:after]))
            begin, inside, found = after, True, True
        elif END.match(line):
            found = True
            if inside:
                kept += lines[begin:number]
                begin, inside = number, False
        elif SMALL_PRINT_START.match(line):
            small_print_at = number
        elif SMALL_PRINT_END.match(line) and inside:
            found = True
            first = begin if number - begin < HEADER_LINES or small_print_at is None else small_print_at
            kept += lines[begin:first]
            kind = "Gutenberg header" if first == begin else "Gutenberg licence"
            _record(removed, kind, "\n".join(lines[first : number + 1]))
            begin = number + 1
    if not found:
        return None
    if inside:
        kept += lines[begin:]
    else:
        _record(removed, "Gutenberg licence", "\n".join(lines[begin:]))
    return "\n".join(kept)


def _end_of_marker(lines: list[str], number: int) -> int:
    """The line after a START marker, whose title may run over the next lines up to the closing stars."""
    for last in range(number, min(number + 4, len(lines))):
        if lines[last].rstrip().endswith("***") or not lines[last].strip():
            return last + 1
    return number + 1


def _without_apparatus(paragraphs: list[str], removed: list[Removed]) -> list[str]:
    """A book's paragraphs without the lines of those who produced the e-book."""
    written = [number for number, paragraph in enumerate(paragraphs) if paragraph.strip()]
    front = set(written[:FRONT_PARAGRAPHS])
    closing = set(written[-CLOSING_PARAGRAPHS:])
    kept: list[str] = []
    note_follows = False
    for number, paragraph in enumerate(paragraphs):
        first_line = paragraph.strip().split("\n", 1)[0].strip()
        if not first_line:
            kept.append(paragraph)
            continue
        kind = ""
        if note_follows or NOTE_HEADING.match(first_line) or NOTE_PARAGRAPH.match(first_line):
            kind = "transcriber's note"
        elif number in front and PRODUCER.match(first_line):
            kind = "producer's line"
        elif number in front and TRANSCRIBED.match(" ".join(paragraph.split())):
            kind = "transcriber's line"
        elif number in closing and CLOSING_LINE.match(first_line):
            kind = "Gutenberg closing line"
        note_follows = not note_follows and NOTE_HEADING.match(paragraph.strip()) is not None
        if kind:
            _record(removed, kind, paragraph)
            kept.append("")
        else:
            kept.append(paragraph)
    return kept


def _trimmed(text: str, removed: list[Removed]) -> str:
    text = re.sub(r"\A(?:[ \t]*\n)+", "", text.rstrip())
    shorter = re.sub(rf"\n(?:[ \t]*\n){{{MAX_BLANK_LINES + 1},}}", "\n" * (MAX_BLANK_LINES + 1), text)
    if len(shorter) < len(text):
        removed.append(Removed("blank lines", len(text) - len(shorter), f"more than {MAX_BLANK_LINES} in a row"))
    return shorter + "\n" if shorter else ""
