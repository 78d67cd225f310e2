"""A book of Project Gutenberg by its number."""

import os
import re
from pathlib import Path

from ftkit.data.downloads import cache_dir
from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import decode_file
from ftkit.errors import DataError, NetworkError

__all__ = ["ADDRESS", "SOURCE"]

ADDRESS = "https://www.gutenberg.org/cache/epub/{book}/pg{book}.txt"


def _load(request: SourceRequest) -> LoadedText:
    path = _book_file(request)
    return LoadedText(f"gutenberg-{request.place}", [(path.name, decode_file(path, request.encoding))])


def _book_file(request: SourceRequest) -> Path:
    source, book = request.source, request.place
    if not re.fullmatch(r"[1-9][0-9]{0,6}", book):
        raise DataError(
            f"Corpus {source!r}: {book!r} is no book number. Give the number of the book's page on gutenberg.org, "
            f"such as gutenberg:11 for Alice's Adventures in Wonderland."
        )
    books = os.environ.get("FTKIT_BOOKS", "")
    folder = Path(books).expanduser() if books else None
    if folder is not None and folder.is_dir():
        for pattern in (f"{book}-*.txt", f"{book}.txt", f"pg{book}.txt"):
            for path in sorted(folder.glob(pattern)):
                return path
    cached = cache_dir() / "gutenberg" / f"pg{book}.txt"
    if not cached.is_file():
        try:
            request.download.to(ADDRESS.format(book=book), cached)
        except (DataError, NetworkError) as error:
            place = f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" if folder else "not set"
            raise NetworkError(
                f"Corpus {source!r}: not in the folder FTKIT_BOOKS ({place}), not in the cache, and {error} "
                f"To work without a network, put the book's plain text at {cached}, or as {book}.txt into a folder and "
                f"set FTKIT_BOOKS to that folder."
            ) from None
    return cached


SOURCE = Source(
    form="gutenberg:NUMBER",
    help="A Project Gutenberg book: from the folder FTKIT_BOOKS, the cache or the network, without its header.",
    load=_load,
    prefixes=("gutenberg",),
    tags=("project-gutenberg",),
)
