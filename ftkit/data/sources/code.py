"""Python source files: a folder of them, or the standard library of the Python that runs ftkit, as an offline corpus.

Nothing is imported or executed; files are read as text.
"""

import codecs
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import decode_file, local_files
from ftkit.errors import DataError

__all__ = ["SOURCE"]

ENDINGS = (".py",)
INSTALLED = {"__pycache__", "node_modules", "site-packages"}  # folders of other people's code
# Parts of the standard library that nobody would learn Python from: tests, toys, and tables and texts in Python's form.
LEFT_OUT = {
    "__phello__", "dist-packages", "encodings", "ensurepip", "idle_test", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
# The line of PEP 263, in one of the first two lines of a file, that says its encoding.
DECLARED = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


def _load(request: SourceRequest) -> LoadedText:
    """Files that declare no encoding have that of the request, except in the standard library, which is UTF-8."""
    source, encoding = request.source, request.encoding
    if found := re.fullmatch(r"stdlib(?:/(\w+))?(?::(.*))?", request.place):
        library = list(_library(source, found[1] or "", found[2] or ""))
        return LoadedText(found[1] or "stdlib", library, is_prose=False)
    label, files = local_files(source, request.place, ENDINGS)
    own = [(name, path) for name, path in files if not INSTALLED & set(Path(name).parts) and path.stat().st_size]
    if not own:
        raise DataError(
            f"Corpus {source!r}: none of {len(files):,} Python files is code of its own: they are empty, or lie in "
            f"{', '.join(sorted(INSTALLED))}. Give another folder."
        )
    return LoadedText(label, [(name, _decoded(path, encoding)) for name, path in own], is_prose=False)


def _decoded(path: Path, encoding: str) -> str:
    """A file in the encoding that it declares, else in ``encoding``."""
    with path.open("rb") as file:
        declared = DECLARED.match(file.read(1000))
    if declared is None:
        return decode_file(path, encoding)
    name = declared[1].decode("ascii", "replace")
    try:
        codecs.lookup(name)
    except LookupError:
        raise DataError(f"{path}: declares the encoding {name!r}, which Python does not know. Mend the file.") from None
    return decode_file(path, name)


def _library(source: str, package: str, limit: str) -> Iterator[tuple[str, str]]:
    """The standard library's files; with a limit, those that fit into so many bytes, taken in order.

    Packages are in the order of a digest of their names and stay together, so that the end of the corpus, which is
    usually held out, is a fair sample of it, and is not the sisters of files that are trained on.
    """
    if limit and not re.fullmatch(r"[1-9][0-9]{0,11}", limit):
        raise DataError(f"Corpus {source!r}: {limit!r} is no number of bytes. Write for instance code:stdlib:400000.")
    folder = Path(sysconfig.get_path("stdlib"))
    room, given = int(limit) if limit else None, 0
    for path in sorted(_library_files(folder), key=_place_in_library):
        if package not in ("", path.parts[0], path.stem if len(path.parts) == 1 else ""):
            continue
        size = (folder / path).stat().st_size
        if not size or (room is not None and size > room):
            continue
        try:
            text = (folder / path).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        room, given = room - size if room is not None else None, given + 1
        yield path.as_posix(), text
    if not given:
        within = (f" of {package}" if package else "") + (f" of at most {int(limit):,} bytes" if limit else "")
        raise DataError(f"Corpus {source!r}: no Python file{within} in {folder}. Give a folder, as code:FOLDER.")


def _library_files(folder: Path) -> Iterator[Path]:
    """Paths below the library's folder, without what differs between machines of one version."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        for name in names:
            if name.endswith(ENDINGS) and not name.startswith("_sysconfigdata") and Path(root, name).is_file():
                yield Path(root, name).relative_to(folder)


def _place_in_library(path: Path) -> tuple[str, str]:
    return hashlib.sha256(path.parts[0].encode()).hexdigest(), path.as_posix()


SOURCE = Source(
    form="code:FOLDER",
    help="Python files. code:stdlib is the standard library of the running Python, code:stdlib/PACKAGE a part of it.",
    load=_load,
    prefixes=("code",),
    endings=ENDINGS,
)
