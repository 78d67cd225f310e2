"""Rows of a data set, from the Hugging Face Hub, its cache, or a file or folder.

Data sets of the Hub go through ``datasets``. Files are read here: ``datasets`` reads megabytes and files ahead, and
takes a quotation mark in a table for the beginning of a text of many lines.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.data.downloads import hub_unreachable_reason
from ftkit.data.formats import detect_format
from ftkit.data.tables import Choose, TableRow, class_names, table_rows
from ftkit.data.text_files import decoded_lines, exists
from ftkit.errors import DataError, NetworkError, nearest_name

__all__ = ["HubPlace", "is_saved", "load_rows", "local_class_names", "local_rows", "read_hub_place", "text_value"]

logger = logging.getLogger(__name__)

SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk of datasets writes into a folder
# Files of a data set's folder that hold no rows.
BESIDE_ROWS = ("readme.md", "dataset_info.json", "dataset_infos.json", "license", "license.txt", "license.md")


@dataclass(frozen=True)
class HubPlace:
    """Where rows are: a data set on the Hub or a folder of one."""

    place: str
    """``owner/name``, ``owner/name/configuration`` or the folder as it was given."""
    folder: Path | None
    split: str
    columns: str
    """As named after ``#``; an empty string where none is."""
    name: str
    """Short name for reports."""


def read_hub_place(source: str, rest: str) -> HubPlace:
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
    return HubPlace(place, folder if local else None, split, columns.strip(), name)


def text_value(where: str, number: int, column: str, value: Any) -> str:
    """A cell as text; nothing is an empty text.

    Raises:
        DataError: It holds something else.
    """
    if value is not None and not isinstance(value, str):
        dialogue = isinstance(value, list) and value and isinstance(value[0], dict)
        other = " Dialogues are learned by: ftkit run sft --examples FILE" if dialogue else ""
        raise DataError(
            f"{where}: row {number} of column {column!r} holds {type(value).__name__}, not text. Name a column of text "
            f"after #.{other}"
        )
    return value or ""


# Files and folders


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk`` of ``datasets``."""
    return any((folder / name).is_file() for name in SAVED)


def local_rows(where: str, place: HubPlace, choose: Choose) -> Iterator[TableRow]:
    """Rows of a file, a folder of tables, or a saved data set, read as they are asked for.

    Args:
        where: What was asked for, for messages.
        place: A place on this machine.
        choose: Says which columns.

    Raises:
        DataError: While they are gone through: no such split, no such column, or a file that cannot be read.
    """
    if "[" not in place.split:
        for split in place.split.split("+"):
            yield from _split_rows(where, place, split.strip(), choose)
        return
    import datasets

    names = [re.sub(r"\[.*", "", part).strip() for part in place.split.split("+")]
    rows = {name: list(_split_rows(where, place, name, choose)) for name in dict.fromkeys(names)}
    try:
        asked = datasets.ReadInstruction.from_spec(place.split)
        slices = asked.to_absolute({name: len(found) for name, found in rows.items()})
    except (ValueError, AssertionError) as error:
        raise DataError(f"{where}: split {place.split!r} cannot be read ({error}). Write train[:100].") from None
    for part in slices:
        yield from rows[part.splitname][part.from_ : part.to]


def _split_rows(where: str, place: HubPlace, split: str, choose: Choose) -> Iterator[TableRow]:
    """All rows of one split."""
    assert place.folder is not None
    if place.folder.is_dir() and is_saved(place.folder):
        yield from _saved_rows(where, place.folder, split, choose)
        return
    paths = _files_of(where, place, split)
    for path in paths:
        file = detect_format(path)
        if file.is_table:
            rows = table_rows(where, file, choose)
        else:
            choose(where, {"text": "text"})
            rows = (
                TableRow(f"line {n:,}", (line.rstrip("\n"),)) for n, line in enumerate(decoded_lines(file, "utf-8"), 1)
            )
        for row in rows:
            yield row if len(paths) == 1 else TableRow(f"{path.name} {row.place}", row.values)


def _saved_rows(where: str, folder: Path, split: str, choose: Choose) -> Iterator[TableRow]:
    rows = _load_saved(where, folder, split)
    examples = {
        name: "text" if "string" in str(getattr(feature, "dtype", "")) else None
        for name, feature in rows.features.items()
    }
    chosen = list(choose(where, examples))
    number = 0
    for batch in rows.with_format(None).select_columns(list(dict.fromkeys(chosen))).iter(256):
        for values in zip(*(batch[name] for name in chosen), strict=True):
            yield TableRow(f"row {number:,}", values)
            number += 1


def _load_saved(where: str, folder: Path, split: str) -> Any:
    """One split of a folder that ``save_to_disk`` has written."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
        for part in found.values() if isinstance(found, Mapping) else [found]:
            part.data.validate(full=True)  # damaged offsets would end the process where texts are taken out
    except Exception as error:  # its files may be damaged in many ways, and it checks none of them
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{where}: the saved data set {folder} cannot be loaded ({reason}). Save it again.") from None
    if not isinstance(found, Mapping):
        if split not in ("train", str(found.split)):
            raise DataError(f"{where}: one data set without splits is saved there, so there is no split {split!r}.")
        return found
    if split not in found:
        raise DataError(f"{where}: no split {split!r}{nearest_name(split, list(found))}. Write hub:{folder}:SPLIT.")
    return found[split]


