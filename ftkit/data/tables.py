"""Rows of a table in a file: CSV, TSV, JSON, JSON lines, parquet, arrow; read one by one, as they are asked for.

Every row that stands in a file comes out, or an error names the line: a quotation mark that opens and never closes
swallows the rows behind it in most readers.
"""

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from ftkit.data.formats import FileFormat
from ftkit.data.text_files import decode_file, decoded_lines
from ftkit.errors import DataError, nearest_name

__all__ = ["Choose", "TableRow", "class_names", "named_columns", "table_rows", "text_column"]

ROWS_AT_ONCE = 256  # rows of a batch: long texts stay within some megabytes
DELIMITERS = (",", ";", "\t", "|")
SEEN_VALUES = 200  # a column with more different values is no column of classes
SEEN_CHARS = 60  # nor one with longer ones

Choose = Callable[[str, Mapping[str, Any]], Sequence[str]]
"""Chooses columns: gets the table's place, for messages, and its columns, each with a value that it may hold."""


class TableRow(NamedTuple):
    """The chosen values of one row, and where it stands."""

    place: str
    values: tuple[Any, ...]


def named_columns(*columns: str) -> Choose:
    """Choose columns by their names; case matters only where two names differ in nothing else.

    Returns:
        A function for ``table_rows``; it raises ``DataError`` where one is missing.
    """

    def choose(where: str, present: Mapping[str, Any]) -> list[str]:
        return [_one_column(where, column, list(present)) for column in columns]

    return choose


def text_column(where: str, present: Mapping[str, Any]) -> list[str]:
    """Choose the column of text: the one that is called so, else the only one that holds words.

    Raises:
        DataError: There is none, or there are several.
    """
    for name in present:
        if name.casefold() == "text":
            return [name]
    words = [name for name, value in present.items() if isinstance(value, str) and re.search(r"[^\W\d_]", value)]
    if len(words) == 1 or len(present) == 1:
        return words or list(present)
    raise DataError(
        f"{where}: a table with the columns {', '.join(present) or '(none)'}; none is called 'text'. Name the one to "
        f"read after the place, as FILE#COLUMN{f', e.g. FILE#{words[0]}' if words else ''}."
    )


def _one_column(where: str, column: str, present: list[str]) -> str:
    if column in present:
        return column
    folded = [name for name in present if name.casefold() == column.casefold()]
    if len(folded) == 1:
        return folded[0]
    near = nearest_name(column, present)
    raise DataError(
        f"{where}: no column {column!r}{near if near.endswith('?') else '.'} Columns: {', '.join(present) or 'none'}. "
        "Name a column that is there, or mend this row."
    )


def table_rows(where: str, file: FileFormat, choose: Choose, encoding: str = "utf-8") -> Iterator[TableRow]:
    """Go through the rows of a table.

    Args:
        where: What was asked for, for messages.
        file: A table.
        choose: Says which columns, once they are known.
        encoding: Of CSV, TSV and JSON.

    Raises:
        DataError: While it is gone through: no such column, a row that is no row, or a damaged file.
    """
    if file.kind in ("csv", "tsv"):
        return _delimited_rows(where, file, choose, encoding)
    if file.kind == "jsonl":
        return _json_line_rows(where, file, choose, encoding)
    if file.kind == "json":
        return _json_rows(where, file, choose, encoding)
    return _arrow_rows(where, file, choose)


# CSV and TSV


