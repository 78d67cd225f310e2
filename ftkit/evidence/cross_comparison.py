"""All models of a run on all of its texts: which model predicts which text best, and which uses whose words."""

from collections.abc import Mapping, Sequence
from typing import Any

from ftkit.data import TokenStore
from ftkit.evidence.predictive import WindowLosses, predictive_comparison
from ftkit.evidence.usage import distinctive_tokens, frequent_tokens, usage_matrix
from ftkit.memory import memory_phase

__all__ = ["cross_comparison"]


@memory_phase("evaluate")
def cross_comparison(
    base: Mapping[str, WindowLosses],
    tuned: Mapping[str, Mapping[str, WindowLosses]],
    *,
    train: Mapping[str, TokenStore],
    floors: Mapping[str, Sequence[str]],
    passages: Mapping[str, Sequence[str]],
    real: Mapping[str, Sequence[str]],
    top: int = 100,
    min_chars: int = 3,
) -> dict[str, Any]:
    """Compare all models of a run on all texts: bits per byte, attribution of passages, use of each text's words.

    Args:
        base: The base's losses by corpus, from ``window_losses``.
        tuned: Those of the models by the corpus that each learned, and by corpus.
        train: Training tokens by corpus, for the lists.
        floors: Passages of the base after the prompts of each corpus.
        passages: Passages of the models after the same prompts, by the corpus that each learned.
        real: Held-out passages by corpus.
        top: Tokens in a list.
        min_chars: Tokens with less text are left out of the lists.

    Returns:
        For ``evidence.json``: ``predictive``, and ``usage_matrix`` by kind of list with its settings.
    """
    found: dict[str, Any] = {"predictive": predictive_comparison(base, tuned).as_dict()}
    if len(train) < 2:
        return found
    tokenizer = next(iter(train.values())).tokenizer
    assert tokenizer is not None
    lists = {
        "frequent": {name: frequent_tokens(store, tokenizer, top, min_chars) for name, store in train.items()},
        "distinctive": distinctive_tokens(train, tokenizer, top, min_chars),
    }
    matrices = {
        kind: usage_matrix(floors, passages, real, tokenizer, by_corpus, kind).as_dict()
        | {"examples": {name: [tokenizer.decode([token]) for token in ids[:12]] for name, ids in by_corpus.items()}}
        for kind, by_corpus in lists.items()
    }
    return found | {"usage_matrix": {"min_chars": min_chars, "lists": matrices}}
