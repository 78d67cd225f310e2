"""Small embedded authors of clearly different styles: original English by a seeded grammar, of any length."""

import random

__all__ = ["VOICES", "voice_text"]

VOICES: dict[str, str] = {
    "almanac": "florid old periods addressed to the gentle reader",
    "keeper": "the terse log of a lighthouse keeper",
    "letters": "warm letters home, in the past tense",
    "market": "banter of a street market, with prices",
}

_WORDS = ("wind", "sea", "lamp", "bread", "goose", "hill", "river", "mother", "friend", "moon", "apple", "letter")
_FORMS = {
    "almanac": "It is allowed, gentle reader, that the {0} doth follow the {1}; and yet the {2} remaineth.",
    "keeper": "Wind {3} knots. {0} seen. {1} in order.",
    "letters": "I thought of the {0} and the {1}, my dear, when we came to the {2}.",
    "market": '"Fresh {0}! Only {3} pence for the {1}!"',
}


def voice_text(name: str, num_words: int, seed: int = 0) -> str:
    """Text of one voice."""
    generator = random.Random(f"{name} {seed}")
    lines: list[str] = []
    count = 0
    while count < num_words:
        draw = [_WORDS[int(generator.random() * len(_WORDS))] for _ in range(3)]
        line = " ".join([_FORMS[name].format(*draw, int(generator.random() * 40)) for _ in range(4)])
        count += len(line.split())
        lines.append(line)
    return "\n\n".join(lines) + "\n"
