"""All measurements of one tuned model, taken together so that nobody forgets one."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ftkit.data import Masking, TokenStore, tokenize_texts
from ftkit.data.special_tokens import special_tokens_said
from ftkit.data.words import character_share
from ftkit.errors import DataError
from ftkit.evidence.copying import CopyIndex, copying
from ftkit.evidence.discriminator import discriminate
from ftkit.evidence.fluency import fluency, language_damage
from ftkit.evidence.forgetting import forgetting
from ftkit.evidence.intervals import bits_per_byte, gain_in_bits, gain_over, loss_blocks, relative_rise
from ftkit.evidence.judges import MIN_PASSAGES, vocabulary_of
from ftkit.evidence.measured import Evidence
from ftkit.evidence.order import word_order
from ftkit.evidence.predictive import WindowLosses, predictive_comparison
from ftkit.evidence.style import StyleScore
from ftkit.evidence.usage import distinctive_tokens, frequent_tokens, token_shares, usage_matrix
from ftkit.memory import memory_phase
from ftkit.training import MOST_UNKNOWN, HeldOutLoss, held_out_loss
from ftkit.tuning import Selection, idle_matrices, movement, snapshot

__all__ = ["check_heldout", "gather_comparison", "gather_evidence"]

_logger = logging.getLogger("ftkit.evidence")
_MANY_CHARACTERS = 0.1
"""Share of words that are single characters from which on a verdict says so."""


def check_heldout(name: str, heldout: TokenStore, window_tokens: int, real: Sequence[str] | None) -> None:
    """Refuse held-out text from which no evidence can come, before anything is trained.

    Args:
        name: What to call the text.
        heldout: Its tokens.
        window_tokens: Tokens in a window of evaluation.
        real: Its passages; ``None`` where no passage is measured.

    Raises:
        DataError: Not one window, or not one passage.
    """
    if heldout.num_tokens < window_tokens or (real is not None and not real):
        passages = "" if real is None else f" and {len(real)} passages"
        raise DataError(
            f"{name}: {heldout.num_tokens:,} held-out tokens{passages}, where a window has "
            f"{window_tokens} tokens; give more text, or a larger heldout_share, or smaller window_tokens and passages"
        )
    if heldout.num_unknown_bytes:
        claimed = "no bits per byte are claimed" if heldout.unknown_share > MOST_UNKNOWN else "bits are over the rest"
        _logger.warning("%s: %s; %s", name, heldout.unknown_said, claimed)
    if real is not None and len(real) < MIN_PASSAGES:
        _logger.warning("%s: only %d held-out passages; a judge needs %d to speak", name, len(real), MIN_PASSAGES)


@memory_phase("evaluate")
def gather_evidence(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    *,
    heldout: TokenStore,
    general: TokenStore | None,
    general_name: str,
    window_tokens: int,
    train_texts: Sequence[str],
    known_texts: Sequence[str],
    base_passages: Sequence[str],
    tuned_passages: Sequence[str],
    real_passages: Sequence[str],
    styles: Sequence[StyleScore],
    reload_difference: float | None,
    passes: float | None,
    trainable: Selection | None = None,
    masking: Masking | None = None,
    max_windows: int | None = None,
    tuned_heldout: TokenStore | None = None,
    tuned_general: TokenStore | None = None,
    assumptions: Sequence[str] = (),
    train: TokenStore | None = None,
    scales: Sequence[float] = (),
) -> Evidence:
    """Measure a tuned model against its base.

    Args:
        base: The model before.
        tuned: The model after, as it was saved.
        heldout: Text of the target that was not trained on.
        general: Other text that neither was trained on, for forgetting; ``None`` where there is none.
        general_name: What to call it.
        window_tokens: Tokens in a window of evaluation.
        train_texts: What the model and its base were trained on, for copying.
        known_texts: All real text of the run, for unknown words.
        base_passages: Passages of the base model that no judge was trained on; empty for an encoder, which writes none.
        tuned_passages: Passages of the tuned model, from the same starts.
        real_passages: Real held-out passages of the target.
        styles: What the judges said.
        reload_difference: Largest difference of logits between the trained model and its folder; ``None`` where only
            the folder is known.
        passes: Tokens trained over tokens of the text; ``None`` where that is not known.
        trainable: What was allowed to change; ``None`` means everything.
        masking: What an encoder is asked for in held-out text; ``None`` asks for the next token.
        max_windows: Windows of each text that are evaluated, spread evenly; ``None`` takes all.
        tuned_heldout: ``heldout`` in the tuned model's own tokens, where it has another tokenizer than the base.
        tuned_general: ``general`` likewise.
        assumptions: What had to be assumed; it stands beside the verdict.
        train: The text that it was trained on, for the gap between training and held-out text; ``None`` asks for none.
        scales: Scales of the change at which learning and forgetting are measured, such as ``SCALES``; empty for none.

    Returns:
        The evidence.
    """

    def loss(model: PreTrainedModel, store: TokenStore) -> HeldOutLoss:
        return held_out_loss(model, store, window_tokens, masking=masking, max_windows=max_windows)

    before, after = loss(base, heldout), loss(tuned, tuned_heldout or heldout)
    general_pair = (loss(base, general), loss(tuned, tuned_general or general)) if general else None
    said = _of_text(heldout, real_passages)
    for name, store in (("held-out text", heldout), ("held-out text, tuned model", tuned_heldout)):
        if store and store.unknown_said:
            over = "; bits per byte are over the rest" if before.counts_bytes and after.counts_bytes else ""
            said.append(f"{name}: {store.unknown_said}{over}")
    general_unknown = max(each.unknown_share for each in general_pair) if general_pair else 0.0
    if general_unknown > MOST_UNKNOWN:
        general_pair = None
    misfit = None
    if tuned_heldout and int(heldout.ids.max()) < tuned.config.get_text_config().vocab_size:
        misfit = gain_in_bits(after, loss(tuned, heldout))
    known = vocabulary_of(known_texts)
    writes = bool(tuned_passages)
    seen = None
    if train is not None:
        seen = _spread(base, tuned, train, window_tokens, masking, len(before.nats))
    unused = _UnusedTokens(heldout, [*known_texts, *train_texts]) if writes and tuned_heldout is None else None
    forgotten = None
    if general and general_pair:
        plain = masking is None and tuned_heldout is None
        forgotten = forgetting(
            base, tuned, general_pair, target=heldout, general=general, window_tokens=window_tokens, compares=plain,
            scales=scales,
        )  # fmt: skip
    finite = math.isfinite(after.nats.sum()) and all(bool(torch.isfinite(p).all()) for p in tuned.parameters())
    return Evidence(
        heldout_windows=len(before.nats),
        heldout_base=bits_per_byte(before),
        heldout_tuned=bits_per_byte(after),
        gain=gain_in_bits(before, after),
        general_name=general_name,
        general_rise=relative_rise(*general_pair) if general_pair else None,
        gain_over_general=gain_over((before, after), general_pair) if general_pair else None,
        styles=tuple(styles),
        copying=copying(tuned_passages, real_passages, CopyIndex(train_texts)) if writes else None,
        fluency_base=fluency(base_passages, known, unused.share(base_passages) if unused else None) if writes else None,
        fluency_tuned=fluency(tuned_passages, known, unused.share(tuned_passages) if unused else None)
        if writes
        else None,
        fluency_real=fluency(real_passages, vocabulary_of(train_texts)) if writes else None,
        damage=language_damage(tuned_passages, base_passages, real_passages, known, vocabulary_of(train_texts))
        if writes
        else None,
        movement=movement(snapshot(base, copy=False), tuned, trainable),
        reload_difference=reload_difference,
        passes=passes,
        finite=finite,
        heldout_blocks=loss_blocks(before, after),
        tokenizer_misfit=misfit,
        assumptions=(*assumptions, *said),
        general_unknown=general_unknown,
        unknown_bytes=max(before.unknown_share, after.unknown_share),
        train_base=bits_per_byte(seen[0]) if seen else None,
        train_tuned=bits_per_byte(seen[1]) if seen else None,
        train_gap=gain_over(seen, (before, after)) if seen else None,
        forgetting=forgotten,
        idle_matrices=idle_matrices(tuned),
        order=word_order(base, tuned, heldout, (before, after), window_tokens)
        if masking is None and tuned_heldout is None
        else None,
        discriminator=discriminate(real_passages, tuned_passages, base_passages),
    )


def _of_text(heldout: TokenStore, passages: Sequence[str]) -> list[str]:
    """What a reader must know of how the text was read: special tokens, and the script that words are counted in."""
    said = [special_tokens_said(heldout.tokenizer)]
    if (share := character_share("\n".join(passages))) >= _MANY_CHARACTERS:
        of = f"{share:.0%} of the text's words are of a script that puts no space between words"
        said.append(f"words are characters: {of}")
    return [sentence for sentence in said if sentence]


def _spread(
    base: PreTrainedModel, tuned: PreTrainedModel, text: TokenStore, window: int, masking: Masking | None, most: int
) -> tuple[HeldOutLoss, HeldOutLoss]:
    """Losses of both models on windows that are spread over a text."""
    one, other = (held_out_loss(model, text, window, masking=masking, max_windows=most) for model in (base, tuned))
    return one, other


class _UnusedTokens:
    """Counts the tokens that no known text uses."""

    def __init__(self, store: TokenStore, texts: Sequence[str]) -> None:
        assert store.tokenizer is not None
        self._tokenizer = store.tokenizer
        self._used = np.unique(np.asarray(tokenize_texts(texts, store.tokenizer).ids))

    def share(self, passages: Sequence[str]) -> float:
        """Mean share over passages that are not empty."""
        shares = 1 - token_shares(passages, self._tokenizer, self._used.tolist())
        return float(np.nanmean(shares)) if np.isfinite(shares).any() else 0.0


@memory_phase("evaluate")
def gather_comparison(
    base: Mapping[str, WindowLosses],
    tuned: Mapping[str, Mapping[str, WindowLosses]],
    *,
    train: Mapping[str, TokenStore],
    passages: Mapping[str, Sequence[str]],
    real: Mapping[str, Sequence[str]],
    top: int = 100,
    min_chars: int = 3,
) -> dict[str, Any]:
    """What concerns all models of a run together: who predicts whose text best, and who uses whose words.

    Args:
        base: The base's losses by corpus, from ``window_losses``.
        tuned: Those of the models by the corpus that each learnt, and by corpus.
        train: Training tokens by corpus, for the lists.
        passages: Passages of each model, and under ``base model`` the base's from the same starts.
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
        kind: usage_matrix(passages["base model"], passages, real, tokenizer, by_corpus, kind).as_dict()
        | {"examples": {name: [tokenizer.decode([token]) for token in ids[:12]] for name, ids in by_corpus.items()}}
        for kind, by_corpus in lists.items()
    }
    return found | {"usage_matrix": {"min_chars": min_chars, "lists": matrices}}
