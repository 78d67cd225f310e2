"""Special tokens that stand in a text, such as ``<|im_start|>``: read as the single tokens that they are, or as text.

A chat that was written to a file is learned, and measured, in the tokens of its format. An accidental ``<s>`` in a book
is three characters. Both readings are right for some text, so one is chosen for the whole of a run, said, and kept by
the tokenizer, which everything that reads the text then follows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import regex

__all__ = ["SpecialTokens", "expected_ids", "fix_special_tokens", "reads_tokens", "special_tokens_said"]

_FEWEST = 4
"""Places below which special tokens are an accident, whatever they stand beside."""
_KEPT = "_ftkit_special_tokens"


@dataclass(frozen=True)
class SpecialTokens:
    """How special tokens in a text are read, and why."""

    reading: Literal["text", "tokens"]
    counts: dict[str, int]
    """How often each stands in the text, most frequent first."""
    reason: str

    def __str__(self) -> str:
        shown = ", ".join(f"{token} {count:,} times" for token, count in list(self.counts.items())[:5])
        more = f" and {len(self.counts) - 5} more" if len(self.counts) > 5 else ""
        how = "each is read as one token" if self.reading == "tokens" else "they are read as text, like any characters"
        other = "text" if self.reading == "tokens" else "tokens"
        return (
            f"special tokens in the text: {shown}{more}; {how}, {self.reason} (special_tokens: {other} reads otherwise)"
        )


def fix_special_tokens(asked: str, texts: Sequence[str], *tokenizers: Any) -> SpecialTokens:
    """Choose how tokenizers read special tokens that stand in texts, from here on.

    Args:
        asked: ``text``, ``tokens``, or ``auto``: as tokens where they stand in at least four places, most of these at
            the edge of a line or beside one another, as in a chat or between documents.
        texts: What is learned or measured.
        *tokenizers: Fast tokenizers that share one choice; ``tokenize_texts`` and passages follow it.

    Returns:
        The choice; its ``counts`` are empty where no special token stands in the texts, and both readings are one.
    """
    known = [special_ids(tokenizer) for tokenizer in tokenizers]
    counts, edges = _count(texts, {token for ids in known for token in ids})
    if asked != "auto":
        found = SpecialTokens("tokens" if asked == "tokens" else "text", counts, "as was asked")
    elif counts.total() < _FEWEST:
        found = SpecialTokens("text", counts, f"since so few (below {_FEWEST}) are an accident")
    elif 2 * edges < counts.total():
        found = SpecialTokens(
            "text", counts, f"since {counts.total() - edges:,} of {counts.total():,} stand inside lines"
        )
    else:
        where = f"since {edges:,} of {counts.total():,} stand at edges of lines or beside one another, as in a chat"
        found = SpecialTokens("tokens", counts, where)
    for tokenizer in tokenizers:
        setattr(tokenizer, _KEPT, found)
    return found


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Special tokens of a fast tokenizer, as they are written, with their ids."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return {token.content: int(token_id) for token_id, token in added.items() if token.special and token.content}


def _count(texts: Sequence[str], tokens: set[str]) -> tuple[Counter[str], int]:
    """How often each token stands in the texts, and how many places are at the edge of a line or touch another."""
    counts: Counter[str] = Counter()
    edges = 0
    if not tokens:
        return counts, edges
    pattern = regex.compile("|".join(regex.escape(token) for token in sorted(tokens, key=len, reverse=True)))
    for text in texts:
        places = [(match.start(), match.end()) for match in pattern.finditer(text)]
        counts.update(text[start:end] for start, end in places)
        starts, ends = {start for start, _ in places}, {end for _, end in places}
        edges += sum(
            start == 0 or text[start - 1] in "\r\n" or start in ends
            or end == len(text) or text[end] in "\r\n" or end in starts
            for start, end in places
        )  # fmt: skip
    return Counter(dict(counts.most_common())), edges


def reads_tokens(tokenizer: Any) -> bool:
    """Whether this tokenizer reads special tokens in a text as tokens; not where nothing was chosen."""
    chosen: SpecialTokens | None = getattr(tokenizer, _KEPT, None)
    return chosen is not None and chosen.reading == "tokens"


def expected_ids(tokenizer: Any) -> frozenset[int]:
    """Special tokens that belong to the text and so to what a model of it writes; none where they are read as text."""
    if not reads_tokens(tokenizer):
        return frozenset()
    counts = getattr(tokenizer, _KEPT).counts
    return frozenset(token_id for token, token_id in special_ids(tokenizer).items() if token in counts)


def special_tokens_said(tokenizer: Any) -> str:
    """The choice in one sentence; empty where no special token stands in the text."""
    chosen: SpecialTokens | None = getattr(tokenizer, _KEPT, None)
    return str(chosen) if chosen is not None and chosen.counts else ""
