"""Rows of text and label as they stand in a source: a table, a folder of folders, a data set of the Hub, files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.data.corpus import load_corpus
from ftkit.data.formats import detect_format
from ftkit.data.hub_rows import HubPlace, load_rows, local_class_names, local_rows, read_hub_place
from ftkit.data.local_documents import data_set_place, read_lines
from ftkit.data.tables import Choose, TableRow, class_names, named_columns, table_rows
from ftkit.data.text_files import exists, split_column
from ftkit.errors import DataError, nearest_name

__all__ = ["Row", "Rows", "read_rows"]

COLUMNS = "text,label"


class Row(NamedTuple):
    """One text with its class as it was read, and where it stood."""

    text: Any
    label: Any
    place: str


class Rows(NamedTuple):
    """What a source holds."""

    name: str
    """Short name for reports."""
    source: str
    """What the user asked for, on one line."""
    rows: Iterator[Row]
    classes: list[str]
    """Names of the classes where the source says them in their order; else empty."""


def read_rows(source: str | Mapping[str, str], encoding: str) -> Rows:
    """Open a source of labelled texts; see ``load_labelled`` for what it may be.

    Raises:
        DataError: It cannot be read; some mistakes are found only while the rows are gone through.
        NetworkError: A download failed.
    """
    if isinstance(source, Mapping):
        described = ", ".join(f"{label}={place}" for label, place in source.items())
        return Rows("classes", described, _read_classes(source, encoding), list(source))
    if source.lower().startswith("hub:"):
        return _read_hub(source)
    return _read_local(source, encoding)


# One source for each class


def _read_classes(sources: Mapping[str, str], encoding: str) -> Iterator[Row]:
    for label, source in sources.items():
        path, _ = split_column(source)
        if exists(path) and path.is_file():
            yield from (Row(text, label, f"{source} {place}") for place, text in read_lines(source, encoding))
            continue
        corpus = load_corpus(source, encoding=encoding, warn_short=False)
        for document in corpus.documents:
            paragraphs = (" ".join(piece.split()) for piece in re.split(r"\n\s*\n", document.text))
            pieces = [document.text] if path.is_dir() else [piece for piece in paragraphs if piece]
            yield from (Row(piece, label, document.name) for piece in pieces)


# Files and folders


def _read_local(source: str, encoding: str) -> Rows:
    path, choice = split_column(source)
    if exists(path) and path.is_dir():
        if place := data_set_place(source, path, choice):
            return _read_place(source, place)
        return Rows(path.resolve().name, source, _read_folder(source, path, choice, encoding), [])
    if not exists(path) or not path.is_file():
        near = _neighbour(path)
        raise DataError(
            f"{source}: no such file or folder{near} Texts with classes are a table (.csv, .tsv, .jsonl, .parquet), a "
            "folder with a sub-folder for each class, or hub:NAME."
        )
    file = detect_format(path)
    if not file.is_table:
        raise DataError(
            f"{source}: plain text, not a table of texts and labels; a table's name ends in .csv, .tsv or .jsonl, this "
            f"one in {path.suffix!r}. Give plain text as classes, a file for each class."
        )
    columns = _columns(source, choice)
    names = class_names(file, columns[1])
    rows = table_rows(source, file, _chosen(columns), encoding)
    return Rows(path.stem, source, _named_rows(rows, names), names)


def _neighbour(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest_name(path.name, names)
    return near if near.endswith("?") else "."


def _columns(source: str, choice: str) -> tuple[str, str]:
    names = [name.strip() for name in (choice or COLUMNS).split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise DataError(
            f"{source}: {choice!r} does not name two columns. Write #TEXT,LABEL, such as #review,sentiment."
        )
    return names[0], names[1]


def _example(present: Mapping[str, Any]) -> str:
    """The line to type where a table has two columns."""
    return f", e.g. FILE#{','.join(present)}" if len(present) == 2 else ""


def _chosen(columns: tuple[str, str]) -> Choose:
    """Choose the columns of texts and labels."""
    named = named_columns(*columns)

    def choose(where: str, present: Mapping[str, Any]) -> Sequence[str]:
        try:
            return named(where, present)
        except DataError as error:
            raise DataError(f"{error} Name those of texts and labels, as FILE#TEXT,LABEL{_example(present)}.") from None

    return choose


def _read_folder(source: str, folder: Path, choice: str, encoding: str) -> Iterator[Row]:
    present = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    chosen = [name.strip() for name in choice.split(",")] if choice else present
    for name in chosen:
        if name not in present:
            raise DataError(f"{source}: no sub-folder {name!r}{nearest_name(name, present)}")
    if len(chosen) < 2:
        raise DataError(
            f"{source}: a folder of texts with classes has a sub-folder for each class, two or more; found "
            f"{', '.join(present) or 'none'}. A data set's folder is given as hub:FOLDER#TEXT,LABEL."
        )
    return _read_classes({name: str(folder / name) for name in chosen}, encoding)


# Data sets


def _read_hub(source: str) -> Rows:
    place = read_hub_place(source, source.partition(":")[2])
    if place.folder is not None:
        return _read_place(source, place)
    columns = _columns(source, place.columns)
    rows = load_rows(source, place)
    _chosen(columns)(source, dict.fromkeys(rows.column_names))
    names = [str(name) for name in getattr(rows.features[columns[1]], "names", None) or []]
    pairs = enumerate(zip(rows[columns[0]], rows[columns[1]], strict=True))
    found = (TableRow(f"row {number:,}", values) for number, values in pairs)
    return Rows(place.name, source, _named_rows(found, names), names)


def _read_place(source: str, place: HubPlace) -> Rows:
    """Rows of a data set on this machine."""
    columns = _columns(source, place.columns)
    names = local_class_names(source, place, columns[1])
    return Rows(place.name, source, _named_rows(local_rows(source, place, _chosen(columns)), names), names)


def _named_rows(rows: Iterator[TableRow], names: Sequence[str]) -> Iterator[Row]:
    """Rows with the names of their classes where the source has numbers for them."""
    for place, (text, label) in rows:
        named = names[label] if names and isinstance(label, int) and 0 <= label < len(names) else label
        # Data sets mark texts without a class by -1.
        yield Row(text, None if names and label == -1 else named, place)
