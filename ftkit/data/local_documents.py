"""Documents of a file or folder on this machine: a text is one document, each row of a table is one."""

import logging
from collections.abc import Iterator
from pathlib import Path

from ftkit.data.formats import detect_format
from ftkit.data.hub_rows import HubPlace, is_saved, text_value
from ftkit.data.sources import LoadedText, better_source
from ftkit.data.tables import Choose, named_columns, table_rows, text_column
from ftkit.data.text_files import check_place, decode_file, folder_contents, split_column, split_lines
from ftkit.errors import DataError

__all__ = ["column_choice", "data_set_place", "file_documents", "read_lines"]

logger = logging.getLogger(__name__)


def data_set_place(source: str, folder: Path, columns: str) -> HubPlace | None:
    """A folder of tables without texts, or a saved data set, as ``hub:FOLDER`` takes it; else nothing."""
    if not is_saved(folder):
        found = folder_contents(source, folder)
        if not found.tables or any(Path(name).name.lower() != "readme.md" for name, _ in found.files):
            return None
    return HubPlace(str(folder), folder, "train", columns, folder.resolve().name)


def file_documents(source: str, path: Path, encoding: str, column: str = "") -> LoadedText:
    """Read one file: a text is one document, a table one for each row.

    Args:
        source: What was asked for, for messages.
        path: The file.
        encoding: A Python codec.
        column: Of a table; an empty string takes the one that is called ``text``, or the only one of text.

    Raises:
        DataError: It is neither text nor a table, or has no such column.
    """
    file = detect_format(path)
    where = f"Corpus {source!r}"
    if file.is_table:
        rows = enumerate(table_rows(where, file, column_choice(column), encoding))
        texts = [(f"row {n}", text_value(where, n, column or "text", row.values[0])) for n, row in rows]
        return LoadedText(path.stem, texts, is_prose=False)
    if column:
        raise DataError(f"{where}: a plain text has no columns. Leave out #{column}.")
    if better := better_source([path.suffix.lower()], source):
        logger.warning("%s: read as plain text, marks and all; perhaps %s is meant", source, better)
    elif file.markup:
        logger.warning(
            "%s: read as plain text, with the marks of %s; save %s as a .txt file to learn from its text alone",
            source,
            file.markup,
            path.name,
        )
    return LoadedText(path.stem, [(path.name, decode_file(path, encoding))])


def column_choice(column: str) -> Choose:
    """Choose the column of a table; an empty string takes the one that is called ``text``, or the only one of text."""
    return named_columns(column) if column else text_column


def read_lines(source: str, encoding: str) -> Iterator[tuple[str, str]]:
    """Lines of a text file, or the column of text of a table, each with its place; blank ones are left out.

    Args:
        source: A file, perhaps with ``#COLUMN`` after it.
        encoding: A Python codec.

    Raises:
        DataError: It is neither text nor a table, or has no such column.
    """
    path, column = split_column(source)
    check_place(source, path)
    file = detect_format(path)
    if file.is_table:
        for number, row in enumerate(table_rows(source, file, column_choice(column), encoding)):
            if (text := text_value(source, number, column or "text", row.values[0])).strip():
                yield row.place, text
        return
    if column:
        raise DataError(f"{source}: a plain text has no columns. Leave out #{column}.")
    for number, line in enumerate(split_lines(decode_file(path, encoding)), start=1):
        if line.strip():
            yield f"line {number:,}", line
