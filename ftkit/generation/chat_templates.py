# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""How a model is asked: the ids of a text that it continues, and the token that ends a turn of its chat template."""

from transformers import PreTrainedTokenizerBase

from ftkit.data import rendered_messages
from ftkit.generation.passages import end_ids
from ftkit.generation.speakers import Speaker

__all__ = ["is_chat_model", "stop_ids", "text_ids", "turn_end_id"]

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


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that the chat template writes after an answer; ``None`` where it writes none.

    Args:
        tokenizer: With a chat template.
    """
    turns = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": _MARK}]
    behind = rendered_messages(tokenizer, turns, answer=False).rpartition(_MARK)[2]
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
