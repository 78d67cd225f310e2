"""tiktoken's encodings as fast tokenizers with the same ids."""

import itertools
import re
from typing import TYPE_CHECKING

from ftkit.data.made_tokenizers import END_OF_TEXT, byte_characters, completed, wrapped

if TYPE_CHECKING:
    import tiktoken
    from transformers import PreTrainedTokenizerFast

__all__ = ["convert_tiktoken"]


def convert_tiktoken(encoding: "tiktoken.Encoding") -> "PreTrainedTokenizerFast":
    """Make a fast tokenizer that gives the same ids as a tiktoken encoding.

    Ids that tiktoken leaves free become entries that no text can produce, so that the length of the tokenizer is its
    largest id plus one.

    Args:
        encoding: From ``tiktoken.get_encoding``, or made from one's own ranks and pattern.

    Returns:
        The tokenizer; its end-of-text token is ``<|endoftext|>``, added after the last id if the encoding has none.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    ranks: dict[bytes, int] = encoding._mergeable_ranks  # tiktoken has no public way to the ranks and the pattern
    special: dict[str, int] = dict(encoding._special_tokens)
    special.setdefault(END_OF_TEXT, max([*ranks.values(), *special.values()]) + 1)
    characters = byte_characters()
    names = {token: "".join(characters[byte] for byte in token) for token in ranks}
    vocabulary = {names[token]: rank for token, rank in ranks.items()} | special
    for free in set(range(max(vocabulary.values()))) - set(vocabulary.values()):
        vocabulary[f"unused {free}"] = free  # byte-level text never has a space
    merges = [
        (names[left], names[right])
        for token in sorted(ranks, key=ranks.__getitem__)
        for left, right in _last_merge(ranks, token)
    ]
    # tiktoken takes a whole piece that is in the vocabulary without merging; so does ignore_merges
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_oniguruma(encoding._pat_str)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in sorted(special, key=special.__getitem__)]
    )
    return completed("tiktoken", wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT))


def _last_merge(ranks: dict[bytes, int], token: bytes) -> list[tuple[bytes, bytes]]:
    """The pair whose merge makes a token: what remains when its bytes are merged by all lower ranks."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, ranks[token]) for left, right in itertools.pairwise(parts)]
        lowest = min(pairs)
        if lowest >= ranks[token]:
            return []  # never reached by merging
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [(parts[0], parts[1])] if len(parts) == 2 else []


def _oniguruma(pattern: str) -> str:
    """A pattern of tiktoken's Rust syntax for the Oniguruma engine of ``tokenizers``.

    There ``{1,3}+`` repeats the repetition instead of being possessive, and ``$`` matches at the end of every line.
    """
    return re.sub(r"(\\.)|(\})\+|(\$)", lambda found: found[1] or found[2] or r"\z", pattern)
