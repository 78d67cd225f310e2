"""Code cells of Jupyter notebooks, from a file, a folder or a zip archive of them.

Notebooks are read as JSON: nothing is executed, and an archive is read in memory, a bounded piece at a time, so that
nothing of it can land on the disk.
"""

import io
import json
import logging
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ftkit.data.cleanup import Removed
from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import exists, local_files
from ftkit.errors import DataError

__all__ = ["SOURCE"]

logger = logging.getLogger(__name__)

ENDINGS = (".ipynb",)
MOST_NOTEBOOK_BYTES = 64 * 2**20  # pictures in outputs make notebooks large; this stops a bomb before it fills memory
MOST_ARCHIVE_BYTES = 2**30  # of all notebooks of an archive together, unpacked
MOST_ENTRIES = 100_000  # names alone fill memory: an archive of a course has some hundred
# What zipfile raises for archives that are cut, damaged, encrypted or compressed in a way that it does not know.
SPOILT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
# Magics of a whole cell under which the cell is still Python.
PYTHON_CELLS = {"%%capture", "%%time", "%%timeit"}
# What only IPython understands: %magic, !shell, ?help, help?, and either of the first two as the value of a name.
MAGIC = re.compile(r"[ \t]*(?:[%!?]|[^#'\"]+\?{1,2}[ \t]*\Z|[\w.,*: \t\[\]]+=[ \t]*[%!])")
# Magic as the body of a statement on one line, such as ``for x in y: %time f(x)``.
MAGIC_BODY = re.compile(r"([^#'\"]*:)[ \t]*[%!]")
# Kernels that say their name and no language, which format 4 allows.
FOREIGN_KERNELS = re.compile(
    r"(ir|julia|i?ruby|scala|almond|spylon|java|ijava|javascript|ijavascript|deno|typescript|tslab|bash|octave|matlab|sas"
    r"|stata|rust|evcxr|gophernotes|i?haskell|xcpp|i?clojure|kotlin|ocaml|i?perl|php|sparkr|sql|wolfram|\.net|go)(\W|\d|$)"
)


@dataclass
class _Taken:
    """What was left out of all notebooks of a source."""

    lines: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)

    def removed(self) -> list[Removed]:
        kinds = {"IPython magics": self.lines, "cells in other languages": self.cells}
        return [
            Removed(kind, sum(map(len, texts)), f"{len(texts):,}, the first: {' '.join(texts[0].split())[:60]}")
            for kind, texts in kinds.items()
            if texts
        ]


def _load(request: SourceRequest) -> LoadedText:
    """The code of each notebook of a file, a folder or a zip archive, its cells joined by a blank line."""
    source, place = request.source, request.place
    path = Path(place).expanduser()
    archive = exists(path) and path.is_file() and zipfile.is_zipfile(path)
    label, files = (path.stem, _zipped(source, path)) if archive else _plain(source, place)
    taken, foreign, documents = _Taken(), 0, []
    for name, data in files:
        notebook = _notebook(source, name, data)
        if _is_python(notebook):
            cells = _code_cells(source, name, notebook)
            if request.clean:
                cells = [_plain_code(cell, taken) for cell in cells]
            documents.append((name, "\n\n".join(cell for cell in cells if cell.strip())))
        else:
            foreign += 1
    if foreign:
        logger.warning("%s: notebooks in another language than Python left out: %d", source, foreign)
    if not documents:
        raise DataError(f"Corpus {source!r}: no notebook in Python; {foreign:,} in another language. Give others.")
    return LoadedText(label, documents, is_prose=False, removed=tuple(taken.removed()))


# Where notebooks are


def _plain(source: str, place: str) -> tuple[str, Iterator[tuple[str, bytes]]]:
    label, files = local_files(source, place, ENDINGS)

    def read() -> Iterator[tuple[str, bytes]]:
        for name, path in files:
            try:
                with path.open("rb") as file:
                    yield name, _bounded(source, name, file)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror}). Allow reading it.") from None

    return label, read()


def _zipped(source: str, path: Path) -> Iterator[tuple[str, bytes]]:
    """The notebooks of an archive, by name; hidden ones are passed over, as in a folder."""
    left = MOST_ARCHIVE_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_ENTRIES:
                raise DataError(
                    f"Corpus {source!r}: {len(entries):,} files in the archive, more than {MOST_ENTRIES:,}."
                )
            wanted = {entry.filename: entry for entry in entries if _is_wanted(entry.filename)}
            if not wanted:
                raise DataError(
                    f"Corpus {source!r}: no notebook among {len(entries):,} files in the archive. Needed are files "
                    f"ending in .ipynb."
                )
            for name in sorted(wanted):
                if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"\w:[/\\]", name):
                    raise DataError(
                        f"Corpus {source!r}: the archive names a place outside itself, {name!r}. Nothing was unpacked; "
                        f"make the archive again."
                    )
                with archive.open(wanted[name]) as file:
                    data = _bounded(source, name, file)
                left -= len(data)
                if left < 0:
                    raise DataError(
                        f"Corpus {source!r}: the archive's notebooks have more than {MOST_ARCHIVE_BYTES:,} bytes. "
                        f"Give parts of it."
                    )
                yield name, data
    except SPOILT as error:
        raise DataError(
            f"Corpus {source!r}: the archive cannot be read ({' '.join(str(error).split())[:200]}). It may be damaged, "
            f"or locked with a password; make it again."
        ) from None


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in ENDINGS and not any(re.match(r"\.[^.]", part) for part in path.parts)


