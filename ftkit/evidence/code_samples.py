"""Samples of code that can be judged: new text alone, from the beginning of a statement on, in whole lines.

A passage cut anywhere out of good code does not parse. So every sample begins where held-out code has a statement at
the left margin, after some of the code before it, and is cut by one rule: to a length, then back to the last whole
line. Real code is cut at the same places by the same rule and is the ceiling, which lies below 1: its last statement
may be unfinished too.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import TokenStore
from ftkit.data.tokenizers import reads_tokens
from ftkit.errors import ConfigError, DataError
from ftkit.evidence.code import code_change, code_validity, parse_code
from ftkit.evidence.passages import PassageWriter, Store, Written
from ftkit.generation import Sampling, generate_passages
from ftkit.models import usable_positions
from ftkit.runs.planner import planner

__all__ = [
    "CodeStart",
    "CodeWriter",
    "check_code_places",
    "code_by_length",
    "code_starts",
    "fit_code",
    "longest_code_sample",
]

_MOST_DOCUMENT = 10_000_000
"""Characters of a held-out file that is parsed; it is the user's own, so this is only against accidents."""
_FEW = 30
"""Starts; from fewer no share has a narrow interval."""
_MARGIN = re.compile(r"\n[ \t]*\n(?=[A-Za-z_@])")
"""A blank line and after it something at the left margin, which is a statement unless it stands in a string."""
_MOST_BEGINNINGS = 40
"""Places in a held-out file at which a statement is looked for at most: a file that is no Python is left soon."""
_TOKEN_CHARS = 12
"""Characters before a start that are tokenized for each token of a prompt; tokens of code are shorter."""


@dataclass(frozen=True)
class CodeStart:
    """A place in held-out code from which models write on."""

    prompt: tuple[int, ...]
    """Tokens of the code before it, the last of its file; an end-of-text token where the file begins among them."""
    real: str
    """What stands there, cut like a sample."""


def fit_code(text: str, characters: int) -> str:
    """Cut code to at most ``characters``, then back to the end of its last whole line; no other character changes."""
    return text[:characters].rpartition("\n")[0] + "\n" if "\n" in text[:characters] else ""


