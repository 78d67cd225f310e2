"""A data set of the Hugging Face Hub, or a file or folder of one: the text of every row, or of the first rows.

A number of documents makes a stream of it. Streams from the Hub are kept in the cache, so that a run can be resumed
without a network.
"""

import itertools
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftkit.data.downloads import cache_dir
from ftkit.data.hub_rows import HubPlace, load_rows, local_rows, read_hub_place, text_value
from ftkit.data.local_documents import column_choice
from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import exists
from ftkit.errors import DataError, nearest_name
from ftkit.runs.files import cache_key, write_atomically

__all__ = ["SOURCE"]

logger = logging.getLogger(__name__)


def _load(request: SourceRequest) -> LoadedText:
    source = request.source
    asked, limit = _limit_of(request.place)
    place = read_hub_place(source, asked)
    where = f"Corpus {source!r}"
    column = place.columns or "text"
    values: Iterable[Any]
    if place.folder is not None:
        rows = local_rows(where, place, column_choice(place.columns))
        values = [row.values[0] for row in itertools.islice(rows, limit)]
    elif limit is None:
        rows = load_rows(source, place)
        values = rows[_column(source, place, column, list(rows.column_names))]
    else:
        values = _streamed_values(source, place, column, limit)
    documents = [(f"row {number}", text_value(where, number, column, value)) for number, value in enumerate(values)]
    if limit is not None and len(documents) < limit:
        logger.warning("%s: there are only %s rows", source, f"{len(documents):,}")
    return LoadedText(place.name, documents, is_prose=False)


def _limit_of(rest: str) -> tuple[str, int | None]:
    """What stands before ``@DOCUMENTS``, and the number; an existing path keeps its at sign."""
    found = re.fullmatch(r"(.+)@([1-9][0-9]{0,8})", rest, re.DOTALL)
    if found is None or exists(Path(rest).expanduser()):
        return rest, None
    return found[1], int(found[2])


def _column(source: str, place: HubPlace, column: str, columns: list[str]) -> str:
    """The column, when it is there."""
    if column in columns:
        return column
    near = nearest_name(column, columns)
    raise DataError(
        f"Corpus {source!r}: no column {column!r}{near if near.endswith('?') else '.'} Columns of split "
        f"{place.split!r}: {', '.join(columns)}. Write hub:{place.place}:{place.split}#COLUMN."
    )


def _streamed_values(source: str, place: HubPlace, column: str, limit: int) -> list[Any]:
    """The column in the first rows of a data set on the Hub."""
    key = cache_key([place.place, place.split, column, limit])
    path = cache_dir() / "streams" / f"{place.name}-{key}.json"
    if path.is_file():
        found: list[Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    rows = load_rows(source, place, limit)
    if rows:
        _column(source, place, column, list(rows[0]))
    values = [row.get(column) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values))
    return values


SOURCE = Source(
    form="hub:NAME[:SPLIT][#COLUMN][@DOCUMENTS]",
    help="A data set of the Hub, or a local file or folder of one; with @DOCUMENTS the first rows, streamed.",
    load=_load,
    prefixes=("hub",),
)
