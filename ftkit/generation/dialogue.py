"""Two models that write on one text in turns, or a model and a person (lesson 07/08).

What they share is the text, not its tokens: each model reads it with its own tokenizer, so that models of different
families can talk. A word that one was cut off in, the other may finish.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ftkit.data import message_ids
from ftkit.errors import ModelError
from ftkit.generation.chat_templates import stop_ids
from ftkit.generation.decoder import PRESETS, Sampling
from ftkit.generation.passages import generate_passages, stream_passage
from ftkit.generation.speakers import Speaker
from ftkit.generation.stream import TextStream
from ftkit.models import usable_positions

__all__ = ["ANSWER_TOKENS", "Chat", "Conversation", "Turn", "converse"]

ANSWER_TOKENS = 512
"""Longest answer in a chat where nobody says how long: some 400 words, more than most answers have."""


@dataclass(frozen=True)
class Turn:
    """One contribution to the text."""

    speaker: str
    text: str
    tokens: int
    """New tokens, in the speaker's own; 0 for a person."""
    context_tokens: int
    """Tokens that the speaker read."""
    left_out: int
    """Tokens at the beginning of the shared text that no longer fitted into the speaker's positions."""
    entropy: float | None
    """Mean entropy of the speaker's next-token distribution before any sampling rule, in bits per token."""
    seed: int | None
    stop_reason: str | None = None
    """How a model's turn ended: ``end of text`` or ``length``; ``None`` for a person."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Conversation:
    """A text that grows by turns.

    Args:
        opening: The text that stands before the first turn.
        new_tokens: Tokens of a turn.
        sampling: How they are drawn.
        seed: Of the first turn; every turn has the next one.
    """

    def __init__(
        self, opening: str, *, new_tokens: int = 50, sampling: Sampling = PRESETS["top50"], seed: int = 0
    ) -> None:
        self.text, self.new_tokens, self.sampling, self.seed = opening, new_tokens, sampling, seed
        self.turns: list[Turn] = []

    def say(self, name: str, text: str) -> Turn:
        """A person's turn, on a line of its own."""
        self.text += ("\n" if self.text else "") + text + "\n"
        return self._add(Turn(name, text, 0, 0, 0, None, None))

    def reply(self, speaker: Speaker) -> Turn:
        """A model's turn.

        Args:
            speaker: Who writes on.

        Raises:
            ModelError: A turn alone does not fit into the model's positions.
        """
        ids = list(speaker.tokenizer(self.text, add_special_tokens=False)["input_ids"])
        room = self._room(speaker)
        read = ids if room is None else ids[-room:]
        seed = self.seed + len(self.turns)
        passage = generate_passages(
            speaker.model,
            speaker.tokenizer,
            [read],
            new_tokens=self.new_tokens,
            sampling=self.sampling,
            seed=seed,
        )[0]
        text = passage.text.rstrip("\ufffd")  # a character of several bytes may have been cut
        self.text += text
        entropy = _entropy(speaker.model, read, passage.ids)
        left_out = len(ids) - len(read)
        return self._add(
            Turn(speaker.name, text, len(passage.ids), len(read), left_out, entropy, seed, passage.stop_reason)
        )

    def _room(self, speaker: Speaker) -> int | None:
        """Tokens of context that fit before a turn; ``None`` where nothing limits them."""
        limit = usable_positions(speaker.model)
        if limit is None:
            return None
        room = limit - self.new_tokens
        if room < 1:
            raise ModelError(
                f"{speaker.name}: a turn of {self.new_tokens} tokens leaves no room for what was said; the model "
                f"has {limit} positions, so set new_tokens to {self.new_tokens + room - 1} or less"
            )
        return room

    def _add(self, turn: Turn) -> Turn:
        self.turns.append(turn)
        return turn


