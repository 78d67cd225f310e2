"""One interface for every tokenizer: a fast Hugging Face tokenizer that saves, and loads again without ftkit.

From the Hub or a folder, converted from tiktoken with the same ids, made of the 256 bytes, or trained on the spot.
"""

import collections
import functools
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit.data.downloads import hub_unreachable_reason
from ftkit.errors import ModelError, NetworkError, nearest_name

if TYPE_CHECKING:
    import tiktoken
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = ["convert_tiktoken", "load_tokenizer", "tokenizer_fingerprint", "train_wordpiece"]

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
NUM_BYTES = 256
BERT_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SCHEMES = ("byte", "tiktoken", "train")


def load_tokenizer(
    spec: str,
    *,
    texts: Iterable[str] | None = None,
    with_mask: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> "PreTrainedTokenizerFast":
    """Make a fast tokenizer.

    Where a tokenizer has an end-of-text token but no padding token, the end-of-text token pads.

    Args:
        spec: One of

            - a local folder with ``tokenizer.json``, ``vocab.json`` and ``merges.txt``, or ``vocab.txt``;
            - a Hub id such as ``gpt2``, looked for in the Hub's cache first;
            - ``tiktoken:NAME``: one of tiktoken's encodings, with the same ids;
            - ``byte``: token id = byte value, and 256 is ``<|endoftext|>``; needs no files;
            - ``train:SIZE``: byte-level BPE of that many entries, ``<|endoftext|>`` included, trained on ``texts``.
        texts: What ``train:SIZE`` trains on; other tokenizers do not read it.
        with_mask: Whether it is for an encoder: ``train:SIZE`` then trains BERT's word pieces, and the other tokenizers
            that are made here get ``[PAD]``, ``[CLS]``, ``[SEP]`` and ``[MASK]`` after their last id. A folder's and
            the Hub's stay as they are.
        trust_remote_code: Whether code in the folder or repository may run. A Hub id then needs a ``revision``.
        revision: Branch, tag or commit of a Hub id; ``None`` means its main branch.

    Returns:
        A ``transformers.PreTrainedTokenizerFast``.

    Raises:
        ModelError: The folder or the name cannot be used.
        NetworkError: The Hub or tiktoken's files are needed and cannot be fetched.
    """
    folder = Path(spec).expanduser()
    scheme, _, rest = spec.partition(":")
    if spec and _is_folder(folder):
        tokenizer = _from_folder(spec, folder, trust_remote_code)
    elif spec == "byte":
        tokenizer = _with_mask(_byte_tokenizer()) if with_mask else _byte_tokenizer()
    elif scheme == "train" and rest:
        tokenizer = _train(spec, rest, texts, with_mask)
    elif scheme == "tiktoken" and rest:
        tokenizer = convert_tiktoken(_tiktoken_encoding(spec, rest))
        tokenizer = _with_mask(tokenizer) if with_mask else tokenizer
    else:
        _check_hub_id(spec, folder, trust_remote_code, revision)
        tokenizer = _from_hub(spec, trust_remote_code, revision)
    return _completed(spec, tokenizer)


def _completed(spec: str, tokenizer: Any) -> "PreTrainedTokenizerFast":
    """Refuse a tokenizer without a fast backend, and give the others their end-of-text and padding token."""
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


# Folders and the Hub


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _from_folder(spec: str, folder: Path, trust_remote_code: bool) -> Any:
    import transformers

    names = {path.name for path in folder.iterdir()}
    _check_file_settings(spec, folder, names)
    try:
        if names & {"tokenizer.json", "tokenizer_config.json"}:
            return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
        if names >= {"vocab.json", "merges.txt"}:
            return transformers.GPT2Tokenizer.from_pretrained(str(folder))
        if "vocab.txt" in names:
            return transformers.BertTokenizer.from_pretrained(str(folder))
    except Exception as error:  # a damaged file raises what its parser raises, in tokenizers a bare Exception
        raise ModelError(
            f"Tokenizer {spec!r}: the folder's files cannot be read ({_first_line(error)}). Save the tokenizer "
            f"again, or give another folder."
        ) from None
    shown = ", ".join(sorted(names)[:10]) or "nothing"
    raise ModelError(
        f"Tokenizer {spec!r}: no tokenizer in this folder. Needed is tokenizer.json, or vocab.json with merges.txt, or "
        f"vocab.txt; found: {shown}. Give a folder that a tokenizer was saved to, or choose byte or train:4096."
    )


def _check_file_settings(spec: str, folder: Path, names: set[str]) -> None:
    """Refuse a configuration that makes the tokenizer read a file outside its folder."""
    if "tokenizer_config.json" not in names:
        return
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Tokenizer {spec!r}: tokenizer_config.json cannot be read ({_first_line(error)}). Save the tokenizer "
            f"again."
        ) from None
    for key, value in settings.items() if isinstance(settings, dict) else ():
        names_file = key.endswith("_file") and isinstance(value, str)
        if names_file and not (folder / value).resolve().is_relative_to(folder.resolve()):
            raise ModelError(
                f"Tokenizer {spec!r}: tokenizer_config.json sets {key} to {value!r}, a file outside the folder. Remove "
                f"that line if you trust the rest."
            )


