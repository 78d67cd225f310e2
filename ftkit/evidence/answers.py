"""Answers of models to the prompts of examples, and what they are compared on.

    examples --template--> rows ------------------> losses of the completions (own prompt, another's, after examples)
            \\--> prompts --greedy--> answers -------> form, exact match, copying

Base, tuned model and real completions are measured alike. Answers are greedy, so that they are a function of model and
prompt alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import (
    EncodedExample,
    Example,
    Message,
    answer_ends,
    encode_examples,
    prompt_ids,
    with_shots,
)
from ftkit.data.examples import prompt_key
from ftkit.errors import ConfigError, DataError
from ftkit.evidence.copying import long_enough
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import usable_positions
from ftkit.training import HeldOutExamples
from ftkit.training.objectives import IGNORED

if TYPE_CHECKING:
    from ftkit.evidence.panel import Panel

__all__ = [
    "ANSWER_LOOKS",
    "MOST_EXAMPLES",
    "AnswerWriter",
    "Answers",
    "ComparedAnswers",
    "ComparedExamples",
    "answer_looks",
    "compare_examples",
]

_ROWS = 50
"""Prompts that are answered together. Fixed, because the width of a batch changes the last digits of logits."""
ANSWER_LOOKS = (_ROWS, 2 * _ROWS, 4 * _ROWS)
"""Answers of each model to held-out prompts, in whole batches. Where all of 50 answers have the form, the lower bound
of the share that has it is above 0.9."""
MOST_EXAMPLES = 200
"""Held-out examples whose completions are measured; more narrow the intervals little and cost in proportion."""
_DRAWS = 3
"""Draws of the examples that stand in the base's prompt: which ones they are matters as much as how many."""
_RECITED = 50
"""Training prompts that are answered to see what was memorized."""
_SPARE = 1.5
"""Room of an answer beside the longest real one: a model that has not ended by then does not end."""
_ANSWER_TOKENS = 512
"""Tokens of an answer at most: longer ones take minutes, and show no more of its form."""


@dataclass(frozen=True)
class Answers:
    """What one model answered."""

    texts: Sequence[str] = ()
    ended: Sequence[bool] = ()
    """Whether each ended by itself before the limit."""
    tokens: Sequence[int] = ()
    """Length of each, without the token that ends it."""

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> Answers:
        """The first so many."""
        return Answers(self.texts[:count], self.ended[:count], self.tokens[:count])

    def __add__(self, more: Answers) -> Answers:
        return Answers((*self.texts, *more.texts), (*self.ended, *more.ended), (*self.tokens, *more.tokens))


@dataclass(frozen=True)
class AnswerWriter:
    """Lets models answer prompts under one protocol.

    Args:
        tokenizer: With the chat template that is used.
        stop_ids: Tokens that end an answer.
        new_tokens: Length at which an answer is cut.
    """

    tokenizer: PreTrainedTokenizerBase
    stop_ids: Sequence[int]
    new_tokens: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, encoded: Sequence[EncodedExample]) -> AnswerWriter:
        """A writer with the room that real completions need.

        Args:
            tokenizer: With the chat template that is used.
            encoded: Examples in tokens.
        """
        longest = max(_answer_tokens(row) for row in encoded)
        return cls(tokenizer, answer_ends(tokenizer, encoded), min(int(_SPARE * longest) + 8, _ANSWER_TOKENS))

    def write(self, model: PreTrainedModel, examples: Sequence[Example], before: Answers | None = None) -> Answers:
        """Answer the prompts of examples; a prompt that leaves no room for an answer is answered with nothing.

        Args:
            model: A causal language model.
            examples: Their prompts are answered.
            before: Answers to the first of them or to more, which are not written again.
        """
        found = (before or Answers()).first(len(examples))
        if not (examples := examples[len(found) :]):
            return found
        prompts = [prompt_ids(example, self.tokenizer) for example in examples]
        room = usable_positions(model)
        fitting = [n for n, prompt in enumerate(prompts) if room is None or len(prompt) + self.new_tokens <= room]
        passages = generate_passages(
            model, self.tokenizer, [prompts[n] for n in fitting], new_tokens=self.new_tokens,
            sampling=PRESETS["greedy"], batch_rows=_ROWS, stop_ids=self.stop_ids,
        ) if fitting else []  # fmt: skip
        written = dict(zip(fitting, passages, strict=True))
        texts = [written[n].text if n in written else "" for n in range(len(prompts))]
        ended = [n in written and written[n].stop_reason == "end of text" for n in range(len(prompts))]
        tokens = [len(written[n].ids) if n in written else 0 for n in range(len(prompts))]
        return found + Answers(texts, ended, tokens)


