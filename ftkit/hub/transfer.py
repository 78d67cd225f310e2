"""A model to and from the Hugging Face Hub: named files only, no secrets, one fixed revision, whole or not at all."""

import errno
import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from ftkit import __version__
from ftkit.errors import CheckpointError, ConfigError, DataError, FtkitError, ModelError, NetworkError
from ftkit.hub.shareable import (
    OWN_CODE,
    check_pointers,
    check_secrets,
    is_code,
    is_pickle,
    is_shareable,
    readable_part,
    redacted,
)
from ftkit.models.trust import is_adapter_folder
from ftkit.runs.files import atomic_folder, file_sha256, write_atomically, write_json

__all__ = ["Pulled", "Pushed", "pull", "push"]

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG}
_CODE_FOLDER = Path(__file__).parents[1] / "models"
_WEIGHTS = re.compile(r"(?:pytorch_model|adapter_model)[\w.-]*\.bin(?:\.index\.json)?", re.ASCII)


@dataclass(frozen=True)
class Pushed:
    """What ``push`` did."""

    url: str
    commit: str
    revision: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files of the folder that were not sent."""
    card_written: bool
    """Whether README.md was written by ``push``."""


@dataclass(frozen=True)
class Pulled:
    """What ``pull`` did; ``pulled.json`` in the folder says the same."""

    path: Path
    commit: str
    """The commit that the revision stood for."""
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    """Files of the repository that were not fetched."""


def push(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Send a model to the Hub in one commit.

    Only files that belong to a model are sent, under ``shareable``'s names; all of them are searched for secrets
    first. A folder without README.md gets a model card, after the push has succeeded; a card from an earlier push that
    nobody has edited is written again for this one.

    Args:
        folder: A model's folder, such as ``RUN/models/NAME``.
        repo: OWNER/NAME; made if it is not there.
        private: Whether only the owner sees it. A repository that is there and public is then refused.
        revision: The branch; made if it is not there. ``None`` means main.
        license: The Hub's name of a license for a new model card.
        endpoint: Address of the Hub; ``None`` means the one that ``HF_ENDPOINT`` names.
        token: ``None`` takes the one of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        What was sent, and where it lies.

    Raises:
        ModelError: No model folder.
        DataError: A secret, or a setting that points outside the folder. Nothing is sent then.
        NetworkError: The Hub cannot be reached or refuses.
    """
    path = Path(folder).expanduser().resolve()
    _check_id(repo)
    if "/" not in repo:
        raise ConfigError(f"{repo!r} does not say whose it is; give OWNER/NAME")
    files, left_out = _chosen(path)
    check_pointers(path)
    for name in files:
        check_secrets(name, readable_part(path / name))
    card = _own_card(path, repo, license)
    if license and card is None:
        raise ConfigError(f"license {license!r} has no effect, {path / 'README.md'} is there; write the license there")
    operations = _operations(path, files, card)
    api, branch = HfApi(endpoint=endpoint, token=token), revision or "main"
    with _client(repo, token):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise DataError(f"{repo}: is there already and is public; make it private on the Hub, or leave --private")
        if branch != "main":
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=f"Upload with ftkit {__version__}", revision=branch)
    if card is not None:  # only now: a push that failed leaves the folder as it was
        with suppress(OSError, CheckpointError):  # the model is on the Hub, also from a folder that cannot be written
            write_atomically(path / "README.md", card)
    sent = tuple(sorted(operation.path_in_repo for operation in operations))
    return Pushed(f"{api.endpoint}/{repo}", commit.oid, branch, sent, tuple(left_out), card is not None)


def _own_card(folder: Path, repo: str, license: str | None) -> str | None:
    """The model card to send, signed; ``None`` where README.md is somebody's own, or was edited after a push."""
    from ftkit.hub.card import model_card, signed, unedited_card  # what reports need; pulling needs none of it

    readme = folder / "README.md"
    if readme.is_file() and not readme.is_symlink():
        text = unedited_card(readme)
        if text is None:
            return None
        license = license or getattr(ModelCard(text).data, "license", None)
    card = signed(model_card(folder, repo=repo, license=license))
    check_secrets("README.md", card.encode())
    return card


