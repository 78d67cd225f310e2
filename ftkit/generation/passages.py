"""Passages from prompts or random starts: left padding, mask, pad id and forbidden ids are set here, once."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ftkit.data.tokenizers import expected_ids
from ftkit.errors import ModelError
from ftkit.generation.decoder import PRESETS, PaddedRows, Sampling, SpecialIds, can_decode, can_share, decode
from ftkit.memory import memory_phase
from ftkit.models import no_stored_generation_settings, usable_positions, virtual_tokens
from ftkit.models.packed_weights import packed_weights

__all__ = ["Passage", "end_ids", "generate_passages", "random_starts", "stream_passage"]


_WORTH_SHARING = 256
"""Tokens that are not computed again; below it the batch is computed as one, whose last digits are then as ever."""


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


def _generation_config(sampling: Sampling, new_tokens: int, special: SpecialIds) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=new_tokens,
        min_new_tokens=None if special.stops else new_tokens,
        do_sample=sampling.do_sample,
        temperature=sampling.temperature if sampling.do_sample else None,
        top_k=sampling.top_k if sampling.do_sample else None,
        top_p=sampling.top_p if sampling.do_sample else None,
        repetition_penalty=sampling.repetition_penalty,
        suppress_tokens=special.forbidden or None,
        pad_token_id=special.pad,
        eos_token_id=special.stops or None,
        bos_token_id=None,
    )


class _Listener(BaseStreamer):
    """Tells each new token of the one row that ``generate`` continues."""

    def __init__(self, on_id: Callable[[int], None]) -> None:
        self.on_id, self.prompt_is_told = on_id, False

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, which comes first and as a whole, or a token."""
        if self.prompt_is_told:
            self.on_id(int(value.reshape(-1)[0]))
        self.prompt_is_told = True

    def end(self) -> None:
        """Do nothing more at the end."""


class _Writer:
    """One model with what is set once for all rows that it continues."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        new_tokens: int,
        sampling: Sampling,
        stop_ids: Sequence[int] | None,
    ) -> None:
        if stop_ids is None:
            stop_ids = [tokenizer.eos_token_id] if sampling.allow_stop and tokenizer.eos_token_id is not None else []
        pad_id = _pad_id(tokenizer)
        self.special = SpecialIds(
            _forbidden(model, tokenizer, sampling, stop_ids),
            list(stop_ids),
            0 if pad_id is None else pad_id,  # it is masked, so any id will do
        )
        self.model, self.tokenizer, self.new_tokens, self.sampling = model, tokenizer, new_tokens, sampling
        self.device = next(model.parameters()).device

    @contextmanager
    def drawing(self, seed: int) -> Iterator[None]:
        """Draw from a seed with the model in eval mode; the caller's random state and the mode are put back."""
        was_training = self.model.training
        self.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=devices), warnings.catch_warnings():
                # peft drops the position ids that transformers computed, which are right without padding.
                warnings.filterwarnings("ignore", message="Position ids are not supported for parameter efficient")
                torch.manual_seed(seed)
                yield
        finally:
            self.model.train(was_training)

    def continued(
        self, rows: list[list[int]], on_id: Callable[[int], None] | None = None, seeds: Sequence[int] = ()
    ) -> Iterator[Passage]:
        """Continue rows together.

        Args:
            rows: Their ids.
            on_id: Is told each new token of the first row, the one that ends it too.
            seeds: Each draws for as many rows; without any the state of ``drawing`` does for all.
        """
        states = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        width, pad = max(len(row) for row in rows), self.special.pad
        first = _shared_tokens(rows) if can_share(self.model) else 0
        gaps = [width - len(row) for row in rows]
        padded = [row[:first] + [pad] * gap + row[first:] for row, gap in zip(rows, gaps, strict=True)]
        masks = [[1] * first + [0] * gap + [1] * (width - gap - first) for gap in gaps]
        input_ids, mask = (torch.tensor(each, device=self.device) for each in (padded, masks))
        with packed_weights(self.model, len(rows), self.new_tokens):
            if can_decode(self.model):
                padded_rows = PaddedRows(input_ids, mask, first)
                new_ids = decode(
                    self.model, padded_rows, self.new_tokens, self.sampling, self.special, on_id, states
                )  # fmt: skip
            else:
                with no_stored_generation_settings(self.model):
                    output = self.model.generate(  # type: ignore[operator]
                        input_ids=input_ids,
                        attention_mask=mask,
                        generation_config=_generation_config(self.sampling, self.new_tokens, self.special),
                        streamer=None if on_id is None else _Listener(on_id),
                    )
                new_ids = output[:, width:]
        for row, new in zip(rows, new_ids.tolist(), strict=True):
            length = next((place for place, id_ in enumerate(new) if id_ in self.special.stops), None)
            prompt, text = (str(self.tokenizer.decode(ids)) for ids in (row, new[:length]))
            yield Passage(prompt, text, tuple(new[:length]), "length" if length is None else "end of text")


