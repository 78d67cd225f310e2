"""Sets of tokens chosen by what they look like: the tokens with an x in them, the capitalised ones, the digits.

A set is a mask over the rows of a model's vocabulary, which may be more than the tokenizer has tokens for.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ftkit.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenGroup", "TokenSet", "TokenVariety", "token_groups", "token_set"]


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Some rows of a vocabulary."""

    name: str
    """What was asked for."""
    mask: npt.NDArray[np.bool_]
    """Which rows of the model's vocabulary, [V]; at least one, and not all."""

    def __len__(self) -> int:
        return int(self.mask.sum())

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The tokens, ascending."""
        return np.flatnonzero(self.mask)

    @property
    def share(self) -> float:
        """Share of the vocabulary's rows: the rate of these tokens in text that is drawn at random."""
        return len(self) / len(self.mask)


def token_set(
    tokenizer: "PreTrainedTokenizerBase",
    wanted: str | Callable[[str], bool],
    vocab_size: int,
    *,
    with_special: bool = False,
) -> TokenSet:
    """The tokens whose text, decoded one by one, matches.

    Args:
        tokenizer: The model's tokenizer; each token is decoded by itself.
        wanted: A regular expression that is searched in the text of each token, or a function of that text.
        vocab_size: V, rows of the model's vocabulary; those without a token are never in the set.
        with_special: Whether special tokens may be in the set. ``<|endoftext|>`` has an x in its name, and nobody
            reads it.

    Returns:
        The set.

    Raises:
        ConfigError: A pattern that is no regular expression, or that matches no token or every row.
        ModelError: The tokenizer has ids beyond the model's rows.
    """
    name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", "a function")
    matches = _searched(wanted) if isinstance(wanted, str) else wanted
    known = sorted(set(tokenizer.get_vocab().values()))
    if known[-1] >= vocab_size:
        raise ModelError(
            f"the tokenizer has the id {known[-1]:,}, and the model {vocab_size:,} rows: they do not belong"
        )
    special = set() if with_special else set(tokenizer.all_special_ids)
    texts = tokenizer.batch_decode([[token] for token in known])
    mask = np.zeros(vocab_size, dtype=np.bool_)
    mask[[token for token, text in zip(known, texts, strict=True) if token not in special and matches(text)]] = True
    if not mask.any() or mask.all():
        found = "every row of the vocabulary, so there is nothing to prefer" if mask.all() else "no token"
        raise ConfigError(
            f"the token set {name!r} is {found} ({len(known):,} tokens were looked at, such as "
            f"{', '.join(repr(text) for text in texts[-3:])}); a pattern is a regular expression, searched in the text "
            "of each token"
        )
    return TokenSet(name, mask)


def _searched(pattern: str) -> Callable[[str], bool]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the token set {pattern!r} is no regular expression: {error}") from None
    return lambda text: compiled.search(text) is not None


# Groups of tokens by how often a text uses them: the most frequent, the rarest that occur, and some that never do.
#
# A token that a text never uses is one whose id has the count 0. Picking from the list of used ids by such ids, which
# is
# easily done by mistake, gives tokens that do occur, so the group is checked against the text itself (lesson 06/019).


_MANY_PASSES = 4.0
"""Passes up to which text that is read again teaches almost as much as new text (Muennighoff et al. 2023,
https://arxiv.org/abs/2305.16264, measured on models from 10 million parameters on)."""
_NARROW = 0.1
"""Share of the vocabulary below which a text is narrow for its tokenizer."""


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that a text uses about equally often."""

    name: str
    """``frequent``, ``rare`` or ``unused``."""
    ids: npt.NDArray[np.int64]
    occurrences: int
    """How often the text uses them, all together."""


@dataclass(frozen=True)
class TokenVariety:
    """How much there is to learn in a text, and how often a training reads it.

    Args:
        tokens: Tokens of the text.
        distinct: Different ones among them.
        vocabulary: Tokens that the tokenizer has.
        passes: Tokens trained over tokens of the text.
    """

    tokens: int
    distinct: int
    vocabulary: int
    passes: float

    @property
    def share(self) -> float:
        """Different tokens over tokens. It falls as a text grows, so compare texts of one length and tokenizer."""
        return self.distinct / self.tokens

    def __str__(self) -> str:
        return (
            f"{self.tokens:,} tokens, {self.distinct:,} of them different ({self.share:.1%} of the text, "
            f"{self.distinct / self.vocabulary:.1%} of the vocabulary); training reads them {self.passes:.1f} times"
        )

    @property
    def warning(self) -> str:
        """Why this text is easily learned by heart; empty where nothing says so."""
        found = []
        if self.passes > _MANY_PASSES:
            found.append(f"it is read {self.passes:.1f} times, and after {_MANY_PASSES:.0f} it teaches little new")
        if self.distinct < _NARROW * self.vocabulary:
            found.append(f"it uses {self.distinct:,} of {self.vocabulary:,} tokens")
        advice = "easily learned by heart; watch the held-out curve, train less, or give more text"
        return f"{' and '.join(found)}: {advice}" if found else ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "share": self.share, "warning": self.warning}


def token_groups(ids: npt.NDArray[Any], vocab_size: int, size: int = 100) -> list[TokenGroup]:
    """Divide a vocabulary by a text.

    Args:
        ids: The text's tokens, (num_tokens,).
        vocab_size: Ids that there are, 0 to ``vocab_size`` - 1.
        size: Tokens in a group; fewer where the text uses fewer than twice as many, or leaves fewer unused.

    Returns:
        ``frequent``, ``rare`` (that occur at least once) and ``unused``, which are spread evenly over the unused ids;
        the last one is absent where every token occurs.
    """
    counts = np.bincount(np.asarray(ids), minlength=vocab_size)[:vocab_size]
    used, unused = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    by_count = used[np.argsort(-counts[used], kind="stable")]
    size_of_used = min(size, len(used) // 2)
    spread = np.unique(np.linspace(0, len(unused) - 1, min(size, len(unused))).round().astype(np.int64))
    chosen = {
        "frequent": by_count[:size_of_used],
        "rare": by_count[len(by_count) - size_of_used :],
        "unused": unused[spread] if len(unused) else unused,
    }
    groups = [
        TokenGroup(name, np.sort(members), int(np.isin(ids, members).sum()))
        for name, members in chosen.items()
        if len(members)
    ]
    for group in groups:  # counted again in the text, not taken from the counts that made the groups
        assert (group.occurrences == 0) == (group.name == "unused"), f"{group.name}: {group.occurrences} occurrences"
    return groups