def _answer_tokens(row: EncodedExample) -> int:
    """Tokens of the last answer."""
    end = len(row.labels) - next((n for n, label in enumerate(row.labels[::-1]) if label != IGNORED), 0)
    begin = next((n for n in range(end - 1, -1, -1) if row.labels[n] == IGNORED), -1) + 1
    return end - begin


@dataclass(frozen=True)
class ComparedAnswers:
    """Answers of base and tuned model to the same prompts."""

    examples: Sequence[Example] = ()
    """Held-out examples whose prompts were answered."""
    base: Answers = field(default_factory=Answers)
    tuned: Answers = field(default_factory=Answers)
    few_shot: Sequence[Answers] = ()
    """Of the base with examples in its prompt, to the first prompts, for each draw of them; none where that was not
    measured."""
    recited: Sequence[Example] = ()
    """Training examples whose prompts were answered."""
    base_recited: Answers = field(default_factory=Answers)
    tuned_recited: Answers = field(default_factory=Answers)


@dataclass(frozen=True)
class ComparedExamples:
    """Examples on which base and tuned model are compared, in their tokens."""

    heldout: HeldOutExamples
    """Held-out examples with all that is a target."""
    last: HeldOutExamples
    """Those that fit whole after either prompt, with the last answer as the only target; ``heldout`` itself where it is
    the same."""
    swapped: HeldOutExamples
    """The same answers after another example's prompt."""
    train: HeldOutExamples
    """As many training examples."""
    writer: AnswerWriter
    completions: Sequence[str]
    """Completions that were trained on."""
    shots: Sequence[Sequence[Example]] = ()
    """Draws of examples that stand in the base's prompt."""
    after_shots: Sequence[HeldOutExamples] = ()
    """``last`` after each of these draws; empty where they do not fit."""
    no_shots: str = ""
    """Why there are none."""
    seen: float = 0.0
    """Share of the held-out prompts that occur in the training examples."""
    answer_pattern: str | None = None
    """Regular expression whose first group is the answer in a completion."""
    recited: Sequence[Example] = ()
    """Training examples whose prompts are answered."""
    judges: Panel | None = None
    """Judges of the style of completions, where these have one."""
    of_tuned: ComparedExamples | None = None
    """The same in the tuned model's own tokens, where its template has some that the base does not know."""

    @property
    def examples(self) -> list[Example]:
        """The held-out examples."""
        return [row.example for row in self.heldout.encoded]


def answer_looks(available: int, asked: int | None) -> list[int]:
    """How many prompts are answered at each look.

    Args:
        available: Held-out examples.
        asked: A number that was set; ``None`` for the usual looks.
    """
    if asked is not None:
        return [min(asked, available)]
    most = min(available, ANSWER_LOOKS[-1])
    return [*(look for look in ANSWER_LOOKS if look < most), most]