def _check_hub_id(spec: str, folder: Path, trust_remote_code: bool, revision: str | None) -> None:
    looks_like_path = spec.startswith((".", "/", "~")) or spec.count("/") > 1 or "\\" in spec
    if not looks_like_path and re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", spec):
        if trust_remote_code and revision is None:
            raise ModelError(
                f"Tokenizer {spec!r}: code from the Hub runs only at a fixed revision. Give the commit that you have "
                f"read, or leave trust_remote_code off."
            )
        return
    scheme = spec.partition(":")[0]
    if ":" in spec and not looks_like_path:
        raise ModelError(
            f"Tokenizer {spec!r}: unknown kind {scheme!r}. Write byte, train:4096, tiktoken:gpt2, a folder or a Hub "
            f"id{nearest_name(scheme, SCHEMES)}"
        )
    near = ""
    if _is_folder(folder.parent):
        near = nearest_name(folder.name, [path.name for path in folder.parent.iterdir() if path.is_dir()][:50])
    raise ModelError(f"Tokenizer {spec!r}: no such folder. Give a folder, a Hub id, byte or train:4096{near}")


def _from_hub(spec: str, trust_remote_code: bool, revision: str | None) -> Any:
    import transformers

    load = functools.partial(
        transformers.AutoTokenizer.from_pretrained,
        spec,
        trust_remote_code=trust_remote_code,
        revision=revision or "main",
    )
    try:
        return load(local_files_only=True)
    except Exception as error:  # not in the cache, or not whole there
        logger.debug("tokenizer %s is not in the Hub's cache: %s", spec, _first_line(error))
    reason = hub_unreachable_reason()
    if not reason:
        try:
            return load()
        except Exception as error:
            reason = _first_line(error)
    raise NetworkError(
        f"Tokenizer {spec!r}: no folder of this name, not in the Hub's cache, and not fetched from the Hub ({reason}). "
        f"Check the name and the connection, give a folder, or choose byte or train:4096, which need no download."
    )


def _first_line(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause  # the wrappers of requests say less in more words
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# Tokenizers made here


def _wrapped(backend: "Tokenizer", **special_tokens: str) -> "PreTrainedTokenizerFast":
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,  # decoding gives the text back as it was
        model_input_names=["input_ids", "attention_mask"],  # language models refuse token_type_ids
        **special_tokens,
    )


def _byte_characters() -> list[str]:
    """The character by which byte-level tokenizers write each byte, by byte value.

    Source: Radford et al. 2019, encoder.py of the GPT-2 release: printable Latin-1 stands for itself, the other 68
    bytes are moved up to 256 and above.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = [byte for byte in range(NUM_BYTES) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(NUM_BYTES + i) for i, byte in enumerate(moved)}
    return [characters[byte] for byte in range(NUM_BYTES)]


def _byte_tokenizer() -> "PreTrainedTokenizerFast":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return _wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


def _with_mask(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
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


def _train(spec: str, size: str, texts: Iterable[str] | None, with_mask: bool) -> "PreTrainedTokenizerFast":
    """The tokenizer of ``train:SIZE``."""
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
    return _wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)


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


# tiktoken


def _tiktoken_encoding(spec: str, name: str) -> "tiktoken.Encoding":
    import tiktoken

    if name not in tiktoken.list_encoding_names():
        near = nearest_name(name, tiktoken.list_encoding_names())
        raise ModelError(f"Tokenizer {spec!r}: tiktoken has no encoding {name!r}{near}")
    try:
        return tiktoken.get_encoding(name)
    except Exception as error:  # requests' errors, and ValueError for a file with the wrong digest
        raise NetworkError(
            f"Tokenizer {spec!r}: tiktoken could not fetch its vocabulary ({_first_line(error)}). Without a network, "
            f"set TIKTOKEN_CACHE_DIR to a folder that has the file from another machine's cache."
        ) from None


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
    characters = _byte_characters()
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
    return _completed("tiktoken", _wrapped(backend, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT))


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


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Digest of everything that decides which ids a text gets.

    Padding and truncation, which callers switch on and off, do not count.

    Args:
        tokenizer: Any fast tokenizer.

    Returns:
        SHA-256 over the serialised backend and the special tokens, hexadecimal.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("padding", None)
    backend.pop("truncation", None)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    data = json.dumps([backend, special], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(data.encode()).hexdigest()
