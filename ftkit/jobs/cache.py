"""What one run leaves in the cache for the next: judges, and what a base model has written."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from filelock import FileLock
from transformers import PreTrainedModel

from ftkit.config.settings import SETTINGS_VERSION
from ftkit.data import cache_dir, tokenizer_fingerprint
from ftkit.data.tokenizers import expected_ids
from ftkit.evidence import PassageWriter, Written
from ftkit.models import plain_state
from ftkit.runs import RunFolder
from ftkit.runs.files import cache_key, write_json
from ftkit.runs.planner import planner

__all__ = ["cached_passages", "cached_run"]

_PASSAGES_VERSION = 3
"""Raised when passages of the same model, prompts and seed would come out otherwise."""


@contextmanager
def cached_run(kind: str, described: Any) -> Iterator[RunFolder]:
    """A run folder in the cache whose name is the hash of what it depends on, locked.

    Args:
        kind: Which part of the cache.
        described: What it depends on, as JSON; the version of the settings is added.
    """
    path = cache_dir() / kind / cache_key([SETTINGS_VERSION, described])
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / ".lock"):
        stored = path / "manifest.json"
        manifest = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {"phases": {}}
        yield RunFolder(path, kind, manifest, is_main=True)


def cached_passages(writer: PassageWriter, model: PreTrainedModel, count: int, seed: int) -> Written:
    """What a model writes, kept in parts, so that several models are judged against one base that writes once.

    Asking for more passages writes only the parts that are missing. Equal bytes are promised on one machine, device
    and number of threads, so they are in the key of a part.

    Args:
        writer: Prompts, length and sampling.
        model: The writer; its weights are part of the key.
        count: How many passages; half of them follow training text.
        seed: Of prompts and draws.
    """
    if planner():
        return writer.write(model, count, seed)
    by = [_PASSAGES_VERSION, *_described(writer, model), seed]

    def stored(numbers: range, make: Callable[[], list[str]]) -> list[str]:
        path = cache_dir() / "passages" / f"{cache_key([*by, numbers.start, writer.prompts(seed, numbers)])}.json"
        if path.exists():
            found: list[str] = json.loads(path.read_text(encoding="utf-8"))
            return found
        passages = make()
        write_json(path, passages)
        return passages

    return writer.write(model, count, seed, stored)


def _described(writer: PassageWriter, model: PreTrainedModel) -> list[Any]:
    """All that a passage depends on but its prompt, seed and number."""
    weights = hashlib.sha256()
    for name, tensor in sorted(plain_state(model).items()):
        raw: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(raw.data)  # a view: large matrices are not copied
    tokenizer: Any = writer.tokenizer
    machine = [torch.__version__, str(model.device), torch.get_num_threads()]
    protocol = [type(writer).__name__, writer.characters, writer.new_tokens, asdict(writer.sampling)]
    known = [tokenizer_fingerprint(tokenizer), sorted(expected_ids(tokenizer))]
    return [weights.hexdigest(), model.config.to_json_string(), *known, *machine, *protocol]
