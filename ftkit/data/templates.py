"""Chat templates: how the messages of an example become token ids, and which of them are targets.

    messages --template--> text --tokenizer--> ids, places in the text --> labels

A span of the text is a target when the assistant writes it. The template says where spans are: what it writes for the
first messages and the opening of an answer is the context of that answer, and what it adds is the target.

Labels are aligned with the ids, and -100 where nothing is asked. The token that ends a turn is a target; white space
that the template writes after it is not, because a model that has ended its turn writes nothing more.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftkit.data.examples import Example, prompt_key
from ftkit.errors import DataError, ModelError, nearest_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TEMPLATES",
    "EncodedExample",
    "EncodedExamples",
    "LossOn",
    "Truncate",
    "encode_examples",
    "end_ids",
    "prompt_ids",
    "tokenize_examples",
    "with_template",
]

logger = logging.getLogger(__name__)

LossOn = Literal["completions", "all", "last_turn"]
LOSS_ON: tuple[LossOn, ...] = ("completions", "all", "last_turn")
"""Targets: every answer of the assistant, every token, or the last answer alone."""
Truncate = Literal["end", "start", "drop"]
TRUNCATE: tuple[Truncate, ...] = ("end", "start", "drop")
"""Which side of a long example is cut off, or that it is left out."""
IGNORED = -100
"""The label that counts nowhere; torch's and transformers' own."""

TEMPLATES: Mapping[str, str] = {
    "plain": (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "alpaca": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
        "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
        "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
"""Templates by name. ``plain`` puts nothing between prompt, completion and end token."""


def with_template(tokenizer: Any, template: str | None = None, file: str | None = None) -> str:
    """Give a tokenizer the chat template that examples are written with; it is saved with the tokenizer.

    Args:
        tokenizer: The model's tokenizer; changed in place.
        template: A name of ``TEMPLATES``; ``None`` takes the tokenizer's own, else ``plain``.
        file: A file that holds a template in Jinja, instead of a name.

    Returns:
        What is used, for messages and the report.

    Raises:
        DataError: An unknown name, or a file that cannot be read.
        ModelError: The tokenizer has no token that could end an answer.
    """
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"chat_template {file!r}: cannot be read ({error}); give a file with a Jinja template"
            ) from None
        return f"the template of {Path(file).name}"
    if template is None and tokenizer.chat_template:
        return "the tokenizer's chat template"
    name = template or "plain"
    if name not in TEMPLATES:
        raise DataError(f"unknown template {name!r}{nearest_name(name, TEMPLATES)}; allowed: {', '.join(TEMPLATES)}")
    if tokenizer.eos_token is None:
        raise ModelError(
            "the tokenizer has no end-of-text token, so no answer could end; set one, e.g. tokenizer.eos_token = '</s>'"
        )
    if name == "chatml":
        _check_marks(tokenizer, ("<|im_start|>", "<|im_end|>"))
    begins = "{{ bos_token }}" if _adds_bos(tokenizer) else ""
    tokenizer.chat_template = begins + TEMPLATES[name]
    return f"the template {name!r}"


def _check_marks(tokenizer: Any, marks: Sequence[str]) -> None:
    known = tokenizer.get_vocab()
    if missing := [mark for mark in marks if mark not in known]:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(missing)}, which the template needs; take the template plain or "
            "alpaca, or a model whose tokenizer has these tokens"
        )


def _adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer begins every text with its BOS token by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def end_ids(tokenizer: Any, encoded: Sequence[EncodedExample] = ()) -> list[int]:
    """Ids that end an answer: the tokenizer's end of text, and those that end the answers of these examples."""
    found = {} if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id): None}
    for example in encoded:
        if example.end_id is not None:
            found[example.end_id] = None
    return list(found)


# Rendering


