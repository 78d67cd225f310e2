# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Turns of a conversation as a tokenizer's chat template writes them, and the token that ends a turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ftkit.errors import ModelError
from ftkit.generation.passages import end_ids
from ftkit.generation.speakers import Speaker

__all__ = ["Message", "chat_ids", "is_chat_model", "stop_ids", "text_ids", "turn_end_id"]

Message = Mapping[str, str]
"""One turn: ``role`` (system, user, assistant) and ``content``."""

_MARK = "ANSWER"
"""An answer that is looked for in a rendered conversation, to see what the template writes after it."""


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text that a model is to continue, as transformers' text-generation pipeline encodes it.

    A beginning-of-text token stands before it where the tokenizer adds one by itself. What a tokenizer adds behind a
    text would end it, so it is left out.

    Args:
        tokenizer: Of the model.
        text: The text; an empty one becomes the token that begins, or ends, a text.
    """
    alone = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = list(tokenizer(text)["input_ids"])
    while alone and len(ids) > len(alone) and ids[-len(alone) :] != alone:
        ids.pop()
    if not ids and tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id]
    return ids


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
    """Return the ids of a conversation by the tokenizer's chat template.

    The template writes all special tokens itself, so none is added to what it writes. A beginning-of-text token
    directly behind another is left out, as in training (``ftkit.data.prompt_ids``).

    Args:
        tokenizer: Of the model.
        messages: The turns so far.
        answer: Whether the beginning of an assistant's turn stands at the end.

    Raises:
        ModelError: The template refuses these turns; it says why.
    """
    ids = list(tokenizer(_rendered(tokenizer, messages, answer), add_special_tokens=False)["input_ids"])
    return ids[1:] if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id else ids


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], answer: bool) -> str:
    turns: Any = [dict(message) for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer))
    except (TemplateError, TypeError, KeyError, ValueError) as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the chat template refuses turns of {roles}: {reason}") from None


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that the chat template writes after an answer; ``None`` where it writes none.

    Args:
        tokenizer: With a chat template.
    """
    turns = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": _MARK}]
    behind = _rendered(tokenizer, turns, answer=False).rpartition(_MARK)[2]
    known = tokenizer.added_tokens_decoder
    return next((id_ for id_ in tokenizer(behind, add_special_tokens=False)["input_ids"] if id_ in known), None)


def stop_ids(speaker: Speaker, chat: bool) -> tuple[int, ...]:
    """Return the tokens that end what a model writes: ``end_ids``, and in a chat the template's end of a turn.

    Args:
        speaker: The model with its tokenizer.
        chat: Whether it answers by its chat template.
    """
    ends = set(end_ids(speaker.model, speaker.tokenizer))
    if chat and (turn_end := turn_end_id(speaker.tokenizer)) is not None:
        ends.add(turn_end)
    return tuple(sorted(ends))


def is_chat_model(speaker: Speaker) -> bool:
    """Whether a model was made to answer: its tokenizer has a chat template, and the model stops where a turn ends.

    Base models of several families bring the template of their chat models along and stop at another token.

    Args:
        speaker: The model with its tokenizer.
    """
    if not speaker.tokenizer.chat_template:
        return False
    return turn_end_id(speaker.tokenizer) in end_ids(speaker.model, speaker.tokenizer)
