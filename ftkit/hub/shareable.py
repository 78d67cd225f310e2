"""What may travel between a folder and the Hub: files by their names, without secrets, pointing nowhere else."""

import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from ftkit.errors import DataError

__all__ = [
    "OWN_CODE",
    "check_pointers",
    "check_secrets",
    "is_code",
    "is_pickle",
    "is_shareable",
    "readable_part",
    "redacted",
]

_SHAREABLE = re.compile(
    r"""(?:
      config\.json | generation_config\.json | adapter_config\.json
    | [\w.-]+\.safetensors | [\w.-]+\.safetensors\.index\.json
    | tokenizer\.json | tokenizer_config\.json | special_tokens_map\.json | added_tokens\.json
    | vocab\.json | vocab\.txt | merges\.txt | tokenizer\.model | spiece\.model | sentencepiece\.bpe\.model
    | chat_template\.jinja | chat_template\.json
    | README\.md | LICENSE | LICENSE\.txt | LICENSE\.md
    | base\.json | evidence\.json | verdict\.json
    | (?:figures/)?[\w-][\w.-]*\.(?:png|svg)
    )""",
    re.VERBOSE | re.ASCII,
)
_GPT2_CODE = ("cache_ftkit_gpt2.py", "configuration_ftkit_gpt2.py", "modeling_ftkit_gpt2.py")
OWN_CODE = {
    "ftkit_gpt2": _GPT2_CODE,
    "ftkit_ladder": (*_GPT2_CODE, "configuration_ftkit_ladder.py", "modeling_ftkit_ladder.py"),
}
"""Python files that ftkit's own architectures bring along, by ``model_type``."""
_CODE = re.compile(r"[\w-]+\.py", re.ASCII)
_PICKLE = re.compile(r"[\w.-]+\.(?:bin|pt|pth|pkl|pickle|ckpt)", re.ASCII)

_SECRETS = {
    "a Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    "an API key": r"\bsk[-_][A-Za-z0-9_-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY",
    "an address with a password": r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,100}:[^\s/@\"'<>]{1,200}@",
}
_SECRET = re.compile("|".join(f"(?P<kind{place}>{pattern})" for place, pattern in enumerate(_SECRETS.values())))
_MAX_HEADER = 100 * 2**20  # safetensors allows no more


def is_shareable(name: str) -> bool:
    """Whether a file of this name, relative to the model's folder, belongs to a model that is shared."""
    return name in OWN_CODE["ftkit_ladder"] or _SHAREABLE.fullmatch(name) is not None


def is_code(name: str) -> bool:
    """Whether a name is that of Python code beside a model."""
    return _CODE.fullmatch(name) is not None


def is_pickle(name: str) -> bool:
    """Whether a name is that of pickled weights or settings."""
    return _PICKLE.fullmatch(name) is not None


def redacted(text: str) -> str:
    """A text without what looks like a secret."""
    return _SECRET.sub("[redacted]", text)


def check_secrets(name: str, content: bytes) -> None:
    """Refuse a file that holds a token, a key or a password.

    Args:
        name: What to call it.
        content: Its bytes; of weights, the header.

    Raises:
        DataError: Naming the file, the line and the kind, never the secret.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = content.decode(encoding, errors="replace")
    if found := _SECRET.search(text):
        kind = list(_SECRETS)[int((found.lastgroup or "kind0").removeprefix("kind"))]
        line = text.count("\n", 0, found.start()) + 1
        raise DataError(f"{name}, line {line}: holds what looks like {kind}. Take it out, and revoke it if it was real")


def readable_part(path: Path) -> bytes:
    """What of a file can hold text: all of it, or the header of safetensors.

    Args:
        path: A file.

    Raises:
        DataError: A file that calls itself safetensors and is something else.
    """
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, _MAX_HEADER + 1))
    try:
        described = json.loads(header)
        end = max((tensor["data_offsets"][1] for key, tensor in described.items() if key != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        end = -1
    if end < 0 or len(header) > _MAX_HEADER or path.stat().st_size != 8 + length + end:
        raise DataError(f"{path}: is no whole safetensors file; save the model again")
    return header


def check_pointers(folder: Path) -> None:
    """Refuse settings that make a program read a file outside the model's folder.

    Args:
        folder: A model's folder.

    Raises:
        DataError: Naming file and setting.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith("config.json") or path.name == "base.json":
            try:
                settings = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                raise DataError(f"{path}: is not valid JSON; save the model again") from None
            _check_settings(path.name, settings)
    index = [*folder.glob("*.index.json")]
    for path in index:
        try:
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise DataError(f"{path}: is no index of weights; save the model again") from None
        for shard in shards:
            _check_pointer(path.name, "weight_map", shard)


def _check_settings(name: str, settings: Any) -> None:
    for key, value in settings.items() if isinstance(settings, dict) else ():
        values = value if isinstance(value, list) else [value]
        if key.endswith(("_file", "_files", "_path", "_dir")) and not key.endswith("name_or_path"):
            for item in values:
                _check_pointer(name, key, item)
        named = key == "base_model_name_or_path" or (name == "base.json" and key == "base")
        if named and isinstance(value, str) and _is_path(value):
            raise DataError(
                f"{name}: {key} is a folder of one machine, which others do not have. Name the base model as it is on"
                " the Hub, or merge the adapter into it and share the result"
            )
        if isinstance(value, dict):
            _check_settings(name, value)


def _check_pointer(name: str, key: str, value: Any) -> None:
    if isinstance(value, str) and _is_path(value):
        raise DataError(f"{name}: {key} points at a file outside the folder ({redacted(value[:100])!r}); take it out")


def _is_path(value: str) -> bool:
    """Whether a text leads out of a folder, on any system."""
    parts = re.split(r"[/\\]", value)
    return ".." in parts or value.startswith(("/", "\\", "~", ".")) or bool(PureWindowsPath(value).drive)
