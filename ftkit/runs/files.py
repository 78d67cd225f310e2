"""Files that are written whole or not at all."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ftkit.errors import CheckpointError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "cache_key",
    "disk_full",
    "disk_is_full",
    "file_sha256",
    "json_value",
    "remove_leftovers",
    "sync_folder",
    "write_atomically",
    "write_config",
    "write_json",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors (0.8) says it in the text of an error of its own, and so do we.
_FULL_TEXT = re.compile(
    rf"\(os error (?:{'|'.join(map(str, _FULL))})\)|No space left|: the disk is full: |: is larger than a file may be"
)
_LEFTOVER = re.compile(r"\..+\.\d+\.(?:tmp|old)")


def disk_is_full(error: BaseException) -> bool:
    """Whether an error means that a disk, a quota or a limit on file sizes is exhausted."""
    return getattr(error, "errno", None) in _FULL or _FULL_TEXT.search(str(error)) is not None


def disk_full(path: Path, error: BaseException | None, needed: int | None = None, more: str = "") -> CheckpointError:
    """The error to raise for something that did not fit.

    Args:
        path: What was to be written.
        error: What writing it has raised; ``None`` if it was not even tried.
        needed: Its bytes; ``None`` where nobody knows.
        more: What else to say.
    """
    wanted = f"{needed / 1e6:.3g} MB needed" if needed is not None else ""
    if error is not None and (getattr(error, "errno", None) == errno.EFBIG or f"os error {errno.EFBIG}" in str(error)):
        wanted = f" ({wanted})" if wanted else ""
        return CheckpointError(f"{path}: is larger than a file may be here{wanted}; {more}raise 'ulimit -f' and resume")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    free = f"{shutil.disk_usage(place).free / 1e6:.3g} MB free"
    return CheckpointError(
        f"{path}: the disk is full: {wanted}{', ' if wanted else ''}{free}; {more}free space and resume"
    )


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left below a folder; nobody else may be writing there."""
    for path in [path for path in folder.rglob(".*") if _LEFTOVER.fullmatch(path.name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Fill a temporary file that replaces ``path`` in one rename, or vanishes if anything fails.

    Args:
        path: The file; its folder is made if needed.

    Yields:
        The temporary file, beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: whoever reads it sees the old or the new content, never a part.

    Args:
        path: The file; its folder is made if needed.
        content: Bytes, or text that is written as UTF-8.

    Raises:
        CheckpointError: The disk is full; the old content stays.
    """
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(raw)
    except OSError as error:
        if disk_is_full(error):
            raise disk_full(path, error, len(raw)) from None
        raise


def write_config(folder: Path, values: dict[str, Any]) -> None:
    """Write the ``config.yaml`` of a run atomically."""
    write_atomically(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def json_value(value: Any) -> Any:
    """The same value with ``None`` for every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: json_value(inner) for key, inner in value.items()}
    return [json_value(inner) for inner in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: two spaces, UTF-8, no NaN."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_key(described: Any, digits: int = 16) -> str:
    """A name for what JSON describes: the first hexadecimal digits of the SHA-256 of its sorted form."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:digits]


@contextmanager
def atomic_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Fill a temporary folder that becomes ``target`` in one rename, or vanishes if anything fails.

    Args:
        target: The folder to make.
        replace: Whether an existing folder is replaced once the new one is complete. Otherwise, a folder that another
            process has made meanwhile stays, as in a cache, where both hold the same.

    Yields:
        The temporary folder, beside the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(temporary)
        if target.exists() and replace:
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(old)
            try:
                temporary.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            try:
                temporary.rename(target)
            except OSError:
                if replace or not target.exists():
                    raise
                shutil.rmtree(temporary, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)
