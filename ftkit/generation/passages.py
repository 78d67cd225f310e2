"""Passages from prompts or random starts: left padding, mask, pad id and forbidden ids are set here, once."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data.tokenizers import expected_ids
from ftkit.errors import ModelError
from ftkit.generation.decoding import PRESETS, Sampling, can_decode, decode
from ftkit.memory import memory_phase
from ftkit.models import no_stored_generation_settings, usable_positions, virtual_tokens

__all__ = ["Passage", "end_ids", "generate_passages", "random_starts"]


@dataclass(frozen=True)
class Passage:
    """One generated text."""

    prompt: str
    text: str
    """The new tokens only, decoded."""
    ids: tuple[int, ...]
    """The new tokens; the one that ended the passage is not among them."""
    stop_reason: str
    """``end of text`` where a token of ``stop_ids`` ended it, else ``length``."""


def random_starts(ids: np.ndarray, count: int, seed: int) -> list[list[int]]:
    """One-token prompts drawn from a text, so that starts are as likely as they are in it.

    Args:
        ids: Tokens of a text, [num_tokens].
        count: How many starts.
        seed: Which draw.

    Returns:
        ``count`` lists of one id.
    """
    chosen = np.random.default_rng(seed).integers(0, len(ids), size=count)
    return [[int(ids[place])] for place in chosen]


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end a text or a turn: those of the model's generation_config.json, and the tokenizer's.

    A chat model often has two, one for a turn and one for a document; a model that stops at one of them only runs on.

    Args:
        model: A causal language model, or peft's wrapper around one.
        tokenizer: Its tokenizer.
    """
    stored = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [*(stored if isinstance(stored, list | tuple) else [stored]), tokenizer.eos_token_id]
    return tuple(sorted({int(id_) for id_ in ids if id_ is not None}))


def _forbidden(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling, stop_ids: Sequence[int]
) -> list[int]:
    """Ids that must not come out: rows of the model that the tokenizer has no token for, banned ids, special tokens
    that neither belong to the text nor end it."""
    rows = int(model.config.get_text_config().vocab_size)
    known = set(tokenizer.get_vocab().values())
    special = set(tokenizer.all_special_ids) - expected_ids(tokenizer)
    forbidden = {row for row in range(rows) if row not in known} | set(sampling.banned_ids) | special
    return sorted(id_ for id_ in forbidden - set(stop_ids) if id_ < rows)


def _parts(rows: list[list[int]], batch_rows: int, one_width: bool) -> Iterator[list[int]]:
    """Numbers of the rows that are decoded together; rows of one width where padding would come between virtual tokens
    and text, because peft then counts it as positions."""

    def width(number: int) -> int:
        return len(rows[number]) if one_width else 0

    for _, run in groupby(sorted(range(len(rows)), key=width), key=width):
        together = list(run)
        yield from (together[first : first + batch_rows] for first in range(0, len(together), batch_rows))


def _prompt_rows(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] | Sequence[Sequence[int]], pad_id: int | None
) -> list[list[int]]:
    """Token ids of each prompt; an empty one becomes the end-of-text token, or what pads."""
    rows = [
        list(tokenizer(p, add_special_tokens=False)["input_ids"]) if isinstance(p, str) else list(p) for p in prompts
    ]
    start = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else pad_id
    if start is None and not all(rows):
        raise ModelError(
            "an empty prompt has nothing to start from: the tokenizer has neither an end-of-text nor a pad token; give "
            "a prompt, or set one, e.g. tokenizer.eos_token = '</s>'"
        )
    return [row or [start] for row in rows]


def _check_length(model: PreTrainedModel, longest: int, new_tokens: int) -> None:
    limit = usable_positions(model)
    if limit is not None and longest + new_tokens > limit:
        raise ModelError(
            f"a prompt of {longest} tokens and {new_tokens} new ones need {longest + new_tokens} positions; "
            f"the model has {limit}"
        )


def _generation_config(
    sampling: Sampling, new_tokens: int, forbidden: list[int], stop_ids: Sequence[int], pad_id: int
) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=new_tokens,
        min_new_tokens=None if stop_ids else new_tokens,
        do_sample=sampling.do_sample,
        temperature=sampling.temperature if sampling.do_sample else None,
        top_k=sampling.top_k if sampling.do_sample else None,
        top_p=sampling.top_p if sampling.do_sample else None,
        repetition_penalty=sampling.repetition_penalty,
        suppress_tokens=forbidden or None,
        pad_token_id=pad_id,
        eos_token_id=list(stop_ids) or None,
        bos_token_id=None,
    )


@memory_phase("generate")
@torch.inference_mode()
def generate_passages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    new_tokens: int,
    sampling: Sampling = PRESETS["plain"],
    seed: int = 0,
    batch_rows: int = 64,
    stop_ids: Sequence[int] | None = None,
) -> list[Passage]:
    """Continue every prompt; the caller's random state and the model's mode are left as they were.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: Texts, or token ids (see ``random_starts``). An empty text starts from the end-of-text token.
        new_tokens: Length of each passage in tokens.
        sampling: How tokens are drawn.
        seed: Same seed, prompts and batch_rows: same passages.
        batch_rows: Prompts decoded together.
        stop_ids: Tokens that end a passage, such as ``end_ids``; ``None`` means the tokenizer's end-of-text token where
            ``sampling.allow_stop`` is set, else none.

    Returns:
        One passage for each prompt, in their order.

    Raises:
        ModelError: Prompt and passage do not fit into the model's positions, or an empty prompt has no start.
    """
    pad_id = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), None)
    rows = _prompt_rows(tokenizer, prompts, pad_id)
    pad_id = 0 if pad_id is None else pad_id  # it is masked, so any id will do
    _check_length(model, max((len(row) for row in rows), default=0), new_tokens)
    if stop_ids is None:
        stop_ids = [tokenizer.eos_token_id] if sampling.allow_stop and tokenizer.eos_token_id is not None else []
    forbidden = _forbidden(model, tokenizer, sampling, stop_ids)
    config, own_loop = _generation_config(sampling, new_tokens, forbidden, stop_ids, pad_id), can_decode(model)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    passages: dict[int, Passage] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        # peft drops the position ids that transformers computed, which are right without padding.
        warnings.filterwarnings("ignore", message="Position ids are not supported for parameter efficient tuning")
        torch.manual_seed(seed)
        for numbers in _parts(rows, batch_rows, one_width=virtual_tokens(model) > 0):
            part = [rows[number] for number in numbers]
            width = max(len(row) for row in part)
            input_ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in part], device=device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part], device=device)
            if own_loop:
                new_ids = decode(model, input_ids, mask, new_tokens, sampling, forbidden, stop_ids, pad_id)
            else:
                with no_stored_generation_settings(model):
                    output = model.generate(  # type: ignore[operator]
                        input_ids=input_ids, attention_mask=mask, generation_config=config
                    )
                new_ids = output[:, width:]
            for number, new in zip(numbers, new_ids.tolist(), strict=True):
                length = next((place for place, id_ in enumerate(new) if id_ in stop_ids), None)
                ids = new[:length]
                passages[number] = Passage(
                    str(tokenizer.decode(rows[number])),
                    str(tokenizer.decode(ids)),
                    tuple(ids),
                    "length" if length is None else "end of text",
                )
    model.train(was_training)
    return [passages[number] for number in range(len(rows))]
