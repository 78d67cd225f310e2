"""What one verdict leaves in the cache for the next: judges, and what a base model has written."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ftkit.config.settings import SETTINGS_VERSION
from ftkit.data import cache_dir, tokenizer_fingerprint
from ftkit.data.tokenizers import expected_ids
from ftkit.evidence import PassageWriter
from ftkit.runs import RunFolder
from ftkit.runs.files import cache_key, write_json

__all__ = ["cached_passages", "cached_run"]


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


def cached_passages(
    writer: PassageWriter, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, count: int, seed: int
) -> list[str]:
    """What a model writes; kept, so that several models are judged against one base without letting it write again.

    Args:
        writer: Length, starts and sampling.
        model: The writer; its weights are part of the key.
        tokenizer: Its tokenizer.
        count: How many passages.
        seed: Seed of starts and draws.
    """
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + raw.tobytes())
    starts = hashlib.sha256(np.asarray(writer.starts.ids).tobytes()).hexdigest()
    written_by: list[Any] = [weights.hexdigest(), model.config.to_json_string(), tokenizer_fingerprint(tokenizer)]
    if expected := expected_ids(tokenizer):  # they may come out, others may not
        written_by.append(sorted(expected))
    asked = [starts, writer.characters, asdict(writer.sampling), count, seed]
    path = cache_dir() / "passages" / f"{cache_key([*written_by, *asked])}.json"
    if path.exists():
        found: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return found
    passages = writer.write(model, count, seed)
    write_json(path, passages)
    return passages
