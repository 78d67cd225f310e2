"""One interface for every tokenizer: a fast Hugging Face tokenizer that saves, and loads again without ftkit.

From the Hub or a folder, converted from tiktoken with the same ids, made of the 256 bytes, or trained on the spot.
"""

import functools
import hashlib
import importlib.util
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import regex

from ftkit.data.downloads import hub_unreachable_reason
from ftkit.data.made_tokenizers import byte_tokenizer, completed, convert_tiktoken, train_tokenizer, with_special_tokens
from ftkit.errors import DeviceError, ModelError, NetworkError, nearest_name
from ftkit.runs.models import base_of_adapter

if TYPE_CHECKING:
    import tiktoken
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "SpecialTokens",
    "expected_ids",
    "fix_special_tokens",
    "load_tokenizer",
    "reads_tokens",
    "special_tokens_said",
    "tokenizer_fingerprint",
]

logger = logging.getLogger(__name__)

_TOKENIZER_FILES = {
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
}  # fmt: skip
SCHEMES = ("byte", "tiktoken", "train")
_PACKAGES = {
    "sentencepiece": "sentencepiece", "protobuf": "google", "tiktoken": "tiktoken", "sacremoses": "sacremoses",
    "fugashi": "fugashi", "jieba": "jieba",
}  # fmt: skip
"""Packages that files of some tokenizers need, and what they are imported as."""


def load_tokenizer(
    spec: str,
    *,
    texts: Iterable[str] | None = None,
    with_mask: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
    adapter_base: str | None = None,
) -> "PreTrainedTokenizerFast":
    """Make a fast tokenizer.

    Where a tokenizer has an end-of-text token but no padding token, the end-of-text token pads.

    Args:
        spec: One of

            - a local folder with ``tokenizer.json``, ``vocab.json`` and ``merges.txt``, or ``vocab.txt``; for an
              adapter's folder without a tokenizer its base's is taken;
            - a Hub id such as ``gpt2``, looked for in the Hub's cache first;
            - a GGUF file, whose tokenizer transformers rebuilds;
            - ``tiktoken:NAME``: one of tiktoken's encodings, with the same ids;
            - ``byte``: token id = byte value, and 256 is ``<|endoftext|>``; needs no files;
            - ``train:SIZE``: byte-level BPE of that many entries, ``<|endoftext|>`` included, trained on ``texts``.
        texts: What ``train:SIZE`` trains on; other tokenizers do not read it.
        with_mask: Whether it is for an encoder: ``train:SIZE`` then trains BERT's word pieces, and the other tokenizers
            that are made here get ``[PAD]``, ``[CLS]``, ``[SEP]`` and ``[MASK]`` after their last id. A folder's and
            the Hub's stay as they are.
        trust_remote_code: Whether code in the folder or repository may run. A Hub id then needs a ``revision``.
        revision: Branch, tag or commit of a Hub id; ``None`` means its main branch.
        adapter_base: For an adapter's folder, where its base is, instead of where the folder says.

    Returns:
        A ``transformers.PreTrainedTokenizerFast``.

    Raises:
        ModelError: The folder or the name cannot be used.
        DeviceError: Its files need a package that is not installed.
        NetworkError: The Hub or tiktoken's files are needed and cannot be fetched.
    """
    folder = Path(spec).expanduser()
    scheme, _, rest = spec.partition(":")
    if spec and _is_folder(folder):
        if _is_adapter_alone(folder):
            base, of_base = (adapter_base, revision) if adapter_base else base_of_adapter(folder)
            return load_tokenizer(base, with_mask=with_mask, trust_remote_code=trust_remote_code, revision=of_base)
        tokenizer = _from_folder(spec, folder, trust_remote_code)
    elif spec.lower().endswith(".gguf") and folder.is_file():
        tokenizer = _from_gguf(spec, folder)
    elif spec == "byte":
        tokenizer = with_special_tokens(byte_tokenizer()) if with_mask else byte_tokenizer()
    elif scheme == "train" and rest:
        tokenizer = train_tokenizer(spec, rest, texts, with_mask)
    elif scheme == "tiktoken" and rest:
        tokenizer = convert_tiktoken(_tiktoken_encoding(spec, rest))
        tokenizer = with_special_tokens(tokenizer) if with_mask else tokenizer
    else:
        _check_hub_id(spec, folder, trust_remote_code, revision)
        tokenizer = _from_hub(spec, trust_remote_code, revision)
    return completed(spec, tokenizer)


# Folders and the Hub


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_adapter_alone(folder: Path) -> bool:
    """Whether a folder holds an adapter without a tokenizer, as peft saves it."""
    names = {path.name for path in folder.iterdir()}
    return "adapter_config.json" in names and not names & _TOKENIZER_FILES


def _from_folder(spec: str, folder: Path, trust_remote_code: bool) -> Any:
    import transformers

    names = {path.name for path in folder.iterdir()}
    _check_file_settings(spec, folder, names)
    case = _case(spec, folder)
    try:
        if names & {"tokenizer.json", "tokenizer_config.json"}:
            return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, **case)
        if names >= {"vocab.json", "merges.txt"}:
            return transformers.GPT2Tokenizer.from_pretrained(str(folder))
        if "vocab.txt" in names:
            return transformers.BertTokenizer.from_pretrained(str(folder), **case)
    except Exception as error:  # a damaged file raises what its parser raises, in tokenizers a bare Exception
        _check_packages(spec, names, error)
        raise ModelError(
            f"Tokenizer {spec!r}: the folder's files cannot be read ({_first_line(error)}). Save the tokenizer "
            f"again, or give another folder."
        ) from None
    shown = ", ".join(sorted(names)[:10]) or "nothing"
    raise ModelError(
        f"Tokenizer {spec!r}: no tokenizer in this folder. Needed is tokenizer.json, or vocab.json with merges.txt, or "
        f"vocab.txt; found: {shown}. Give a folder that a tokenizer was saved to, or choose byte or train:4096."
    )


