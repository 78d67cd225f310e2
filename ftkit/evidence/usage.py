"""Do generated passages use the tokens that a text uses most? (lessons 07/02, 07/03 and 07/07)

The share of a passage's tokens that belong to a list: the most frequent tokens of the training text, or those that set
it apart from other texts. Real held-out text says how high that share is when the style is right: more is not better
beyond it. Tokens that are too short for a list stay in the denominator.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.data import TokenStore
from ftkit.data.tokenizers import reads_tokens
from ftkit.errors import DataError
from ftkit.evidence.intervals import Interval, bootstrap

__all__ = [
    "Usage",
    "UsageMatrix",
    "distinctive_tokens",
    "frequent_tokens",
    "token_shares",
    "token_usage",
    "usage_matrix",
]


@dataclass(frozen=True)
class Usage:
    """Shares of tokens that belong to a list, with 95 % intervals over passages."""

    before: Interval
    """The base model."""
    after: Interval
    """The tuned model."""
    change: Interval
    """After minus before, paired by the start of the passage."""
    real: Interval
    """Real held-out text."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name).as_dict() for name in ("before", "after", "change", "real")}


def frequent_tokens(
    store: TokenStore,
    tokenizer: PreTrainedTokenizerBase,
    top: int = 100,
    min_chars: int = 1,
    stop_words: Collection[str] = (),
) -> list[int]:
    """The most frequent tokens of a text, most frequent first.

    Args:
        store: The text.
        tokenizer: Its tokenizer.
        top: How many.
        min_chars: Tokens whose text without white space is shorter are left out before ranking.
        stop_words: Lower-case words that are left out too, such as scikit-learn's ``ENGLISH_STOP_WORDS``.

    Raises:
        DataError: The text has no such token.
    """
    ids, counts = np.unique(np.asarray(store.ids), return_counts=True)
    return _ranked(ids, counts.astype(float), tokenizer, top, min_chars, stop_words)


def distinctive_tokens(
    stores: Mapping[str, TokenStore],
    tokenizer: PreTrainedTokenizerBase,
    top: int = 100,
    min_chars: int = 1,
    stop_words: Collection[str] = (),
) -> dict[str, list[int]]:
    """The tokens that set each text apart from all others together, the most distinctive first.

    Ranked by the log-odds ratio over its standard deviation, with all texts together as the prior: a frequent token
    that all use ranks low, and so does a rare one that happens to stand in one text only.

    Args:
        stores: Two or more texts by name.
        tokenizer: Their tokenizer.
        top: How many of each; fewer where a text uses fewer more than the others do.
        min_chars: As in ``frequent_tokens``.
        stop_words: Likewise.

    Raises:
        DataError: A text has no such token.

    Source: Monroe, Colaresi and Quinn 2008, https://doi.org/10.1093/pan/mpn018, equations 16, 19 and 22.
    """
    size = 1 + max(int(np.max(store.ids)) for store in stores.values())
    counts = {name: np.bincount(np.asarray(store.ids), minlength=size) for name, store in stores.items()}
    everything = np.sum(list(counts.values()), axis=0)
    used = np.flatnonzero(everything)
    found = {}
    for name, own in counts.items():
        score = _log_odds(own[used], (everything - own)[used], everything[used])
        more = score > 0
        found[name] = _ranked(used[more], score[more], tokenizer, top, min_chars, stop_words)
    return found


