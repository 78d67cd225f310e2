"""Samples for a person: one prompt token by token, or many in batches, by one model or by a base beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ftkit.data import message_ids
from ftkit.errors import ConfigError, DataError
from ftkit.generation.chat_templates import stop_ids, text_ids
from ftkit.generation.decoder import PRESETS, Sampling
from ftkit.generation.passages import Passage, generate_passages, stream_passage
from ftkit.generation.prompts import Prompt
from ftkit.generation.speakers import Speaker
from ftkit.generation.stream import TextStream, continuation
from ftkit.models import usable_positions

__all__ = ["DEFAULT_NEW_TOKENS", "Sample", "SampleWriter", "WritingSettings", "chosen_sampling"]

DEFAULT_NEW_TOKENS = 200
"""Tokens of a sample where nobody says how many: some 150 words of English, a paragraph or a full answer."""


_DRAWN = ("temperature", "top_p", "top_k", "repetition_penalty")
"""Settings of the draw that generation_config.json has under the same names."""


@dataclass(frozen=True)
class WritingSettings:
    """How samples are written."""

    chat: bool = False
    """Whether prompts are a user's turns by the chat template; otherwise their text is continued."""
    system: str | None = None
    """The system turn of a chat."""
    max_new_tokens: int | None = None
    """Longest sample; ``None`` means ``DEFAULT_NEW_TOKENS``, or fewer where the model has no room for them."""
    sampling: Sampling = PRESETS["focused"]
    seed: int = 42


@dataclass(frozen=True)
class Sample:
    """One text that a model wrote."""

    text: str
    tokens: int
    stop_reason: str
    """``end of text`` where the model ended it, ``length`` where it was cut off."""
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """The sample as JSON holds it."""
        return asdict(self)


def chosen_sampling(model: Any, asked: Mapping[str, Any]) -> Sampling:
    """Return the settings of the draw: what was asked, else the model's own, else ``focused``.

    Args:
        model: Its ``generation_config`` counts where it says that tokens are drawn (``do_sample``).
        asked: ``temperature`` (0: always the most likely token), ``top_p``, ``top_k``, ``repetition_penalty``; ``None``
            where it was not said.

    Raises:
        ConfigError: A setting of the draw beside temperature 0, where nothing is drawn.
    """
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if given.get("temperature") == 0:
        if idle := [name for name in ("top_p", "top_k") if name in given]:
            raise ConfigError(f"--{idle[0]}: has no effect with --temperature 0, which draws nothing; leave it out")
        return Sampling(do_sample=False, repetition_penalty=given.get("repetition_penalty", 1.0))
    stored = getattr(model, "generation_config", None)
    own = {name: getattr(stored, name, None) for name in _DRAWN} if getattr(stored, "do_sample", False) else {}
    return replace(PRESETS["focused"], **{name: value for name, value in (own | given).items() if value is not None})


class SampleWriter:
    """A model that writes samples.

    Args:
        speaker: The model with its tokenizer.
        settings: How it writes.
    """

    def __init__(self, speaker: Speaker, settings: WritingSettings) -> None:
        self.speaker, self.settings = speaker, settings
        self._stops = stop_ids(speaker, settings.chat)

    def rows(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return the ids of prompts.

        Raises:
            ConfigError: Turns for a model that only continues text.
            DataError: A prompt that leaves no room for what is to be written.
        """
        rows = [self._ids(prompt) for prompt in prompts]
        limit = usable_positions(self.speaker.model)
        needed = self.settings.max_new_tokens or 1
        for prompt, row in zip(prompts, rows, strict=True):
            if limit is None or len(row) + needed <= limit:
                continue
            if len(row) < limit:
                raise DataError(
                    f"{prompt.place}: {len(row):,} tokens and {needed:,} new ones do not fit into the model's "
                    f"{limit:,} positions; set max_new_tokens to {limit - len(row):,} or less"
                )
            raise DataError(
                f"{prompt.place}: has {len(row):,} tokens; the model reads {limit:,}, its own text included; shorten it"
            )
        return rows

    def _ids(self, prompt: Prompt) -> list[int]:
        tokenizer = self.speaker.tokenizer
        if self.settings.chat:
            if not prompt.messages and not prompt.text.strip():
                raise DataError(f"{prompt.place}: is empty, and a chat needs something to answer")
            return message_ids(tokenizer, prompt.turns(self.settings.system))
        if prompt.messages:
            raise ConfigError(
                f"{prompt.place}: holds turns of a chat, and {self.speaker.name} continues text; give a column prompt, "
                "or a model with a chat template (--chat)"
            )
        return text_ids(tokenizer, prompt.text)

    def _room(self, longest: int) -> int:
        limit = usable_positions(self.speaker.model)
        wanted = self.settings.max_new_tokens or DEFAULT_NEW_TOKENS
        return wanted if limit is None else min(wanted, limit - longest)

    def stream(self, row: Sequence[int], seed: int, on_text: Callable[[str], object]) -> Sample:
        """Write one sample and tell each piece of its text as soon as it is whole.

        Args:
            row: A prompt's ids.
            seed: Of this sample.
            on_text: Gets the pieces.
        """
        stream = TextStream(self.speaker.tokenizer, row, on_text)
        passage = stream_passage(
            self.speaker.model,
            self.speaker.tokenizer,
            row,
            stream.add,
            new_tokens=self._room(len(row)),
            sampling=self.settings.sampling,
            seed=seed,
            stop_ids=self._stops,
        )
        return Sample(stream.close(), len(passage.ids), passage.stop_reason, seed)

    def samples(self, rows: Sequence[Sequence[int]], num: int, batch_rows: int | None) -> Iterator[list[Sample]]:
        """Write samples of each prompt.

        Args:
            rows: Prompts' ids.
            num: Samples of each.
            batch_rows: Prompts that are written together, each batch from the next seed; ``None`` writes one sample at
                a time, as ``stream`` does, sample n from ``seed + n``.

        Yields:
            The samples of each prompt, in their order.
        """
        if batch_rows is not None:
            yield from self._in_batches(rows, num, batch_rows)
            return
        for row in rows:
            yield [self.stream(row, self.settings.seed + number, lambda piece: None) for number in range(num)]

    def _in_batches(self, rows: Sequence[Sequence[int]], num: int, batch_rows: int) -> Iterator[list[Sample]]:
        for number, first in enumerate(range(0, len(rows), batch_rows)):
            part = rows[first : first + batch_rows]
            seed = self.settings.seed + number
            passages = generate_passages(
                self.speaker.model,
                self.speaker.tokenizer,
                [row for row in part for _ in range(num)],
                new_tokens=self._room(max(len(row) for row in part)),
                sampling=self.settings.sampling,
                seed=seed,
                stop_ids=self._stops,
            )
            for place, row in enumerate(part):
                yield [self._sample(row, passage, seed) for passage in passages[place * num : (place + 1) * num]]

    def _sample(self, row: Sequence[int], passage: Passage, seed: int) -> Sample:
        text = continuation(self.speaker.tokenizer, row, passage.ids)
        return Sample(text, len(passage.ids), passage.stop_reason, seed)