class Chat:
    """Turns of a person and answers of a model, by the chat template of its tokenizer.

    Where the turns no longer fit into the model's positions, the oldest are left out, a question with its answer each;
    the system turn stays.

    Args:
        system: The system turn; ``None`` leaves it to the template.
        new_tokens: Longest answer; ``None`` means ``ANSWER_TOKENS``, or half of the model's positions.
        sampling: How tokens are drawn.
        seed: Of the first answer; every turn has the next one.
    """

    def __init__(
        self,
        system: str | None = None,
        *,
        new_tokens: int | None = None,
        sampling: Sampling = PRESETS["focused"],
        seed: int = 0,
    ) -> None:
        self.messages: list[dict[str, str]] = [] if system is None else [{"role": "system", "content": system}]
        self.new_tokens, self.sampling, self.seed = new_tokens, sampling, seed
        self.turns: list[Turn] = []

    def say(self, name: str, text: str) -> Turn:
        """Add a person's turn."""
        self.messages.append({"role": "user", "content": text})
        self.turns.append(Turn(name, text, 0, 0, 0, None, None))
        return self.turns[-1]

    def reply(self, speaker: Speaker, on_text: Callable[[str], object] = lambda piece: None) -> Turn:
        """Add a model's answer.

        Args:
            speaker: Who answers.
            on_text: Gets each piece of the answer as soon as it is written.

        Raises:
            ModelError: The last turn alone does not fit into the model's positions.
        """
        new_tokens = self.new_tokens or ANSWER_TOKENS
        limit = usable_positions(speaker.model)
        if limit is not None and self.new_tokens is None:
            new_tokens = min(new_tokens, limit // 2)
        read, left_out = self._read(speaker, None if limit is None else limit - new_tokens)
        seed = self.seed + len(self.turns)
        stream = TextStream(speaker.tokenizer, (), on_text)
        passage = stream_passage(
            speaker.model,
            speaker.tokenizer,
            read,
            stream.add,
            new_tokens=new_tokens,
            sampling=self.sampling,
            seed=seed,
            stop_ids=stop_ids(speaker, chat=True),
        )
        text = stream.close().strip()
        self.messages.append({"role": "assistant", "content": text})
        entropy = _entropy(speaker.model, read, passage.ids)
        turn = Turn(speaker.name, text, len(passage.ids), len(read), left_out, entropy, seed, passage.stop_reason)
        self.turns.append(turn)
        return turn

    def _read(self, speaker: Speaker, room: int | None) -> tuple[list[int], int]:
        """Ids of the newest turns that fit, and how many tokens of the older ones do not."""
        ids = whole = message_ids(speaker.tokenizer, self.messages)
        first = 1 if self.messages[0]["role"] == "system" else 0
        older = first
        while room is not None and len(ids) > room:
            older += 2
            if older >= len(self.messages):
                raise ModelError(
                    f"{speaker.name}: this turn and what stands before it have {len(ids):,} tokens, and the model has "
                    f"room for {room:,} beside its answer; write less, or set a smaller new_tokens"
                )
            ids = message_ids(speaker.tokenizer, [*self.messages[:first], *self.messages[older:]])
        return ids, len(whole) - len(ids)


def converse(
    speakers: Sequence[Speaker],
    opening: str,
    rounds: int,
    *,
    new_tokens: int = 50,
    sampling: Sampling = PRESETS["top50"],
    seed: int = 0,
) -> Iterator[Turn]:
    """Let models talk; the first of them answers the opening.

    Args:
        speakers: Who takes turns, in this order.
        opening: The text before the first turn.
        rounds: Turns of each speaker.
        new_tokens: Tokens of a turn.
        sampling: How they are drawn.
        seed: Same seed, same models: same talk.

    Yields:
        Every turn as it is written.
    """
    conversation = Conversation(opening, new_tokens=new_tokens, sampling=sampling, seed=seed)
    for _ in range(rounds):
        for speaker in speakers:
            yield conversation.reply(speaker)


@torch.inference_mode()
def _entropy(model: PreTrainedModel, context: Sequence[int], new: Sequence[int]) -> float | None:
    """Mean entropy in bits before each new token; ``None`` where there is none."""
    if not new or not context:
        return None
    was_training = model.training
    model.eval()
    ids = torch.tensor([[*context, *new]], device=next(model.parameters()).device)
    logits_TV = model(input_ids=ids).logits[0, -len(new) - 1 : -1].double()
    model.train(was_training)
    log_p = logits_TV.log_softmax(-1)
    bits = -(log_p.exp() * log_p).nan_to_num().sum(-1) / np.log(2)  # a token of probability 0 adds nothing
    return float(bits.mean())