def _log_odds(own: np.ndarray, other: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """z-scores of the difference of log-odds with an informative Dirichlet prior."""
    a, b = own + prior, other + prior
    difference = np.log(a / (a.sum() - a)) - np.log(b / (b.sum() - b))
    return np.asarray(difference / np.sqrt(1 / a + 1 / b))


def _ranked(
    ids: np.ndarray,
    scores: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    top: int,
    min_chars: int,
    stop_words: Collection[str],
) -> list[int]:
    """Ids with the highest scores, the lower id first where two are equal."""
    order = ids[np.lexsort((ids, -scores))]
    texts = ((int(token), str(tokenizer.decode([int(token)])).strip()) for token in order)
    kept = (token for token, text in texts if len(text) >= min_chars and text.lower() not in stop_words)
    found = [token for _, token in zip(range(top), kept, strict=False)]
    if not found:
        raise DataError(
            f"none of the {len(ids):,} different tokens of the text has {min_chars} characters or more"
            + (f" and is none of the {len(stop_words):,} stop words" if stop_words else "")
        )
    return found


def token_shares(passages: Sequence[str], tokenizer: PreTrainedTokenizerBase, tokens: Collection[int]) -> np.ndarray:
    """Share of each passage's tokens that belong to a list, float64 [passages]; NaN for an empty passage."""
    wanted = np.fromiter(tokens, dtype=np.int64)
    as_text = not reads_tokens(tokenizer)
    encoded = tokenizer(list(passages), add_special_tokens=False, split_special_tokens=as_text)["input_ids"]
    return np.array([np.isin(ids, wanted).mean() if len(ids) else np.nan for ids in encoded])


def token_usage(
    base: Sequence[str],
    tuned: Sequence[str],
    real: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    tokens: Collection[int],
) -> Usage:
    """Usage of a list before and after tuning, between floor and ceiling.

    Args:
        base: Passages of the base model.
        tuned: Passages of the tuned model from the same starts.
        real: Held-out passages.
        tokenizer: The models' tokenizer.
        tokens: The list.
    """
    before, after, ceiling = (token_shares(passages, tokenizer, tokens) for passages in (base, tuned, real))
    return Usage(
        bootstrap(_mean_of_written, before),
        bootstrap(_mean_of_written, after),
        bootstrap(_mean_of_written, after - before),
        bootstrap(_mean_of_written, ceiling),
    )


def _mean_of_written(shares: np.ndarray) -> np.ndarray:
    """Mean over the passages that are not empty; 0 where all are."""
    written = np.isfinite(shares)
    return np.asarray(np.where(written, shares, 0.0).sum(-1) / np.maximum(written.sum(-1), 1))


@dataclass(frozen=True)
class UsageMatrix:
    """k models on the lists of k corpora; 95 % intervals over passages."""

    kind: str
    """What the lists hold: ``frequent`` or ``distinctive`` tokens."""
    top: int
    """Tokens in the longest list."""
    before: dict[str, Interval]
    """Share of the base's tokens in each corpus' list; every model starts here."""
    after: dict[str, dict[str, Interval]]
    """Of the tuned models, by model and by list."""
    change: dict[str, dict[str, Interval]]
    """After minus before, paired by the start of the passage."""
    real: dict[str, dict[str, Interval]]
    """Of real held-out text, by corpus and by list."""
    interaction: Interval
    """Summed over the models: the share in its own list minus the mean of the shares in the others. For two models
    (AA - AE) + (EE - EA). All models start from one base, for which it is 0: the floor."""
    real_interaction: Interval
    """The same for real held-out text: the ceiling."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def usage_matrix(
    base: Mapping[str, Sequence[str]],
    tuned: Mapping[str, Sequence[str]],
    real: Mapping[str, Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    lists: Mapping[str, Collection[int]],
    kind: str = "frequent",
) -> UsageMatrix:
    """Usage of every corpus' list by every model.

    Args:
        base: Passages of the base model after the prompts of each corpus.
        tuned: Passages of the models, after the same prompts, by the name of the corpus that each learned from.
        real: Held-out passages by corpus.
        tokenizer: The models' tokenizer.
        lists: Tokens by corpus; two corpora or more, under the same names.
        kind: What the lists hold.

    Source: lesson 07/07, with intervals, a floor and a ceiling.
    """
    names = list(lists)

    def shares(passages: Sequence[str]) -> np.ndarray:
        """[lists, passages]"""
        return np.array([token_shares(passages, tokenizer, lists[name]) for name in names])

    def by_list(rows: np.ndarray) -> dict[str, Interval]:
        return {name: bootstrap(_mean_of_written, row) for name, row in zip(names, rows, strict=True)}

    def interaction(found: Mapping[str, np.ndarray]) -> Interval:
        lead = [
            found[name][own] - np.delete(found[name], own, axis=0).mean(0) for own, name in enumerate(names)
        ]  # of each passage
        return bootstrap(lambda *rows: np.sum([_mean_of_written(row) for row in rows], axis=0), *lead)

    before, after, ceiling = ({name: shares(side[name]) for name in names} for side in (base, tuned, real))
    return UsageMatrix(
        kind=kind,
        top=max(map(len, lists.values())),
        before=by_list(np.concatenate(list(before.values()), axis=1)),
        after={name: by_list(rows) for name, rows in after.items()},
        change={name: by_list(rows - before[name]) for name, rows in after.items()},
        real={name: by_list(rows) for name, rows in ceiling.items()},
        interaction=interaction(after),
        real_interaction=interaction(ceiling),
    )
