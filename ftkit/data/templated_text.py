"""Texts that a chat template has written: the messages in them, found by the marks that open a turn."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["MARKS", "turns_of"]

MARKS: Mapping[str, re.Pattern[str]] = {
    "<|im_start|>": re.compile(r"<\|im_start\|>(\w+)\n"),
    "<|start_header_id|>": re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"),
    "[INST]": re.compile(r"\[(/?INST)\]"),
    "### Instruction:": re.compile(r"^### ?(Instruction|Input|Response):", re.MULTILINE),
    "### Human:": re.compile(r"### ?(Human|User|Assistant|System):"),
    "Human:": re.compile(r"^(Human|User|Assistant|System):", re.MULTILINE),
}
"""What opens a turn in the texts of public data sets, the most specific first; the group says who speaks."""
_SPEAKERS = {
    "inst": "user", "/inst": "assistant", "instruction": "user", "input": "user", "response": "assistant",
    "human": "user",
}  # fmt: skip
"""Who speaks behind marks that do not name a role."""
_OUTSIDE = r"(?:\s|</?s>|<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<\|begin_of_text\|>|<\|endoftext\|>)+"
"""White space, and tokens that begin or end a text or a turn: no part of what is said."""
_SYSTEM_INSIDE = re.compile(r"\[INST\]\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
"""Llama 2 writes the system's turn into the first turn of the user."""


def turns_of(text: str) -> list[tuple[str, str]] | None:
    """Return who speaks and what is said, in order; ``None`` where no marks open a question and its answer.

    What stands before the first mark is the system's. An input below an instruction belongs to it.

    Args:
        text: One row of a data set.
    """
    text = _SYSTEM_INSIDE.sub(r"\1[INST]", text)
    for pattern in MARKS.values():
        opened = [(match, _speaker(match[1])) for match in pattern.finditer(text)]
        if {"user", "assistant"} <= {who for _, who in opened}:
            break
    else:
        return None
    turns = [("system", _bare(text[: opened[0][0].start()]))]
    ends = [match.start() for match, _ in opened[1:]] + [len(text)]
    for (match, who), end in zip(opened, ends, strict=True):
        said = _bare(text[match.end() : end])
        if turns[-1][0] == who == "user":
            turns[-1] = who, f"{turns[-1][1]}\n\n{said}".rstrip()
        else:
            turns.append((who, said))
    return [(who, said) for who, said in turns if said or who != "system"]


def _speaker(mark: str) -> str:
    return _SPEAKERS.get(mark.casefold(), mark.casefold())


def _bare(text: str) -> str:
    """What is said in a turn."""
    return re.sub(rf"\A{_OUTSIDE}|{_OUTSIDE}\Z", "", text)
