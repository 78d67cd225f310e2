"""Examples: prompts with completions, or dialogues, from tables, folders and data sets of the Hub.

    source -> rows -> format (recognized by its columns) -> Example(messages) -> chat template -> ids and labels

Every example is a list of messages, whatever form its row has; ``ftkit.data.encoded_examples`` turns it into tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ftkit.data.corpus import load_corpus
from ftkit.data.hub_rows import HubPlace, load_rows, local_rows, read_hub_place
from ftkit.data.templated_text import MARKERS, turns_of
from ftkit.data.text_files import exists, neighbours, sentence
from ftkit.errors import DataError, nearest_name

__all__ = [
    "BadRow",
    "Example",
    "ExampleSource",
    "ExampleSplit",
    "Message",
    "load_examples",
    "prompt_key",
    "read_examples",
    "read_message",
    "split_examples",
    "with_shots",
]

logger = logging.getLogger(__name__)

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
"""Roles that chat templates of the Hub know."""
ROLE_NAMES: Mapping[str, Role] = {
    "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "user": "user", "system": "system", "tool": "tool", "function": "tool",
    "observation": "tool", "ipython": "tool",
}  # fmt: skip
"""Other names of roles, as data sets in the form of ShareGPT have them."""
MESSAGE_KEYS = (("role", "content"), ("from", "value"))
"""Keys of a message: those of chat templates, and those of ShareGPT."""


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str


@dataclass(frozen=True)
class Example:
    """What a model reads and what it shall answer."""

    messages: tuple[Message, ...]
    """In their order; the last one is the assistant's."""
    place: str = ""
    """Where it stands in its source, for messages to people."""
    first_target: int = 0
    """Number of the first message whose answer may be learned; assistant turns before it are part of the prompt."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages before the last."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """Text of the last message."""
        return self.messages[-1].content

    @property
    def prompt_text(self) -> str:
        """The prompt's messages without any template, for reports and for comparing."""
        return "\n".join(message.content for message in self.prompt)

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as chat templates take them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


class ExampleSource(NamedTuple):
    """The examples of a source."""

    name: str
    """Short name for reports."""
    format: str
    """How its rows were read, in one line."""
    examples: list[Example]


def with_shots(example: Example, shots: Sequence[Example]) -> Example:
    """An example with others as earlier turns (few-shot); its own system message stays first, theirs are left out."""
    system = [message for message in example.messages if message.role == "system"]
    earlier = [message for shot in shots for message in shot.messages if message.role != "system"]
    rest = [message for message in example.messages if message.role != "system"]
    messages = (*system, *earlier, *rest)
    return Example(messages, example.place, len(messages) - 1)


# Formats: what the columns of a row mean.


Values = Mapping[str, Any]


class BadRow(ValueError):
    """A row that is no example, or a message that is none; the text says why."""


