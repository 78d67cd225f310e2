"""What a model is asked to continue or to answer: one text or the turns of a conversation, from files too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftkit.data.examples import BadRow, read_message
from ftkit.data.formats import detect_format
from ftkit.data.local_documents import read_lines
from ftkit.data.tables import named_columns, table_rows, text_column
from ftkit.data.text_files import check_characters, decode_bytes, split_column, split_lines
from ftkit.errors import DataError

__all__ = ["Prompt", "decoded_prompt", "decoded_prompts", "read_prompts"]

_COLUMNS = ("prompt", "messages", "conversations")
"""Columns of prompts; the first that a table has is taken."""


@dataclass(frozen=True)
class Prompt:
    """One text, or turns that wait for an answer."""

    place: str
    """Where it stands, for messages."""
    text: str = ""
    messages: tuple[dict[str, str], ...] = ()
    """Turns; where there are any, ``text`` is empty."""

    def turns(self, system: str | None = None) -> list[dict[str, str]]:
        """Return the turns of a chat; a text becomes the user's.

        Args:
            system: Stands before them, in place of a system turn of their own.
        """
        turns = list(self.messages) or [{"role": "user", "content": self.text}]
        if system is None:
            return turns
        return [{"role": "system", "content": system}, *(turn for turn in turns if turn["role"] != "system")]

    def as_dict(self) -> dict[str, Any]:
        """The prompt as JSON holds it."""
        return {"messages": list(self.messages)} if self.messages else {"prompt": self.text}


def read_prompts(source: str, encoding: str = "utf-8") -> list[Prompt]:
    """Read prompts from a file.

    Args:
        source: A text file, each line a prompt; or a table (JSON lines, JSON, CSV, parquet): its column ``prompt`` or
            ``messages``, else ``text`` or the only one. ``FILE#COLUMN`` names the column. An answer at the end of
            ``messages`` is left out.
        encoding: A Python codec.

    Raises:
        DataError: No such file or column, no prompt, an empty one, or turns that are none.
    """
    path, column = split_column(source)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"{source}: {reason}; give a file of prompts")
    file = detect_format(path)
    if not file.is_table:
        found = [Prompt(place, text) for place, text in read_lines(source, encoding)]
    else:

        def choose(where: str, present: Mapping[str, Any]) -> Sequence[str]:
            named = [column] if column else [name for name in _COLUMNS if name in present][:1]
            if not named and len(present) > 1 and "text" not in present:
                raise DataError(
                    f"{where}: has the columns {', '.join(present)}, and none is called {' or '.join(_COLUMNS)}; name "
                    "the one of the prompts as FILE#COLUMN"
                )
            return named_columns(*named)(where, present) if named else text_column(where, present)

        rows = table_rows(source, file, choose, encoding)
        found = [_prompt(f"{source}, {row.place}", row.place, row.values[0]) for row in rows]
    return _checked(source, found)


def decoded_prompts(place: str, content: bytes, encoding: str) -> list[Prompt]:
    """Return the lines of a text that came as bytes, each a prompt.

    Args:
        place: Where it came from.
        content: The bytes.
        encoding: A Python codec.
    """
    lines = split_lines(decode_bytes(place, content, encoding))
    return _checked(place, [Prompt(f"line {n:,}", line) for n, line in enumerate(lines, 1) if line.strip()])


def decoded_prompt(place: str, content: bytes, encoding: str) -> Prompt:
    """Return a text that came as bytes as one prompt, without the line end at its end.

    Args:
        place: Where it came from.
        content: The bytes.
        encoding: A Python codec.
    """
    text = decode_bytes(place, content, encoding).removesuffix("\n").removesuffix("\r")
    return _checked(place, [Prompt(place, text)] if text.strip() else [])[0]


def _checked(source: str, prompts: list[Prompt]) -> list[Prompt]:
    if not prompts:
        raise DataError(f"{source}: has no prompt; it is empty or blank")
    for prompt in prompts:
        check_characters(f"{source}, {prompt.place}", prompt.text)
    return prompts


def _prompt(where: str, place: str, value: Any) -> Prompt:
    """A cell as a prompt: a text, or a list of turns."""
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: the prompt is empty")
        return Prompt(place, value)
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {type(value).__name__} where a text or a list of turns is needed")
    try:
        turns = [vars(read_message(number, turn)) for number, turn in enumerate(value, start=1)]
    except BadRow as error:
        raise DataError(f"{where}: {error}") from None
    for number, turn in enumerate(turns, start=1):
        check_characters(f"{where}, message {number}", turn["content"])
    if turns[-1]["role"] == "assistant":  # the answer of a training example
        turns.pop()
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        raise DataError(f"{where}: no turn of a user waits for an answer")
    return Prompt(place, messages=tuple(turns))