def _render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, opening: bool = False) -> str:
    """The text of messages, with the opening of an answer where one is wanted."""
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opening)
    except Exception as error:  # a template raises what its author chose
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"the chat template refuses messages of the roles {roles} ({error})") from None
    return text


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of all special tokens; templates use some that the tokenizer gives no name."""
    added = tokenizer.added_tokens_decoder
    return set(tokenizer.all_special_ids) | {int(id_) for id_, token in added.items() if token.special}


@dataclass(frozen=True)
class _Rendered:
    """The text of an example and what of it is a target."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """First and one past the last character of each answer, with the mark that ends it."""


def _rendered(tokenizer: Any, example: Example) -> _Rendered | None:
    """The text of an example; ``None`` where the template rewrites earlier messages when others follow."""
    messages = example.as_dicts()
    text = _render(tokenizer, messages)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or number < example.first_target or number == 0:
            continue
        before = _render(tokenizer, messages[:number], opening=True)
        whole = text if number == len(messages) - 1 else _render(tokenizer, messages[: number + 1])
        if not whole.startswith(before):
            return None
        end = len(whole)
        if not text.startswith(whole):  # some templates end a turn only when another follows
            whole = whole.rstrip()
            if not text.startswith(whole):
                return None
            end = len(whole)
        spans.append((len(before), end))
    return _Rendered(text, tuple(spans))


@dataclass(frozen=True)
class EncodedExample:
    """One example as a model sees it."""

    input_ids: list[int]
    labels: list[int]
    """Aligned with ``input_ids``, -100 where nothing is asked."""
    example: Example
    target_bytes: int = 0
    """UTF-8 bytes of the text of the targets, without the marks that end turns."""
    end_id: int | None = None
    """The token that ends the last answer; ``None`` where it was cut off."""

    @property
    def num_targets(self) -> int:
        """Tokens that are asked; the first token of a row cannot be."""
        return sum(label != IGNORED for label in self.labels[1:])

    def as_row(self) -> dict[str, list[int]]:
        """Ids and labels."""
        return {"input_ids": self.input_ids, "labels": self.labels}


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
            counted.append(f"{self.cut:,} were cut to max_tokens")
        if self.dropped:
            counted.append(f"{self.dropped:,} were left out, because too little of them fits into max_tokens")
        if self.joined:
            counted.append(f"in {self.joined:,} a token joins prompt and completion; that token is not asked")
        return "; ".join(counted)


def _marked(tokenizer: Any, example: Example) -> tuple[list[int], list[bool], str] | None:
    """Ids and what is a target by the template's own generation marks; ``None`` where it has none."""
    if not re.search(r"{%-?\s*generation\b", str(tokenizer.chat_template)):
        return None
    messages = example.as_dicts()
    found = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    return list(found["input_ids"]), [bool(each) for each in found["assistant_masks"]], _render(tokenizer, messages)


def _encode(tokenizer: Any, example: Example, loss_on: LossOn) -> tuple[EncodedExample, bool]:
    """One whole example, and whether a token joins context and answer."""
    rendered, special = _rendered(tokenizer, example), _special_ids(tokenizer)
    if rendered is None:
        return _encode_marked(tokenizer, example, loss_on), False
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:  # written by the template and by the example
        ids, places = ids[1:], places[1:]
    spans = rendered.spans[-1:] if loss_on == "last_turn" else rendered.spans
    asked, num_bytes, joined, end = [False] * len(ids), 0, False, None
    for first, last in spans:
        joined |= any(start < first < stop for start, stop in places)
        inside = [n for n, (start, stop) in enumerate(places) if start >= first and stop <= last and stop > start]
        inside, end = _with_end(ids, inside, special, rendered.text, places)
        for n in inside:
            asked[n] = True
            if ids[n] not in special:
                num_bytes += len(rendered.text[places[n][0] : places[n][1]].encode())
    if end is None and spans and spans[-1] == rendered.spans[-1]:
        ids, asked, end = _ended(tokenizer, ids, asked)
    if loss_on == "all":
        asked, num_bytes = [True] * len(ids), len(rendered.text.encode())
    labels = [id_ if wanted else IGNORED for id_, wanted in zip(ids, asked, strict=True)]
    return EncodedExample(ids, labels, example, num_bytes, end), joined


