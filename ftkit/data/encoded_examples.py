"""Examples in tokens: ids, and labels that say which of them are targets.

    messages --template--> text --tokenizer--> ids, places in the text --> labels

A target is what the assistant writes. The template says where that is: what it writes for the first messages and the
opening of an answer is the context of that answer, and what it adds is the target. Where it writes the context in
another way when an answer follows, its generation marks say it.

Labels are aligned with the ids, and -100 where nothing is asked. The token that ends a turn is a target; white space
that the template writes after it is not, because a model that has ended its turn writes nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ftkit.data.examples import Example
from ftkit.data.templates import message_ids, rendered_messages, tokens_of, with_template
from ftkit.data.windows import NOT_ASKED
from ftkit.errors import DataError, ModelError, nearest_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "EncodedExample",
    "EncodedExamples",
    "LossOn",
    "Truncate",
    "answer_ends",
    "encode_examples",
    "prompt_ids",
    "tokenize_examples",
]

LossOn = Literal["completions", "all", "last_turn"]
"""Targets: every answer of the assistant, every token, or the last answer alone."""
Truncate = Literal["end", "start", "drop"]
"""Which side of a long example is cut off, or that it is left out."""


@dataclass(frozen=True)
class EncodedExample:
    """One example as a model sees it; the lists have one entry for each token."""

    input_ids: list[int]
    labels: list[int]
    """Aligned with ``input_ids``, -100 where nothing is asked."""
    sizes: list[int]
    """UTF-8 bytes of text that each target covers; 0 for special tokens. A character of several tokens counts once."""
    example: Example
    end_id: int | None = None
    """The token that ends the last answer; ``None`` where it was cut off."""

    @property
    def num_targets(self) -> int:
        """Tokens that are asked; the first token of a row cannot be."""
        return sum(label != NOT_ASKED for label in self.labels[1:])

    @property
    def target_bytes(self) -> int:
        """UTF-8 bytes of the text of the targets."""
        return sum(self.sizes[1:])

    def as_row(self) -> dict[str, list[int]]:
        """Ids and labels."""
        return {"input_ids": self.input_ids, "labels": self.labels}

    def part(self, kept: slice, end_id: int | None) -> EncodedExample:
        """Some of the tokens, with their labels."""
        return EncodedExample(self.input_ids[kept], self.labels[kept], self.sizes[kept], self.example, end_id)


@dataclass(frozen=True)
class EncodedExamples:
    """Examples in tokens, and what was left out or cut."""

    rows: list[EncodedExample]
    cut: int = 0
    """Examples that were too long and lost one side."""
    dropped: int = 0
    """Examples that were too long, or that had no target left."""
    joined: int = 0
    """Examples in which one token holds the end of the context and the beginning of an answer; it is not asked."""

    @property
    def summary(self) -> str:
        """What was left out or cut, in one line; empty where nothing was."""
        counted = []
        if self.cut:
            counted.append(f"{self.cut:,} were cut to the longest length that is allowed")
        if self.dropped:
            counted.append(f"{self.dropped:,} were left out, because too little of them fits into that length")
        if self.joined:
            counted.append(
                f"in {self.joined:,} one token holds the end of the prompt and the beginning of the "
                "completion; that token is not learned"
            )
        return "; ".join(counted)


class _Answer:
    """The tokens of one answer, by number."""

    def __init__(self, tokens: Sequence[int], joined: bool = False) -> None:
        self.tokens, self.joined = list(tokens), joined
        self.end: int | None = None
        """The token that ends it."""

    def find_end(self, ids: list[int], places: Sequence[tuple[int, int]], text: str, special: set[int]) -> None:
        """Let the answer go up to the token that ends the turn, where there is one."""
        tokens = self.tokens
        ends = [n for n in tokens if ids[n] in special]
        if ends and not text[places[ends[-1]][1] : places[tokens[-1]][1]].strip():
            self.tokens, self.end = [n for n in tokens if n <= ends[-1]], ids[ends[-1]]
        elif tokens and tokens[-1] + 1 < len(ids) and ids[tokens[-1] + 1] in special:
            self.tokens, self.end = [*tokens, tokens[-1] + 1], ids[tokens[-1] + 1]  # it begins what follows


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of all special tokens; templates use some that the tokenizer gives no name."""
    added = tokenizer.added_tokens_decoder
    return set(tokenizer.all_special_ids) | {int(id_) for id_, token in added.items() if token.special}


