"""Where text comes from: files, folders, notebooks, code, Project Gutenberg, the web, Hub data sets, embedded voices.

Every source ends as a ``Corpus`` of cleaned documents or as one ``DataError`` or ``NetworkError`` that names the source
and the remedy. Downloads are kept in the cache (``FTKIT_CACHE`` or ``~/.cache/ftkit``) and asked for once.
"""

import hashlib
import logging
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ftkit.data.cleaning import CleanedText, Removed, clean_lines, clean_text
from ftkit.data.code_files import code_documents
from ftkit.data.downloads import MAX_DOWNLOAD_BYTES, Download
from ftkit.data.formats import detect_format
from ftkit.data.hub_rows import hub_documents
from ftkit.data.local_documents import LocalDocuments, file_documents, local_documents
from ftkit.data.notebooks import notebook_documents
from ftkit.data.text_files import check_characters, check_codec, decode_file, exists, sentence
from ftkit.data.voices import VOICES, voice_text
from ftkit.data.words import count_words
from ftkit.errors import DataError, NetworkError, nearest_name

__all__ = ["Corpus", "Document", "cache_dir", "load_corpus"]

logger = logging.getLogger(__name__)

SCHEMES = ("code", "gutenberg", "http", "https", "hub", "notebooks", "voices")
VOICE_WORDS = 30_000  # default length of a voices: source, enough for a held-out tenth of 3,000 words
FEW_WORDS = 10_000  # below this a model learns the words of a text rather than its style
GUTENBERG_ADDRESS = "https://www.gutenberg.org/cache/epub/{book}/pg{book}.txt"


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


def cache_dir() -> Path:
    """The folder for downloads and token stores: ``FTKIT_CACHE`` if set, else ``~/.cache/ftkit``. It may not exist."""
    return Path(os.environ.get("FTKIT_CACHE") or "~/.cache/ftkit").expanduser()


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
        source: One of

            - ``path/to/book.txt``: a text file, whatever its ending;
            - ``path/to/folder``: every ``.txt`` and ``.md`` file below it, sorted by path, each a document; names that
              begin with a dot are passed over;
            - ``gutenberg:11``: a book by its number, from the folder ``FTKIT_BOOKS``, the cache or gutenberg.org;
            - ``https://...`` or ``http://...``: a plain text file;
            - ``hub:NAME[:SPLIT][#COLUMN][@DOCUMENTS]``: a Hugging Face data set, or a local file or folder of one,
              each row a document; ``NAME`` is ``owner/name`` or ``owner/name/configuration``, the split is ``train``
              and the column ``text`` unless said. With a number of documents, rows are streamed and no more is read;
            - ``notebooks:PLACE``: the code cells of a Jupyter notebook, or of those in a folder or zip archive, each
              notebook a document, without what only IPython understands;
            - ``code:PLACE``: a Python file, or those below a folder, each a document; ``code:stdlib`` is the standard
              library of the running Python, ``code:stdlib:BYTES`` files of it that have so many bytes together, and
              ``code:stdlib/PACKAGE`` one of its packages;
            - ``voices:NAME[:WORDS]``: an embedded author, of 30,000 words unless said.
        name: Name of the corpus; ``None`` takes it from the source.
        encoding: A Python codec for files and downloads. Decoding is strict.
        clean: Whether to remove byte order marks, carriage returns and Project Gutenberg's additions; of code and
            notebooks only the first two and IPython's magics.
        timeout_seconds: How long a server may be silent; a whole download may take ten times as long.
        max_bytes: Largest download.
        warn_short: Whether to warn of a text from which no style can be learnt.

    Returns:
        The corpus, with at least one document that is not blank.

    Raises:
        DataError: Nothing there, not text, wrong encoding, nothing but white space, or a source of unknown kind.
        NetworkError: A download failed.
    """
    download = Download(timeout_seconds, max_bytes)
    scheme, rest = _scheme_of(source)
    removed: list[Removed] = []
    are_rows = scheme == "hub"
    if scheme == "voices":
        label, documents = _read_voice(source, rest)
    elif scheme == "hub":
        label, documents = hub_documents(source, rest, cache_dir() / "streams")
    elif scheme == "notebooks":
        label, documents, removed = notebook_documents(source, rest, clean)
    elif scheme == "code":
        check_codec(encoding)
        label, documents = code_documents(source, rest, encoding)
    else:
        check_codec(encoding)
        if scheme == "gutenberg":
            label, path = _gutenberg_file(source, rest, download)
            documents = [(path.name, decode_file(path, encoding))]
        else:
            found = _downloaded(source, download, encoding) if scheme else local_documents(source, encoding)
            label, documents, are_rows = found
    cleaned = clean_lines if are_rows or scheme in ("code", "notebooks") else clean_text
    corpus = _corpus(name or label, source, documents, cleaned if clean else None, removed)
    if warn_short and corpus.num_words < FEW_WORDS:
        logger.warning(
            "%s has %s words; a style is hardly learnt from fewer than %s, expect single words and phrases at most",
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
        said = ", ".join(f"{kind} ({characters:,})" for kind, characters in taken.items())
        logger.log(
            logging.WARNING if much else logging.INFO,
            "%s: removed %s of %s characters%s",
            source,
            said,
            f"{before:,}",
            ", more than half; look at what is left" if much else "",
        )


def _scheme_of(source: str) -> tuple[str, str]:
    """The scheme and the rest; an empty scheme means a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", source, re.DOTALL)  # one letter is a Windows drive
    if match is None:
        return "", source
    scheme = match[1].lower()
    if scheme in SCHEMES:
        return scheme, match[2]
    if exists(Path(source)):
        return "", source
    near = sentence(nearest_name(scheme, SCHEMES))
    raise DataError(
        f"Corpus {source!r}: there is no source {match[1]!r} and no file of that name{near} "
        f"Sources are a file, a folder, gutenberg:NUMBER, https://..., hub:NAME, notebooks:FOLDER, code:FOLDER and "
        f"voices:NAME."
    )


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
            "%s: %s of %s documents have the text of an earlier one; held out, it would be known",
            source,
            f"{copies:,}",
            f"{len(kept):,}",
        )
    return Corpus(name, source, tuple(kept), tuple(removed))


