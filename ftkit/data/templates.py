"""Chat templates: which one a tokenizer writes messages with, and the text and ids of messages by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftkit.errors import DataError, ModelError, nearest_name

__all__ = ["TEMPLATES", "message_ids", "rendered_messages", "tokens_of", "with_template"]

TEMPLATES: Mapping[str, str] = {
    "plain": (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "alpaca": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
        "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
        "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
"""Templates by name. ``plain`` puts nothing between prompt, completion and end token."""


def with_template(tokenizer: Any, template: str | None = None, file: str | None = None) -> str:
    """Give a tokenizer the chat template that examples are written with; it is saved with the tokenizer.

    Args:
        tokenizer: The model's tokenizer; changed in place.
        template: A name of ``TEMPLATES``; ``None`` takes the tokenizer's own, else ``plain``.
        file: A file that holds a template in Jinja, instead of a name.

    Returns:
        What is used, for messages and the report.

    Raises:
        DataError: An unknown name, or a file that cannot be read.
        ModelError: The tokenizer has no token that could end an answer.
    """
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"chat_template {file!r}: cannot be read ({error}); give a file with a Jinja template"
            ) from None
        return Path(file).name
    if template is None and tokenizer.chat_template:
        return "the tokenizer's own"
    name = template or "plain"
    if name not in TEMPLATES:
        raise DataError(f"unknown template {name!r}{nearest_name(name, TEMPLATES)}; allowed: {', '.join(TEMPLATES)}")
    if tokenizer.eos_token is None:
        raise ModelError(
            "the tokenizer has no end-of-text token, so no answer could end; set one, e.g. tokenizer.eos_token = '</s>'"
        )
    if name == "chatml":
        _check_marks(tokenizer, ("<|im_start|>", "<|im_end|>"))
    begins = "{{ bos_token }}" if _adds_bos(tokenizer) else ""
    tokenizer.chat_template = begins + TEMPLATES[name]
    return name


def _check_marks(tokenizer: Any, marks: Sequence[str]) -> None:
    known = tokenizer.get_vocab()
    if missing := [mark for mark in marks if mark not in known]:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(missing)}, which the template needs; take the template plain or "
            "alpaca, or a model whose tokenizer has these tokens"
        )


def _adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer begins every text with its BOS token by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def rendered_messages(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
    """Return the text of messages by the tokenizer's chat template.

    Args:
        tokenizer: With a chat template.
        messages: Each with ``role`` and ``content``.
        answer: Whether the beginning of an assistant's turn stands at the end.

    Raises:
        ModelError: The template refuses these messages; it says why.
    """
    turns: Any = [dict(message) for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer))
    except Exception as error:  # a template raises what its author chose
        roles = ", ".join(str(message.get("role")) for message in messages)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the chat template refuses turns of {roles}: {reason}") from None


def tokens_of(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the ids of a rendered text, and the first and one past the last character of each.

    The template writes all special tokens itself, so none is added. A BOS token directly behind another, written by the
    template and by the first message, is left out.

    Args:
        tokenizer: A fast tokenizer.
        text: What a template wrote.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    first = 1 if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id else 0
    return ids[first:], places[first:]


def message_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answer: bool = True) -> list[int]:
    """Return the ids of messages by the tokenizer's chat template; see ``rendered_messages``.

    Args:
        tokenizer: With a chat template.
        messages: Each with ``role`` and ``content``.
        answer: Whether the beginning of an assistant's turn stands at the end.
    """
    return tokens_of(tokenizer, rendered_messages(tokenizer, messages, answer=answer))[0]
