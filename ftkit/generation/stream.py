"""Text as it is written: token ids go in one by one, whole characters come out."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

__all__ = ["TextStream", "continuation"]

_UNFINISHED = "\ufffd"
"""What stands for the bytes of a character that has not come as a whole."""


class TextStream:
    """Turns ids into text piece by piece; the pieces together are the text.

    A character of several bytes may need several tokens: it is held back until it is whole. A space that belongs to a
    word only where something stands before it is right from the first token on, since the prompt's end is known.

    Args:
        tokenizer: Of the model that writes.
        before: Ids that stand before the text, such as the prompt's; none for an answer that begins afresh.
        write: Gets each piece.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, before: Sequence[int], write: Callable[[str], object]
    ) -> None:
        self._tokenizer, self._write = tokenizer, write
        self._ids = list(before)
        # The last piece is decoded again with what follows it: it begins and ends with a whole character.
        self._start, self._end = 0, len(self._ids)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All that was written so far."""
        return "".join(self._pieces)

    def add(self, id_: int) -> None:
        """Take one id, and write what is whole now."""
        self._ids.append(id_)
        new = self._new()
        if new and not new.endswith(_UNFINISHED):
            self._send(new)

    def close(self) -> str:
        """Write what was held back; return the whole text, without a last character that was cut off."""
        if rest := self._new().rstrip(_UNFINISHED):
            self._send(rest)
        return self.text

    def _send(self, piece: str) -> None:
        self._pieces.append(piece)
        self._start, self._end = self._end, len(self._ids)
        self._write(piece)

    def _new(self) -> str:
        """The text of the ids that were not written, as it stands behind those before them."""
        known = self._decoded(self._ids[self._start : self._end])
        return self._decoded(self._ids[self._start :])[len(known) :]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)) if ids else ""


def continuation(tokenizer: PreTrainedTokenizerBase, before: Sequence[int], ids: Sequence[int]) -> str:
    """Return the text of new ids as it follows the text before them, the same as ``TextStream`` writes.

    Args:
        tokenizer: Of the model that wrote.
        before: Ids before the new ones; none for an answer that begins afresh.
        ids: The new ones.
    """
    stream = TextStream(tokenizer, before, lambda piece: None)
    for id_ in ids:
        stream.add(id_)
    return stream.close()