def _with_end(
    ids: list[int], inside: list[int], special: set[int], text: str, places: Sequence[tuple[int, int]]
) -> tuple[list[int], int | None]:
    """The targets of one answer up to the token that ends it, and that token; ``None`` where none ends it."""
    ends = [n for n in inside if ids[n] in special]
    if ends and not text[places[ends[-1]][1] : places[inside[-1]][1]].strip():
        return [n for n in inside if n <= ends[-1]], ids[ends[-1]]
    if inside and inside[-1] + 1 < len(ids) and ids[inside[-1] + 1] in special:
        following = inside[-1] + 1  # the template gives the end of a turn to what follows
        return [*inside, following], ids[following]
    return inside, None


def _ended(tokenizer: Any, ids: list[int], asked: list[bool]) -> tuple[list[int], list[bool], int]:
    """An end token after an example whose template writes none."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the chat template writes no token that ends an answer, and the tokenizer has no end-of-text token; set "
            "one, e.g. tokenizer.eos_token = '</s>'"
        )
    return [*ids, int(tokenizer.eos_token_id)], [*asked, True], int(tokenizer.eos_token_id)


def _encode_marked(tokenizer: Any, example: Example, loss_on: LossOn) -> EncodedExample:
    """An example whose template rewrites earlier messages, by the template's own marks."""
    found = _marked(tokenizer, example)
    if found is None:
        messages = example.as_dicts()
        before = _render(tokenizer, messages[:-1], opening=True)
        raise DataError(
            f"{example.place or 'an example'}: the chat template writes the prompt in another way when an answer "
            "follows, so it cannot be seen where the answer begins. Give a template with {% generation %} marks "
            f"(--chat_template FILE), or --template plain.\n  prompt alone: ...{before[-80:]!r}\n  with its answer: "
            f"...{_render(tokenizer, messages)[max(len(before) - 80, 0) :][:160]!r}"
        )
    ids, asked, text = found
    if not any(asked):
        raise DataError(
            f"{example.place or 'an example'}: the template's generation marks mark nothing, so nothing would be "
            "learned; mend the template, or take another with --template"
        )
    runs = _wanted_runs(asked, example, loss_on)
    asked = [any(n in run for run in runs) for n in range(len(ids))]
    special, end = _special_ids(tokenizer), None
    for run in runs:
        end = _mark_end(tokenizer, ids, asked, run, special)
    if end is None:
        ids, asked, end = _ended(tokenizer, ids, asked)
    if loss_on == "all":
        asked = [True] * len(ids)
    targets = [id_ for id_, wanted in zip(ids, asked, strict=True) if wanted and id_ not in special]
    num_bytes = len(text.encode()) if loss_on == "all" else len(tokenizer.decode(targets).encode())
    labels = [id_ if wanted else IGNORED for id_, wanted in zip(ids, asked, strict=True)]
    return EncodedExample(ids, labels, example, num_bytes, end)


def _runs(asked: Sequence[bool]) -> list[range]:
    """Where targets stand together."""
    firsts = [n for n, wanted in enumerate(asked) if wanted and not (n and asked[n - 1])]
    return [range(n, next((m for m in range(n, len(asked)) if not asked[m]), len(asked))) for n in firsts]


def _wanted_runs(asked: Sequence[bool], example: Example, loss_on: LossOn) -> list[range]:
    """The runs of the answers that are learned; earlier answers belong to the prompt."""
    runs = _runs(asked)
    answers = [number for number, message in enumerate(example.messages) if message.role == "assistant"]
    wanted = [place for place, number in enumerate(answers) if number >= example.first_target]
    wanted = wanted[-1:] if loss_on == "last_turn" else wanted
    if len(wanted) == len(answers):
        return runs
    if len(runs) != len(answers):
        raise DataError(
            f"{example.place or 'an example'}: the template's generation marks mark {len(runs)} parts and there are "
            f"{len(answers)} answers, so it cannot be seen which part is which answer; take loss_on: completions and "
            "a dialogue as messages, or another template"
        )
    return [runs[place] for place in wanted]


