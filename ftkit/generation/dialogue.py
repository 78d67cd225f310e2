"""Two models that write on one text in turns, or a model and a person (lesson 07/08).

What they share is the text, not its tokens: each model reads it with its own tokenizer, so that models of different
families can talk. A word that one was cut off in, the other may finish.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.errors import ModelError
from ftkit.generation.decoding import PRESETS, Sampling
from ftkit.generation.passages import generate_passages
from ftkit.models import usable_positions

__all__ = ["Conversation", "Speaker", "Turn", "converse"]


@dataclass(frozen=True)
class Speaker:
    """One who writes."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


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
        return self._add(Turn(speaker.name, text, len(passage.ids), len(read), left_out, entropy, seed))

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
