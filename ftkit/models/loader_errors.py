# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Calling transformers' loaders: with one error of ours for all of theirs, in silence, and from the cache first."""

import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers.utils.peft_utils import find_adapter_config_file

from ftkit.errors import DeviceError, ModelError, NetworkError, nearest_name

__all__ = ["ONLY_PICKLES", "build_with_attention", "call_loader", "hub_answers", "load_from_hub", "quiet", "seeded"]

ONLY_PICKLES = (
    "has no safetensors weights, only pickled ones, which can run code when they are opened carelessly. Where you trust"
    " them set allow_pickle (--allow_pickle true for a recipe, --allow-pickle for a command): it reads"
    " pytorch_model.bin, tensors only. Or take a revision that has model.safetensors (--revision; pull requests of a"
    " model's page often add it as refs/pr/NUMBER)"
)
"""What is wrong with a model whose weights are pickled, and both ways out."""


def build_with_attention(build: Callable[[str], Any], attention: str) -> Any:
    """Build with the attention asked for; sdpa, which is a default and no wish, may become eager.

    Args:
        build: Builds a model with an attention implementation.
        attention: The one that was asked for.
    """
    try:
        return build(attention)
    except ValueError as error:
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        return build("eager")


def call_loader(load: Callable[[], Any], where: str, task: str = "") -> Any:
    """Call transformers and turn what it raises into one message of ours.

    Args:
        load: The call.
        where: What is loaded, in words: ``folder X``, ``Hub model 'X'`` or ``spec 'X'``.
        task: What it should do, where a model is loaded.

    Raises:
        ModelError: What cannot be loaded, with transformers' reason.
        DeviceError: An import that fails, such as that of an attention that is not installed.
        NetworkError: A Hub model that is neither cached nor to be downloaded.
    """
    try:
        return load()
    except ImportError as error:
        raise DeviceError(f"{where}: {_cause(error)}") from error
    except Exception as error:  # transformers, safetensors, json and the strict configurations raise all kinds
        causes = list(_chain(error))
        if where.startswith("Hub") and _lacks_safetensors(error):
            raise _OnlyPickles(f"{where} {ONLY_PICKLES}.") from error
        if where.startswith("Hub") and _is_about_network(causes):
            raise NetworkError(f"{where} could not be fetched: {_cause(error)}") from error
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{where} brings its own Python code. Read it, and where you trust it pass trust_remote_code=True."
            ) from error
        if "for this kind of AutoModel" in str(error):
            raise ModelError(
                f"{where} is of an architecture that cannot do task {task!r}. Take another model."
            ) from error
        raise ModelError(f"{where} cannot be loaded: {_cause(error)}") from error


class _OnlyPickles(ModelError):
    """A repository, or what the cache holds of it, without safetensors weights."""


def _lacks_safetensors(error: BaseException) -> bool:
    """Whether transformers (5.18 to 5.24) says that it found a repository and no safetensors in it."""
    message = str(error)
    return "does not appear to have a file named" in message and "safetensors" in message


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_about_network(causes: list[BaseException]) -> bool:
    """Nothing found in cache or on the Hub, as opposed to a repository that is there and lacks or spoils a file."""
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return True
    if any(isinstance(cause, EntryNotFoundError) for cause in causes):
        return False
    return any(isinstance(cause, OSError) for cause in causes)


def _cause(error: BaseException) -> str:
    """The first lines of a message, without the essays that follow."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw on the CPU from ``seed``, and leave the caller's random state and default device as they were."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the loading report and progress bars of transformers in a ``with`` block; ftkit raises errors."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_from_hub(spec: str, load: Callable[[str, dict[str, Any]], Any], options: dict[str, Any]) -> Any:
    """Load a model, configuration or tokenizer by its Hub id: the cached copy, never renewed, else a download.

    Args:
        spec: The Hub id.
        load: Loads, given what is loaded in words and the options.
        options: For transformers; ``trust_remote_code`` and ``revision`` are among them.

    Raises:
        ModelError: What can be no id, or code that would run at no fixed revision.
        NetworkError: Neither cached nor to be downloaded.
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec):
        raise ModelError(f"The model {spec!r} is no existing folder and no Hub id (NAME or OWNER/NAME).")
    where = f"Hub model {spec!r}"
    if options["trust_remote_code"] and options["revision"] is None:
        raise ModelError(
            f"{where}: code from the Hub runs only at a fixed revision. Give the commit that you have read as revision,"
            " or leave trust_remote_code off."
        )
    # Without this, transformers 5.23 asks a service on the Hub to convert pickled weights and to open a pull request.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        _refuse_adapter(spec, where, options["revision"], local_files_only=True)
        return load(where, {**options, "local_files_only": True})
    except (NetworkError, _OnlyPickles) as error:
        if isinstance(error, _OnlyPickles) and _is_cached(spec, "pytorch_model.bin", options["revision"]):
            raise
        if huggingface_hub.constants.HF_HUB_OFFLINE or not hub_answers():
            reason = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.HF_HUB_OFFLINE else "the Hub does not answer"
            near = nearest_name(spec, [path.name for path in Path().iterdir() if path.is_dir()], otherwise=".")
            raise NetworkError(
                f"The model {spec!r} is neither a folder here nor in the local cache"
                f" ({huggingface_hub.constants.HF_HUB_CACHE}), and {reason}{near} Download it where there is a network"
                f" (hf download {spec} --local-dir FOLDER), copy the folder here and give its path. Without a"
                " network, base:tales works, which ships with ftkit, and random weights (new:FAMILY)."
            ) from None
    _refuse_adapter(spec, where, options["revision"], local_files_only=False)
    return load(where, options)


def _refuse_adapter(spec: str, where: str, revision: str | None, local_files_only: bool) -> None:
    """Refuse a repository with an adapter, which transformers would put on whatever weights it finds."""
    if find_adapter_config_file(spec, revision=revision, local_files_only=local_files_only):
        raise ModelError(
            f"{where} holds an adapter, which is loaded from a folder only. Fetch it with 'ftkit pull {spec} FOLDER'"
            " and give the folder."
        )


def _is_cached(spec: str, file: str, revision: str | None) -> bool:
    return isinstance(huggingface_hub.try_to_load_from_cache(spec, file, revision=revision), str)


def hub_answers() -> bool:
    """Whether the Hub can be reached, in seconds: its client would retry for half a minute before it says no."""
    address = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    if urllib.request.getproxies().get(address.scheme):
        return True  # only the proxy knows
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True
