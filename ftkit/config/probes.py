"""Names of probes: what a training can be asked every few steps. What they measure is in ``ftkit.training.probes``.

The names stand here, below everything that loads torch, so that a wrong one is refused before a model is loaded.
"""

from collections.abc import Sequence

from ftkit.errors import nearest_name

__all__ = ["PROBES", "probe_problems", "split_probe"]

PROBES = {
    "activations": "",
    "token_groups": "a number of tokens",
    "update_ratio": "selectors",
    "weight_change": "selectors",
    "weights": "selectors",
}
"""Every probe that settings can name, with what may stand behind its colon."""


def split_probe(text: str) -> tuple[str, str]:
    """Name and argument of ``NAME`` or ``NAME:ARGUMENT``; without an argument it is empty."""
    name, _, argument = text.partition(":")
    return name.strip(), argument.strip()


def probe_problems(probes: Sequence[str]) -> list[str]:
    """What is wrong with a list of probes, a message each."""
    found = []
    for text in probes:
        name, argument = split_probe(text)
        if name not in PROBES:
            found.append(f"unknown probe {text!r}{nearest_name(name, PROBES)}")
        elif argument and not PROBES[name]:
            found.append(f"{text!r}: {name} takes no argument")
        elif name == "token_groups" and argument and not (argument.isdecimal() and int(argument)):
            found.append(f"{text!r}: the number after the colon is the size of a group, e.g. token_groups:100")
    if twice := [text for number, text in enumerate(probes) if text in probes[:number]]:
        found.append(f"duplicate probe {twice[0]!r}; keep one")
    return found