def compare_examples(
    train: Sequence[EncodedExample],
    heldout: Sequence[EncodedExample],
    tokenizer: PreTrainedTokenizerBase,
    *,
    positions: int | None,
    few_shot: int = 4,
    answer_pattern: str | None = None,
    seed: int = 0,
) -> ComparedExamples:
    """Gather everything that base and tuned model are compared on.

    Args:
        train: Training examples in tokens.
        heldout: Held-out examples in tokens.
        tokenizer: With the chat template that is used.
        positions: Longest context of the models; ``None`` where nothing limits it.
        few_shot: Examples in the base's prompt; 0 for none.
        answer_pattern: Regular expression whose first group is the answer in a completion.
        seed: Draws the examples of the prompts.

    Raises:
        ConfigError: An ``answer_pattern`` that is no regular expression.
    """
    if answer_pattern is not None:
        try:
            re.compile(answer_pattern)
        except re.error as error:
            raise ConfigError(f"answer_pattern {answer_pattern!r}: no regular expression ({error})") from None
    chosen = [heldout[place] for place in _spread(len(heldout), MOST_EXAMPLES)]
    own, swapped = _pairs([row.example for row in chosen], tokenizer, positions)
    of_train = [train[place] for place in _spread(len(train), len(chosen))]
    shots, after, why = _few_shot(train, [row.example for row in own], tokenizer, positions, few_shot, seed)
    known = {prompt_key(row.example) for row in train}
    recited = of_train if long_enough([row.example.completion for row in chosen]) else []

    def rows(encoded: Sequence[EncodedExample]) -> HeldOutExamples:
        return HeldOutExamples(encoded, tokenizer)

    whole = rows(chosen)
    same = [row.as_row() for row in own] == [row.as_row() for row in chosen]
    return ComparedExamples(
        whole, whole if same else rows(own), rows(swapped), rows(of_train),
        AnswerWriter.of(tokenizer, [*chosen, *of_train]), [row.example.completion for row in train], shots, after, why,
        float(np.mean([prompt_key(row.example) in known for row in chosen])), answer_pattern,
        [recited[place].example for place in _spread(len(recited), _RECITED)],
    )  # fmt: skip


def _spread(available: int, most: int) -> list[int]:
    return [int(place) for place in np.linspace(0, available - 1, min(available, most)).round()]


def _pairs(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, positions: int | None
) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Examples with the last answer as the only target, after their own prompts and after others', both whole.

    Raises:
        DataError: None of them fits.
    """
    last = [Example(each.messages, each.place, len(each.messages) - 1) for each in examples]
    sides = [encode_examples(side, tokenizer).rows for side in (last, _swapped(last))]
    pairs = [
        (own, other)
        for own, other in zip(*sides, strict=True)
        if positions is None or max(len(own.input_ids), len(other.input_ids)) <= positions
    ]
    if not pairs:
        raise DataError(
            f"none of {len(examples):,} held-out examples fits whole into the model's {positions:,} positions; give "
            "shorter examples, or a model with more positions"
        )
    return [own for own, _ in pairs], [other for _, other in pairs]


def _swapped(examples: Sequence[Example]) -> list[Example]:
    """Each completion after the prompt of another example, half the list away, whose completion is another."""
    found, count = [], len(examples)
    for number, example in enumerate(examples):
        others = (examples[(number + count // 2 + step) % count] for step in range(count))
        other = next((each for each in others if each.completion != example.completion), example)
        messages = (*other.prompt, Message("assistant", example.completion))
        found.append(Example(messages, example.place, len(messages) - 1))
    return found


def _few_shot(
    train: Sequence[EncodedExample],
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    positions: int | None,
    few_shot: int,
    seed: int,
) -> tuple[list[list[Example]], list[HeldOutExamples], str]:
    """Draws of training examples, the held-out examples after each of them, and why there are none."""
    if not few_shot:
        return [], [], "it was not asked for (few_shot: 0)"
    if len(train) < few_shot:
        return [], [], f"there are fewer than {few_shot} training examples"
    generator = np.random.default_rng([seed, few_shot])
    draws, found = [], []
    for _ in range(_DRAWS):
        chosen = generator.choice(len(train), few_shot, replace=False)
        shots = [train[int(place)].example for place in chosen]
        rows = encode_examples([with_shots(example, shots) for example in examples], tokenizer).rows
        if positions is not None and (longest := max(len(row.input_ids) for row in rows)) > positions:
            return (
                [],
                [],
                f"{few_shot} examples and a prompt take up to {longest:,} tokens, the model has {positions:,}",
            )
        draws.append(shots)
        found.append(HeldOutExamples(rows, tokenizer, shared_prefix=True))
    return draws, found, ""
