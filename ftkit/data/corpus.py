"""Load a corpus: the cleaned documents of one source.

Each file of ``ftkit.data.sources`` is a kind of source. Every source ends as a ``Corpus`` or as one ``DataError`` or
``NetworkError`` that names the source and the remedy.

Downloads are kept in the cache (``FTKIT_CACHE`` or ``~/.cache/ftkit``) and asked for once.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ftkit.config.catalogue import described_sources
from ftkit.data.cleanup import CleanedText, Removed, clean_lines, clean_text
from ftkit.data.downloads import MAX_DOWNLOAD_BYTES, Download
from ftkit.data.sources import Source, SourceRequest, text_sources
from ftkit.data.text_files import check_characters, check_codec, check_place, exists, sentence, split_column
from ftkit.data.words import count_words
from ftkit.errors import DataError, nearest_name

__all__ = ["Corpus", "Document", "corpus_of", "load_corpus"]

logger = logging.getLogger(__name__)

_SHOWN = 40
"""Characters of a text that was given in the place of a path."""
FEW_WORDS = 10_000  # below this a model learns the words of a text rather than its style


@dataclass(frozen=True)
class Document:
    """One text of a corpus.

    Args:
        name: File name, data set row or title.
        text: The cleaned text.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The cleaned documents of one source.

    Args:
        name: Short name for reports and folders.
        source: What the user asked for, such as ``"gutenberg:11"``.
        documents: At least one document; none is blank.
        removed: What cleaning took out of all documents.
    """

    name: str
    source: str
    documents: tuple[Document, ...]
    removed: tuple[Removed, ...] = ()

    BETWEEN: ClassVar[str] = "\n\n"
    """What stands between two documents in ``text``."""

    @cached_property
    def text(self) -> str:
        """All documents, joined by a blank line; as tokens, they are joined by an end-of-text token instead."""
        return self.BETWEEN.join(document.text for document in self.documents)

    @cached_property
    def num_bytes(self) -> int:
        """Length of ``text`` in bytes of UTF-8."""
        return len(self.text.encode())

    @cached_property
    def num_words(self) -> int:
        """Number of pieces between white space; where a script puts none, of characters."""
        return sum(count_words(document.text) for document in self.documents)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest over the cleaned documents, their borders included and their names not."""
        digest = hashlib.sha256()
        for document in self.documents:
            data = document.text.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def corpus_of(texts: Sequence[str], name: str) -> Corpus:
    """Make a corpus of texts that are in memory.

    Args:
        texts: One or more documents; blank ones are left out.
        name: Name of the corpus.

    Raises:
        DataError: No text, or something that is not text.
    """
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{name}: item {number} is {type(text).__name__}, not text; give a list of strings")
    documents = [
        Document(f"{name} {number}", clean_text(text).text) for number, text in enumerate(texts) if text.strip()
    ]
    if not documents:
        raise DataError(f"{name}: has no text in {len(texts):,} items; give at least one that is not blank")
    return Corpus(name, f"{len(texts):,} texts in memory", tuple(documents))


