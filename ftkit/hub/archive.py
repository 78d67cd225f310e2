"""A run folder as one zip file, and back. Whatever a zip says about itself is checked before a byte is written."""

import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from ftkit.errors import CheckpointError, DataError, ModelError
from ftkit.runs.files import atomic_file, atomic_folder
from ftkit.runs.models import named_base

__all__ = ["Limits", "Packed", "Unpacked", "pack", "unpack"]

_READ_BYTES = 2**20  # one megabyte: hashing and copying need no more memory
_PACKABLE = ("manifest.json", "config.yaml", "config.json", "adapter_config.json")
_SAME_TIME = (1980, 1, 1, 0, 0, 0)  # the same run gives the same zip
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # bits 0, 6 and 13 of a zip entry's flags (APPNOTE 4.4.4): encryption of any kind
_SPOILT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Packed:
    """What ``pack`` wrote."""

    path: Path
    raw_bytes: int
    zip_bytes: int
    files: int
    left_out: tuple[str, ...]
    """Folders and files that were not packed."""
    bases: dict[str, str]
    """Folders of adapters in the zip whose base is not in it, with the base that each stands on."""

    @property
    def ratio(self) -> float:
        """Bytes of the zip over bytes of the files."""
        return self.zip_bytes / max(self.raw_bytes, 1)


@dataclass(frozen=True)
class Unpacked:
    """What ``unpack`` wrote."""

    path: Path
    raw_bytes: int
    files: int
    bases: dict[str, str]
    """Folders of adapters whose base did not come along, with the base that each stands on."""


@dataclass(frozen=True)
class Limits:
    """What a zip may become."""

    max_files: int = 20_000
    """Files and folders in it."""
    max_bytes: int = 200 * 10**9
    """All files together, unpacked."""
    max_ratio: float = 200.0
    """Unpacked over packed bytes; text and weights stay below 20."""
    free_bytes: int = 16 * 2**20
    """A total up to which the ratio does not matter."""


def pack(run_folder: str | os.PathLike[str], zip_path: str | os.PathLike[str], *, checkpoints: bool = False) -> Packed:
    """Put a run folder or a model folder into one zip file, which appears whole or not at all.

    Args:
        run_folder: The folder of a run that is not running, or of a model.
        zip_path: The file to write; it must not exist.
        checkpoints: Whether ``checkpoints/`` goes along. It is needed to resume, and is most of a run's bytes.

    Returns:
        What was written.

    Raises:
        DataError: No such folder, a link in it, or a target that cannot be used.
        CheckpointError: The run is at work.
    """
    folder, target = Path(run_folder).expanduser().resolve(), Path(zip_path).expanduser().resolve()
    _check_packing(folder, target)
    files, left_out = _chosen(folder, checkpoints)
    raw = 0
    with _at_rest(folder), atomic_file(target) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _SAME_TIME)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                    while chunk := source.read(_READ_BYTES):
                        sink.write(chunk)
                        raw += len(chunk)
        with zipfile.ZipFile(temporary) as archive:  # what unpack would refuse is not packed
            _check_entries(target, archive.infolist(), temporary.stat().st_size, Limits())
    return Packed(target, raw, target.stat().st_size, len(files), tuple(left_out), _bases_elsewhere(folder, files))