def _chosen(folder: Path) -> tuple[list[str], list[str]]:
    """Names of what is sent and of what is not."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such model folder")
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        models = sorted(path.name for path in (folder / "models").glob("*") if path.is_dir())
        hint = f"; it holds the models {', '.join(f'models/{name}' for name in models)}" if models else ""
        raise ModelError(f"{folder}: is no model folder, it has no config.json or adapter_config.json{hint}")
    is_adapter_folder(folder)  # refuses whole weights with an adapter beside them
    files, left_out = [], []
    for path in sorted([*folder.iterdir(), *(folder / "figures").glob("*")]):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink() and is_shareable(name):
            files.append(name)
        elif name != "figures":
            left_out.append(name)
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelError(f"{folder}: holds no safetensors weights; save the model with save_pretrained first")
    return files, left_out


def _operations(folder: Path, files: Sequence[str], card: str | None) -> list[CommitOperationAdd]:
    """What is sent; own architectures always with their code and a configuration that names all their classes.

    Args:
        folder: The model's folder.
        files: Names of what is sent as it is.
        card: The model card; ``None`` where there is none of ours.
    """
    content: dict[str, Any] = {name: str(folder / name) for name in files}
    if card is not None:
        content["README.md"] = card.encode()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) if "config.json" in files else {}
    if (kind := config.get("model_type")) in OWN_CODE:
        auto_map = importlib.import_module(f"ftkit.models.configuration_{kind}").AUTO_MAP
        content |= {name: str(_CODE_FOLDER / name) for name in OWN_CODE[kind] if name not in content}
        if config.get("auto_map") != auto_map:
            content["config.json"] = (json.dumps({**config, "auto_map": auto_map}, indent=2) + "\n").encode()
    return [CommitOperationAdd(path_in_repo=name, path_or_fileobj=source) for name, source in content.items()]


# ----------------------------------------------------------------------------------------------------------- pulling


def pull(
    repo: str,
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> Pulled:
    """Fetch a model from the Hub into a new folder, which appears whole or not at all.

    Only files that belong to a model are fetched, all from one commit, and held against the hashes the Hub names.

    Args:
        repo: OWNER/NAME.
        folder: The folder to make; it must not exist, or be empty.
        revision: Branch, tag or commit; ``None`` means main.
        trust_remote_code: Whether Python files come along. Fetching does not run them.
        allow_pickle: Whether pickled weights are fetched where there are no safetensors.
        endpoint: Address of the Hub; ``None`` means the one that ``HF_ENDPOINT`` names.
        token: ``None`` takes the one of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        What was fetched, and from which commit.

    Raises:
        DataError: A folder in use, a repository without a model, or with pickled weights only.
        NetworkError: The Hub cannot be reached, refuses, lacks the repository, revision or a file, or breaks off.
    """
    target = Path(folder).expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target}: exists and is not empty; give another folder, nothing is overwritten")
    _check_id(repo)
    api = HfApi(endpoint=endpoint, token=token)
    with _client(repo, token):
        info = api.model_info(repo, revision=revision, files_metadata=True)
    remote = {file.rfilename: file for file in info.siblings or []}
    names, left_out = _wanted(repo, sorted(remote), trust_remote_code, allow_pickle)
    commit = str(info.sha)
    with atomic_folder(target) as temporary:
        with _client(repo, token):
            for name in names:
                api.hf_hub_download(repo, name, revision=commit, local_dir=temporary)
        shutil.rmtree(temporary / ".cache", ignore_errors=True)  # what the client keeps to resume
        for name in names:
            _check_whole(repo, remote[name], temporary / name)
        hashes = {name: file_sha256(temporary / name) for name in names}
        asked = {"repo": repo, "revision": revision or "main", "commit": commit}
        write_json(temporary / "pulled.json", {**asked, "sha256": hashes, "left_out": left_out})
    return Pulled(target, commit, tuple(names), tuple(left_out))


def _wanted(repo: str, names: Sequence[str], code: bool, pickles: bool) -> tuple[list[str], list[str]]:
    """Names of what is fetched and of what is not."""
    if not {"config.json", "adapter_config.json"} & {*names}:
        raise DataError(f"{repo}: holds no model, there is no config.json or adapter_config.json in it")
    weights = [name for name in names if is_shareable(name) and name.endswith(".safetensors")]
    pickled = [name for name in names if is_pickle(name)]
    if not weights and not pickles:
        found = f"only pickled weights ({', '.join(pickled[:4])}), which are not fetched" if pickled else "no weights"
        advice = "; where you trust them, allow pickles" if pickled else ""
        raise DataError(f"{repo}: holds {found}{advice}. Safetensors are expected")
    chosen = [
        name
        for name in names
        if (code if is_code(name) else is_shareable(name)) or (pickles and not weights and _WEIGHTS.fullmatch(name))
    ]
    return chosen, sorted({*names} - {*chosen})


def _check_whole(repo: str, described: Any, path: Path) -> None:
    """Hold a file against what the Hub says of it: size and SHA-256 of large files, git's hash of the others."""
    problem = ""
    if described.size is not None and path.stat().st_size != described.size:
        problem = f"has {path.stat().st_size:,} bytes, {described.size:,} were announced"
    elif described.lfs is not None:
        problem = "" if file_sha256(path) == described.lfs.sha256 else "has another SHA-256 than was announced"
    elif described.blob_id and len(described.blob_id) == 40:
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        problem = "" if found == described.blob_id else "has another hash than was announced"
    if problem:
        raise NetworkError(f"{repo}: {described.rfilename} {problem}; try again")