class _Lines:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.number = 0
        """Number of the line that was taken last, from 1."""
        self.taken: list[str] = []
        """Lines since this list was cleared."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """Give back all taken lines but the first."""
        rest = self.taken[1:]
        del self.taken[1:]
        self.number -= len(rest)
        self._lines = itertools.chain(rest, self._lines)


class _SeenValues:
    """Values that come again and again in a column, such as classes: they tell rows from lines of a text."""

    def __init__(self, width: int) -> None:
        self._counts: list[Counter[str]] = [Counter() for _ in range(width)]

    def add(self, fields: Sequence[str]) -> None:
        for counts, field in zip(self._counts, fields, strict=True):
            if len(counts) < SEEN_VALUES and len(field) <= SEEN_CHARS:
                counts[field] += 1

    def are_rows(self, rows: Sequence[Sequence[str]]) -> bool:
        """Whether lines, each split into fields, look like rows of their own: a column holds only known values."""
        for counts, values in zip(self._counts, zip(*rows, strict=True), strict=True):
            both = counts + Counter(values)
            if len(both) < SEEN_VALUES and all(both[value] > 1 for value in values) and len(both) < both.total() / 2:
                return True
        return False


def _delimited_rows(where: str, file: FileFormat, choose: Choose, encoding: str) -> Iterator[TableRow]:
    csv.field_size_limit(sys.maxsize if sys.maxsize < 2**31 else 2**31 - 1)  # 131,072 unless set
    with closing(decoded_lines(file, encoding)) as decoded:
        lines = _Lines(decoded)
        head = next((line for line in lines if line.strip()), "")
        dialect = _dialect(head, file.kind)
        names = [name.strip() for name in dialect.read_alone(head)]
        rows = _records(where, lines, dialect, len(names))
        first = next(rows, None)
        examples = dict(zip(names, first[1] if first else itertools.repeat(""), strict=False))
        chosen = list(choose(where, examples))
        for name in chosen:
            if names.count(name) > 1:
                raise DataError(f"{where}: {names.count(name)} columns are called {name!r}. Give each its own name.")
        places = [names.index(name) for name in chosen]
        for number, fields in itertools.chain([first] if first else [], rows):
            yield TableRow(f"line {number:,}", tuple(fields[place] for place in places))


class _Dialect(NamedTuple):
    """How a table is written."""

    delimiter: str
    skipinitialspace: bool
    """Whether a quotation mark may follow a space."""

    def read(self, lines: Iterable[str]) -> Any:
        """A strict reader: one that raises where quotation marks make no sense."""
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.skipinitialspace, strict=True)

    def split(self, line: str) -> list[str]:
        """Fields where quotation marks mean nothing."""
        return line.rstrip("\n").split(self.delimiter)

    def read_alone(self, line: str) -> list[str]:
        """Fields of a line that is read by itself; where its quotation marks do not pair up, they mean nothing."""
        try:
            return next(self.read([line]), [])
        except csv.Error:
            return self.split(line)


def _dialect(head: str, kind: str) -> _Dialect:
    """How a table is written whose first line is given."""
    sign = "\t" if kind == "tsv" else max(DELIMITERS, key=head.count)
    return _Dialect(sign, re.search(rf'{re.escape(sign)} +"', head) is not None)


def _records(where: str, lines: _Lines, dialect: _Dialect, width: int) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row with the number of its first line; each has as many as the header names."""
    reader, seen = dialect.read(lines), _SeenValues(width)
    while True:
        lines.taken.clear()
        problem = ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fields, problem = [], str(error)
        number = lines.number - len(lines.taken) + 1
        if problem or len(lines.taken) > 1:
            plain = dialect.split(lines.taken[0]) if width > 1 else [lines.taken[0].rstrip("\n")]
            swallowed = not problem and width > 1 and _holds_rows(lines.taken, dialect, width, seen)
            if (problem or swallowed) and len(plain) == width and (dialect.delimiter == "\t" or width == 1):
                # TSV needs no quotation marks around a text, so a lone one is a character of the text.
                lines.give_back()
                reader = dialect.read(lines)
                fields = plain
            elif problem or swallowed:
                what = f"a quotation mark opens, closes in line {lines.number:,}, and holds whole rows"
                raise DataError(
                    f"{where}, line {number:,}: no table ({what if swallowed else problem}). Write double quotes "
                    "inside a text twice, and the text between double quotes."
                )
        elif width == 1 and len(fields) > 1 and not lines.taken[0].startswith('"'):
            fields = [lines.taken[0].rstrip("\n")]  # the only column of a table may hold its delimiter
        if fields and len(fields) != width:
            raise DataError(
                f"{where}, line {number:,}: {len(fields)} fields, the first line names {width}. A text that holds "
                f"{dialect.delimiter!r} or a line break must stand in double quotes."
            )
        if fields:
            seen.add(fields)
            yield number, fields


def _holds_rows(taken: list[str], dialect: _Dialect, width: int, seen: _SeenValues) -> bool:
    """Whether the lines of one row are rows of their own, so that a quotation mark has swallowed them."""
    plain = [dialect.read_alone(line) for line in taken if line.strip()]
    return all(len(row) == width for row in plain) and (dialect.delimiter == "\t" or seen.are_rows(plain))


# JSON


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: no JSON ({reason}). Every row is one object.") from None


def _json_line_rows(where: str, file: FileFormat, choose: Choose, encoding: str) -> Iterator[TableRow]:
    with closing(decoded_lines(file, encoding)) as lines:
        numbered = ((f"line {number:,}", line) for number, line in enumerate(lines, start=1) if line.strip())
        yield from _objects(where, ((place, _parsed(f"{where}, {place}", line)) for place, line in numbered), choose)