def _mark_end(tokenizer: Any, ids: list[int], asked: list[bool], run: range, special: set[int]) -> int | None:
    """Let the targets of a run go up to the token that ends the turn; that token, ``None`` where there is none."""
    ends = [n for n in run if ids[n] in special]
    if ends and not tokenizer.decode(ids[ends[-1] + 1 : run.stop]).strip():
        asked[ends[-1] + 1 : run.stop] = [False] * (run.stop - ends[-1] - 1)
        return ids[ends[-1]]
    if run.stop < len(ids) and ids[run.stop] in special:  # the template gives the end of a turn to what follows
        asked[run.stop] = True
        return ids[run.stop]
    return None


def _fitted(row: EncodedExample, max_tokens: int, truncate: Truncate) -> EncodedExample | None:
    """A long example cut on one side, ids and labels together; ``None`` where it is left out."""
    if truncate == "drop":
        return None
    part = slice(0, max_tokens) if truncate == "end" else slice(len(row.input_ids) - max_tokens, None)
    labels = row.labels[part]
    share = sum(label != IGNORED for label in labels) / max(sum(label != IGNORED for label in row.labels), 1)
    end = row.end_id if truncate == "start" else None
    return EncodedExample(row.input_ids[part], labels, row.example, round(share * row.target_bytes), end)


def encode_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    loss_on: LossOn = "completions",
    max_tokens: int | None = None,
    truncate: Truncate = "end",
) -> EncodedExamples:
    """Turn examples into ids and labels with the tokenizer's chat template; see ``tokenize_examples``."""
    for name, value, allowed in (("loss_on", loss_on, LOSS_ON), ("truncate", truncate, TRUNCATE)):
        if value not in allowed:
            raise DataError(f"unknown {name} {value!r}{nearest_name(value, allowed)}; allowed: {', '.join(allowed)}")
    if not tokenizer.chat_template:
        with_template(tokenizer)
    rows, cut, dropped, joined = [], 0, 0, 0
    for example in examples:
        row, joins = _encode(tokenizer, example, loss_on)
        joined += joins
        if max_tokens is not None and len(row.input_ids) > max_tokens:
            fitted = _fitted(row, max_tokens, truncate)
            if fitted is None or not fitted.num_targets:
                dropped += 1
                continue
            row, cut = fitted, cut + 1
        elif not row.num_targets:
            dropped += 1
            continue
        rows.append(row)
    if not rows:
        longest = "" if max_tokens is None else f" of at most {max_tokens:,} tokens"
        raise DataError(
            f"of {len(examples):,} examples none{longest} has a token that is asked, so nothing could be learned; "
            "allow more tokens, or look at the chat template"
        )
    return EncodedExamples(rows, cut, dropped, joined)


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


def prompt_ids(example: Example, tokenizer: Any, before: Sequence[Example] = ()) -> list[int]:
    """The ids that a model reads before it answers, with the opening of the answer.

    Args:
        example: Its messages but the last are the prompt.
        tokenizer: With the chat template that is used.
        before: Examples whose messages stand before it as earlier turns (few-shot).
    """
    system = [message for message in example.as_dicts()[:-1] if message["role"] == "system"]
    earlier = [message for shot in before for message in shot.as_dicts() if message["role"] != "system"]
    rest = [message for message in example.as_dicts()[:-1] if message["role"] != "system"]
    text = _render(tokenizer, [*system, *earlier, *rest], opening=True)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids[1:] if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id else ids


def in_both(train: Sequence[Example], heldout: Sequence[Example]) -> float:
    """Share of the held-out examples whose prompt occurs in the training examples."""
    known = {prompt_key(example) for example in train}
    return sum(prompt_key(example) in known for example in heldout) / max(len(heldout), 1)
