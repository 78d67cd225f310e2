"""A text file or a table of the web."""

import hashlib
import re
import urllib.parse
from pathlib import Path

from ftkit.data.downloads import cache_dir
from ftkit.data.formats import detect_format
from ftkit.data.local_documents import file_documents
from ftkit.data.sources import LoadedText, Source, SourceRequest

__all__ = ["SOURCE"]


def _load(request: SourceRequest) -> LoadedText:
    """Of a table, the address may name the column after ``#``."""
    address, _, column = request.source.partition("#")
    last = re.sub(r"[?].*", "", address).rstrip("/").rsplit("/", 1)[-1]
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", urllib.parse.unquote(last))[-80:] or "page.txt"
    cached = cache_dir() / "downloads" / f"{hashlib.sha256(address.encode('utf-8', 'replace')).hexdigest()[:16]}-{base}"
    if not cached.is_file():
        request.download.to(address, cached)
    with_column = column if detect_format(cached).is_table else ""  # else it names a part of a page
    loaded = file_documents(request.source, cached, request.encoding, with_column)
    documents = [(base, text) for _, text in loaded.documents] if loaded.is_prose else loaded.documents
    return loaded._replace(name=Path(base).stem or "page", documents=documents)


SOURCE = Source(
    form="https://...",
    help="A plain text file or a table, downloaded once and kept in the cache.",
    load=_load,
    prefixes=("https", "http"),
)