def _bounded(source: str, name: str, file: Any) -> bytes:
    data: bytes = file.read(MOST_NOTEBOOK_BYTES + 1)
    if len(data) > MOST_NOTEBOOK_BYTES:
        raise DataError(
            f"Corpus {source!r}: the notebook {name} is larger than the limit of {MOST_NOTEBOOK_BYTES:,} bytes. "
            "Clear its outputs and save it."
        )
    return data


# What is in a notebook


def _notebook(source: str, name: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise DataError(
            f"Corpus {source!r}, {name}: no notebook, because it is no JSON ({' '.join(str(error).split())[:120]}). "
            f"Save it again, or take it out."
        ) from None
    if isinstance(found, dict) and (isinstance(found.get("cells"), list) or isinstance(found.get("worksheets"), list)):
        return found
    raise DataError(f"Corpus {source!r}, {name}: JSON, but no notebook: it has neither cells nor worksheets.")


def _is_python(notebook: dict[str, Any]) -> bool:
    """Whether a notebook is in Python; one that does not say is taken to be."""
    about: Any = notebook.get("metadata")
    languages = []
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        described = about.get(part) if isinstance(about, dict) else None
        if isinstance(described, dict) and described.get(key):
            languages.append(str(described[key]).lower())
    kernel = about.get("kernelspec") if isinstance(about, dict) else None
    if not languages and isinstance(kernel, dict):
        return not FOREIGN_KERNELS.match(str(kernel.get("name", "")).lower())
    return not languages or any("python" in language for language in languages)


def _code_cells(source: str, name: str, notebook: dict[str, Any]) -> list[str]:
    """The text of every code cell, from format 4 or, with work sheets and other names, 3."""
    sheets: list[Any] = [notebook] if isinstance(notebook.get("cells"), list) else notebook["worksheets"]
    parts = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    cells = [cell for part in parts if isinstance(part, list) for cell in part]
    found: list[str] = []
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        if "python" not in str(cell.get("language") or "python").lower():  # format 3 says it cell by cell
            continue
        text = cell.get("source", cell.get("input", ""))
        lines: list[Any] = text if isinstance(text, list) else [text]
        if not all(isinstance(line, str) for line in lines):
            raise DataError(f"Corpus {source!r}, {name}: no notebook: a code cell holds something else than text.")
        found.append("".join(lines))
    return found


def _plain_code(cell: str, taken: _Taken) -> str:
    """A cell without what only IPython understands; nothing is left of a cell in another language."""
    code = cell.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    while (start := code.lstrip()).startswith("%%"):
        magic, _, code = start.partition("\n")
        if magic.split()[0] not in PYTHON_CELLS:
            taken.cells.append(cell)
            return ""
        taken.lines.append(magic)
    kept: list[str] = []
    complete = 0  # kept lines before this one belong to statements that are over
    goes_on = False  # a line that was taken out ended in a backslash
    for line in code.split("\n"):
        if goes_on:
            taken.lines.append(line)
            goes_on = line.endswith("\\")
            continue
        body = MAGIC_BODY.match(line)
        if not (body or MAGIC.match(line)) or not _begins_a_statement(kept[complete:]):
            kept.append(line)
            continue
        complete = len(kept)
        taken.lines.append(line)
        goes_on = line.endswith("\\")
        if body:
            kept.append(f"{body[1]} pass")
        elif line[0] in " \t":  # a block keeps its body
            kept.append(line[: len(line) - len(line.lstrip())] + "pass")
    return "\n".join(kept).strip("\n")


def _begins_a_statement(before: list[str]) -> bool:
    """Whether a line after these is no continuation: inside brackets and strings, % and ! are ordinary Python."""
    if before and before[-1].endswith("\\"):
        return False
    code = "\n".join(line.lstrip() for line in before)  # indentation says nothing here
    try:
        for _ in tokenize.generate_tokens(io.StringIO(f"{code}\n").readline):
            pass
    except (tokenize.TokenError, SyntaxError) as error:
        return not re.search("multi-line|unexpected EOF|triple-quoted", str(error))
    return True


SOURCE = Source(
    form="notebooks:PLACE",
    help="The Python cells of a Jupyter notebook, or of all notebooks of a folder or a zip archive.",
    load=_load,
    prefixes=("notebooks",),
    endings=ENDINGS,
)