def _check_packing(folder: Path, target: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder to pack")
    if not any((folder / name).is_file() for name in _PACKABLE):
        raise DataError(f"{folder}: is neither a run nor a model: it has none of {', '.join(_PACKABLE)}")
    if target.exists():
        raise DataError(f"{target}: exists already; give another name, nothing is overwritten")
    if target.is_relative_to(folder):
        raise DataError(f"{target}: lies in the folder that is packed; give a place outside")


def _chosen(folder: Path, checkpoints: bool) -> tuple[list[Path], list[str]]:
    """Files to pack, sorted, and what stays behind: hidden and temporary files and, unless asked for, checkpoints."""
    files: list[Path] = []
    left_out: list[str] = []

    def walk(inside: Path) -> None:
        for path in sorted(inside.iterdir()):
            name = path.relative_to(folder).as_posix()
            if path.name == ".lock":
                continue
            if path.name.startswith(".") or (name == "checkpoints" and not checkpoints):
                left_out.append(name)
            elif path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise DataError(f"{path}: is a link or a device, which a pack does not hold; put the file itself there")
            elif path.is_dir():
                walk(path)
            else:
                files.append(path)

    walk(folder)
    return files, left_out


def _bases_elsewhere(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """Adapters among the files whose base lies outside the folder, or on a path that holds on one machine only."""
    found = {}
    for path in (path for path in files if path.name == "adapter_config.json"):
        try:
            named = named_base(path.parent)
        except ModelError as error:
            named = f"a base that is not known ({error})"
        beside = path.parent / named
        along = not Path(named).is_absolute() and beside.is_dir() and beside.resolve().is_relative_to(folder)
        if not along:
            found[path.parent.relative_to(folder).as_posix()] = str(beside.resolve()) if beside.is_dir() else named
    return found


@contextmanager
def _at_rest(folder: Path) -> Iterator[None]:
    """Hold a run's lock, if it has one, so that nothing is written to it meanwhile."""
    if not (folder / ".lock").exists():
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CheckpointError(f"{folder}: is at work; pack it when the run has ended") from None
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------------------------------------------- unpacking


def unpack(
    zip_path: str | os.PathLike[str], folder: str | os.PathLike[str], *, limits: Limits | None = None
) -> Unpacked:
    """Take a zip file apart into a new folder, which appears whole or not at all.

    Args:
        zip_path: The file.
        folder: The folder to make; it must not exist, or be empty.
        limits: How much a zip may become; ``None`` takes the defaults.

    Returns:
        What was written.

    Raises:
        DataError: A zip that is spoilt or unsafe (paths that leave the folder, links, devices, encryption, two entries
            of one name, too many files or bytes), or a folder in use. Nothing is written then.
    """
    source, target = Path(zip_path).expanduser(), Path(folder).expanduser().resolve()
    limits = limits or Limits()
    if not source.is_file():
        raise DataError(f"{source}: there is no such file")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target}: exists and is not empty; give another folder, nothing is overwritten")
    try:
        with _Careful(source, limits) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(source, entries, source.stat().st_size, limits)
            with atomic_folder(target) as temporary:
                written = sum(_extract(archive, entry, temporary, source) for entry in entries)
    except _SPOILT as error:
        raise DataError(f"{source}: is no whole zip file: {error}; fetch or pack it again") from None
    bases = _bases_elsewhere(target, sorted(target.rglob("adapter_config.json")))
    return Unpacked(target, written, sum(not entry.is_dir() for entry in entries), bases)


class _Careful:
    """A file that refuses to be read in pieces larger than a list of ``max_files`` entries needs.

    ``zipfile`` reads that list in one piece and makes an object of every entry, before anybody can count them.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.file: IO[bytes] = path.open("rb")
        self.path, self.limits = path, limits

    def read(self, size: int = -1) -> bytes:
        if size > max(300 * self.limits.max_files, _READ_BYTES):
            raise DataError(f"{self.path}: holds more than {self.limits.max_files:,} files, which is refused")
        return self.file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _check_entries(source: Path, entries: Sequence[zipfile.ZipInfo], packed: int, limits: Limits) -> None:
    """Refuse a zip by what it says of itself; ``_extract`` then holds it to what it said."""
    if len(entries) > limits.max_files:
        raise DataError(f"{source}: holds {len(entries):,} files, more than the {limits.max_files:,} allowed")
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_bytes:
        raise DataError(f"{source}: would become {total:,} bytes, more than the {limits.max_bytes:,} allowed")
    if total > max(limits.free_bytes, limits.max_ratio * packed):
        raise DataError(
            f"{source}: its {packed:,} bytes would become {total:,}, more than {limits.max_ratio:g} times as many"
        )
    seen: dict[str, bool] = {}
    for entry in entries:
        if problem := _unsafe(entry):
            raise DataError(f"{source}: the entry {entry.orig_filename[:100]!r} {problem}")
        key = _folded(entry.filename.rstrip("/"))
        if key in seen:
            raise DataError(f"{source}: holds {entry.filename[:100]!r} twice (some systems do not tell them apart)")
        seen[key] = entry.is_dir()
    for key in seen:
        if any(not seen.get(above, True) for above in _parents(key)):
            raise DataError(f"{source}: holds {key[:100]!r} below something that is a file")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _unsafe(entry: zipfile.ZipInfo) -> str:
    """What is wrong with an entry; empty if nothing is."""
    for name in (entry.orig_filename, entry.filename, unicodedata.normalize("NFKC", entry.filename)):
        if re.match(r"[/\\]|[A-Za-z]:", name):
            return "has an absolute path"
        if "\\" in name or ":" in name or any(unicodedata.category(letter)[0] == "C" for letter in name):
            return "has a backslash, a colon or an invisible letter in its name"
        for part in name.removesuffix("/").split("/"):
            if not part.strip(". "):
                return "has a path with '..' or without a name"
            if len(part.encode("utf-8", "replace")) > 255:
                return "has a name that is too long"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that is not read here (stored and deflated are)"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        return "is a link, a device or of another kind than its name says"
    return ""


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, source: Path) -> int:
    """Write one entry; its bytes, which must be as many as it said."""
    path = folder.joinpath(*entry.filename.removesuffix("/").split("/"))
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as packed, path.open("xb") as file:
        while chunk := packed.read(_READ_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise DataError(f"{source}: {entry.filename[:100]!r} holds more than the {entry.file_size:,} it says")
            file.write(chunk)
    if written != entry.file_size:
        raise DataError(f"{source}: {entry.filename[:100]!r} holds {written:,} bytes, it says {entry.file_size:,}")
    return written
