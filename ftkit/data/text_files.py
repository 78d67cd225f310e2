"""Files and folders of text: what is there, and its bytes decoded strictly or refused with the byte and the line."""

import codecs
import io
import logging
import os
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.catalogue import described_sources
from ftkit.data.formats import TABLE_ENDINGS, FileFormat, detect_format, plain_ending
from ftkit.data.sources import better_source
from ftkit.errors import DataError, nearest_name

__all__ = [
    "FolderContents",
    "check_characters",
    "check_codec",
    "check_place",
    "decode_bytes",
    "decode_file",
    "decoded_lines",
    "exists",
    "folder_contents",
    "local_files",
    "sentence",
    "split_column",
    "split_lines",
]

logger = logging.getLogger(__name__)

_RUNS = "runs"
"""Where runs are put; the one that asks for a text has made it itself."""
_ENCODED_AT_ONCE = 1 << 20
"""Characters that are encoded at once where only their form is checked; all of a large text would be a copy of it."""
TEXT_ENDINGS = (".md", ".txt")  # what is read from a folder, compressed too; a single file may have any name


def sentence(text: str) -> str:
    """A text with a stop at its end."""
    return text if text.endswith((".", "?")) else f"{text}."


def exists(path: Path) -> bool:
    """Whether a path is there; what can be no path is not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # name too long, folder that may not be entered, NUL in the name
        return False


def split_column(place: str) -> tuple[Path, str]:
    """A path and the columns that are named after it, ``FILE#COLUMN``; a path that exists keeps its sign."""
    path = Path(place).expanduser()
    if exists(path) or "#" not in place:
        return path, ""
    before, _, column = place.rpartition("#")
    return Path(before).expanduser(), column.strip()


def check_place(source: str, path: Path) -> None:
    """Refuse what is neither a file nor a folder.

    Raises:
        DataError: Nothing there, or a pipe or a device.
    """
    if not source.strip():
        raise DataError(f"Corpus '': an empty name. Give {described_sources()}.")
    if not exists(path):
        raise DataError(f"Corpus {source!r}: no such file or folder{sentence(neighbours(path))}")
    if not path.is_dir() and not path.is_file():  # reading a pipe or a device could wait for ever
        raise DataError(f"Corpus {source!r}: neither a file nor a folder. Give a text file or a folder of them.")


def local_files(source: str, place: str, endings: tuple[str, ...] = TEXT_ENDINGS) -> tuple[str, list[tuple[str, Path]]]:
    """The text files that a path means: a short name for them all, and each with its own name.

    Args:
        source: What was asked for, for messages.
        place: Path of a file or folder.
        endings: What is read from a folder.

    Raises:
        DataError: Nothing there, or nothing to read.
    """
    path = Path(place).expanduser()
    check_place(source, path)
    if path.is_dir():
        return path.resolve().name or "corpus", _folder_files(source, path, endings)
    return path.stem, [(path.name, path)]


def neighbours(path: Path) -> str:
    """What is there instead of a missing path, as the tail of a message."""
    folder = path.parent
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name != _RUNS and entry.name[0] != ".")
    except OSError as error:
        return f"; {folder} cannot be read ({error.strerror})"
    if folder != path.parent:
        return f"; the nearest folder that exists is {folder}"
    near = nearest_name(path.name, names)
    if near.startswith("; did"):
        return near
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
    return f"; in {folder} there is: {shown}" if names else f"; the folder {folder} is empty"


@dataclass
class FolderContents:
    """What lies in a folder and below it."""

    files: list[tuple[str, Path]] = field(default_factory=list)
    """Files to read, by their paths below the folder."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files have other endings."""
    empty: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    """Links to nothing."""
    again: list[str] = field(default_factory=list)
    """Links to files and folders that are read already, loops among them."""
    special: list[str] = field(default_factory=list)
    """Pipes and devices."""
    hidden: list[str] = field(default_factory=list)

    @property
    def tables(self) -> int:
        """How many files are tables by their ending."""
        return sum(count for ending, count in self.others.items() if ending in TABLE_ENDINGS)

    def left_out(self, others: bool = True) -> str:
        """What is not read, in words; empty if nothing."""
        named = {
            "link{s} to nothing": self.dangling, "link{s} to what is read already": self.again,
            "empty file{s}": self.empty, "special file{s}": self.special,
        }  # fmt: skip
        if others:
            named["hidden file{s} or folder{s}"] = self.hidden
        parts = [
            f"{len(names):,} {what.replace('{s}', 's' if len(names) > 1 else '')} ({', '.join(names[:3])}"
            f"{' ...' if len(names) > 3 else ''})"
            for what, names in named.items()
            if names
        ]
        if others:
            parts += [f"{count:,} with ending {ending}" for ending, count in sorted(self.others.items())]
        return ", ".join(parts)