def code_by_length(
    base: Sequence[str], tuned: Sequence[str], real: Sequence[str], characters: int
) -> list[dict[str, Any]]:
    """How much parses of shorter samples: the beginnings of the same ones, cut by the same rule.

    Args:
        base: Samples of the base, of ``characters`` at most, cut to whole lines.
        tuned: Samples of the tuned model from the same places.
        real: Real code at these places.
        characters: Their length.

    Returns:
        For a quarter, half and all of the length: ``characters``, the shares that parse, and their paired change.
    """
    found = []
    for length in (characters // 4, characters // 2, characters):
        cut = {
            who: [fit_code(text, length) for text in texts]
            for who, texts in (("base", base), ("tuned", tuned), ("real", real))
        }
        rates = {who: code_validity(texts).parses.as_dict() for who, texts in cut.items()}
        change = code_change(cut["base"], cut["tuned"]).parses.as_dict()
        found.append({"characters": length, **rates, "change": change})
    return found


def longest_code_sample(texts: Sequence[str], wanted: int, most: int) -> int:
    """Return the characters of the longest sample that held-out code has enough places for; 0 where it has none.

    Args:
        texts: Held-out code, a file each.
        wanted: The longest that is of interest.
        most: Starts that are wanted; fewer than 30 of them are enough only where fewer are wanted.
    """
    for characters in (wanted, *(length for length in range(wanted // 20 * 20, 0, -20) if length < wanted)):
        if sum(1 for text in texts for _ in _places(text, characters)) >= min(most, _FEW):
            return characters
    return 0


def code_starts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, characters: int, prompt_tokens: int, most: int, seed: int
) -> list[CodeStart]:
    """Places where a statement begins at the left margin and a whole sample of real code follows.

    Args:
        texts: Held-out code, a file each; those that do not parse are passed over.
        tokenizer: Makes the prompts.
        characters: Length of a sample; samples of real code do not overlap.
        prompt_tokens: Tokens of a prompt at most.
        most: Starts that are wanted; they are drawn from all there are.
        seed: Which draw.

    Raises:
        DataError: Too few places to measure anything.
    """
    check_code_places(texts, characters, most)
    places = [(text, place) for text in texts for place in _places(text, characters)]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(places))[:most])
    wanted = [places[number] for number in chosen]
    return [_start(text, place, tokenizer, characters, prompt_tokens) for text, place in wanted]


def check_code_places(texts: Sequence[str], characters: int, most: int, shortest: int = 1) -> None:
    """Refuse held-out code with too few places to write from.

    Args:
        texts: Held-out code, a file each.
        characters: Length of a sample.
        most: Starts that are wanted.
        shortest: The shortest sample that can be asked for.

    Raises:
        DataError: With the number of places that there are.
    """
    found, needed = sum(1 for text in texts for _ in _places(text, characters)), min(most, _FEW)
    if found < needed:
        unread = sum(_parsed(text)[1] is None for text in texts)
        mistaken = f", {unread} of which Python cannot parse" if unread else ""
        size = sum(map(len, texts))
        remedies = "Give more code that Python can parse, or a larger heldout_share"
        remedies += ", or smaller passage_chars." if characters > shortest else "."
        raise DataError(
            f"The held-out code ({size:,} characters in {len(texts)} pieces{mistaken}) has {found} places where a "
            f"statement begins and {characters} characters follow; needed are {needed}. {remedies}"
        )


def _places(text: str, characters: int) -> Iterator[int]:
    """Offsets of statements at the left margin, at least ``characters`` apart and before the end."""
    begin, tree = _parsed(text)
    if tree is None:
        return
    lengths = [len(line) + 1 for line in text[begin:].split("\n")]
    offsets = begin + np.concatenate([[0], np.cumsum(lengths)])
    free = 0
    for node in tree.body:
        place = int(offsets[_first_line(node) - 1])
        if free <= place <= len(text) - characters and fit_code(text[place:], characters):
            yield place
            free = place + characters


def _parsed(text: str) -> tuple[int, ast.Module | None]:
    """Where code begins to be whole, and its tree from there: the held-out part of a file may begin inside a function,
    and a notebook may have a cell that is no Python."""
    for begin in (0, *islice((found.end() for found in _MARGIN.finditer(text)), _MOST_BEGINNINGS)):
        if (tree := parse_code(text[begin:], _MOST_DOCUMENT)) is not None:
            return begin, tree
    return 0, None


def _first_line(node: ast.stmt) -> int:
    """A decorator belongs to what it decorates."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _start(text: str, place: int, tokenizer: PreTrainedTokenizerBase, characters: int, prompt_tokens: int) -> CodeStart:
    before = text[max(place - _TOKEN_CHARS * prompt_tokens, 0) : place]
    as_text = not reads_tokens(tokenizer)
    read = tokenizer(before, add_special_tokens=False, split_special_tokens=as_text) if before else {"input_ids": []}
    ids = list(read["input_ids"])
    if len(before) == place and tokenizer.eos_token_id is not None:
        ids = [tokenizer.eos_token_id, *ids]
    return CodeStart(tuple(ids[-prompt_tokens:]), fit_code(text[place : place + characters], characters))


@dataclass(frozen=True)
class CodeWriter(PassageWriter):
    """Lets models write code from the same places, each sample cut like the real code that stands there.

    Its prompts are its own: the code before a statement of held-out code, none of training code.

    Args:
        tokenizer: The models' tokenizer.
        text: Held-out code, for the length of its tokens.
        characters: Length of a sample before it is cut back to whole lines.
        sampling: How tokens are drawn.
        places: Where samples begin; a model writes one for each at most.
    """

    places: tuple[CodeStart, ...] = ()

    def real_passages(self, texts: Sequence[str] = ()) -> list[str]:
        """The real code at the same places."""
        return [place.real for place in self.places]

    def fitted(self, model: PreTrainedModel, taken: int = 0) -> Self:
        """Refuse samples that do not fit, with their prompts, into a model's positions; returns this writer."""
        limit = usable_positions(model)
        longest = max(len(place.prompt) for place in self.places)
        if limit and longest + self.new_tokens > limit - taken:
            raise ConfigError(
                f"passage_chars: {self.characters} characters of code need {self.new_tokens} tokens after {longest} of "
                f"a prompt, and the model has {limit - taken} positions; make passage_chars or prompt_tokens smaller, "
                f"or train with longer windows"
            )
        if planned := planner():
            planned.writing(longest + self.new_tokens)
        return self

    def write(self, model: PreTrainedModel, count: int, seed: int, store: Store | None = None) -> Written:
        """Let a model write, from as many places as there are.

        Args:
            model: A causal language model.
            count: How many samples at most.
            seed: Of the draws.
            store: Where blocks are kept; ``None``: nowhere.

        Returns:
            Samples, all of which follow held-out code.
        """
        return super().write(model, min(count, len(self.places)), seed, store)

    def _written(self, passages: Sequence[str]) -> Written:
        return Written(passages)

    def prompts(self, seed: int, numbers: Iterable[int]) -> list[list[int]]:
        """Return the tokens before each of some samples; behind the last place stands the first one."""
        return [list(self.places[number % len(self.places)].prompt) for number in numbers]

    def _fitted(self, text: str) -> str:
        return fit_code(text, self.characters)

    def _warn_of_short(self, passages: Sequence[str]) -> None:
        """Nothing: samples are cut back to whole lines."""

    def complete(self, model: PreTrainedModel, prompt: str, count: int, seed: int) -> list[str]:
        """Let a model complete one beginning several times; it is part of the samples."""
        written = generate_passages(
            model, self.tokenizer, [prompt] * count, new_tokens=self.tokens_after(model, prompt),
            sampling=self.sampling, seed=seed,
        )  # fmt: skip
        return [fit_code(prompt + passage.text, self.characters) for passage in written]

    @classmethod
    def of(
        cls,
        heldout: TokenStore,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        *,
        characters: int,
        prompt_tokens: int,
        most: int,
        seed: int,
    ) -> "CodeWriter":
        """A writer from held-out code; see ``code_starts``."""
        places = code_starts(texts, tokenizer, characters, prompt_tokens, most, seed)
        return cls(tokenizer, heldout, characters, sampling, places=tuple(places))