def _from_gguf(spec: str, file: Path) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except ImportError as error:
        raise DeviceError(f"Tokenizer {spec!r}: {_first_line(error)}") from None
    except Exception as error:  # no tokenizer in the file, or one that transformers cannot rebuild
        raise ModelError(
            f"Tokenizer {spec!r}: the file's tokenizer cannot be read ({_first_line(error)}). Name a folder with the "
            "tokenizer that the model was made with."
        ) from None


def _case(spec: str, folder: Path) -> dict[str, Any]:
    """What to add where the files of a folder do not say whether text is lower-cased, and its vocabulary shows it."""
    vocabulary, config = folder / "vocab.txt", folder / "tokenizer_config.json"
    if not vocabulary.exists() or (folder / "tokenizer.json").exists():
        return {}
    try:
        if config.exists() and "do_lower_case" in json.loads(config.read_text(encoding="utf-8")):
            return {}
        tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}  # whoever loads it says what is wrong
    capital = next((t for t in tokens if t != t.lower() and not (t.startswith("[") and t.endswith("]"))), None)
    if capital is None:
        return {}
    logger.info("tokenizer %s: its vocabulary has capitals (%s), so text is not lower-cased", spec, capital)
    return {"do_lower_case": False}


def _check_packages(spec: str, names: set[str], error: BaseException) -> None:
    """Name the package that is missing, where a tokenizer's files need one that is not installed."""
    messages, cause = "", error
    while cause:
        messages, cause = f"{messages} {cause}".lower(), cause.__cause__ or cause.__context__  # type: ignore[assignment]
    of_pieces = sorted(name for name in names if name.endswith(".model"))
    needed = ["sentencepiece", "protobuf"] if of_pieces and "tokenizer.json" not in names else []
    needed += [package for package in _PACKAGES if package in messages and package not in needed]
    if missing := [package for package in needed if importlib.util.find_spec(_PACKAGES[package]) is None]:
        file = f", for {of_pieces[0]}" if of_pieces else ""
        raise DeviceError(
            f"Tokenizer {spec!r} needs {' and '.join(missing)}{file}, and that is not installed. Install it with "
            f"'pip install {' '.join(missing)}', or give a folder with tokenizer.json."
        ) from None


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
        return _with_case(spec, revision, load, local_files_only=True)
    except Exception as error:  # not in the cache, or not whole there
        logger.debug("tokenizer %s is not in the Hub's cache: %s", spec, _first_line(error))
    reason = hub_unreachable_reason()
    if not reason:
        try:
            return _with_case(spec, revision, load)
        except Exception as error:
            _check_packages(spec, _cached_files(spec, revision), error)
            reason = _first_line(error)
    elif files := _cached_files(spec, revision):
        _check_packages(spec, files, ModelError(reason))
    raise NetworkError(
        f"Tokenizer {spec!r}: no folder of this name, not in the Hub's cache, and not fetched from the Hub ({reason}). "
        "Check the name and the connection, or give a folder. Only a new model can take byte or train:4096, which need "
        "no download; base:tales ships with its own."
    )


def _cached_files(spec: str, revision: str | None) -> set[str]:
    """Files of a repository's tokenizer that lie in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    names = ("vocab.txt", "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
    return {name for name in names if isinstance(try_to_load_from_cache(spec, name, revision=revision), str)}


def _with_case(spec: str, revision: str | None, load: Any, **options: Any) -> Any:
    """Load from the Hub, and again where the vocabulary that came shows that text is not to be lower-cased."""
    from huggingface_hub import try_to_load_from_cache

    loaded = load(**options)
    vocabulary = try_to_load_from_cache(spec, "vocab.txt", revision=revision)
    case = _case(spec, Path(vocabulary).parent) if isinstance(vocabulary, str) else {}
    return load(**case, **options) if case else loaded


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


def _first_line(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause  # the wrappers of requests say less in more words
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Digest of everything that decides which ids a text gets.

    Padding and truncation, which callers switch on and off, do not count.

    Args:
        tokenizer: Any fast tokenizer.

    Returns:
        SHA-256 over the serialised backend, the special tokens and how they are read in a text, hexadecimal.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend.pop("padding", None)
    backend.pop("truncation", None)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    reading = ["special tokens in a text are tokens"] if reads_tokens(tokenizer) else []
    data = json.dumps([backend, special, *reading], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(data.encode()).hexdigest()


# Special tokens that stand in a text, such as ``<|im_start|>``: read as the single tokens that they are, or as text.
#
# A chat that was written to a file is learned, and measured, in the tokens of its format. An accidental ``<s>`` in a
# book
# is three characters. Both readings are right for some text, so one is chosen for the whole of a run, said, and kept by
# the tokenizer, which everything that reads the text then follows.


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
