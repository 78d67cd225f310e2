"""Texts that a chat template has rendered: their messages, recognized by the markers that open a turn."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["MARKERS", "turns_of"]

MARKERS: Mapping[str, re.Pattern[str]] = {
    "<|im_start|>": re.compile(r"<\|im_start\|>(\w+)\n"),
    "<|start_header_id|>": re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"),
    "[INST]": re.compile(r"\[(/?INST)\]"),
    "### Instruction:": re.compile(r"^### ?(Instruction|Input|Response):", re.MULTILINE),
    "### Human:": re.compile(r"### ?(Human|User|Assistant|System):"),
    "Human:": re.compile(r"^(Human|User|Assistant|System):", re.MULTILINE),
}
"""What opens a turn in the texts of public data sets, the most specific first; the group names the role."""
_ROLES = {
    "inst": "user", "/inst": "assistant", "instruction": "user", "input": "user", "response": "assistant",
    "human": "user",
}  # fmt: skip
"""Roles of markers that do not name one."""
_OUTSIDE = r"(?:\s|</?s>|<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<\|begin_of_text\|>|<\|endoftext\|>)+"
"""White space, and tokens that begin or end a text or a turn: no part of the content."""
_SYSTEM_INSIDE = re.compile(r"\[INST\]\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
"""Llama 2 writes the system's turn into the first turn of the user."""


def turns_of(text: str) -> list[tuple[str, str]] | None:
    """Return roles and contents in their order; ``None`` unless a user and an assistant have a turn.

    Text before the first marker is the system's. An input below an instruction belongs to it.

    Args:
        text: One row of a data set.
    """
    text = _SYSTEM_INSIDE.sub(r"\1[INST]", text)
    for pattern in MARKERS.values():
        opened = [(match, _role(match[1])) for match in pattern.finditer(text)]
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


def _role(marker: str) -> str:
    return _ROLES.get(marker.casefold(), marker.casefold())


def _bare(text: str) -> str:
    """The content of a turn."""
    return re.sub(rf"\A{_OUTSIDE}|{_OUTSIDE}\Z", "", text)
