"""Files and folders of text: what is there, and its bytes decoded strictly or refused with the byte and the line."""

import codecs
import os
from pathlib import Path

from ftkit.errors import DataError, nearest_name

__all__ = ["check_codec", "decode_file", "exists", "local_files", "sentence"]

TEXT_ENDINGS = (".md", ".txt")  # what is read from a folder; a single file may have any name
# How files begin that people hand in by mistake, and what to do instead.
NOT_TEXT = {
    b"%PDF-": "a PDF file: save its text as a .txt file first",
    b"PK\x03\x04": "a zip archive (also .docx, .epub and .odt are): unpack it, or save its text as a .txt file",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PAR1": "a parquet file: give its folder as hub:FOLDER#COLUMN",
    b"SQLite format 3": "a database: export the text first",
}
# Sources that read what is no plain text, by the ending of a file.
BETTER_SOURCES = {".py": "code:{}", ".ipynb": "notebooks:{}"} | dict.fromkeys(
    (".csv", ".tsv", ".jsonl", ".json", ".parquet"), "hub:{}#COLUMN"
)


def sentence(text: str) -> str:
    """A text with a stop at its end."""
    return text if text.endswith((".", "?")) else f"{text}."


def exists(path: Path) -> bool:
    """Whether a path is there; what can be no path is not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # name too long, folder that may not be entered, NUL in the name
        return False


def local_files(
    source: str, place: str | None = None, endings: tuple[str, ...] = TEXT_ENDINGS
) -> tuple[str, list[tuple[str, Path]]]:
    """The text files that a path means: a short name for them all, and each with its own name.

    Args:
        source: What was asked for, for messages.
        place: Path of a file or folder; ``None`` means ``source`` itself.
        endings: What is read from a folder.

    Raises:
        DataError: Nothing there, or nothing to read.
    """
    if not source.strip():
        raise DataError(
            "Corpus '': an empty name. Give a file, a folder, gutenberg:NUMBER, https://..., or voices:NAME."
        )
    path = Path(source if place is None else place).expanduser()
    if not exists(path):
        raise DataError(f"Corpus {source!r}: no such file or folder{sentence(_neighbours(path))}")
    if path.is_dir():
        return path.resolve().name or "corpus", _folder_files(source, path, endings)
    if not path.is_file():  # reading a pipe or a device could wait for ever
        raise DataError(f"Corpus {source!r}: neither a file nor a folder. Give a text file or a folder of them.")
    return path.stem, [(path.name, path)]


def _neighbours(path: Path) -> str:
    """What is there instead of a missing path, as the tail of a message."""
    folder = path.parent
    while not exists(folder) and folder != folder.parent:
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


def _folder_files(source: str, folder: Path, endings: tuple[str, ...]) -> list[tuple[str, Path]]:
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
            if path.suffix.lower() in endings:
                found.append(path)
            else:
                others[path.suffix or "none"] = others.get(path.suffix or "none", 0) + 1
    if not found:
        there = ", ".join(f"{count:,} with ending {ending}" for ending, count in sorted(others.items()))
        read = " and ".join(reversed(endings))
        meant = next((BETTER_SOURCES[ending] for ending in sorted(others) if ending in BETTER_SOURCES), "")
        hint = f"Perhaps {meant.format(folder)} is meant" if meant else "Rename them"
        raise DataError(
            f"Corpus {source!r}: nothing to read in this folder. Files ending in {read} are read; found: "
            f"{there or 'no file at all'}. {hint}, or give one file by its full name."
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
    near = sentence(nearest_name(encoding.lower(), known))
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
