"""Sources of text. Each file of this package declares one source; every list of sources is made from the files.

A file holds ``SOURCE = Source(...)``. Its ``form`` and ``help`` are literal texts, because help pages read them without
importing anything (``ftkit.config.catalogue``). To add a source, add a file; to remove one, delete its file.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ftkit.data.cleanup import Removed
from ftkit.data.downloads import Download

__all__ = ["LoadedText", "Source", "SourceRequest", "better_source", "text_sources"]


class SourceRequest(NamedTuple):
    """What a source is asked to load."""

    source: str
    """The whole string that the user gave, for messages."""
    place: str
    """The string after the prefix; the whole string for a path."""
    encoding: str
    """Python codec of files and downloads; it exists."""
    clean: bool
    """Whether the text will be cleaned."""
    download: Download
    """Limits of downloads."""


class LoadedText(NamedTuple):
    """The uncleaned documents of a source."""

    name: str
    """Short name for reports and folders."""
    documents: list[tuple[str, str]]
    """Name and text of each document."""
    is_prose: bool = True
    """Whether cleaning may remove Project Gutenberg's additions. Rows and code lose only marks and carriage returns."""
    removed: tuple[Removed, ...] = ()
    """What the source itself has left out."""


@dataclass(frozen=True)
class Source:
    """One kind of source.

    Args:
        form: How a user writes it, such as ``"gutenberg:NUMBER"``.
        help: One line for help pages and docs.
        load: Reads the documents; raises DataError or NetworkError with the remedy.
        prefixes: What stands before the colon. A source without prefixes takes the paths that ``owns`` accepts.
        owns: Says whether an existing path belongs to the source.
        endings: Endings of files that this source reads better than the source of plain text.
        tags: Tags of a model card whose model was trained on such a text.
    """

    form: str
    help: str
    load: Callable[[SourceRequest], LoadedText]
    prefixes: tuple[str, ...] = ()
    owns: Callable[[Path], bool] | None = None
    endings: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@functools.cache
def text_sources() -> dict[str, Source]:
    """All sources by the name of their file: those of paths first, then by the alphabet."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: dict[str, Source] = {name: importlib.import_module(f"{__name__}.{name}").SOURCE for name in names}
    return dict(sorted(found.items(), key=lambda item: bool(item[1].prefixes)))


def better_source(endings: Iterable[str], place: str) -> str:
    """The source that reads files with one of these endings better than plain text does; empty if none does."""
    wanted = set(endings)
    for source in text_sources().values():
        if wanted & set(source.endings):
            return f"{source.prefixes[0]}:{place}"
    return ""
