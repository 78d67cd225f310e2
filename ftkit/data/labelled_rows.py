"""Rows of text and label as they stand in a source: a table, a folder of folders, a data set of the Hub, files."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.data.cleaning import clean_text
from ftkit.data.hub_rows import load_rows, read_hub_place
from ftkit.data.sources import load_corpus
from ftkit.data.text_files import decode_file
from ftkit.errors import DataError, nearest_name

__all__ = ["Row", "Rows", "read_rows"]

TABLES = (".csv", ".tsv", ".jsonl")
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
    name, rows = _read_local(source, encoding)
    return Rows(name, source, rows, [])


# One source for each class


def _read_classes(sources: Mapping[str, str], encoding: str) -> Iterator[Row]:
    for label, source in sources.items():
        path = Path(source).expanduser()
        if path.is_file():
            text = clean_text(decode_file(path, encoding)).text
            for number, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    yield Row(line, label, f"{source} line {number}")
            continue
        corpus = load_corpus(source, encoding=encoding, warn_short=False)
        for document in corpus.documents:
            paragraphs = (" ".join(piece.split()) for piece in re.split(r"\n\s*\n", document.text))
            pieces = [document.text] if path.is_dir() else [piece for piece in paragraphs if piece]
            yield from (Row(piece, label, document.name) for piece in pieces)


# Files and folders


def _read_local(source: str, encoding: str) -> tuple[str, Iterator[Row]]:
    path, choice = Path(source).expanduser(), ""
    if not path.exists():
        place, _, choice = source.rpartition("#") if "#" in source else (source, "", "")
        path = Path(place).expanduser()
    if path.is_dir():
        return path.resolve().name, _read_folder(source, path, choice, encoding)
    if not path.is_file():
        near = _neighbour(path)
        raise DataError(
            f"{source}: no such file or folder{near} Texts with classes are a .csv, .tsv or .jsonl file, a folder with "
            "a sub-folder for each class, or hub:NAME."
        )
    if path.suffix.lower() not in TABLES:
        raise DataError(
            f"{source}: a table of texts and labels ends in .csv, .tsv or .jsonl, found {path.suffix!r}. "
            "Parquet files are given as hub:FOLDER#TEXT,LABEL; plain text, a file for each class, as classes."
        )
    text = clean_text(decode_file(path, encoding)).text
    columns = _columns(source, choice)
    read = _read_jsonl if path.suffix.lower() == ".jsonl" else _read_csv
    return path.stem, read(source, path, text, columns)


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


def _check_columns(source: str, columns: tuple[str, str], present: Sequence[str]) -> None:
    for column in columns:
        if column not in present:
            near = nearest_name(column, present)
            raise DataError(
                f"{source}: no column {column!r}{near if near.endswith('?') else '.'} Columns: "
                f"{', '.join(map(str, present)) or 'none'}. Name those of texts and labels as #TEXT,LABEL."
            )


def _read_csv(source: str, path: Path, text: str, columns: tuple[str, str]) -> Iterator[Row]:
    head = text.partition("\n")[0]
    candidates = ["\t"] if path.suffix.lower() == ".tsv" else [",", ";", "\t"]
    delimiter = max(candidates, key=lambda sign: len(set(columns) & set(next(csv.reader([head], delimiter=sign), []))))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        _check_columns(source, columns, names)
        places = [names.index(column) for column in columns]
        for fields in reader:
            if fields and len(fields) != len(names):
                raise DataError(
                    f"{source}, line {reader.line_num:,}: {len(fields)} fields, the first line names {len(names)}. A "
                    f"text that holds {delimiter!r} or a line break must stand in double quotes."
                )
            if fields:
                yield Row(fields[places[0]], fields[places[1]], f"line {reader.line_num:,}")
    except csv.Error as error:
        raise DataError(
            f"{source}, line {reader.line_num:,}: no table ({error}). Write double quotes inside a text twice."
        ) from None


def _read_jsonl(source: str, path: Path, text: str, columns: tuple[str, str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{source}, line {number:,}: no JSON ({error}). Every line is one object.") from None
        if not isinstance(row, dict):
            raise DataError(f"{source}, line {number:,}: {type(row).__name__} where an object is needed")
        _check_columns(f"{source}, line {number:,}", columns, list(row))
        yield Row(row[columns[0]], row[columns[1]], f"line {number:,}")


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


# The Hub


def _read_hub(source: str) -> Rows:
    place = read_hub_place(source, source.partition(":")[2], COLUMNS)
    columns = _columns(source, place.columns)
    rows = load_rows(source, place)
    _check_columns(source, columns, list(rows.column_names))
    names = getattr(rows.features[columns[1]], "names", None) or []  # of a column of classes, in their order
    return Rows(place.name, source, _hub_rows(rows, columns, names), [str(name) for name in names])


def _hub_rows(rows: Any, columns: tuple[str, str], names: Sequence[str]) -> Iterator[Row]:
    for number, (text, label) in enumerate(zip(rows[columns[0]], rows[columns[1]], strict=True)):
        named = names[label] if names and isinstance(label, int) and 0 <= label < len(names) else label
        # Data sets mark texts without a class by -1.
        yield Row(text, None if names and label == -1 else named, f"row {number:,}")
