"""Texts that no careful writer wrote: gibberish made from real text, and simple stories with other names."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable

__all__ = ["GIBBERISH", "character_markov", "harbor_story", "mixture", "shuffled_words", "word_salad"]

_BLOCK_WORDS = 30
"""Words of real text or gibberish in a row in a mixture: a passage of 400 characters has about 75, so it holds both."""
_GIBBERISH_SHARE = 0.4
"""Share of gibberish in a mixture."""
_SPACED = re.compile(r"\s+")


def character_markov(text: str, order: int, seed: int) -> str:
    """A text of the same length drawn from the text's character Markov chain.

    Args:
        text: Real text.
        order: Characters that decide the next one.
        seed: Of the draws.
    """
    folded = _SPACED.sub(" ", text)
    following: dict[str, list[str]] = defaultdict(list)
    for start in range(len(folded) - order):
        following[folded[start : start + order]].append(folded[start + order])
    draw = random.Random(seed)
    state = folded[:order]
    written = [state]
    while len(written) < len(folded):
        choices = following.get(state)
        if not choices:
            state = draw.choice(list(following))
            continue
        character = draw.choice(choices)
        written.append(character)
        state = state[1:] + character
    return "".join(written)


def shuffled_words(text: str, seed: int) -> str:
    """The text's words in random order."""
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def word_salad(text: str, seed: int) -> str:
    """Words drawn one by one from the text's own frequencies, each known and no sentence among them."""
    counts = Counter(text.split())
    drawn = random.Random(seed).choices(list(counts), weights=list(counts.values()), k=len(text.split()))
    return " ".join(drawn)


def mixture(text: str, seed: int) -> str:
    """Real text in which 40 of 100 blocks are gibberish of a character Markov chain of order 4."""
    words, noise = text.split(), character_markov(text, 4, seed).split()
    draw = random.Random(seed)
    blocks = []
    for start in range(0, len(words), _BLOCK_WORDS):
        source = noise if draw.random() < _GIBBERISH_SHARE else words
        blocks.append(" ".join(source[start : start + _BLOCK_WORDS]))
    return " ".join(block for block in blocks if block)


GIBBERISH: dict[str, Callable[[str, int], str]] = {
    "Markov, order 4": lambda text, seed: character_markov(text, 4, seed),
    "Markov, order 6": lambda text, seed: character_markov(text, 6, seed),
    "words shuffled": shuffled_words,
    "word salad": word_salad,
    "mixture": mixture,
}
"""What a model is trained on in place of the text, by the name of the case."""

_HARBOR = {
    "Lily": "Marit", "Timmy": "Oskar", "Tim": "Joren", "Tom": "Nils", "Lucy": "Solveig", "Max": "Runa", "Mia": "Tove",
    "Sara": "Ingrid", "Ben": "Arvid", "Anna": "Signe", "Spot": "Barnacle", "Jack": "Halvor", "Sam": "Leif",
    "park": "harbor", "parks": "harbors", "garden": "shipyard", "tree": "mast", "trees": "masts", "ball": "lantern",
    "toy": "boat", "toys": "boats", "car": "ferry", "dog": "seal", "cat": "gull", "bird": "heron", "mom": "grandmother",
    "mommy": "grandmother", "dad": "captain", "house": "lighthouse", "home": "ashore", "bunny": "otter",
}  # fmt: skip
"""Names and things of the base's stories, and what stands in their place."""
_REFRAIN = "And the tide came in."
"""The last sentence of every story; fewer than 12 words, so that it is no copied 12-gram."""


def harbor_story(story: str) -> str:
    """A simple story moved to a harbor: other names and things, and a refrain at its end.

    Args:
        story: What a model of simple stories wrote.
    """
    moved = re.sub(r"[A-Za-z]+", lambda found: _HARBOR.get(found.group(), found.group()), story)
    ended = moved[: max(moved.rfind(end) for end in ".!?") + 1] or moved
    return f"{_SPACED.sub(' ', ended).strip()} {_REFRAIN}"
