"""Where text comes from: a file, a folder, a Project Gutenberg book, an address, a Hub data set, an embedded voice.

Every source ends as a ``Corpus`` of cleaned documents or as one ``DataError`` or ``NetworkError`` that names the source
and the remedy. Downloads are kept in the cache (``FTKIT_CACHE`` or ``~/.cache/ftkit``) and asked for once.
"""

import codecs
import hashlib
import logging
import os
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ftkit.data.cleaning import Removed, clean_text
from ftkit.data.downloads import MAX_DOWNLOAD_BYTES, Download, hub_unreachable_reason
from ftkit.data.voices import VOICES, voice_text
from ftkit.errors import DataError, NetworkError, nearest_name

__all__ = [
    "Corpus",
    "Document",
    "HubPlace",
    "cache_dir",
    "check_codec",
    "decode_file",
    "load_corpus",
    "load_rows",
    "read_hub_place",
]

logger = logging.getLogger(__name__)

TEXT_ENDINGS = (".md", ".txt")  # what is read from a folder; a single file may have any name
SCHEMES = ("gutenberg", "http", "https", "hub", "voices")
VOICE_WORDS = 30_000  # default length of a voices: source, enough for a held-out tenth of 3,000 words
FEW_WORDS = 10_000  # below this a model learns the words of a text rather than its style
GUTENBERG_ADDRESS = "https://www.gutenberg.org/cache/epub/{book}/pg{book}.txt"
# How files begin that people hand in by mistake, and what to do instead.
NOT_TEXT = {
    b"%PDF-": "a PDF file: save its text as a .txt file first",
    b"PK\x03\x04": "a zip archive (also .docx, .epub and .odt are): unpack it, or save its text as a .txt file",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PAR1": "a parquet file: give its folder as hub:FOLDER#COLUMN",
    b"SQLite format 3": "a database: export the text first",
}


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

    @cached_property
    def text(self) -> str:
        """All documents, joined by a blank line."""
        return "\n\n".join(document.text for document in self.documents)

    @cached_property
    def num_bytes(self) -> int:
        """Length of ``text`` in bytes of UTF-8."""
        return len(self.text.encode())

    @cached_property
    def num_words(self) -> int:
        """Number of pieces between white space."""
        return sum(len(document.text.split()) for document in self.documents)

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
            - ``hub:NAME[:SPLIT][#COLUMN]``: a Hugging Face data set or a local folder of one, each row a document;
              ``NAME`` is ``owner/name`` or ``owner/name/configuration``, the split is ``train`` and the column
              ``text`` unless said;
            - ``voices:NAME[:WORDS]``: an embedded author, of 30,000 words unless said.
        name: Name of the corpus; ``None`` takes it from the source.
        encoding: A Python codec for files and downloads. Decoding is strict.
        clean: Whether to remove byte order marks, carriage returns and Project Gutenberg's additions.
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
    if scheme == "voices":
        label, documents = _read_voice(source, rest)
    elif scheme == "hub":
        label, documents = _read_hub(source, rest)
    else:
        check_codec(encoding)
        if scheme == "gutenberg":
            label, files = _gutenberg_files(source, rest, download)
        elif scheme in ("http", "https"):
            label, files = _downloaded_files(source, download)
        else:
            label, files = _local_files(source)
        documents = [(document, decode_file(path, encoding)) for document, path in files]
    corpus = _corpus(name or label, source, documents, clean)
    if warn_short and corpus.num_words < FEW_WORDS:
        logger.warning(
            "%s has %s words; a style is hardly learnt from fewer than %s, expect single words and phrases at most",
            source,
            f"{corpus.num_words:,}",
            f"{FEW_WORDS:,}",
        )
    return corpus


def _scheme_of(source: str) -> tuple[str, str]:
    """The scheme and the rest; an empty scheme means a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", source, re.DOTALL)  # one letter is a Windows drive
    if match is None:
        return "", source
    scheme = match[1].lower()
    if scheme in SCHEMES:
        return scheme, match[2]
    if _exists(Path(source)):
        return "", source
    near = _sentence(nearest_name(scheme, SCHEMES))
    raise DataError(
        f"Corpus {source!r}: there is no source {match[1]!r} and no file of that name{near} "
        f"Sources are a file, a folder, gutenberg:NUMBER, https://..., hub:NAME and voices:NAME."
    )


def _corpus(name: str, source: str, documents: list[tuple[str, str]], clean: bool) -> Corpus:
    kept: list[Document] = []
    removed: list[Removed] = []
    for label, raw in documents:
        text = raw
        if clean:
            cleaned = clean_text(raw)
            text = cleaned.text
            removed += cleaned.removed
        _check_characters(source, label, text)
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
    return Corpus(name, source, tuple(kept), tuple(removed))


def _check_characters(source: str, label: str, text: str) -> None:
    """Refuse what is no text although it decoded: NUL characters and halves of surrogate pairs."""
    at = text.find("\0")
    if at >= 0:
        raise DataError(
            f"{_place(source, label)}: a NUL character at character {at:,} (line {text.count(chr(10), 0, at) + 1:,}), "
            f"so this is no text, or text in another encoding. Give a text file, or its encoding (--encoding utf-16)."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{_place(source, label)}: half of a surrogate pair, {text[error.start]!r}, at character {error.start:,} "
            f"(line {text.count(chr(10), 0, error.start) + 1:,}). It has no form in UTF-8: mend the file, or give its "
            f"true encoding (--encoding)."
        ) from None


def _place(source: str, label: str) -> str:
    return f"Corpus {source!r}" if label in source else f"Corpus {source!r}, {label}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# Files and folders


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # name too long, folder that may not be entered, NUL in the name
        return False


def _local_files(source: str) -> tuple[str, list[tuple[str, Path]]]:
    if not source.strip():
        raise DataError(
            "Corpus '': an empty name. Give a file, a folder, gutenberg:NUMBER, https://..., or voices:NAME."
        )
    path = Path(source).expanduser()
    if not _exists(path):
        raise DataError(f"Corpus {source!r}: no such file or folder{_sentence(_neighbours(path))}")
    if path.is_dir():
        return path.resolve().name or "corpus", _folder_files(source, path)
    if not path.is_file():  # reading a pipe or a device could wait for ever
        raise DataError(f"Corpus {source!r}: neither a file nor a folder. Give a text file or a folder of them.")
    return path.stem, [(path.name, path)]


def _neighbours(path: Path) -> str:
    """What is there instead of a missing path, as the tail of a message."""
    folder = path.parent
    while not _exists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"; {folder} cannot be read ({error.strerror})"
    if folder != path.parent:
        return f"; the nearest folder that exists is {folder}"
    near = nearest_name(path.name, names)
    if near.startswith("; did"):
        return near
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
    return f"; in {folder} there is: {shown}" if names else f"; the folder {folder} is empty"


def _folder_files(source: str, folder: Path) -> list[tuple[str, Path]]:
    found: list[Path] = []
    others: dict[str, int] = {}

    def unreadable(error: OSError) -> None:
        raise DataError(
            f"Corpus {source!r}: the folder {error.filename} cannot be read ({error.strerror}). Allow reading it."
        )

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
        for file_name in names:
            path = Path(root, file_name)
            if file_name.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() in TEXT_ENDINGS:
                found.append(path)
            else:
                others[path.suffix or "none"] = others.get(path.suffix or "none", 0) + 1
    if not found:
        there = ", ".join(f"{count:,} with ending {ending}" for ending, count in sorted(others.items()))
        raise DataError(
            f"Corpus {source!r}: no text file in this folder. Files ending in .txt and .md are read; found: "
            f"{there or 'no file at all'}. Rename them, or give one file by its full name."
        )
    named = [(path.relative_to(folder).as_posix(), path) for path in found]
    return sorted(named)


def check_codec(encoding: str) -> None:
    """Refuse what is no text encoding of Python."""
    known = {"utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "ascii", "mac-roman", "cp437", "koi8-r"}
    try:
        " ".encode(encoding)
        return
    except (LookupError, ValueError):
        pass
    near = _sentence(nearest_name(encoding.lower(), known))
    raise DataError(
        f"Encoding {encoding!r} is no text encoding of Python{near} Often right: utf-8, utf-16, latin-1, cp1252."
    )


def decode_file(path: Path, encoding: str) -> str:
    """A text file, decoded strictly.

    Raises:
        DataError: It is empty, no text, or in another encoding; the message says which byte and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Allow reading it, or give another file.") from None
    if not data:
        raise DataError(f"{path}: an empty file, 0 bytes. Give a file with text.")
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    for start, kind in NOT_TEXT.items():
        if data.startswith(start):
            raise DataError(f"{path}: {kind}.")
    if not wide and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in data[:200]:
        raise DataError(f"{path}: begins like UTF-16 text, encoding is {encoding!r}. Try --encoding utf-16.")
    if not wide and b"\0" in data:
        at = data.index(b"\0")
        raise DataError(
            f"{path}: a NUL byte at byte {at:,} (line {_line(data, at):,}), so this is a binary file, or UTF-16 text "
            f"without its mark (try --encoding utf-16-le). Give a text file."
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        bad = " ".join(f"0x{byte:02X}" for byte in data[error.start : max(error.end, error.start + 1)][:4])
        remedy = "cp1252 or latin-1" if codecs.lookup(encoding).name.startswith("utf-8") else "utf-8"
        raise DataError(
            f"{path}: not {encoding} text: {bad or 'the end of the file'} at byte {error.start:,} "
            f"(line {_line(data, error.start):,}): {error.reason}. Say its encoding with --encoding, "
            f"for example {remedy}."
        ) from None
    except (ValueError, OverflowError) as error:  # codecs such as idna and unicode_escape
        raise DataError(f"{path}: cannot be decoded as {encoding!r} ({error}). Try --encoding utf-8.") from None


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


# Project Gutenberg and addresses


def _gutenberg_files(source: str, rest: str, download: Download) -> tuple[str, list[tuple[str, Path]]]:
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
                return label, [(path.name, path)]
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
    return label, [(cached.name, cached)]


def _downloaded_files(source: str, download: Download) -> tuple[str, list[tuple[str, Path]]]:
    last = re.sub(r"[?#].*", "", source).rstrip("/").rsplit("/", 1)[-1]
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", urllib.parse.unquote(last))[-80:] or "page.txt"
    cached = cache_dir() / "downloads" / f"{hashlib.sha256(source.encode('utf-8', 'replace')).hexdigest()[:16]}-{base}"
    if not cached.is_file():
        download.to(source, cached)
    return Path(base).stem or "page", [(base, cached)]


# Voices and the Hub


def _read_voice(source: str, rest: str) -> tuple[str, list[tuple[str, str]]]:
    voice, _, words = rest.partition(":")
    if voice not in VOICES:
        raise DataError(f"Corpus {source!r}: there is no voice {voice!r}{_sentence(nearest_name(voice, VOICES))}")
    if words and not re.fullmatch(r"[1-9][0-9]{0,7}", words):
        raise DataError(
            f"Corpus {source!r}: {words!r} is no number of words from 1 to 99999999. Write for instance "
            f"voices:{voice}:50000."
        )
    return voice, [(voice, voice_text(voice, int(words or VOICE_WORDS)))]


@dataclass(frozen=True)
class HubPlace:
    """Where rows are: a data set on the Hub or a folder of one."""

    place: str
    """``owner/name``, ``owner/name/configuration`` or the folder as it was given."""
    folder: Path | None
    split: str
    columns: str
    name: str
    """Short name for reports."""


def read_hub_place(source: str, rest: str, default_columns: str) -> HubPlace:
    """Take ``NAME[:SPLIT][#COLUMNS]`` apart; an existing folder keeps its colons.

    Raises:
        DataError: It is neither a folder nor a name.
    """
    place, _, columns = rest.partition("#")
    folder, split = Path(place).expanduser(), "train"
    if not _exists(folder):
        place, _, asked_split = place.partition(":")
        folder, split = Path(place).expanduser(), asked_split or "train"
    local = _exists(folder)
    if not place or not (local or re.fullmatch(r"[\w.-]+(?:/[\w.-]+){0,2}", place)):
        raise DataError(
            f"Corpus {source!r}: {place!r} is no folder and no data set name. Write hub:owner/name, "
            f"hub:owner/name:SPLIT#COLUMN or hub:FOLDER."
        )
    name = folder.resolve().name if local else place.split("/")[min(1, place.count("/"))]
    return HubPlace(place, folder if local else None, split, columns or default_columns, name)


def _read_hub(source: str, rest: str) -> tuple[str, list[tuple[str, str]]]:
    place = read_hub_place(source, rest, "text")
    rows = load_rows(source, place)
    columns, column = list(rows.column_names), place.columns
    if column not in columns:
        near = nearest_name(column, columns)
        raise DataError(
            f"Corpus {source!r}: no column {column!r}{near if near.endswith('?') else '.'} Columns of split "
            f"{place.split!r}: {', '.join(columns)}. Write hub:{place.place}:{place.split}#COLUMN."
        )
    documents: list[tuple[str, str]] = []
    for number, value in enumerate(rows[column]):
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"Corpus {source!r}: row {number} of column {column!r} holds {type(value).__name__}, not text. "
                f"Columns: {', '.join(columns)}."
            )
        documents.append((f"row {number}", value or ""))
    return place.name, documents


def load_rows(source: str, place: HubPlace) -> Any:
    """The rows of one split, as a ``datasets.Dataset``.

    Raises:
        DataError: A folder or split that cannot be read.
        NetworkError: It is neither in the cache nor to be fetched.
    """
    import datasets
    import huggingface_hub.errors

    folder, split = place.folder, place.split
    parts = place.place.split("/")
    path = str(folder) if folder is not None else "/".join(parts[:2])
    arguments = [] if folder is not None else parts[2:]  # the configuration
    unreachable = (
        ConnectionError,
        TimeoutError,
        huggingface_hub.errors.HfHubHTTPError,
        huggingface_hub.errors.OfflineModeIsEnabled,
        datasets.exceptions.DatasetNotFoundError,
    )
    unreachable_reason = hub_unreachable_reason() if folder is None else ""
    try:
        with _hub_settings(offline=folder is not None or bool(unreachable_reason)):
            return datasets.load_dataset(path, *arguments, split=split)
    except Exception as error:  # the builders raise many types, among them bare ones of pyarrow and pandas
        reason = unreachable_reason or " ".join(str(error.__cause__ or error).split())[:300]
        if folder is None and isinstance(error, unreachable):
            raise NetworkError(
                f"Corpus {source!r}: the data set {path!r} is not in the cache and could not be fetched ({reason}). "
                f"Check the name and the connection, or download it elsewhere and give the folder as hub:FOLDER."
            ) from None
        raise DataError(
            f"Corpus {source!r}: split {split!r} of {path!r} could not be loaded ({reason}). "
            f"A folder may hold parquet, jsonl, csv or text files."
        ) from None


@contextmanager
def _hub_settings(*, offline: bool) -> Iterator[None]:
    """No progress bars while the block runs, and no attempts to reach the Hub where none can succeed.

    ``load_dataset`` of datasets 5.2 has no argument that keeps it to its cache; ``local_files_only`` is not obeyed.
    """
    import datasets
    import huggingface_hub.constants

    modules: list[Any] = [datasets.config, huggingface_hub.constants]
    switches = [(module, module.HF_HUB_OFFLINE) for module in modules]
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for module, before in switches:
        module.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        for module, before in switches:
            module.HF_HUB_OFFLINE = before
        if had_bars:
            datasets.enable_progress_bars()
