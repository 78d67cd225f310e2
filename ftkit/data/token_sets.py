"""Sets of tokens chosen by what they look like: the tokens with an x in them, the capitalised ones, the digits.

A set is a mask over the rows of a model's vocabulary, which may be more than the tokenizer has tokens for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ftkit.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenSet", "token_set"]


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
    """The tokens whose own text is wanted.

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