def _place(source: str, label: str) -> str:
    return f"Corpus {source!r}" if label in source else f"Corpus {source!r}, {label}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# Project Gutenberg and addresses


def _gutenberg_file(source: str, rest: str, download: Download) -> tuple[str, Path]:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", rest):
        raise DataError(
            f"Corpus {source!r}: {rest!r} is no book number. Give the number of the book's page on gutenberg.org, "
            f"such as gutenberg:11 for Alice's Adventures in Wonderland."
        )
    label = f"gutenberg-{rest}"
    books = os.environ.get("FTKIT_BOOKS", "")
    folder = Path(books).expanduser() if books else None
    if folder is not None and folder.is_dir():
        for pattern in (f"{rest}-*.txt", f"{rest}.txt", f"pg{rest}.txt"):
            for path in sorted(folder.glob(pattern)):
                return label, path
    cached = cache_dir() / "gutenberg" / f"pg{rest}.txt"
    if not cached.is_file():
        address = GUTENBERG_ADDRESS.format(book=rest)
        try:
            download.to(address, cached)
        except (DataError, NetworkError) as error:
            place = f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" if folder else "not set"
            raise NetworkError(
                f"Corpus {source!r}: not in the folder FTKIT_BOOKS ({place}), not in the cache, and {error} "
                f"To work without a network, put the book's plain text at {cached}, or as {rest}.txt into a folder and "
                f"set FTKIT_BOOKS to that folder."
            ) from None
    return label, cached


def _downloaded(source: str, download: Download, encoding: str) -> LocalDocuments:
    """A file of the web; of a table, the address may name the column after ``#``."""
    address, _, column = source.partition("#")
    last = re.sub(r"[?].*", "", address).rstrip("/").rsplit("/", 1)[-1]
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", urllib.parse.unquote(last))[-80:] or "page.txt"
    cached = cache_dir() / "downloads" / f"{hashlib.sha256(address.encode('utf-8', 'replace')).hexdigest()[:16]}-{base}"
    if not cached.is_file():
        download.to(address, cached)
    with_column = column if detect_format(cached).is_table else ""  # else it names a part of a page
    found = file_documents(source, cached, encoding, with_column)
    texts = found.texts if found.are_rows else [(base, text) for _, text in found.texts]
    return LocalDocuments(Path(base).stem or "page", texts, found.are_rows)


# Voices


def _read_voice(source: str, rest: str) -> tuple[str, list[tuple[str, str]]]:
    voice, _, words = rest.partition(":")
    if voice not in VOICES:
        raise DataError(f"Corpus {source!r}: there is no voice {voice!r}{sentence(nearest_name(voice, VOICES))}")
    if words and not re.fullmatch(r"[1-9][0-9]{0,7}", words):
        raise DataError(
            f"Corpus {source!r}: {words!r} is no number of words from 1 to 99999999. Write for instance "
            f"voices:{voice}:50000."
        )
    return voice, [(voice, voice_text(voice, int(words or VOICE_WORDS)))]
