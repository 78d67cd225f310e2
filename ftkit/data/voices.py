"""Small embedded authors of clearly different styles: original English from seeded grammars, of any length.

They need no download, so they are the corpus of a first run and of the tests. Each voice is one file in ``grammars/``:

    name = one, two, three          words to choose from
    name:                           templates to choose from, one on each indented line
        The {noun} is <red|blue>[, they say].

In a template ``{rule}`` is replaced by a choice of that rule, ``{@rule}`` by one choice that holds for the whole piece
and ``{&rule}`` by one that holds for the paragraph; ``{~@rule}`` makes such a choice and writes
nothing. ``{rule.1}`` is the second form of a choice that is written with slashes, such as ``goose/geese`` or, for
endings, ``gull/+s``; ``{rule%@kind}`` goes to the rule whose name is ``rule_`` and the held choice of ``kind``.
``{n:3-40}`` is a number in digits, ``{w:2-9}`` in words. ``<a|b>`` chooses, ``[a]`` is left out half of the time,
``a_`` is "a" or "an" before the next word, ``^`` makes a capital letter, and the pilcrow and return signs start a
paragraph and a line. ``{@date}`` and ``{@date.1}`` are the day and the weekday of a piece, which go on by one of the
numbers of the rule ``days_between`` from piece to piece.
"""

import functools
import importlib.resources
import random
import re
from dataclasses import dataclass

from ftkit.errors import DataError, nearest_name

__all__ = ["VOICES", "voice_text"]

VOICES: dict[str, str] = {
    "almanac": "long winding periods of an old almanac, addressed to the gentle reader",
    "keeper": "the terse and dry log of a lighthouse keeper",
    "letters": "warm letters home, told in the past tense",
    "market": "shouts, bargains and banter of a street market",
    "tales": "plain tales of a village, in short sentences of everyday words",
}
"""The embedded authors, each with what it sounds like."""

PARAGRAPH, LINE = "\u00b6", "\u21b5"
NUMBER_WORDS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # of the months of a year that is no leap year
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOKEN = re.compile(r"\{([^{}]+)\}|([<|>\[\]])|([^{}<|>\[\]]+)")
SLOT = re.compile(r"(~?)([@&]?)(\w+)(?:%([@&]\w+))?(?:\.(\d))?")
# Words whose first letter and first sound disagree.
VOWEL_SOUND = re.compile(r"(?:[aeio]|u(?!ni|se|su)|hour|honest|honou?r|heir|8|11\b|18\b)(?!ne\b|nce\b)", re.IGNORECASE)


@dataclass(frozen=True)
class _Slot:
    """A place in a template that a rule fills."""

    silent: bool
    scope: str  # "@" piece, "&" paragraph, "" chosen anew
    rule: str
    kind: str  # scope and name of the choice that the rule's name ends with, or ""
    form: int


@dataclass(frozen=True)
class _Number:
    """A place in a template for a number."""

    in_words: bool
    low: int
    high: int


@dataclass(frozen=True)
class _Choice:
    """Inline alternatives."""

    parts: "tuple[_Template, ...]"


_Template = tuple[str | _Slot | _Number | _Choice, ...]
_Rule = tuple[tuple[_Template, ...], ...]  # alternatives, each of one or more forms


def voice_text(name: str, num_words: int, seed: int = 0) -> str:
    """Write a text in an embedded voice.

    The same arguments give the same text on every platform and Python version, and a longer text begins with the
    shorter one.

    Args:
        name: One of ``VOICES``.
        num_words: Length at least, in words between white space; the text ends with the piece that reaches it.
        seed: Another seed, another text in the same style.

    Returns:
        Paragraphs separated by blank lines, ended by a line end.

    Raises:
        DataError: There is no such voice, or the length is below 1.
    """
    if name not in VOICES:
        raise DataError(f"There is no voice {name!r}{nearest_name(name, VOICES)}")
    if num_words < 1:
        raise DataError(f"A text of {num_words} words cannot be written; give at least 1.")
    writer = _Writer(_grammar(name), random.Random(f"{name} {seed}"))
    pieces: list[str] = []
    written = 0
    while written < num_words:
        piece = _polished(writer.piece())
        written += len(piece.split())
        pieces.append(piece)
    return "\n\n".join(pieces) + "\n"