def local_class_names(where: str, place: HubPlace, column: str) -> list[str]:
    """Names that a data set on this machine gives to the numbers of a column, in their order; empty if none."""
    assert place.folder is not None
    split = re.split(r"[\[+]", place.split)[0].strip()
    if place.folder.is_dir() and is_saved(place.folder):
        return list(getattr(_load_saved(where, place.folder, split).features.get(column), "names", None) or [])
    return class_names(detect_format(_files_of(where, place, split)[0]), column)


def _files_of(where: str, place: HubPlace, split: str) -> list[Path]:
    """The files of a split: the one that was named, or those that ``datasets`` finds by their names."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    folder = place.folder
    assert folder is not None
    if not folder.is_dir():
        return [folder]
    try:
        with _hub_settings(offline=True):
            files = _declared_files(folder) or DataFilesDict.from_patterns(get_data_patterns(str(folder)), str(folder))
    except (OSError, ValueError) as error:  # EmptyDatasetError and DataFilesNotFoundError are FileNotFoundError
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{where}: no files of split {split!r} in {folder} ({reason}). A folder may hold parquet, arrow, JSON "
            "lines, CSV, TSV or text files."
        ) from None
    rows = {str(name): [Path(path) for path in paths] for name, paths in files.items()}
    rows = {name: [path for path in paths if path.name.lower() not in BESIDE_ROWS] for name, paths in rows.items()}
    if not rows.get(split):
        there = ", ".join(name for name, paths in rows.items() if paths) or "none"
        raise DataError(f"{where}: no files of split {split!r} in {folder}; splits: {there}. Write hub:{folder}:SPLIT.")
    if others := [name for name, paths in rows.items() if paths and name not in place.split]:
        logger.info("%s: split %s is read; not read: %s", where, place.split, ", ".join(others))
    return rows[split]


def _declared_files(folder: Path) -> Any:
    """The files of each split as the folder's README declares them; nothing where it declares none."""
    import datasets

    readme = folder / "README.md"
    if not readme.is_file() or not re.match(rb"---\s.*?^configs:", readme.read_bytes(), re.DOTALL | re.MULTILINE):
        return None
    return datasets.load_dataset_builder(str(folder)).config.data_files


# The Hub


def load_rows(source: str, place: HubPlace, limit: int | None = None) -> Any:
    """The rows of one split on the Hub, as a ``datasets.Dataset``; with a limit the first ones, streamed, as a list.

    Raises:
        DataError: A split that cannot be read.
        NetworkError: It is neither in the cache nor to be fetched.
    """
    import datasets
    import huggingface_hub.errors

    parts = place.place.split("/")
    path, arguments = "/".join(parts[:2]), parts[2:]  # the configuration
    unreachable = (
        ConnectionError,
        TimeoutError,
        huggingface_hub.errors.HfHubHTTPError,
        huggingface_hub.errors.OfflineModeIsEnabled,
        datasets.exceptions.DatasetNotFoundError,
    )
    unreachable_reason = hub_unreachable_reason()
    try:
        with _hub_settings(offline=bool(unreachable_reason)):
            if limit is None:
                return datasets.load_dataset(path, *arguments, split=place.split)
            rows = datasets.load_dataset(path, *arguments, split=place.split, streaming=True)
            return list(rows.take(limit))
    except Exception as error:  # the builders raise many types, among them bare ones of pyarrow and pandas
        reason = unreachable_reason or " ".join(str(error.__cause__ or error).split())[:300]
        if isinstance(error, unreachable):
            raise NetworkError(
                f"Corpus {source!r}: the data set {path!r} is not in the cache and could not be fetched ({reason}). "
                f"Check the name and the connection, or download it elsewhere and give the folder as hub:FOLDER."
            ) from None
        raise DataError(
            f"Corpus {source!r}: split {place.split!r} of {path!r} could not be loaded ({reason})."
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
