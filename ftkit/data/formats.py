"""What a file is, by its first bytes and its name, and its bytes without their compression.

A name alone decides nothing that the content contradicts: a PDF file that is called ``.txt`` is refused, a parquet file
is read as one whatever its name.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from ftkit.errors import DataError

__all__ = ["COMPRESSED_ENDINGS", "TABLE_ENDINGS", "FileFormat", "detect_format", "plain_ending"]

TABLE_ENDINGS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".zip")
GUESSED_ENDINGS = ("", ".txt", ".text", ".dat", ".data", ".csv", ".tsv")  # under these names JSON is looked for
HEAD_BYTES = 4096  # one page of a disk; magic numbers and a header row fit

# A small file that unpacks to gigabytes is a trap. Text is hardly ever compressed to less than a hundredth.
MOST_UNPACKED_BYTES = 64 * 2**20
MOST_UNPACKED_RATIO = 200  # twice what text is ever compressed by

# How files begin that hold no text, and what to do. Those in ASCII count only where a NUL byte follows.
NOT_TEXT = {
    b"%PDF-": "a PDF file: save its text as a .txt file first",
    b"\xd0\xcf\x11\xe0": "an old Word or Excel file: save it as a .txt or .csv file first",
    b"SQLite format 3": "a database: export the text first, as a .csv or .jsonl file",
    b"\x89PNG": "an image, not text",
    b"\xff\xd8\xff": "an image, not text",
    b"GIF87a": "an image, not text",
    b"GIF89a": "an image, not text",
    b"BM": "an image, not text",
    b"II*\0": "an image, not text",
    b"MM\0*": "an image, not text",
    b"RIFF": "an image, a sound or a film, not text",
    b"ID3": "a sound, not text",
    b"OggS": "a sound, not text",
    b"fLaC": "a sound, not text",
    b"\x7fELF": "a program, not text",
    b"MZ": "a program, not text",
    b"\x93NUMPY": "an array of numbers: save its texts as a .txt or .jsonl file first",
    b"\x89HDF": "an HDF5 file: save its texts as a .txt or .jsonl file first",
    b"ORC": "an ORC file: save it as a .parquet file first",
    b"Obj\x01": "an Avro file: save it as a .parquet file first",
    b"FEA1": "a Feather file of version 1: save it as a .parquet file first",
    b"Rar!\x1a": "a RAR archive: unpack it first, and give the folder",
    b"7z\xbc\xaf": "a 7z archive: unpack it first, and give the folder",
    b"PK\x05\x06": "a zip archive without files",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch the file with 'git lfs pull'",
}
ALWAYS = (b"%PDF-", b"version https://git-lfs", b"SQLite format 3")
PICKLE = re.compile(rb"\x80[\x02-\x05][\x8a\x8c\x95}\](cX]")
SAFETENSORS = re.compile(rb"[^\0]{1,4}\0{4,7}\{\"", re.DOTALL)
# What zip archives are that hold one of these names.
ARCHIVES = {
    "word/": "a Word document (.docx): save it as a .txt file first",
    "xl/": "an Excel file (.xlsx): save it as a .csv file first",
    "ppt/": "a presentation (.pptx): save its text as a .txt file first",
    "META-INF/container.xml": "an EPUB book: save its text as a .txt file first",
    "content.xml": "an OpenDocument file (.odt, .ods): save it as a .txt or .csv file first",
    "mimetype": "a document (EPUB or OpenDocument): save its text as a .txt file first",
}
# What the libraries raise for files that are damaged, locked with a password, or packed in a way they do not know.
SPOILT = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
STARTS = {
    b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"(\xb5/\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip",
}  # fmt: skip


def plain_ending(name: str) -> str:
    """The ending of a file's name in small letters, without that of a compression: ``.jsonl`` of ``a.jsonl.gz``."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED_ENDINGS else path.suffix


