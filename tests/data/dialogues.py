"""Dialogues and chat templates for tests of labels, on a tokenizer of bytes."""

from typing import Any

from ftkit.data import Example, Message, load_tokenizer

MARKS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
"""Marks of turns: those of ChatML, and those of Llama 3."""

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with a default system turn, without generation marks, as SmolLM2 has it."""
CHATML_MARKED = CHATML.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
)
"""The same with marks around what the assistant writes; the newline after the end of a turn lies outside."""
LLAMA = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Turns with headers as Llama 3 has them."""
TEMPLATES: dict[str, str | None] = {"plain": None, "chatml": CHATML, "chatml marked": CHATML_MARKED, "llama": LLAMA}
"""Templates by name; ``None`` leaves the tokenizer without one."""

DIALOGUES: dict[str, tuple[tuple[str, str], ...]] = {
    "one turn": (("user", "What is 2+2?\n"), ("assistant", "It is 4.")),
    "spaces and letters": (("user", " Où est-il ?"), ("assistant", " Là-bas, près du café\n")),
    "two turns": (("user", "Hi"), ("assistant", "Hello there."), ("user", "Bye"), ("assistant", "See you\nsoon.")),
    "system and two turns": (
        ("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello there."), ("user", "Bye"),
        ("assistant", "See you\nsoon."),
    ),
}  # fmt: skip


def chat_tokenizer(template: str | None, *, bos: str = "<|begin_of_text|>", eos: str = "<|im_end|>") -> Any:
    """Bytes and the marks of turns, with a chat template; what pads is what ends, as SmolLM2 has it."""
    found: Any = load_tokenizer("byte")
    found.add_special_tokens({"additional_special_tokens": MARKS})
    found.bos_token, found.eos_token, found.pad_token = bos, eos, eos
    found.chat_template = template
    return found


def as_example(dialogue: tuple[tuple[str, str], ...], *, first: int = 0) -> Example:
    """A dialogue as ftkit has it.

    Args:
        dialogue: Roles and contents.
        first: Number of the first message that may be learned.
    """
    return Example(tuple(Message(role, content) for role, content in dialogue), "row 1", first)  # type: ignore[arg-type]


def as_messages(dialogue: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """A dialogue as data sets have it."""
    return [{"role": role, "content": content} for role, content in dialogue]