def _objects(where: str, rows: Iterator[tuple[str, Any]], choose: Choose) -> Iterator[TableRow]:
    """Chosen columns of rows that are objects; the first row says which columns there are."""
    chosen: list[str] = []
    for number, (place, row) in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{where}, {place}: {type(row).__name__} where an object is needed")
        if not number:
            chosen = list(choose(where, row))
        here = f"{where}, {place}"
        yield TableRow(place, tuple(row[_one_column(here, column, list(row))] for column in chosen))


def _json_rows(where: str, file: FileFormat, choose: Choose, encoding: str) -> Iterator[TableRow]:
    text = decode_file(file.path, encoding).removeprefix("\ufeff")
    first, _, rest = text.strip().partition("\n")
    if rest.strip().startswith("{") and first.rstrip().endswith("}"):  # a row a line under the name .json
        yield from _json_line_rows(where, file, choose, encoding)
        return
    rows = _rows_of_json(_parsed(where, text))
    if rows is None:
        raise DataError(
            f"{where}: JSON, but no rows. Give a list of objects, an object for each line, or an object of columns."
        )
    yield from _objects(where, ((f"row {number:,}", row) for number, row in enumerate(rows)), choose)


def _rows_of_json(found: Any) -> Sequence[Any] | None:
    """Rows from a list, from the only list of objects in an object, or from columns."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return None
    lists = [value for value in found.values() if isinstance(value, list)]
    objects = [value for value in lists if value and all(isinstance(row, dict) for row in value)]
    if len(objects) == 1:
        return objects[0]
    columns = list(found.values())
    if columns and all(isinstance(column, dict) for column in columns):  # as pandas writes them, by index
        if any(column.keys() != columns[0].keys() for column in columns):
            return None
        columns = [list(column.values()) for column in columns]
    elif len(lists) != len(columns):
        return [found] if columns and all(not isinstance(value, dict | list) for value in columns) else None
    if not columns or len({len(column) for column in columns}) != 1:
        return None
    return [dict(zip(found, row, strict=True)) for row in zip(*columns, strict=True)]


# Parquet and arrow


def _arrow_rows(where: str, file: FileFormat, choose: Choose) -> Iterator[TableRow]:
    import pyarrow  # type: ignore[import-untyped]

    try:
        yield from _read_arrow(where, file, choose)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: {file.path} cannot be read on ({reason}). It may be damaged.") from None


def _read_arrow(where: str, file: FileFormat, choose: Choose) -> Iterator[TableRow]:
    import pyarrow
    import pyarrow.ipc  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    if file.compression:
        with file.open() as packed:
            source: Any = pyarrow.BufferReader(packed.read())
    else:
        source = pyarrow.OSFile(str(file.path))
    with source:
        if file.kind == "parquet":
            with pyarrow.parquet.ParquetFile(source) as table:
                chosen = list(choose(where, _examples(table.schema_arrow)))
                yield from _batches(table.iter_batches(ROWS_AT_ONCE, columns=list(dict.fromkeys(chosen))), chosen)
            return
        reader = pyarrow.ipc.open_stream(source) if file.kind == "arrow stream" else pyarrow.ipc.open_file(source)
        with reader:
            chosen = list(choose(where, _examples(reader.schema)))
            if file.kind == "arrow stream":
                batches = iter(reader)
            else:
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            yield from _batches(batches, chosen)


def _examples(schema: Any) -> dict[str, Any]:
    """Columns with a word as the example of those that hold text."""
    import pyarrow

    def holds_text(kind: Any) -> bool:
        if pyarrow.types.is_dictionary(kind):
            kind = kind.value_type
        return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or "string" in str(kind)[:11])

    return {field.name: "text" if holds_text(field.type) else None for field in schema}


def _batches(batches: Iterator[Any], chosen: Sequence[str]) -> Iterator[TableRow]:
    number = 0
    for batch in batches:
        batch.validate(full=True)  # damaged offsets would end the process where texts are taken out
        columns = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in chosen]
        for values in zip(*columns, strict=True):
            yield TableRow(f"row {number:,}", values)
            number += 1


def class_names(file: FileFormat, column: str) -> list[str]:
    """Names of the classes that a parquet or arrow file of ``datasets`` gives to the numbers of a column.

    Args:
        file: A table.
        column: Its column.

    Returns:
        The names in the order of their numbers; empty where the file has none.
    """
    if file.kind != "parquet" or file.compression:
        return []
    import datasets
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(file.path)
    except (OSError, ValueError, pyarrow.ArrowException):  # who reads the rows says why
        return []
    if b"huggingface" not in (schema.metadata or {}):
        return []
    feature = datasets.Features.from_arrow_schema(schema).get(column)
    return list(getattr(feature, "names", None) or [])
