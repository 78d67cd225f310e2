"""A tiny model with a chat template on the tokenizer of bytes, for tests of what answers."""

from pathlib import Path
from typing import Any

from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template with one token before and one behind every turn, as most chat models have."""


def chat_tokenizer(template: str | None = CHATML) -> Any:
    """The tokenizer of bytes with two special tokens; 257 begins a turn and 258 ends it."""
    tokenizer = load_tokenizer("byte")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


def saved_chat_model(folder: Path, ends: list[int] | int | None = 258, positions: int = 256, **values: Any) -> Path:
    """Save a tiny random model beside the tokenizer.

    Args:
        folder: Where.
        ends: What its generation_config.json says of the end of a text.
        positions: Of the model.
        values: Further values of that file.
    """
    model = load_model("new:ftkit_gpt2,initializer_range=0.4", vocab_size=259, max_positions=positions)
    save_model(model, chat_tokenizer(), folder)
    model.generation_config.update(eos_token_id=ends, **values)
    model.generation_config.save_pretrained(folder)
    return folder
