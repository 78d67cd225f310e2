"""Groups of tokens by how often a text uses them: the most frequent, the rarest that occur, and some that never do.

A token that a text never uses is one whose id has the count 0. Picking from the list of used ids by such ids, which is
easily done by mistake, gives tokens that do occur, so the group is checked against the text itself (lesson 06/019).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TokenGroup", "token_groups"]


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that a text uses about equally often."""

    name: str
    """``frequent``, ``rare`` or ``unused``."""
    ids: npt.NDArray[np.int64]
    occurrences: int
    """How often the text uses them, all together."""


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
