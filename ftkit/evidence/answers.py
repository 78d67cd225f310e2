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

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import EncodedExample, Example, Message, encode_examples, end_ids, prompt_ids
from ftkit.data.examples import prompt_key
from ftkit.errors import ConfigError
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import usable_positions
from ftkit.training import HeldOutExamples

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

ANSWER_LOOKS = (50, 100, 200)
"""Answers of each model to held-out prompts. Of 50 answers that all end by themselves, 90 % or more of all do."""
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
_ROWS = 32
"""Prompts that are answered together. Fixed, because the width of a batch changes the last digits of logits."""


@dataclass(frozen=True)
class Answers:
    """What one model answered."""

    texts: Sequence[str] = ()
    ended: Sequence[bool] = ()
    """Whether each ended by itself before the limit."""
    tokens: Sequence[int] = ()
    """Length of each, without the token that ends it."""

    def first(self, count: int) -> Answers:
        """The first ones."""
        return Answers(self.texts[:count], self.ended[:count], self.tokens[:count])


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
        return cls(tokenizer, end_ids(tokenizer, encoded), min(int(_SPARE * longest) + 8, _ANSWER_TOKENS))

    def write(self, model: PreTrainedModel, examples: Sequence[Example], shots: Sequence[Example] = ()) -> Answers:
        """Answer the prompts of examples; a prompt that leaves no room for an answer is answered with nothing.

        Args:
            model: A causal language model.
            examples: Their prompts are answered.
            shots: Examples that stand before each prompt.
        """
        if not examples:
            return Answers()
        prompts = [prompt_ids(example, self.tokenizer, shots) for example in examples]
        room = usable_positions(model)
        fits = [room is None or len(prompt) + self.new_tokens <= room for prompt in prompts]
        written = iter(
            generate_passages(
                model, self.tokenizer, [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit],
                new_tokens=self.new_tokens, sampling=PRESETS["greedy"], batch_rows=_ROWS, stop_ids=self.stop_ids,
            )
            if any(fits)
            else []
        )  # fmt: skip
        found = [next(written) if fit else None for fit in fits]
        return Answers(
            tuple("" if one is None else one.text for one in found),
            tuple(one is not None and one.stop_reason == "end of text" for one in found),
            tuple(0 if one is None else len(one.ids) for one in found),
        )


def _answer_tokens(row: EncodedExample) -> int:
    """Tokens of the last answer."""
    targets = np.array(row.labels) != -100
    if not targets.any():
        return 0
    last = int(np.flatnonzero(targets)[-1])
    before = np.flatnonzero(~targets[:last])
    return last - (int(before[-1]) if len(before) else -1)


@dataclass(frozen=True)
class ComparedAnswers:
    """Answers of base and tuned model to the same prompts."""

    examples: Sequence[Example]
    """Held-out examples whose prompts were answered."""
    base: Answers
    tuned: Answers
    few_shot: Answers | None = None
    """Of the base with examples in its prompt, to the first prompts; ``None`` where that was not measured."""
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
    """The same with the last answer as the only target; ``heldout`` itself where that is no difference."""
    swapped: HeldOutExamples
    """The last answers after another example's prompt."""
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
    return [*(look for look in ANSWER_LOOKS if look < available), min(available, ANSWER_LOOKS[-1])]


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
    examples = [row.example for row in chosen]
    last = encode_examples([_only_last(example) for example in examples], tokenizer, max_tokens=positions).rows
    swapped = encode_examples(_swapped(examples), tokenizer, max_tokens=positions).rows
    of_train = [train[place] for place in _spread(len(train), len(chosen))]
    shots, after, why = _few_shot(train, examples, tokenizer, positions, few_shot, seed)
    known = {prompt_key(row.example) for row in train}
    recited = [of_train[place].example for place in _spread(len(of_train), _RECITED)]

    def rows(encoded: Sequence[EncodedExample]) -> HeldOutExamples:
        return HeldOutExamples(encoded, tokenizer)

    own = rows(chosen)
    same = [row.as_row() for row in last] == [row.as_row() for row in chosen]
    return ComparedExamples(
        own, own if same else rows(last), rows(swapped), rows(of_train),
        AnswerWriter.of(tokenizer, [*chosen, *of_train]),
        [row.example.completion for row in train], shots, after, why,
        float(np.mean([prompt_key(example) in known for example in examples])), answer_pattern, recited,
    )  # fmt: skip


def _spread(available: int, most: int) -> list[int]:
    return [int(place) for place in np.linspace(0, available - 1, min(available, most)).round()]


def _only_last(example: Example) -> Example:
    return Example(example.messages, example.place, len(example.messages) - 1)


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
        rows = encode_examples([_after(shots, example) for example in examples], tokenizer).rows
        if positions is not None and (longest := max(len(row.input_ids) for row in rows)) > positions:
            return (
                [],
                [],
                f"{few_shot} examples and a prompt take up to {longest:,} tokens, the model has {positions:,}",
            )
        draws.append(shots)
        found.append(HeldOutExamples(rows, tokenizer, shared_prefix=True))
    return draws, found, ""


def _after(shots: Sequence[Example], example: Example) -> Example:
    """An example with others as earlier turns; its own system message stays first."""
    system = [message for message in example.prompt if message.role == "system"]
    earlier = [message for shot in shots for message in shot.messages if message.role != "system"]
    rest = [message for message in example.messages if message.role != "system"]
    messages = (*system, *earlier, *rest)
    return Example(messages, example.place, len(messages) - 1)