class _Writer:
    """Expands a grammar. Every rule deals its alternatives like a shuffled pack of cards: none comes soon again."""

    def __init__(self, grammar: dict[str, _Rule], generator: random.Random) -> None:
        self.grammar = grammar
        self.generator = generator
        self.packs: dict[str, list[int]] = {}
        self.held: dict[str, tuple[_Template, ...]] = {}
        self.day = self._below(sum(DAYS))

    def piece(self) -> str:
        """One piece, such as a letter or a day of a log."""
        self.held = {}
        if "days_between" in self.grammar:
            self.day += int(str(self._deal("days_between")[0][0]))
            self.held["@date"] = _date(self.day)
        out: list[str] = []
        self._expand(self._deal("piece")[0], out)
        return "".join(out)

    def _below(self, limit: int) -> int:
        # random.random() is the one draw whose sequence Python promises to keep.
        return int(self.generator.random() * limit)

    def _deal(self, rule: str) -> tuple[_Template, ...]:
        alternatives = self.grammar[rule]
        pack = self.packs.setdefault(rule, [])
        if not pack:
            pack.extend(range(len(alternatives)))
            for last in range(len(pack) - 1, 0, -1):
                other = self._below(last + 1)
                pack[last], pack[other] = pack[other], pack[last]
        return alternatives[pack.pop()]

    def _expand(self, template: _Template, out: list[str]) -> None:
        for part in template:
            if isinstance(part, str):
                if PARAGRAPH in part:
                    self.held = {key: choice for key, choice in self.held.items() if key[0] == "@"}
                out.append(part)
            elif isinstance(part, _Choice):
                self._expand(part.parts[self._below(len(part.parts))], out)
            elif isinstance(part, _Number):
                number = part.low + self._below(part.high - part.low + 1)
                out.append(NUMBER_WORDS[number] if part.in_words else str(number))
            else:
                self._fill(part, out)

    def _fill(self, slot: _Slot, out: list[str]) -> None:
        rule = slot.rule
        if slot.kind:
            kind: list[str] = []
            self._expand(self._hold(slot.kind[0], slot.kind[1:])[0], kind)
            rule = f"{rule}_{''.join(kind)}"
        forms = self._hold(slot.scope, rule) if slot.scope else self._deal(rule)
        if not slot.silent:
            self._expand(forms[slot.form], out)

    def _hold(self, scope: str, rule: str) -> tuple[_Template, ...]:
        key = scope + rule
        if key not in self.held:
            # What was chosen inside the choice is settled too, or it would change with every mention.
            self.held[key] = tuple(self._settled(form) for form in self._deal(rule))
        return self.held[key]

    def _settled(self, template: _Template) -> _Template:
        out: list[str] = []
        self._expand(template, out)
        return ("".join(out),)


def _date(day: int) -> tuple[_Template, ...]:
    """Day of the month, and weekday, that many days after a Monday, 1 January; no year has a 29 February."""
    month, in_month = 0, day % sum(DAYS)
    while in_month >= DAYS[month]:
        in_month -= DAYS[month]
        month += 1
    return (f"{in_month + 1} {MONTHS[month]}",), (WEEKDAYS[day % len(WEEKDAYS)],)


def _polished(text: str) -> str:
    """Articles, capital letters, spaces and paragraph marks of an expanded piece."""
    text = re.sub(r"\b([Aa])_ (?=(\S+))", _article, text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ([,.;:!?])", r"\1", text)
    text = re.sub(rf" ?{LINE} ?", "\n", re.sub(rf" ?{PARAGRAPH} ?", "\n\n", text)).strip()
    return re.sub(r"(?:\^|(?:\A|\n|[.!?] )\^?)[a-z]", lambda found: found[0].lstrip("^").upper(), text).replace("^", "")


def _article(found: re.Match[str]) -> str:
    return f"{found[1]}n " if VOWEL_SOUND.match(found[2].lstrip("^")) else f"{found[1]} "


# Reading a grammar


@functools.cache
def _grammar(name: str) -> dict[str, _Rule]:
    source = importlib.resources.files("ftkit.data").joinpath("grammars", f"{name}.txt").read_text(encoding="utf-8")
    alternatives: dict[str, list[str]] = {}
    current: list[str] = []
    for line in source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            current.append(line.strip())
        else:
            rule, sign, words = re.split(r"\s*([=:])\s*", line, maxsplit=1)
            current = alternatives[rule] = [word.strip() for word in words.split(",")] if sign == "=" else []
    return {rule: tuple(_forms(text) for text in texts) for rule, texts in alternatives.items()}


def _forms(text: str) -> tuple[_Template, ...]:
    first, *others = text.split("/")
    return tuple(_parsed(first + other[1:] if other.startswith("+") else other) for other in (first, *others))


def _parsed(text: str) -> _Template:
    tokens = list(TOKEN.finditer(text))
    template, end = _sequence(tokens, 0)
    if end != len(tokens) or "".join(token[0] for token in tokens) != text:
        raise ValueError(f"brackets that do not close in the template {text!r}")
    return template


def _sequence(tokens: list[re.Match[str]], at: int) -> tuple[_Template, int]:
    parts: list[str | _Slot | _Number | _Choice] = []
    while at < len(tokens):
        slot, bracket, plain = tokens[at].groups()
        if slot:
            parts.append(_slot(slot))
        elif plain:
            parts.append(plain)
        elif bracket in "<[":
            closing = ">" if bracket == "<" else "]"
            inner: list[_Template] = []
            while not inner or tokens[at][0] != closing:
                template, at = _sequence(tokens, at + 1)
                inner.append(template)
            parts.append(_Choice((*inner, ()) if bracket == "[" else tuple(inner)))
        else:
            break
        at += 1
    return tuple(parts), at


def _slot(text: str) -> _Slot | _Number:
    number = re.fullmatch(r"([nw]):(\d+)-(\d+)", text)
    if number:
        return _Number(number[1] == "w", int(number[2]), int(number[3]))
    found = SLOT.fullmatch(text)
    if found is None:
        raise ValueError(f"{{{text}}} is no slot of a template")
    return _Slot(bool(found[1]), found[2], found[3], found[4] or "", int(found[5] or 0))
