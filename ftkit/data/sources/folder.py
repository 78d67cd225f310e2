"""A folder of texts, a folder of tables, or a saved data set on this machine."""

from pathlib import Path

from ftkit.data.hub_rows import local_rows, text_value
from ftkit.data.local_documents import column_choice, data_set_place, file_documents
from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import local_files, split_column
from ftkit.errors import DataError

__all__ = ["SOURCE"]


def _load(request: SourceRequest) -> LoadedText:
    source = request.source
    path, column = split_column(request.place)
    label = path.resolve().name or "corpus"
    if place := data_set_place(source, path, column):
        where = f"Corpus {source!r}"
        rows = enumerate(local_rows(where, place, column_choice(column)))
        texts = [(f"row {n}", text_value(where, n, column or "text", row.values[0])) for n, row in rows]
        return LoadedText(label, texts, is_prose=False)
    if column:
        raise DataError(f"Corpus {source!r}: a folder of texts has no columns. Leave out #{column}.")
    texts = []
    for name, file in local_files(source, str(path))[1]:
        loaded = file_documents(source, file, request.encoding)
        texts += [(name, text) if loaded.is_prose else (f"{name} {row}", text) for row, text in loaded.documents]
    return LoadedText(label, texts)


SOURCE = Source(
    form="folder/",
    help="Every .txt and .md file below a folder, sorted by path: one document for each file. Or a folder of tables.",
    load=_load,
    owns=Path.is_dir,
)