def _by_spans(tokenizer: Any, example: Example, text: str, places: Sequence[tuple[int, int]]) -> list[_Answer] | None:
    """The answers by what the template adds for each; ``None`` where it rewrites earlier messages as others follow."""
    messages, found = example.as_dicts(), []
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or number < max(example.first_target, 1):
            continue
        before = rendered_messages(tokenizer, messages[:number], answer=True)
        last = number == len(messages) - 1
        whole = text if last else rendered_messages(tokenizer, messages[: number + 1], answer=False)
        if not text.startswith(whole):
            whole = whole.rstrip()  # some templates end a turn only when another follows
        if not whole.startswith(before) or not text.startswith(whole):
            return None
        first, end = len(before), len(whole)
        tokens = [n for n, (start, stop) in enumerate(places) if first <= start < stop <= end]
        found.append(_Answer(tokens, any(start < first < stop for start, stop in places)))
    return found


def _by_marks(tokenizer: Any, example: Example, text: str, ids: Sequence[int], last: bool) -> list[_Answer]:
    """The answers, or the last one, by the template's own generation marks.

    Raises:
        DataError: It has none, they mark nothing, or it cannot be seen which answer each of them marks.
    """
    where, messages = example.place or "an example", example.as_dicts()
    if not re.search(r"{%-?\s*generation\b", str(tokenizer.chat_template)):
        before = rendered_messages(tokenizer, messages[:-1], answer=True)
        raise DataError(
            f"{where}: the chat template writes the prompt in another way when an answer follows, so it cannot be seen "
            "where the answer begins. Give a template with {% generation %} marks (--chat_template FILE), or "
            f"--template plain.\n  prompt alone: ...{before[-80:]!r}\n  with its answer: "
            f"...{text[max(len(before) - 80, 0) :][:160]!r}"
        )
    mask = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)[
        "assistant_masks"
    ][-len(ids) :]
    firsts = [n for n, marked in enumerate(mask) if marked and not (n and mask[n - 1])]
    if not firsts:
        raise DataError(
            f"{where}: the template's generation marks mark nothing, so nothing would be learned; mend the template, "
            "or take another with --template"
        )
    ends = [next((m for m in range(n, len(mask)) if not mask[m]), len(mask)) for n in firsts]
    runs = [_Answer(range(first, end)) for first, end in zip(firsts, ends, strict=True)]
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    wanted = [place for place, number in enumerate(answers) if number >= example.first_target][-1 if last else 0 :]
    if len(wanted) == len(answers):
        return runs
    if len(runs) != len(answers):
        raise DataError(
            f"{where}: the template's generation marks mark {len(runs)} parts and there are {len(answers)} answers, "
            "so it cannot be seen which part is which answer; give the dialogue as messages, or take another template"
        )
    return [runs[place] for place in wanted]


def _encode(tokenizer: Any, example: Example, loss_on: LossOn) -> tuple[EncodedExample, bool]:
    """One whole example, and whether a token joins context and answer."""
    text, special = rendered_messages(tokenizer, example.as_dicts(), answer=False), _special_ids(tokenizer)
    ids, places = tokens_of(tokenizer, text)
    answers = _by_spans(tokenizer, example, text, places)
    if answers is None:
        answers = _by_marks(tokenizer, example, text, ids, loss_on == "last_turn")
    elif loss_on == "last_turn":
        answers = answers[-1:]
    for answer in answers:
        answer.find_end(ids, places, text, special)
    targets = set(range(len(ids))) if loss_on == "all" else {n for answer in answers for n in answer.tokens}
    end = answers[-1].end if answers else None
    if answers and end is None:
        end = _end_of_text(tokenizer)
        targets.add(len(ids))
        ids, places = [*ids, end], [*places, (len(text), len(text))]
    labels, sizes, counted = [], [], 0
    for number, (id_, (start, stop)) in enumerate(zip(ids, places, strict=True)):
        asked = number in targets
        labels.append(id_ if asked else NOT_ASKED)
        sizes.append(len(text[max(start, counted) : stop].encode()) if asked and id_ not in special else 0)
        counted = max(counted, stop)
    return EncodedExample(ids, labels, sizes, example, end), any(answer.joined for answer in answers)


