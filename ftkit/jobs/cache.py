"""What one run leaves in the cache for the next: judges, and what a base model has written and answered."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from filelock import FileLock
from transformers import PreTrainedModel

from ftkit.config.settings import SETTINGS_VERSION
from ftkit.data import Example, cache_dir, prompt_ids, tokenizer_fingerprint
from ftkit.data.tokenizers import expected_ids
from ftkit.evidence import PassageWriter, Written
from ftkit.evidence.answers import Answers, AnswerWriter
from ftkit.models import plain_state
from ftkit.runs import RunFolder
from ftkit.runs.files import cache_key, write_json
from ftkit.runs.planner import planner

__all__ = ["cached_answers", "cached_passages", "cached_run", "describe_writer"]

_PASSAGES_VERSION = 3
"""Raised when passages of the same model, prompts and seed would come out otherwise."""
_ANSWERS_VERSION = 1
"""Likewise of answers."""


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
    protocol = [type(writer).__name__, writer.characters, writer.new_tokens, asdict(writer.sampling)]
    by = [_PASSAGES_VERSION, *describe_writer(model, writer.tokenizer), *protocol, seed]

    def stored(numbers: range, make: Callable[[], list[str]]) -> list[str]:
        path = cache_dir() / "passages" / f"{cache_key([*by, numbers.start, writer.prompts(seed, numbers)])}.json"
        if path.exists():
            found: list[str] = json.loads(path.read_text(encoding="utf-8"))
            return found
        passages = make()
        write_json(path, passages)
        return passages

    return writer.write(model, count, seed, stored)


def cached_answers(
    writer: AnswerWriter, model: PreTrainedModel, described: Callable[[], list[Any]], examples: Sequence[Example],
    before: Answers,
) -> Answers:  # fmt: skip
    """What a model answers, kept, so that several models are judged against one base that answers once.

    Args:
        writer: Template, length and end tokens.
        model: Who answers.
        described: What ``describe_writer`` returns of it.
        examples: Their prompts are answered.
        before: Answers to the first of them, which are not written again.
    """
    if not (rest := examples[len(before) :]):
        return before.first(len(examples))
    if planner():
        return writer.write(model, examples, before)
    protocol = [writer.new_tokens, list(writer.stop_ids), [prompt_ids(each, writer.tokenizer) for each in rest]]
    path = cache_dir() / "answers" / f"{cache_key([_ANSWERS_VERSION, *described(), *protocol])}.json"
    if not path.exists():
        write_json(path, asdict(writer.write(model, rest)))
    return before + Answers(**json.loads(path.read_text(encoding="utf-8")))


def describe_writer(model: PreTrainedModel, tokenizer: Any) -> list[Any]:
    """All that a greedy or seeded text depends on but its prompt and protocol: weights, tokenizer and machine.

    Args:
        model: Who writes; the base under an adapter as long as that is switched off.
        tokenizer: Its tokenizer.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(plain_state(model).items()):
        raw: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(raw.data)  # a view: large matrices are not copied
    machine = [torch.__version__, str(model.device), torch.get_num_threads()]
    known = [tokenizer_fingerprint(tokenizer), sorted(expected_ids(tokenizer))]
    return [weights.hexdigest(), model.config.to_json_string(), *known, *machine]