def _text(values: Values, column: str, *, may_be_empty: bool = False) -> str:
    value = values[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        if may_be_empty:
            return ""
        raise BadRow(f"{column} is empty")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise BadRow(f"{column} holds {type(value).__name__}, not text")
    return value


def read_message(number: int, found: Any) -> Message:
    """Read one message of a dialogue.

    Args:
        number: Its number, for the error.
        found: An object with ``role`` and ``content``, or ``from`` and ``value``.

    Raises:
        BadRow: It is none.
    """
    if not isinstance(found, Mapping):
        raise BadRow(f"message {number} is {type(found).__name__}, not an object with role and content")
    keys = next((keys for keys in MESSAGE_KEYS if keys[0] in found), None)
    if keys is None:
        raise BadRow(
            f"message {number} has the keys {', '.join(map(str, found)) or '(none)'}; it needs role and content"
        )
    role_key, content_key = keys
    name = str(found[role_key])
    if (role := ROLE_NAMES.get(name.casefold())) is None:
        raise BadRow(f"message {number} has the role {name!r}{nearest_name(name, ROLES)}; roles are {', '.join(ROLES)}")
    content = found.get(content_key)
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        calls = "; calls of tools are not read" if found.get("tool_calls") else ""
        raise BadRow(f"message {number} ({role}) holds {type(content).__name__}, not text{calls}")
    if role == "assistant" and not content.strip():
        raise BadRow(f"message {number} (assistant) is empty")
    return Message(role, content)


def _dialogue(found: Any, column: str) -> tuple[Message, ...]:
    if isinstance(found, str) and found.lstrip().startswith("["):  # a column of a CSV file
        try:
            found = json.loads(found)
        except ValueError as error:
            raise BadRow(f"{column} is no JSON list of messages ({error})") from None
    if isinstance(found, np.ndarray):
        found = list(found)
    if not isinstance(found, list | tuple):
        raise BadRow(f"{column} holds {type(found).__name__}, not a list of messages")
    messages = [read_message(number, each) for number, each in enumerate(found, start=1)]
    while messages and messages[-1].role != "assistant":
        messages.pop()  # nothing answers them
    if not messages:
        raise BadRow(f"{column} has no message of the assistant, so there is nothing to learn")
    if len(messages) == 1:
        raise BadRow(f"{column} has no message before the assistant's, so there is no prompt")
    return tuple(messages)


def _is_dialogue(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _pair(prompt: Any, completion: Any, columns: tuple[str, str]) -> tuple[tuple[Message, ...], int]:
    """Messages of a prompt and a completion, each a text or a list of messages."""
    before = tuple(read_message(n, each) for n, each in enumerate(prompt, 1)) if _is_dialogue(prompt) else None
    after = tuple(read_message(n, each) for n, each in enumerate(completion, 1)) if _is_dialogue(completion) else None
    values = dict(zip(columns, (prompt, completion), strict=True))
    if before is None:
        before = (Message("user", _text(values, columns[0])),)
    if after is None:
        after = (Message("assistant", _text(values, columns[1])),)
    if not before:
        raise BadRow(f"{columns[0]} is empty")
    if not after or after[-1].role != "assistant":
        raise BadRow(f"{columns[1]} does not end with a message of the assistant")
    return (*before, *after), len(before)


class _Format(NamedTuple):
    """A form of rows."""

    needs: tuple[str, ...]
    """Columns that it is recognized by."""
    may_have: tuple[str, ...]
    """Columns that are read where they are there."""
    read: Callable[[Values], list[tuple[tuple[Message, ...], int]]]
    """Messages of a row and the number of the first target, for each example of the row."""


def _read_pair(names: tuple[str, str]) -> Callable[[Values], list[tuple[tuple[Message, ...], int]]]:
    def read(values: Values) -> list[tuple[tuple[Message, ...], int]]:
        messages, first = _pair(values[names[0]], values[names[1]], names)
        if "system" in values and (system := _text(values, "system", may_be_empty=True)):
            messages, first = (Message("system", system), *messages), first + 1
        return [(messages, first)]

    return read


def _asked(instruction: str, more: str) -> str:
    """An instruction with its input below it."""
    return f"{instruction}\n\n{more}" if more else instruction


def _read_instruction(values: Values) -> list[tuple[tuple[Message, ...], int]]:
    more = _text(values, "input", may_be_empty=True) if "input" in values else ""
    user = Message("user", _asked(_text(values, "instruction"), more))
    return [((user, Message("assistant", _text(values, "output"))), 1)]


def _read_instances(values: Values) -> list[tuple[tuple[Message, ...], int]]:
    instruction, instances = _text(values, "instruction"), values["instances"]
    if not _is_dialogue(instances) or not all(isinstance(each, Mapping) and "output" in each for each in instances):
        raise BadRow("instances is no list of objects with input and output")
    return [
        (
            (
                Message("user", _asked(instruction, _text({"input": "", **each}, "input", may_be_empty=True))),
                Message("assistant", _text(each, "output")),
            ),
            1,
        )
        for each in instances
    ]


def _read_dialogue(column: str) -> Callable[[Values], list[tuple[tuple[Message, ...], int]]]:
    def read(values: Values) -> list[tuple[tuple[Message, ...], int]]:
        messages = _dialogue(values[column], column)
        if "system" in values and (system := _text(values, "system", may_be_empty=True)):
            messages = (Message("system", system), *messages)
        return [(messages, 0)]

    return read


def _read_turns(values: Values) -> list[tuple[tuple[Message, ...], int]]:
    """Read the dialogue in a text that a chat template has rendered."""
    if (turns := turns_of(_text(values, "text"))) is None:
        raise BadRow(
            f"text {values['text'][:40]!r} has no user turn followed by an assistant turn (known markers of turns: "
            f"{', '.join(MARKERS)}). To train on plain text, use 'ftkit run finetune --corpus'; to use other columns, "
            "give --columns prompt=A,completion=B"
        )
    return [(_dialogue([{"role": who, "content": said} for who, said in turns], "text"), 0)]


FORMATS: Mapping[str, _Format] = {
    "messages": _Format(("messages",), (), _read_dialogue("messages")),
    "conversations": _Format(("conversations",), ("system",), _read_dialogue("conversations")),
    "prompt, completion": _Format(("prompt", "completion"), ("system",), _read_pair(("prompt", "completion"))),
    "instruction, instances": _Format(("instruction", "instances"), (), _read_instances),
    "instruction, input, output": _Format(("instruction", "output"), ("input",), _read_instruction),
    "question, answer": _Format(("question", "answer"), ("system",), _read_pair(("question", "answer"))),
    "prompt, response": _Format(("prompt", "response"), ("system",), _read_pair(("prompt", "response"))),
    "text with markers of turns": _Format(("text",), (), _read_turns),
}
"""Forms of rows in the order in which they are looked for."""

COLUMN_ROLES = ("prompt", "completion", "system", "messages", "text")
"""What columns may be named for."""


def _recognized(where: str, present: Sequence[str]) -> tuple[str, _Format, dict[str, str]]:
    """The format that a table's columns show, and the table's names of its columns."""
    folded = {name.casefold(): name for name in reversed(present)}
    for name, form in FORMATS.items():
        if all(column in folded for column in form.needs):
            wanted = [*form.needs, *(column for column in form.may_have if column in folded)]
            return name, form, {column: folded[column] for column in wanted}
    raise DataError(
        f"{where}: the columns are {', '.join(present) or '(none)'}, which are none of "
        f"{'; '.join(FORMATS)}. Name the columns: --columns prompt=...,completion=... (or messages=..., or text=...)."
    )


def _named(where: str, columns: Mapping[str, str], present: Sequence[str]) -> tuple[str, _Format, dict[str, str]]:
    """The format of columns that were named."""
    for role, column in columns.items():
        if role not in COLUMN_ROLES:
            raise DataError(
                f"{where}: columns names {role!r}{nearest_name(role, COLUMN_ROLES)}; allowed are "
                f"{', '.join(COLUMN_ROLES)}"
            )
        if column not in present:
            near = sentence(nearest_name(column, present))
            raise DataError(f"{where}: no column {column!r}{near} Columns: {', '.join(present) or 'none'}.")
    described = ", ".join(f"{role}={column}" for role, column in columns.items())
    for whole, form in (("messages", FORMATS["messages"]), ("text", FORMATS["text with markers of turns"])):
        if whole in columns:
            return described, form, {whole: columns[whole]}
    if not {"prompt", "completion"} <= set(columns):
        raise DataError(f"{where}: columns is {described or 'empty'}; name prompt and completion, messages, or text")
    return described, FORMATS["prompt, completion"], dict(columns)


class _Chooser:
    """Chooses the columns of a table when they are known."""

    def __init__(self, columns: Mapping[str, str] | None) -> None:
        self.columns, self.described = columns, ""
        self.form: _Format | None = None
        self.roles: list[str] = []

    def __call__(self, where: str, present: Mapping[str, Any]) -> list[str]:
        names = list(present)
        described, form, chosen = _named(where, self.columns, names) if self.columns else _recognized(where, names)
        if self.form is not None and described != self.described:
            raise DataError(
                f"{where}: its columns are read as {described}, those of the files before it as {self.described}. "
                "Give files of one format."
            )
        self.described, self.form, self.roles = described, form, list(chosen)
        return list(chosen.values())


def load_examples(
    source: str | Sequence[Mapping[str, Any]],
    columns: Mapping[str, str] | None = None,
) -> list[Example]:
    """Read examples from a file, a folder, a data set of the Hub, or rows in memory.

    Args:
        source: ``chats.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.parquet`` or ``.arrow``, compressed or not; a folder
            of such files; ``hub:NAME[:SPLIT]``; ``halves:TEXT``, where a passage's first half is the prompt and its
            second the completion; or rows, such as ``[{"prompt": ..., "completion": ...}]``.
        columns: Names of the columns for ``prompt``, ``completion`` and ``system``, for ``messages``, or for ``text``
            that a chat template has written. ``None`` recognizes them: prompt and completion; instruction, input and
            output; question and answer; messages; conversations; text.

    Returns:
        The examples in their order.

    Raises:
        DataError: It cannot be read, or a row is no example; the message names file and row.
        NetworkError: A download failed.
    """
    return read_examples(source, columns).examples


def read_examples(source: str | Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> ExampleSource:
    """``load_examples`` with the source's name and the format that was recognized."""
    choose = _Chooser(columns)
    name, where, rows = _opened(source, choose)
    examples: list[Example] = []
    for place, values in rows:
        assert choose.form is not None
        try:
            for messages, first in choose.form.read(dict(zip(choose.roles, values, strict=True))):
                examples.append(Example(messages, place, first))
        except BadRow as error:
            raise DataError(f"{where}, {place}: {error}. Mend the row, or remove it.") from None
    if not examples:
        raise DataError(f"{where}: no examples")
    return ExampleSource(name, choose.described, examples)


def _opened(
    source: str | Sequence[Mapping[str, Any]], choose: _Chooser
) -> tuple[str, str, Iterator[tuple[str, tuple[Any, ...]]]]:
    """Name of a source, what to call it in messages, and its rows."""
    if not isinstance(source, str):
        return "examples", "examples", _rows_in_memory(source, choose)
    where = f"Examples {source!r}"
    if source.lower().startswith("halves:"):
        rows = _halves(source, source.partition(":")[2])
        return "halves", where, _rows_in_memory(rows, choose)
    if source.lower().startswith("hub:"):
        place = read_hub_place(source, source[4:])
        if place.folder is None:
            return place.name, where, _rows_of_hub(where, load_rows(source, place), choose)
    else:
        path = Path(source).expanduser()
        if not source or not exists(path):
            raise DataError(
                f"{where}: no such file or folder{sentence(neighbours(path))} Give a table (.jsonl, .json, .csv, .tsv, "
                ".parquet), a folder of tables, or hub:NAME."
            )
        place = HubPlace(source, path, "train", "", path.resolve().stem)
    return place.name, where, ((row.place, row.values) for row in local_rows(where, place, choose))


_HALVED_CHARS = 240
"""Characters of a passage that is halved: two or three sentences, so that the second half follows from the first."""


def _halves(source: str, text: str) -> list[dict[str, str]]:
    """Pairs made from a text: the first half of each passage is the prompt, the second the completion."""
    corpus = load_corpus(text, warn_short=False)
    found = []
    for document in corpus.documents:
        words = re.findall(r"\s*\S+", document.text)
        passage: list[str] = []
        for word in words:
            passage.append(word)
            if sum(map(len, passage)) >= _HALVED_CHARS:
                middle = len(passage) // 2
                halves = "".join(passage[:middle]).strip(), "".join(passage[middle:])
                found.append({"prompt": halves[0], "completion": halves[1]})
                passage = []
    if not found:
        raise DataError(f"Examples {source!r}: the text has no passage of {_HALVED_CHARS} characters; give more text")
    return found


def _rows_in_memory(rows: Sequence[Mapping[str, Any]], choose: _Chooser) -> Iterator[tuple[str, tuple[Any, ...]]]:
    names: list[str] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"examples, row {number:,}: {type(row).__name__} where an object is needed")
        if not names:
            names = choose("examples", row)
        if missing := [name for name in names if name not in row]:
            raise DataError(f"examples, row {number:,}: no {', '.join(missing)}; it has {', '.join(map(str, row))}")
        yield f"row {number:,}", tuple(row[name] for name in names)


def _rows_of_hub(where: str, rows: Any, choose: _Chooser) -> Iterator[tuple[str, tuple[Any, ...]]]:
    names = choose(where, dict.fromkeys(rows.column_names))
    for number, row in enumerate(rows.select_columns(names)):
        yield f"row {number:,}", tuple(row[name] for name in names)


# Splitting


@dataclass(frozen=True)
class ExampleSplit:
    """Examples to learn from, and examples that are never trained on; no prompt is on both sides."""

    train: list[Example]
    heldout: list[Example]
    duplicates: int = 0
    """Examples whose prompt and completion occurred before."""
    on_both_sides: int = 0
    """Training examples that were left out because their prompt is held out."""

    @property
    def summary(self) -> str:
        """One line for terminal and report."""
        counted = [f"{len(self.train):,} examples to train on, {len(self.heldout):,} held out"]
        if self.duplicates:
            counted.append(f"{self.duplicates:,} occur more than once (kept on one side)")
        if self.on_both_sides:
            counted.append(f"{self.on_both_sides:,} left out of training, because their prompt is held out")
        return "; ".join(counted)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest over both sides in their order."""
        return hashlib.sha256(repr((self.train, self.heldout)).encode()).hexdigest()


def _key(text: str) -> str:
    """A text by which copies are found that differ in case or white space."""
    return re.sub(r"\s+", " ", text).strip().casefold()


def prompt_key(example: Example) -> str:
    """What two examples share whose prompts are the same but for case and white space."""
    return _key(example.prompt_text)


def split_examples(
    examples: Sequence[Example],
    heldout: Sequence[Example] | None = None,
    *,
    heldout_share: float = 0.1,
    seed: int = 0,
) -> ExampleSplit:
    """Divide examples by their prompts, or keep given held-out examples out of the training ones.

    Args:
        examples: All examples; with ``heldout`` those to train on.
        heldout: Examples that must not be trained on; ``None`` draws some.
        heldout_share: Share of the prompts that is held out, above 0 and below 1.
        seed: Which ones.

    Raises:
        DataError: One side would be empty.
    """
    keys = [prompt_key(example) for example in examples]
    pairs = {(key, _key(example.completion)) for key, example in zip(keys, examples, strict=True)}
    duplicates = len(examples) - len(pairs)
    if heldout is not None:
        kept_out = {prompt_key(example) for example in heldout}
        train = [example for key, example in zip(keys, examples, strict=True) if key not in kept_out]
        found = ExampleSplit(train, list(heldout), duplicates, len(examples) - len(train))
    else:
        distinct = list(dict.fromkeys(keys))
        count = min(max(round(heldout_share * len(distinct)), 1), len(distinct) - 1)
        order = np.random.default_rng([seed, 0x5EED]).permutation(len(distinct))
        kept_out = {distinct[place] for place in order[: max(count, 0)]}
        sides: tuple[list[Example], list[Example]] = [], []
        for key, example in zip(keys, examples, strict=True):
            sides[key in kept_out].append(example)
        found = ExampleSplit(*sides, duplicates)
    if not found.train or not found.heldout:
        raise DataError(
            f"{len(examples):,} examples with {len(set(keys)):,} different prompts give no training examples and "
            "held-out ones; give more examples, or held-out examples with other prompts"
        )
    return found
