"""Rows of a data set, from the Hugging Face Hub, its cache, or a folder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.data.downloads import hub_unreachable_reason
from ftkit.data.text_files import exists
from ftkit.errors import DataError, NetworkError

__all__ = ["HubPlace", "load_rows", "read_hub_place"]


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


def load_rows(source: str, place: HubPlace) -> Any:
    """The rows of one split, as a ``datasets.Dataset``.

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
            return datasets.load_dataset(path, *arguments, split=split)
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
