"""Tokenizers that are made here: of the 256 bytes, or trained on the spot as byte-level BPE or BERT's word pieces."""

import collections
import itertools
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ftkit.errors import ModelError

if TYPE_CHECKING:
    import tiktoken
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "END_OF_TEXT",
    "byte_characters",
    "byte_tokenizer",
    "completed",
    "convert_tiktoken",
    "train_tokenizer",
    "train_wordpiece",
    "with_special_tokens",
    "wrapped",
]

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
NUM_BYTES = 256  # the values of a byte
BERT_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def completed(spec: str, tokenizer: Any) -> "PreTrainedTokenizerFast":
    """Refuse a tokenizer without a fast backend, and give the others their end-of-text and padding token.

    Args:
        spec: What was asked for.
        tokenizer: What was loaded or made.

    Raises:
        ModelError: It has no fast version.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"Tokenizer {spec!r}: {type(tokenizer).__name__} has no fast version, which ftkit needs for character "
            f"offsets. Convert it to tokenizer.json, or use another tokenizer."
        )
    if tokenizer.eos_token is None and END_OF_TEXT in tokenizer.get_added_vocab():
        tokenizer.eos_token = END_OF_TEXT  # a bare tokenizer.json does not say what its special tokens are for
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer  # type: ignore[no-any-return]


def wrapped(backend: "Tokenizer", **special_tokens: str) -> "PreTrainedTokenizerFast":
    """A backend as transformers' tokenizer of a language model.

    Args:
        backend: From the library ``tokenizers``.
        **special_tokens: Such as ``eos_token``.
    """
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,  # decoding gives the text back as it was
        model_input_names=["input_ids", "attention_mask"],  # language models refuse token_type_ids
        **special_tokens,
    )


def byte_characters() -> list[str]:
    """The character by which byte-level tokenizers write each byte, by byte value.

    Source: Radford et al. 2019, encoder.py of the GPT-2 release: printable Latin-1 stands for itself, the other 68
    bytes are moved up to 256 and above.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = [byte for byte in range(NUM_BYTES) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(NUM_BYTES + i) for i, byte in enumerate(moved)}
    return [characters[byte] for byte in range(NUM_BYTES)]


def byte_tokenizer() -> "PreTrainedTokenizerFast":
    """Token id = byte value, and 256 is ``<|endoftext|>``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


def with_special_tokens(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """Give a tokenizer BERT's special tokens; texts that it tokenizes by itself then stand between [CLS] and [SEP]."""
    from tokenizers import processors

    pad, _, first, separator, mask = BERT_SPECIAL_TOKENS
    tokenizer.add_special_tokens({"pad_token": pad, "cls_token": first, "sep_token": separator, "mask_token": mask})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {separator}",
        pair=f"{first} $A {separator} $B {separator}",
        special_tokens=[(first, tokenizer.cls_token_id), (separator, tokenizer.sep_token_id)],
    )
    return tokenizer


def train_tokenizer(spec: str, size: str, texts: Iterable[str] | None, with_mask: bool) -> "PreTrainedTokenizerFast":
    """The tokenizer of ``train:SIZE``.

    Args:
        spec: What was asked for.
        size: Its size, as it was asked for.
        texts: What to train on.
        with_mask: Whether it is for an encoder, which gets word pieces.

    Raises:
        ModelError: No size, or no text.
    """
    smallest = NUM_BYTES + 1
    if not re.fullmatch(r"[0-9]{1,7}", size) or int(size) < smallest:
        raise ModelError(
            f"Tokenizer {spec!r}: {size!r} is no vocabulary size. Give a whole number of at least {smallest} (the "
            f"bytes and {END_OF_TEXT}), for example train:4096."
        )
    if texts is None:
        raise ModelError(f"Tokenizer {spec!r}: there is no text to train on. Give texts, or load a trained tokenizer.")
    return train_wordpiece(texts, int(size)) if with_mask else _train_bpe(spec, int(size), texts)


def _train_bpe(spec: str, size: int, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() < size:
        logger.warning(
            "%s: the text gave only %d entries; a smaller vocabulary or more text would use them all",
            spec,
            backend.get_vocab_size(),
        )
    return wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerFast":
    """Train a BERT-style tokenizer: lower case, word pieces, ``[CLS]`` before and ``[SEP]`` after each text.

    Args:
        texts: What to train on.
        vocab_size: Largest number of entries, the five special tokens included.

    Returns:
        A fast tokenizer with ``[PAD]`` (id 0), ``[UNK]``, ``[CLS]``, ``[SEP]`` and ``[MASK]``.

    Raises:
        ModelError: The size leaves no room for a vocabulary.
    """
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    if vocab_size <= len(BERT_SPECIAL_TOKENS):
        raise ModelError(
            f"A word-piece vocabulary of {vocab_size} entries has no room beside the {len(BERT_SPECIAL_TOKENS)} "
            f"special tokens. Give some hundreds at least, for example 4096."
        )
    pad, unknown, first, separator, mask = BERT_SPECIAL_TOKENS
    backend = Tokenizer(models.WordPiece(_wordpiece_vocabulary(list(texts), vocab_size), unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(list(BERT_SPECIAL_TOKENS))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {separator}",
        pair=f"{first} $A {separator} $B:1 {separator}:1",
        special_tokens=[(token, BERT_SPECIAL_TOKENS.index(token)) for token in (first, separator)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=separator,
        mask_token=mask,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _wordpiece_vocabulary(texts: list[str], vocab_size: int) -> dict[str, int]:
    """Entries and ids, the same on every run.

    The trainer of ``tokenizers`` 0.23 numbers the single characters inside words in the order of a randomly seeded hash
    map, and breaks ties by those numbers. Here they are handed to it, sorted, as if they were special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(backend.normalizer.normalize_str(text))
    frequent = sorted((-count, character) for character, count in counts.items() if not character.isspace())
    room = min(1000, (vocab_size - len(BERT_SPECIAL_TOKENS)) // 2)  # each character at a word's start and inside it
    alphabet = sorted(character for _, character in frequent[:room])
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*BERT_SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)],
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = backend.get_vocab()
    return vocabulary


# tiktoken's encodings as fast tokenizers with the same ids.


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
