"""Groups of tokens by how often a text uses them: the most frequent, the rarest that occur, and some that never do.

A token that a text never uses is one whose id has the count 0. Picking from the list of used ids by such ids, which is
easily done by mistake, gives tokens that do occur, so the group is checked against the text itself (lesson 06/019).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TokenGroup", "TokenVariety", "token_groups"]

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
        said = " and ".join(found)
        return (
            f"{said}: easily learned by heart; watch the held-out curve, train less, or give more text" if said else ""
        )

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