@dataclass(frozen=True)
class FileFormat:
    """A file that holds text or a table.

    Args:
        path: The file.
        kind: ``"text"``, ``"csv"``, ``"tsv"``, ``"json"``, ``"jsonl"``, ``"parquet"``, ``"arrow"`` or
            ``"arrow stream"``.
        compression: ``""`` for none.
        head: The first bytes, unpacked.
    """

    path: Path
    kind: str
    compression: str
    head: bytes

    @property
    def is_table(self) -> bool:
        """Whether it has rows and columns."""
        return self.kind != "text"

    @property
    def markup(self) -> str:
        """The language of a text that is marked up, else an empty string."""
        if self.head.startswith(b"{\\rtf"):
            return "RTF"
        return "HTML" if _is_web_page(self.head) else ""

    def open(self) -> BinaryIO:
        """The bytes, unpacked; at most some hundred times those of the file.

        Raises:
            DataError: While it is opened or read: damaged, locked, or too large.
        """
        return _opened(self.path, self.compression)


def detect_format(path: Path) -> FileFormat:
    """Say what a file is.

    Args:
        path: A file.

    Raises:
        DataError: It cannot be read, is empty, or holds neither text nor a table.
    """
    with _opened(path, "") as file:
        head = _first_bytes(file)
    if not head:
        raise DataError(f"{path}: an empty file, 0 bytes. Give a file with text.")
    compression, name = _compression(path, head), path.name
    if compression:
        name = _inner_name(path, compression)
        with _opened(path, compression) as file:
            head = _first_bytes(file)
        if not head:
            raise DataError(f"{path}: nothing in this {compression} file. Give a file with text.")
        if _compression(Path(name), head):
            raise DataError(f"{path}: compressed twice. Unpack it once, and give that file.")
    _refuse_other(path, head)
    return FileFormat(path, _kind(path, name, head), compression, head)


def _first_bytes(file: BinaryIO) -> bytes:
    return file.read(HEAD_BYTES)


def _compression(path: Path, head: bytes) -> str:
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return "bz2"
    found = next((name for start, name in STARTS.items() if head.startswith(start)), "")
    return found or ("xz" if path.suffix.lower() == ".lzma" and head.startswith(b"]\0\0") else "")


def _refuse_other(path: Path, head: bytes) -> None:
    """Refuse what is neither text nor a table."""
    binary = b"\0" in head
    for start, what in NOT_TEXT.items():
        if head.startswith(start) and (binary or start in ALWAYS or not start.isascii() or b"\x1a" in start):
            raise DataError(f"{path}: {what}.")
    if head[257:262] == b"ustar":
        raise DataError(f"{path}: a tar archive. Unpack it first, and give the folder.")
    if head[4:8] == b"ftyp" and binary:
        raise DataError(f"{path}: a film or a sound, not text.")
    if PICKLE.match(head):
        raise DataError(f"{path}: a pickle file. Loading one can run any program, so it is never read; save a table.")
    if SAFETENSORS.match(head):
        raise DataError(f"{path}: weights of a model (safetensors), not text.")


def _kind(path: Path, name: str, head: bytes) -> str:
    ending = plain_ending(name)
    if head.startswith(b"PAR1") and re.search(rb"[\0-\x08\x0e-\x1f]", head):
        return "parquet"
    if head.startswith(b"ARROW1\0\0"):
        return "arrow"
    if head.startswith(b"\xff\xff\xff\xff") and len(head) > 8:
        return "arrow stream"
    named = TABLE_ENDINGS.get(ending, "text")
    if named in ("parquet", "arrow"):
        raise DataError(f"{path}: the name ends in {ending}, but the content is no {named} file. Give the true file.")
    if named != "text" and _is_web_page(head):
        raise DataError(f"{path}: a web page, although the name ends in {ending}. Download the file itself.")
    return (_json_kind(head) or named) if ending in GUESSED_ENDINGS else named


