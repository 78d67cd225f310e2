"""A text file or a table on this machine."""

from pathlib import Path

from ftkit.data.local_documents import file_documents
from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import split_column

__all__ = ["SOURCE"]


def _load(request: SourceRequest) -> LoadedText:
    path, column = split_column(request.place)
    return file_documents(request.source, path, request.encoding, column)


SOURCE = Source(
    form="file",
    help="A text file with any ending, or a table: one document for each row. FILE#COLUMN names the column.",
    load=_load,
    owns=Path.is_file,
)