def load_corpus(
    source: str,
    *,
    name: str | None = None,
    encoding: str = "utf-8",
    clean: bool = True,
    timeout_seconds: float = 30.0,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    warn_short: bool = True,
) -> Corpus:
    """Read a corpus from wherever it is.

    Args:
        source: A path, or a prefix and a place, such as ``"gutenberg:11"``. Each file of ``ftkit.data.sources``
            declares one kind; ``docs/own_text.md`` shows them all.
        name: Name of the corpus; ``None`` takes it from the source.
        encoding: A Python codec for files and downloads. Decoding is strict.
        clean: Whether to remove byte order marks, carriage returns and Project Gutenberg's additions; of code and
            notebooks only the first two and IPython's magics.
        timeout_seconds: How long a server may be silent; a whole download may take ten times as long.
        max_bytes: Largest download.
        warn_short: Whether to warn of a text from which no style can be learned.

    Returns:
        The corpus, with at least one document that is not blank.

    Raises:
        DataError: Nothing there, not text, wrong encoding, nothing but white space, or a source of unknown kind.
        NetworkError: A download failed.
    """
    check_codec(encoding)
    if "\n" in source and not exists(Path(source)):
        raise DataError(
            f"Corpus {source[:_SHOWN]!r}...: this is a text of {len(source):,} characters, and a path or a source was "
            f"asked for; write it to a file, or give texts in memory as a list of strings"
        )
    kind, place = _source_of(source)
    loaded = kind.load(SourceRequest(source, place, encoding, clean, Download(timeout_seconds, max_bytes)))
    cleaned = (clean_text if loaded.is_prose else clean_lines) if clean else None
    corpus = _corpus(name or loaded.name, source, loaded.documents, cleaned, [*loaded.removed])
    if warn_short and corpus.num_words < FEW_WORDS:
        logger.warning(
            "%s has %s words; a style is hardly learned from fewer than %s, expect single words and phrases at most",
            source,
            f"{corpus.num_words:,}",
            f"{FEW_WORDS:,}",
        )
    return corpus


def _say_removed(source: str, removed: list[Removed], before: int) -> None:
    """Say what cleaning took out; much of it is a warning."""
    taken = Counter[str]()
    for item in removed:
        taken[item.kind] += item.characters
    if taken:
        much = 2 * sum(taken.values()) > before
        kinds = ", ".join(f"{kind} ({characters:,})" for kind, characters in taken.items())
        logger.log(
            logging.WARNING if much else logging.INFO,
            "%s: removed %s of %s characters%s",
            source,
            kinds,
            f"{before:,}",
            ", more than half; look at what is left" if much else "",
        )


def _source_of(source: str) -> tuple[Source, str]:
    """The kind of a source, and what follows its prefix; of a path, the whole string."""
    kinds = text_sources().values()
    by_prefix = {prefix: kind for kind in kinds for prefix in kind.prefixes}
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", source, re.DOTALL)  # one letter is a Windows drive
    if match and match[1].lower() in by_prefix:
        return by_prefix[match[1].lower()], match[2]
    if match and not exists(Path(source)):
        near = sentence(nearest_name(match[1].lower(), by_prefix))
        raise DataError(
            f"Corpus {source!r}: unknown source {match[1]!r}, and no file has that name{near} Sources are "
            f"{described_sources()}."
        )
    path, _ = split_column(source)
    check_place(source, path)
    if owner := next((kind for kind in kinds if kind.owns and kind.owns(path)), None):
        return owner, source
    raise DataError(f"Corpus {source!r}: no source reads this path. Sources are {described_sources()}.")


def _corpus(
    name: str,
    source: str,
    documents: list[tuple[str, str]],
    clean: Callable[[str], CleanedText] | None,
    removed: list[Removed],
) -> Corpus:
    kept: list[Document] = []
    for label, raw in documents:
        text = raw
        if clean:
            cleaned = clean(raw)
            text = cleaned.text
            removed += cleaned.removed
        check_characters(_place(source, label), text)
        if text.strip():
            kept.append(Document(label, text))
    if not kept:
        characters = sum(len(text) for _, text in documents)
        left = " after cleaning" if removed else ""
        raise DataError(
            f"Corpus {source!r}: no text in {_counted(len(documents), 'document')} ({characters:,} characters, nothing "
            f"but white space{left}). Give a source with text."
        )
    if len(kept) < len(documents):
        logger.warning(
            "%s: %s without text left out, %s kept",
            source,
            _counted(len(documents) - len(kept), "document"),
            f"{len(kept):,}",
        )
    _say_removed(source, removed, sum(len(raw) for _, raw in documents))
    if copies := len(kept) - len({document.text for document in kept}):
        logger.warning(
            "%s: %s of %s documents are duplicates; remove them, or held-out text may also be training text",
            source,
            f"{copies:,}",
            f"{len(kept):,}",
        )
    return Corpus(name, source, tuple(kept), tuple(removed))


def _place(source: str, label: str) -> str:
    return f"Corpus {source!r}" if label in source else f"Corpus {source!r}, {label}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