# ------------------------------------------------------------------------------------------------- around the client


def _check_id(repo: str) -> None:
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ConfigError(f"{repo!r} is no name on the Hub; give OWNER/NAME") from None


@contextmanager
def _client(repo: str, token: str | None) -> Iterator[None]:
    """Keep the Hub's client silent, and turn what it raises into one line that says what to do, without any token."""
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    except FtkitError:
        raise
    except OSError as error:
        if error.errno in _DISK:
            raise
        raise NetworkError(f"{repo}: {_reason(error, token)}") from None
    except (HTTPError, EntryNotFoundError, RuntimeError, ValueError) as error:
        raise NetworkError(f"{repo}: {_reason(error, token)}") from None
    finally:
        if had_bars:
            enable_progress_bars()


def _reason(error: BaseException, token: str | None) -> str:
    """What happened, and what to do."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # a thread that sent a file
        error = error.__cause__
    code = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    log_in = "log in with 'hf auth login' or set HF_TOKEN to one that may do this"
    if isinstance(error, GatedRepoError):
        return f"is gated; accept its terms on its page on the Hub, then {log_in}"
    if isinstance(error, RevisionNotFoundError):
        return "has no such revision; give a branch, a tag or a commit that it has"
    if isinstance(error, RepositoryNotFoundError):
        return f"does not exist, or is private and not yours to see; check the name, or {log_in}"
    if isinstance(error, RemoteEntryNotFoundError):
        return "a file that it lists is not there; try again, or give another revision"
    if code in (401, 403):
        return f"the Hub refuses the token (answer {code}); {log_in}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it, or bring the folder here by other means"
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in filter(None, (token, get_token())):
        text = text.replace(secret, "[redacted]")
    if code or (isinstance(error, ValueError) and not isinstance(error, OSError)):
        return f"the Hub refuses{f' with answer {code}' if code else ''}: {redacted(text)[:300]}"
    return f"the connection to the Hub failed or broke off ({redacted(text)[:300]}); try again"