def _is_web_page(head: bytes) -> bool:
    return head[:200].removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _json_kind(head: bytes) -> str:
    """``"jsonl"`` or ``"json"`` where a file begins like rows in JSON, else an empty string."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if re.match(rb"\[\s*\{\s*\"", start):
        return "json"
    if not re.match(rb"\{\s*\"", start):
        return ""
    first, newline, _ = start.partition(b"\n")
    if not newline and len(head) >= HEAD_BYTES:  # the first row is longer than what was read
        return "jsonl" if re.match(rb"\{\"[^\"\\]{1,100}\":\s?[\"\d\[{tfn-]", start) else ""
    try:
        return "jsonl" if isinstance(json.loads(first), dict) else ""
    except (ValueError, RecursionError):
        return ""


# Compression


def _entries(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The one file of an archive, in a list.

    Raises:
        DataError: The archive is a document, or holds several files or none.
    """
    names = [entry.filename for entry in archive.infolist()]
    for start, what in ARCHIVES.items():
        if any(name == start or (start.endswith("/") and name.startswith(start)) for name in names):
            raise DataError(f"{path}: {what}.")
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{path}: a PyTorch file, which is a pickle. It is never read; save a table.")
    hidden = re.compile(r"(?:.*/)?(?:\.[^/]*|__MACOSX/.*)\Z", re.DOTALL)
    found = [entry for entry in archive.infolist() if not entry.is_dir() and not hidden.match(entry.filename)]
    if len(found) != 1:
        some = ", ".join(entry.filename for entry in found[:4]) + (" ..." if len(found) > 4 else "")
        raise DataError(
            f"{path}: a zip archive of {len(found):,} files{f' ({some})' if some else ''}. One file in an archive is "
            "read as it is; unpack this one, and give the folder."
        )
    return found


def _inner_name(path: Path, compression: str) -> str:
    """Name of what was compressed, as far as it says what it is."""
    if compression != "zip":
        return path.stem if path.suffix.lower() in COMPRESSED_ENDINGS else path.name
    try:
        with zipfile.ZipFile(path) as archive:
            return PurePosixPath(_entries(path, archive)[0].filename).name
    except SPOILT as error:
        raise _damaged(path, error, compression) from None


def _damaged(path: Path, error: BaseException, compression: str = "") -> DataError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
    packed = f" as a {compression} file" if compression else ""
    remedy = "It may be damaged or locked: make it again" if compression else "Allow reading it"
    return DataError(f"{path}: cannot be read{packed} ({reason}). {remedy}, or give another file.")


def _opened(path: Path, compression: str) -> BinaryIO:
    """A file's bytes, unpacked and bounded."""
    owned: list[Any] = []
    try:
        raw = path.open("rb")
        owned.append(raw)
        stream = _unpacked(path, raw, compression, owned)
        size = path.stat().st_size
    except SPOILT as error:
        for each in reversed(owned):
            each.close()
        raise _damaged(path, error, compression) from None
    except DataError:
        for each in reversed(owned):
            each.close()
        raise
    most = max(MOST_UNPACKED_BYTES, MOST_UNPACKED_RATIO * size) if compression else None
    return cast(BinaryIO, io.BufferedReader(_Bytes(path, compression, stream, owned, most), 2**16))


def _unpacked(path: Path, raw: IO[bytes], compression: str, owned: list[Any]) -> Any:
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        "gzip": lambda file: gzip.GzipFile(fileobj=file),
        "bz2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
    }
    if not compression:
        return raw
    if compression in openers:
        stream = openers[compression](raw)
    elif compression == "zip":
        archive = zipfile.ZipFile(raw)
        owned.append(archive)
        stream = archive.open(_entries(path, archive)[0])
    else:
        import pyarrow  # type: ignore[import-untyped]  # has zstd and lz4; Python has zstd from 3.14

        stream = pyarrow.input_stream(raw, compression=compression)
    owned.append(stream)
    return stream


class _Bytes(io.RawIOBase):
    """A stream that ends in a ``DataError`` where it is damaged or too long, and closes what it stands on."""

    def __init__(self, path: Path, compression: str, stream: Any, owned: list[Any], most: int | None) -> None:
        self._path, self._compression, self._stream, self._owned = path, compression, stream, owned
        self._most = self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._stream.read(len(buffer))
        except SPOILT as error:
            raise _damaged(self._path, error, self._compression) from None
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise DataError(
                    f"{self._path}: unpacks to more than {self._most:,} bytes, which is hardly text. If it is, unpack "
                    "it first, and give that file."
                )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        """All that is left; of a plain file in one piece, where joining pieces would hold it twice."""
        if self._left is not None:
            return super().readall()
        try:
            whole: bytes = self._stream.read()
        except SPOILT as error:
            raise _damaged(self._path, error, self._compression) from None
        return whole

    def close(self) -> None:
        if not self.closed:
            for each in reversed(self._owned):
                each.close()
        super().close()
