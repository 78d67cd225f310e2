"""Remove from a text what its author did not write: byte order mark, Gutenberg's header and licence, producer's lines.

Only a text that carries Project Gutenberg's markers is cut. Any other text keeps every character except a byte order
mark and carriage returns. Cleaning a cleaned text changes nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CleanedText", "Removed", "clean_lines", "clean_text"]

READ_AT_ONCE = 1 << 20  # characters
MAX_BLANK_LINES = 3  # more in a row are a page break of the e-book, not the author's

# The lines that Gutenberg puts around a book, over the years and with or without a space after the stars.
BOOK = r"(?:THE|THIS) (?:COPYRIGHTED )?PROJECT GUTENBERG E-?(?:BOOK|TEXT)"
START = re.compile(rf"\*{{3}}\s*START OF {BOOK}", re.IGNORECASE)
END = re.compile(rf"\*{{3}}\s*(?:END OF {BOOK}|START: FULL LICENSE)", re.IGNORECASE)
SMALL_PRINT_START = re.compile(r"\*+\s*START\s*\*+\s*THE SMALL PRINT", re.IGNORECASE)
SMALL_PRINT_END = re.compile(r"\*+\s*END\s*\*?\s*THE SMALL PRINT", re.IGNORECASE)
# The first line of a header, and the last one of the headers whose small print is at the end of the book.
TITLE = re.compile(r"\W*(?:(?:this|the|is|an?|copyrighted|e-?book|e-?text|of)\W+){0,6}project gutenberg", re.IGNORECASE)
VOLUNTEERS = re.compile(r"\*{5}\s*These e-?(?:book|text)s (?:are|were) prepared by", re.IGNORECASE)
CLOSING_LINE = re.compile(r"(?:This is the )?End of (?:the |this )?Project Gutenberg", re.IGNORECASE)
PRODUCER = re.compile(
    r"(?:Produced by|(?:This )?e-?(?:text|book) (?:was )?(?:produced|prepared|scanned) by|Scanned and proofed by)\b",
    re.IGNORECASE,
)
TRANSCRIBED = re.compile(r"(?:This etext was )?(?:Transcribed|prepared) from (?:the|a) .*\bedition\b", re.IGNORECASE)
NOTE_HEADING = re.compile(r"\[?(?:Original )?Transcriber[\u2019']?s?[\u2019']? Notes?[:.]?\]?\Z", re.IGNORECASE)
NOTE_PARAGRAPH = re.compile(r"\[?(?:Original )?Transcriber[\u2019']?s?[\u2019']? Notes?\s*[:.—-]", re.IGNORECASE)

HEADER_LINES = 400  # a header is shorter, small print of the 1990s included; what is longer is a text
LICENCE_LINES = 600  # the full licence has about 360 lines; what is longer behind a book is a text
UNNAMED_LINES = 60  # a header that does not name Project Gutenberg has fewer lines with text
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
            break
        text = cleaned
    if raw.strip() and not text.strip():  # markers around nothing: this is no book, so it stays as it is
        return clean_lines(raw)
    return CleanedText(text, tuple(removed))


def clean_lines(raw: str) -> CleanedText:
    """Take byte order mark and carriage returns out of code, rows or lines; everything else stays.

    Args:
        raw: The text as read from its file.
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
    # In parts that overlap, because all of a large text in lower case would be a copy of it.
    parts = (text[start : start + READ_AT_ONCE + len("small print")] for start in range(0, len(text), READ_AT_ONCE))
    if not any(name in part.lower() for part in parts for name in ("gutenberg", "small print")):
        return None
    lines = text.split("\n")
    dropped = list(_frame(lines, [number for number, line in enumerate(lines) if line.lstrip().startswith("*")]))
    if not dropped:
        return None
    kept: list[str] = []
    begin = 0
    for first, after, kind in dropped:
        kept += lines[begin:first]
        _record(removed, kind, "\n".join(lines[first:after]))
        begin = after
    return "\n".join(kept + lines[begin:])


def _frame(lines: list[str], starred: list[int]) -> Iterator[tuple[int, int, str]]:
    """First line, line after the last, and kind of every part that is not the book's; in order, without overlap.

    Args:
        lines: The lines of the text.
        starred: Numbers of the lines that begin with a star; markers are among them.
    """
    starts = [number for number in starred if START.match(lines[number].strip())]
    ends = [number for number in starred if END.match(lines[number].strip())]
    begin = 0  # first line that has not been dropped and belongs to the present book
    small_print_at: int | None = None
    for number in starred:
        line = lines[number].strip()
        if number < begin:
            continue
        if number in starts:
            after = _end_of_marker(lines, number)
            yield _header_start(lines, begin, number), after, "Gutenberg header"
            begin = after
        elif number in ends:
            follows = next((start for start in starts if start > number), None)
            after = len(lines) if follows is None else _header_start(lines, number, follows)
            if after - number > LICENCE_LINES:
                after = number + 1  # a text stands behind the book
            yield number, after, "Gutenberg licence"
            begin = after
        elif SMALL_PRINT_START.match(line):
            small_print_at = number
        elif SMALL_PRINT_END.match(line):
            rest = next((other for other in sorted(starts + ends) if other > number), len(lines))
            if small_print_at is not None and small_print_at < begin:
                small_print_at = None
            front = lines[begin : number if small_print_at is None else small_print_at]
            if number - begin < HEADER_LINES and _filled(front) <= _filled(lines[number + 1 : rest]):
                yield begin, number + 1, "Gutenberg header"
            else:  # it stands behind the book
                if begin == 0 and (header := _volunteers(front)):
                    yield 0, header, "Gutenberg header"
                yield number if small_print_at is None else small_print_at, number + 1, "Gutenberg licence"
            begin = number + 1


def _filled(lines: list[str]) -> int:
    """Number of lines that are not blank."""
    return sum(bool(line.strip()) for line in lines)


def _header_start(lines: list[str], begin: int, marker: int) -> int:
    """First line of the header above a START marker; what stands above a header is a text."""
    for number in range(max(begin, marker - HEADER_LINES), marker):
        if TITLE.match(lines[number]):
            return number if _filled(lines[begin:number]) else begin
    return begin if _filled(lines[begin:marker]) < UNNAMED_LINES else marker


def _volunteers(front: list[str]) -> int:
    """The line after a header that ends with its thanks to the volunteers; 0 where there is none."""
    first = next((line for line in front if line.strip()), "")
    found = [number for number, line in enumerate(front[:HEADER_LINES]) if VOLUNTEERS.match(line.strip())]
    return found[0] + 1 if found and TITLE.match(first) else 0


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