def _end_of_text(tokenizer: Any) -> int:
    """The token that ends an answer whose template writes none."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the chat template writes no token that ends an answer, and the tokenizer has no end-of-text token; set "
            "one, e.g. tokenizer.eos_token = '</s>'"
        )
    return int(tokenizer.eos_token_id)


def _fitted(row: EncodedExample, max_tokens: int | None, truncate: Truncate) -> EncodedExample | None:
    """An example cut to a length on one side, ids and labels together; ``None`` where it is left out."""
    if max_tokens is None or len(row.input_ids) <= max_tokens:
        return row
    if truncate == "drop":
        return None
    if truncate == "end":
        return row.part(slice(0, max_tokens), None)
    return row.part(slice(len(row.input_ids) - max_tokens, None), row.end_id)


def encode_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    loss_on: LossOn = "completions",
    max_tokens: int | None = None,
    truncate: Truncate = "end",
) -> EncodedExamples:
    """Turn examples into ids and labels with the tokenizer's chat template; see ``tokenize_examples``."""
    for name, value, kind in (("loss_on", loss_on, LossOn), ("truncate", truncate, Truncate)):
        if value not in (allowed := get_args(kind)):
            raise DataError(f"unknown {name} {value!r}{nearest_name(value, allowed)}; allowed: {', '.join(allowed)}")
    if not tokenizer.chat_template:
        with_template(tokenizer)
    rows, cut, joined = [], 0, 0
    for example in examples:
        row, joins = _encode(tokenizer, example, loss_on)
        joined += joins
        fitted = _fitted(row, max_tokens, truncate)
        if fitted is not None and fitted.num_targets:
            rows.append(fitted)
            cut += fitted is not row
    if not rows:
        longest = "" if max_tokens is None else f" of at most {max_tokens:,} tokens"
        raise DataError(
            f"of {len(examples):,} examples none{longest} has a token that is asked, so nothing could be learned; "
            "allow more tokens, or look at the chat template"
        )
    return EncodedExamples(rows, cut, len(examples) - len(rows), joined)


def tokenize_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    loss_on: LossOn = "completions",
    max_tokens: int | None = None,
    truncate: Truncate = "end",
) -> list[dict[str, list[int]]]:
    """Turn examples into rows of ``input_ids`` and ``labels`` with the tokenizer's chat template, else ``plain``.

    Args:
        examples: The examples.
        tokenizer: A fast tokenizer. One without a chat template gets ``plain``: prompt, completion and end token with
            nothing between.
        loss_on: ``completions`` asks for every answer of the assistant, ``last_turn`` for the last one, ``all`` for
            every token.
        max_tokens: Longer examples are cut; ``None`` cuts none. A cut answer has no end token.
        truncate: ``end`` or ``start`` cuts that side; ``drop`` leaves long examples out. An example without a target is
            left out.

    Returns:
        A row for each example that was not left out; labels are aligned with the ids and -100 where nothing is asked.

    Raises:
        DataError: A template that refuses an example or hides where its answer begins, or no targets at all.
        ModelError: No token could end an answer.
    """
    return [row.as_row() for row in encode_examples(examples, tokenizer, loss_on, max_tokens, truncate).rows]


def prompt_ids(example: Example, tokenizer: Any) -> list[int]:
    """The ids that a model reads before it answers, with the opening of the answer.

    Args:
        example: Its messages but the last are the prompt.
        tokenizer: With the chat template that is used.
    """
    return message_ids(tokenizer, example.as_dicts()[:-1])


def answer_ends(tokenizer: Any, encoded: Sequence[EncodedExample] = ()) -> list[int]:
    """Ids that end an answer: the tokenizer's end of text, and those that end the answers of these examples."""
    found = {} if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id): None}
    found |= {example.end_id: None for example in encoded if example.end_id is not None}
    return list(found)