def _shared_tokens(rows: list[list[int]]) -> int:
    """Tokens with which all rows begin, where computing them once spares enough; the last of a row is its own."""
    least, most = min(rows), max(rows)  # what these two share, all between them share
    length = min(len(row) for row in rows) - 1
    shared = next((n for n in range(length) if least[n] != most[n]), length)
    return shared if shared * (len(rows) - 1) >= _WORTH_SHARING else 0


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    return next((id_ for id_ in (tokenizer.pad_token_id, tokenizer.eos_token_id) if id_ is not None), None)


@memory_phase("generate")
def generate_passages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    new_tokens: int,
    sampling: Sampling = PRESETS["plain"],
    seed: int | Sequence[int] = 0,
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
        seed: Same seed, prompts and batch_rows: same passages. Several: each draws for as many of the prompts, which
            are all decoded together and, but for rounding, come out as from one call for each; for ``can_decode`` only.
        batch_rows: Prompts decoded together where there is one seed.
        stop_ids: Tokens that end a passage, such as ``end_ids``; ``None`` means the tokenizer's end-of-text token where
            ``sampling.allow_stop`` is set, else none.

    Returns:
        One passage for each prompt, in their order.

    Raises:
        ModelError: Prompt and passage do not fit into the model's positions, or an empty prompt has no start.
    """
    rows = _prompt_rows(tokenizer, prompts, _pad_id(tokenizer))
    _check_length(model, max((len(row) for row in rows), default=0), new_tokens)
    writer = _Writer(model, tokenizer, new_tokens, sampling, stop_ids)
    if not isinstance(seed, int):
        with writer.drawing(seed[0]):
            return list(writer.continued(rows, seeds=seed))
    passages: dict[int, Passage] = {}
    with writer.drawing(seed):
        for numbers in _parts(rows, batch_rows, one_width=virtual_tokens(model) > 0):
            passages.update(zip(numbers, writer.continued([rows[number] for number in numbers]), strict=True))
    return [passages[number] for number in range(len(rows))]


@memory_phase("generate")
def stream_passage(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    on_id: Callable[[int], None],
    *,
    new_tokens: int,
    sampling: Sampling = PRESETS["plain"],
    seed: int = 0,
    stop_ids: Sequence[int] | None = None,
) -> Passage:
    """Continue one prompt and tell each token as soon as it is drawn.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompt_ids: Token ids.
        on_id: Is told each new token, without the one that ends the passage; see ``TextStream``.
        new_tokens: Length of the passage in tokens.
        sampling: How tokens are drawn.
        seed: Same seed and prompt: same passage, that of ``generate_passages`` for this prompt alone.
        stop_ids: As for ``generate_passages``.

    Raises:
        ModelError: Prompt and passage do not fit into the model's positions, or an empty prompt has no start.
    """
    [row] = _prompt_rows(tokenizer, [prompt_ids], _pad_id(tokenizer))
    _check_length(model, len(row), new_tokens)
    writer = _Writer(model, tokenizer, new_tokens, sampling, stop_ids)

    def tell(id_: int) -> None:
        if id_ not in writer.special.stops:
            on_id(id_)

    with writer.drawing(seed):
        [passage] = writer.continued([row], tell)
    return passage
