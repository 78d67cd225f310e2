"""Rows of a data set, from the Hugging Face Hub, its cache, or a file or folder.

A number of documents makes a stream of it. Streams from the Hub go through ``datasets`` and are kept in the cache, so
that a run can be resumed without a network; files are read here, because ``datasets`` reads megabytes and files ahead.
"""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.data.downloads import hub_unreachable_reason
from ftkit.data.text_files import exists
from ftkit.errors import DataError, NetworkError, nearest_name
from ftkit.runs.files import write_atomically

__all__ = ["HubPlace", "hub_documents", "load_rows", "read_hub_place"]

logger = logging.getLogger(__name__)

BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".txt": "text"}
STREAMED = (".jsonl", ".parquet")
ROWS_AT_ONCE = 256


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
    if not exists(folder):
        place, _, asked_split = place.partition(":")
        folder, split = Path(place).expanduser(), asked_split or "train"
    local = exists(folder)
    if not place or not (local or re.fullmatch(r"[\w.-]+(?:/[\w.-]+){0,2}", place)):
        raise DataError(
            f"Corpus {source!r}: {place!r} is no folder and no data set name. Write hub:owner/name, "
            f"hub:owner/name:SPLIT#COLUMN or hub:FOLDER."
        )
    name = folder.resolve().name if local else place.split("/")[min(1, place.count("/"))]
    return HubPlace(place, folder if local else None, split, columns or default_columns, name)


def hub_documents(source: str, rest: str, kept: Path) -> tuple[str, list[tuple[str, str]]]:
    """The text of every row, or of the first rows.

    Args:
        source: What was asked for, for messages.
        rest: ``NAME[:SPLIT][#COLUMN][@DOCUMENTS]``.
        kept: Folder that keeps what was streamed from the Hub.

    Returns:
        A short name, and each row's number with its text.

    Raises:
        DataError: No such column or split, or something else than text in it.
        NetworkError: It is neither in the cache nor to be fetched.
    """
    asked, limit = _limit_of(rest)
    place = read_hub_place(source, asked, "text")
    if limit is None:
        rows = load_rows(source, place)
        values: Iterable[Any] = rows[_column(source, place, list(rows.column_names))]
    else:
        values = _first_values(source, place, limit, kept)
        if len(values) < limit:
            logger.warning("%s: there are only %s rows", source, f"{len(values):,}")
    documents: list[tuple[str, str]] = []
    for number, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"Corpus {source!r}: row {number} of column {place.columns!r} holds {type(value).__name__}, not text. "
                f"Name a column of text after #."
            )
        documents.append((f"row {number}", value or ""))
    return place.name, documents


def _limit_of(rest: str) -> tuple[str, int | None]:
    """What stands before ``@DOCUMENTS``, and the number; an existing path keeps its at sign."""
    found = re.fullmatch(r"(.+)@([1-9][0-9]{0,8})", rest, re.DOTALL)
    if found is None or exists(Path(rest).expanduser()):
        return rest, None
    return found[1], int(found[2])


def _column(source: str, place: HubPlace, columns: list[str]) -> str:
    """The column, when it is there."""
    if place.columns in columns:
        return place.columns
    near = nearest_name(place.columns, columns)
    raise DataError(
        f"Corpus {source!r}: no column {place.columns!r}{near if near.endswith('?') else '.'} Columns of split "
        f"{place.split!r}: {', '.join(columns)}. Write hub:{place.place}:{place.split}#COLUMN."
    )


def _first_values(source: str, place: HubPlace, limit: int, kept: Path) -> list[Any]:
    """The column in the first rows."""
    if place.folder is not None:
        return list(itertools.islice(_rows_of_files(source, place), limit))
    key = hashlib.sha256(json.dumps([place.place, place.split, place.columns, limit]).encode()).hexdigest()[:16]
    path = kept / f"{place.name}-{key}.json"
    if path.is_file():
        found: list[Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    rows = load_rows(source, place, limit)
    if rows:
        _column(source, place, list(rows[0]))
    values = [row.get(place.columns) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values))
    return values


def _rows_of_files(source: str, place: HubPlace) -> Iterator[Any]:
    """The column of every row of the files of a split, each file opened when its turn comes."""
    for path in _files_of(source, place):
        try:
            yield from _rows_of_file(source, place, path)
        except (OSError, ValueError, RecursionError) as error:  # also what pyarrow and json raise
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"Corpus {source!r}: {path} cannot be read on ({reason}).") from None


def _rows_of_file(source: str, place: HubPlace, path: Path) -> Iterator[Any]:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet  # type: ignore[import-untyped]

        with pyarrow.parquet.ParquetFile(path) as file:
            column = _column(source, place, file.schema_arrow.names)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
                yield from batch.column(0).to_pylist()
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                yield row[_column(source, place, list(row) if isinstance(row, dict) else [])]


def _files_of(source: str, place: HubPlace) -> list[Path]:
    """The files of a split: the one that was named, or those that ``datasets`` finds by their names."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    assert place.folder is not None
    found = [place.folder]
    if place.folder.is_dir():
        try:
            patterns = get_data_patterns(str(place.folder))
            found = [Path(path) for path in DataFilesDict.from_patterns(patterns, str(place.folder))[place.split]]
        except (FileNotFoundError, KeyError, ValueError):
            raise DataError(f"Corpus {source!r}: no files of split {place.split!r} in {place.folder}.") from None
    others = sorted({path.suffix or "none" for path in found if path.suffix.lower() not in STREAMED})
    if others:
        raise DataError(
            f"Corpus {source!r}: a number of documents needs files ending in {' or '.join(STREAMED)}, found "
            f"{', '.join(others)}. Leave the number out to read all rows."
        )
    return found


def load_rows(source: str, place: HubPlace, limit: int | None = None) -> Any:
    """The rows of one split, as a ``datasets.Dataset``; with a limit the first ones, streamed, as a list.

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
    options: dict[str, Any] = {}
    if folder is not None and folder.is_file():
        path, options = BUILDERS.get(folder.suffix.lower(), "text"), {"data_files": str(folder)}
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
            if limit is None:
                return datasets.load_dataset(path, *arguments, split=split, **options)
            rows = datasets.load_dataset(path, *arguments, split=split, streaming=True, **options)
            return list(rows.take(limit))
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