def folder_contents(source: str, folder: Path, endings: tuple[str, ...] = TEXT_ENDINGS) -> FolderContents:
    """Look through a folder; linked folders are entered, and every file and folder is taken once.

    Args:
        source: What was asked for, for messages.
        folder: The folder.
        endings: Of the files that are wanted.

    Raises:
        DataError: A folder below it that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise DataError(
            f"Corpus {source!r}: the folder {error.filename} cannot be read ({error.strerror}). Allow reading it."
        )

    found, taken = FolderContents(), {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        entered = []
        entries = [(Path(root, name), True) for name in folders] + [(Path(root, name), False) for name in names]
        # What really is there comes before links to it, so that it has its own name.
        for path, is_folder in sorted(entries, key=lambda entry: (entry[0].is_symlink(), entry[0].name)):
            if _take(found, taken, folder, path, is_folder, endings):
                entered.append(path.name)
        folders[:] = sorted(entered)
    found.files.sort()
    return found


def _take(
    found: FolderContents, taken: set[str], folder: Path, path: Path, is_folder: bool, endings: tuple[str, ...]
) -> bool:
    """Put an entry where it belongs; gives back whether it is a folder to enter."""
    name, real = path.relative_to(folder).as_posix(), os.path.realpath(path)
    if path.name.startswith("."):
        found.hidden.append(name)
    elif not exists(path):
        found.dangling.append(name)
    elif real in taken:
        found.again.append(name)
    elif is_folder:
        taken.add(real)
        return True
    elif not path.is_file():
        found.special.append(name)
    elif plain_ending(path.name) not in endings:
        found.others[plain_ending(path.name) or "none"] += 1
    elif endings == TEXT_ENDINGS and not path.stat().st_size:
        found.empty.append(name)
    else:
        taken.add(real)
        found.files.append((name, path))
    return False


def _folder_files(source: str, folder: Path, endings: tuple[str, ...]) -> list[tuple[str, Path]]:
    found = folder_contents(source, folder, endings)
    if not found.files:
        meant = better_source(found.others, str(folder))
        hint = f"Perhaps {meant} is meant" if meant else "Rename them"
        raise DataError(
            f"Corpus {source!r}: nothing to read in this folder. Files ending in {' and '.join(reversed(endings))} are "
            f"read; found: {found.left_out() or 'no file at all'}. {hint}, or give one file by its full name."
        )
    if left_out := found.left_out(others=endings == TEXT_ENDINGS):
        read = f"{len(found.files):,} file{'s' if len(found.files) > 1 else ''}"
        logger.warning("%s: %s read; left out: %s", source, read, left_out)
    return found.files


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
    """A text file, unpacked where it is compressed, and decoded strictly.

    Raises:
        DataError: It is empty, no text, or in another encoding; the message says which byte and line.
    """
    file = detect_format(path)
    if file.kind in ("parquet", "arrow", "arrow stream"):
        raise DataError(f"{path}: a table ({file.kind}), not text. Name its column of text, as {path}#COLUMN.")
    with file.open() as data:
        return decode_bytes(str(path), data.read(), encoding)


def decode_bytes(where: str, data: bytes, encoding: str) -> str:
    """Decode bytes strictly.

    Args:
        where: Their place, for messages.
        data: The bytes.
        encoding: A Python codec.

    Raises:
        DataError: They are no text, or in another encoding; the message says which byte and line.
    """
    wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    if not wide and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in data[:200]:
        raise DataError(f"{where}: begins like UTF-16 text, encoding is {encoding!r}. Try --encoding utf-16.")
    if not wide and b"\0" in data:
        at = data.index(b"\0")
        raise DataError(
            f"{where}: a NUL byte at byte {at:,} (line {_line(data, at):,}), so this is a binary file, or UTF-16 text "
            f"without its mark (try --encoding utf-16-le). Give a text file."
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        bad = " ".join(f"0x{byte:02X}" for byte in data[error.start : max(error.end, error.start + 1)][:4])
        remedy = "cp1252 or latin-1" if codecs.lookup(encoding).name.startswith("utf-8") else "utf-8"
        raise DataError(
            f"{where}: not {encoding} text: {bad or 'the end of the file'} at byte {error.start:,} "
            f"(line {_line(data, error.start):,}): {error.reason}. Say its encoding with --encoding, "
            f"for example {remedy}."
        ) from None
    except (ValueError, OverflowError) as error:  # codecs such as idna and unicode_escape
        raise DataError(f"{where}: cannot be decoded as {encoding!r} ({error}). Try --encoding utf-8.") from None


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def decoded_lines(file: FileFormat, encoding: str) -> Generator[str, None, None]:
    """The lines of a text file, one after the other as they are asked for, without a byte order mark.

    Lines end with ``\\n``, ``\\r\\n`` or ``\\r`` and with nothing else; each comes with ``\\n``, the last as it is.

    Raises:
        DataError: At a line that is no text in this encoding.
    """
    with file.open() as data, io.TextIOWrapper(data, encoding=encoding) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise DataError(f"{file.path}, line {number:,}: a NUL character, so this is no text.")
                yield line.removeprefix("\ufeff") if number == 1 else line
        except (ValueError, OverflowError):
            decode_file(file.path, encoding)  # says where, by byte and line
            raise DataError(f"{file.path}: not {encoding} text. Say its encoding with --encoding.") from None


def split_lines(text: str) -> list[str]:
    """The lines of a text without a byte order mark; characters such as U+2028 and form feed end none."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


def check_characters(where: str, text: str) -> None:
    """Refuse what is no text although it decoded: NUL characters and halves of surrogate pairs.

    Args:
        where: The text's place, for the message.
        text: A text.

    Raises:
        DataError: It holds one; the message says where.
    """
    at = text.find("\0")
    if at >= 0:
        raise DataError(
            f"{where}: a NUL character at character {at:,} (line {text.count(chr(10), 0, at) + 1:,}), "
            f"so this is no text, or text in another encoding. Give a text file, or its encoding (--encoding utf-16)."
        )
    for start in range(0, len(text), _ENCODED_AT_ONCE):
        try:
            text[start : start + _ENCODED_AT_ONCE].encode()
        except UnicodeEncodeError as error:
            at = start + error.start
            raise DataError(
                f"{where}: half of a surrogate pair, {text[at]!r}, at character {at:,} (line "
                f"{text.count(chr(10), 0, at) + 1:,}). It has no form in UTF-8: mend the text, or give its true "
                f"encoding (--encoding)."
            ) from None
