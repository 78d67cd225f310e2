"""Turn texts into one vector of token ids on disk, in bounded memory, with the bytes that every token covers.

The vector and its byte counts are memory maps, cached by a digest of the texts and of the tokenizer and checked
against their own digests whenever they are opened.
"""

import hashlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ftkit.data.downloads import cache_dir
from ftkit.data.made_tokenizers import byte_characters
from ftkit.data.tokenizers import reads_tokens, tokenizer_fingerprint
from ftkit.errors import DataError, ModelError
from ftkit.runs.files import atomic_folder, file_sha256

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = ["TokenStore", "tokenize_each", "tokenize_texts"]

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2  # goes up when the files of a store change; older ones are made again
CHUNK_CHARACTERS = 2**15  # a text is cut into pieces of about this length; longer ones are slower to tokenize
BATCH_CHARACTERS = 2**20  # pieces tokenized in parallel: at most some 100 MB of tokenizer output at a time
SEAM_CHARACTERS = 200  # on each side of a cut, tokenized both ways to see that the cut changes nothing
CUT_REACH = 2**12  # characters in which a cut of the best kind is looked for before one of the next kind is taken
SEAMS_TRIED = 200  # after so many cuts that change tokens, no cut will be found
LARGEST_COVER = np.iinfo(np.uint16).max  # bytes that one token may cover
INDEX, TOKENS, BYTES, UNKNOWN = "index.json", "tokens.bin", "bytes.bin", "unknown.bin"
EXAMPLES, EXAMPLE_CHARACTERS = 5, 12  # of text that the tokenizer cannot write, to be shown
# Places where the tokenizers in use split anyway: one space, or one line end, between two letters; then any line end.
CUTS = (
    re.compile(r"(?<=[^\W\d_]) (?=[^\W\d_])"),
    re.compile(r"(?<=[^\W\d_])\n(?=[^\W\d_])"),
    re.compile(r"(?<=\S)\n(?=\S)"),
)

IdArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Texts as one vector of token ids.

    Args:
        ids: Memory map of shape (num_tokens,), uint16 where the vocabulary fits and uint32 else.
        byte_lengths: Memory map of shape (num_tokens,), uint16: bytes of the texts' UTF-8 that each token covers; 0 for
            an end-of-text token. They sum to ``num_bytes``.
        num_bytes: Length of the texts in bytes of UTF-8.
        num_unique: Number of different ids.
        num_unknown_bytes: Bytes that the tokenizer cannot write: those of its unknown token, and of characters that it
            drops. White space that it folds, and letters that it lower-cases, do not count.
        sha256: Digest of the ids as stored, hexadecimal.
        path: Folder of the files; ``None`` where it is in memory.
        tokenizer: What reads the ids.
        unknown_lengths: Memory map of shape (num_tokens,), uint16: of the bytes that each token covers those that the
            tokenizer cannot write, all of them where it is the unknown token; ``None`` where there are none.
        unknown_examples: Some of the text that it cannot write.
    """

    ids: IdArray
    byte_lengths: npt.NDArray[np.uint16]
    num_bytes: int
    num_unique: int
    sha256: str
    path: Path | None
    tokenizer: "PreTrainedTokenizerFast | None" = field(default=None, repr=False, compare=False)
    num_unknown_bytes: int = 0
    unknown_lengths: npt.NDArray[np.uint16] | None = None
    unknown_examples: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Length of the vector, end-of-text tokens included."""
        return len(self.ids)

    @property
    def unknown_share(self) -> float:
        """Share of the bytes that the tokenizer cannot write."""
        return self.num_unknown_bytes / self.num_bytes

    @property
    def unknown_summary(self) -> str:
        """What the tokenizer cannot write, in words; empty where it writes everything."""
        if not self.num_unknown_bytes:
            return ""
        shown = ", ".join(map(repr, self.unknown_examples))
        of = f"{self.num_unknown_bytes:,} of {self.num_bytes:,} bytes ({self.unknown_share:.2%})"
        return f"its tokenizer cannot write {of}, such as {shown}"

    def covered(self, places: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Bytes that tokens cover, and those among them that the tokenizer cannot write.

        Args:
            places: Positions of tokens, any shape.

        Returns:
            Two arrays of that shape.
        """
        lengths = self.byte_lengths[places].astype(np.int64)
        if self.unknown_lengths is None:
            return lengths, np.zeros_like(lengths)
        return lengths, self.unknown_lengths[places].astype(np.int64)


def tokenize_texts(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", *, cache: Path | None = None
) -> TokenStore:
    """Tokenize texts once, and find the result again the next time.

    Between two texts stands one end-of-text token if the tokenizer has one; no other special token is added. Special
    tokens inside a text are text, unless ``fix_special_tokens`` chose otherwise. Empty texts are left out.

    Args:
        texts: The texts, in order.
        tokenizer: A fast tokenizer.
        cache: Folder of all stores; ``None`` means ``tokens`` in the cache folder.

    Returns:
        The store, opened for reading.

    Raises:
        DataError: The texts are empty, cannot be written as UTF-8, or give no token; or the cache cannot be written.
        ModelError: The tokenizer is not a fast one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"A fast tokenizer is needed, {type(tokenizer).__name__} is not. Use ftkit's load_tokenizer.")
    given = [text for text in texts if text]
    if not given:
        raise DataError(f"There is no text to tokenize: {len(texts):,} texts, all empty. Give a source with text.")
    text_hash = _text_hash(given)
    fingerprint = tokenizer_fingerprint(tokenizer)
    key = hashlib.sha256(f"{FORMAT_VERSION} {text_hash} {fingerprint} {tokenizer.eos_token_id}".encode()).hexdigest()
    root = cache if cache is not None else cache_dir() / "tokens"
    folder = root / key[:32]
    if folder.exists():
        problem = _damage(folder)
        if not problem:
            return replace(_opened(folder), tokenizer=tokenizer)
        logger.warning("the token cache %s is damaged (%s); it is built again", folder, problem)
        shutil.rmtree(folder, ignore_errors=True)
    try:
        with atomic_folder(folder, replace=False) as partial:
            provenance = {"text_sha256": text_hash, "tokenizer_sha256": fingerprint}
            _build(partial, given, _Encoder(tokenizer), tokenizer.eos_token_id, provenance)
    except OSError as error:
        raise _unwritable(root, error) from None
    return replace(_opened(folder), tokenizer=tokenizer)


def tokenize_each(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast") -> list[TokenStore]:
    """Tokenize many short texts, each to a store of its own in memory.

    The tokenizer is read once for all of them: hashing and copying one of 49,152 tokens takes a quarter of a second.

    Args:
        texts: The texts; none is empty.
        tokenizer: A fast tokenizer.

    Returns:
        A store for each text, without files.

    Raises:
        DataError: A text that gives no token.
    """
    encoder = _Encoder(tokenizer)
    return [_in_memory(text, encoder, tokenizer) for text in texts]


def _unwritable(root: Path, error: OSError) -> DataError:
    return DataError(
        f"Tokens could not be stored in {root} ({error.strerror or error}). Make room there, or set FTKIT_CACHE to a "
        f"folder that can be written."
    )


def _text_hash(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for number, text in enumerate(texts):
        digest.update(f"{len(text)}:".encode())
        for start in range(0, len(text), BATCH_CHARACTERS):
            try:
                digest.update(text[start : start + BATCH_CHARACTERS].encode())
            except UnicodeEncodeError as error:
                raise DataError(
                    f"Text {number + 1} has half of a surrogate pair at character {start + error.start:,}, which has "
                    f"no form in UTF-8. Read it with ftkit's load_corpus, or remove the character."
                ) from None
    return digest.hexdigest()


# The cache


def _damage(folder: Path) -> str:
    """What is wrong with a stored folder; empty if nothing is."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format_version"] != FORMAT_VERSION:
            return f"format version {index['format_version']}"
        width = np.dtype(index["dtype"]).itemsize
        files = [(TOKENS, width * index["num_tokens"]), (BYTES, 2 * index["num_tokens"])]
        if index["num_unknown_bytes"]:
            files.append((UNKNOWN, 2 * index["num_tokens"]))
        for name, size in files:
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found:,} of {size:,} bytes"
            if file_sha256(folder / name) != index["sha256"][name]:
                return f"{name} has another SHA-256 than {INDEX} says"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{INDEX}: {type(error).__name__} {error}"
    return ""


def _opened(folder: Path) -> TokenStore:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    shape, unknown = (index["num_tokens"],), index["num_unknown_bytes"]
    return TokenStore(
        ids=np.memmap(folder / TOKENS, dtype=index["dtype"], mode="r", shape=shape),
        byte_lengths=np.memmap(folder / BYTES, dtype="<u2", mode="r", shape=shape),
        num_bytes=index["num_bytes"],
        num_unique=index["num_unique"],
        sha256=index["sha256"][TOKENS],
        path=folder,
        num_unknown_bytes=unknown,
        unknown_lengths=np.memmap(folder / UNKNOWN, dtype="<u2", mode="r", shape=shape) if unknown else None,
        unknown_examples=tuple(index["unknown_examples"]),
    )


# Building


class _ChunkTokens(NamedTuple):
    """Tokens of one piece of text."""

    ids: npt.NDArray[np.int64]
    byte_lengths: npt.NDArray[np.int64]
    """Bytes that each covers."""
    num_bytes: int
    """Of the whole piece; those after its last token belong to that token."""
    dropped: npt.NDArray[np.int64] | None = None
    """Bytes before each token that gave no token and are no white space."""
    dropped_at_end: int = 0
    examples: tuple[str, ...] = ()
    """Some text that the tokenizer cannot write."""


class _Writer:
    """Appends tokens to the two files of a store and keeps their counts."""

    def __init__(
        self, tokens: BinaryIO, lengths: BinaryIO, dtype: str, num_ids: int, unknown_id: int | None = None
    ) -> None:
        self.tokens = tokens
        self.lengths = lengths
        self.dtype = dtype
        self.unknown_id = unknown_id
        self.seen = np.zeros(num_ids, dtype=bool)
        self.num_tokens = 0
        self.num_bytes = 0
        self.waiting_bytes = 0  # of text that gave no token yet, such as white space before the first word
        self.waiting_dropped = 0  # those among them that are no white space
        self.last_covering = -1  # position of the last token that is not an end of text
        self.unknown: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self.examples: dict[str, None] = {}

    def add(self, chunk: _ChunkTokens) -> None:
        """Add the tokens of one chunk."""
        ids, byte_lengths = chunk.ids, chunk.byte_lengths
        self.num_bytes += chunk.num_bytes
        self.examples |= dict.fromkeys(chunk.examples if len(self.examples) < EXAMPLES else ())
        if not len(ids):
            self.waiting_bytes += chunk.num_bytes
            self.waiting_dropped += chunk.dropped_at_end
            return
        byte_lengths[0] += self.waiting_bytes
        byte_lengths[-1] += chunk.num_bytes + self.waiting_bytes - int(byte_lengths.sum())
        if byte_lengths.max() > LARGEST_COVER:
            raise _cover_error(int(byte_lengths.max()))
        dropped = chunk.dropped if chunk.dropped is not None else np.zeros_like(byte_lengths)
        dropped[0] += self.waiting_dropped
        dropped[-1] += chunk.dropped_at_end
        self.waiting_bytes = self.waiting_dropped = 0
        unknown = np.where(ids == self.unknown_id, byte_lengths, dropped) if self.unknown_id is not None else dropped
        if len(places := np.flatnonzero(unknown)):
            self.unknown.append((self.num_tokens + places, unknown[places]))
        self.last_covering = self.num_tokens + len(ids) - 1
        self._write(ids, byte_lengths)

    def add_end_of_text(self, token_id: int) -> None:
        """Add one token that covers no byte."""
        self._write(np.array([token_id]), np.zeros(1, dtype=np.int64))

    def _write(self, ids: npt.NDArray[np.int64], byte_lengths: npt.NDArray[np.int64]) -> None:
        self.seen[ids] = True
        self.num_tokens += len(ids)
        self.tokens.write(ids.astype(self.dtype).tobytes())
        self.lengths.write(byte_lengths.astype("<u2").tobytes())

    def finish(self) -> None:
        """Give bytes that still wait, because the last texts gave no token, to the last token that covers any."""
        if self.last_covering < 0:
            raise DataError(
                f"The tokenizer made no token of {self.num_bytes:,} bytes: they are white space, or characters that it "
                f"does not know. Give a source with text, or another tokenizer."
            )
        if self.waiting_bytes:
            self.lengths.seek(2 * self.last_covering)
            covered = int.from_bytes(self.lengths.read(2), "little") + self.waiting_bytes
            if covered > LARGEST_COVER:
                raise _cover_error(covered)
            self.lengths.seek(2 * self.last_covering)
            self.lengths.write(covered.to_bytes(2, "little"))
        if self.waiting_dropped:
            self.unknown.append((np.array([self.last_covering]), np.array([self.waiting_dropped])))

    def add_unknown(self, lengths: npt.NDArray[np.uint16]) -> int:
        """Add the bytes of each token that the tokenizer cannot write to zeros, and return how many they are."""
        for places, unknown in self.unknown:
            lengths[places] += unknown.astype("<u2")
        return int(sum(unknown.sum() for _, unknown in self.unknown))

    def write_unknown(self, path: Path) -> int:
        """Write the bytes of each token that the tokenizer cannot write, if there are any; return their number."""
        if not self.unknown:
            return 0
        lengths = np.memmap(path, dtype="<u2", mode="w+", shape=(self.num_tokens,))
        num_bytes = self.add_unknown(lengths)
        lengths.flush()
        return num_bytes


def _cover_error(num_bytes: int) -> DataError:
    return DataError(
        f"One token would stand for {num_bytes:,} bytes of text, more than {LARGEST_COVER:,}: the text has a very long "
        f"run of white space, or a word that the tokenizer does not know. Shorten it, or use a byte-level tokenizer."
    )


def _build(
    folder: Path, texts: Sequence[str], encoder: "_Encoder", eos_token_id: int | None, provenance: dict[str, str]
) -> None:
    started = time.perf_counter()
    with (folder / TOKENS).open("wb") as tokens, (folder / BYTES).open("w+b") as lengths:
        writer = _written(tokens, lengths, texts, encoder, eos_token_id)
    unknown = writer.write_unknown(folder / UNKNOWN)
    index = {
        "format_version": FORMAT_VERSION,
        "dtype": writer.dtype,
        "num_tokens": writer.num_tokens,
        "num_bytes": writer.num_bytes,
        "num_unique": int(writer.seen.sum()),
        "num_texts": len(texts),
        "num_unknown_bytes": unknown,
        "unknown_examples": list(writer.examples)[:EXAMPLES] if unknown else [],
        "sha256": {name: file_sha256(folder / name) for name in (TOKENS, BYTES, *([UNKNOWN] if unknown else []))},
        **provenance,
    }
    with (folder / INDEX).open("w", encoding="utf-8") as file:
        json.dump(index, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    logger.debug("tokenized %d bytes in %.2f s, %.2f MB/s", writer.num_bytes, seconds, writer.num_bytes / seconds / 1e6)


def _in_memory(text: str, encoder: "_Encoder", tokenizer: "PreTrainedTokenizerFast") -> TokenStore:
    tokens, lengths = io.BytesIO(), io.BytesIO()
    writer = _written(tokens, lengths, [text], encoder, None)
    unknown = np.zeros(writer.num_tokens, dtype="<u2") if writer.unknown else None
    num_unknown = 0 if unknown is None else writer.add_unknown(unknown)
    return TokenStore(
        ids=np.frombuffer(tokens.getvalue(), dtype=writer.dtype),
        byte_lengths=np.frombuffer(lengths.getvalue(), dtype="<u2"),
        num_bytes=writer.num_bytes,
        num_unique=int(writer.seen.sum()),
        sha256=hashlib.sha256(tokens.getvalue()).hexdigest(),
        path=None,
        tokenizer=tokenizer,
        num_unknown_bytes=num_unknown,
        unknown_lengths=unknown,
        unknown_examples=tuple(writer.examples)[:EXAMPLES] if num_unknown else (),
    )


def _written(
    tokens: BinaryIO, lengths: BinaryIO, texts: Sequence[str], encoder: "_Encoder", eos_token_id: int | None
) -> _Writer:
    """Tokenize texts into two files, or what is like one; the writer has their counts."""
    dtype = "<u2" if encoder.num_ids <= 2**16 else "<u4"
    writer = _Writer(tokens, lengths, dtype, encoder.num_ids, encoder.unknown_id)
    for batch in _batches(texts, encoder):
        encoded = encoder.encode([chunk for _, chunk in batch])
        for (begins_text, _), chunk_tokens in zip(batch, encoded, strict=True):
            if begins_text and eos_token_id is not None:
                writer.add_end_of_text(eos_token_id)
            writer.add(chunk_tokens)
    writer.finish()
    return writer


def _batches(texts: Sequence[str], encoder: "_Encoder") -> Iterator[list[tuple[bool, str]]]:
    """Chunks in groups of bounded length, each with whether it begins a text other than the first."""
    batch: list[tuple[bool, str]] = []
    length = 0
    for text_number, text in enumerate(texts):
        for chunk_number, chunk in enumerate(encoder.chunks(text)):
            batch.append((text_number > 0 and chunk_number == 0, chunk))
            length += len(chunk)
            if length >= BATCH_CHARACTERS:
                yield batch
                batch, length = [], 0
    if batch:
        yield batch


class _Encoder:
    """A tokenizer's backend, set to encode plain text without limits, chunk by chunk."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        from tokenizers import Tokenizer

        # A copy, because padding, truncation and special tokens in text are switches of the backend itself.
        self.backend: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_padding()
        self.backend.no_truncation()
        self.backend.encode_special_tokens = not reads_tokens(tokenizer)
        vocabulary: dict[str, int] = self.backend.get_vocab(with_added_tokens=True)
        self.num_ids = max(vocabulary.values()) + 1
        self.id_bytes = _bytes_of_ids(self.backend, vocabulary, self.num_ids)
        self.unknown_id = _unknown_id(self.backend, vocabulary)

    def encode(self, chunks: list[str]) -> list[_ChunkTokens]:
        """Tokenize chunks, in parallel where the backend does."""
        if self.id_bytes is None:
            encodings = self.backend.encode_batch(chunks, add_special_tokens=False)
            return [self._with_offset_bytes(chunk, each) for chunk, each in zip(chunks, encodings, strict=True)]
        encodings = self.backend.encode_batch_fast(chunks, add_special_tokens=False)
        return [self._with_id_bytes(chunk, encoding) for chunk, encoding in zip(chunks, encodings, strict=True)]

    def _with_id_bytes(self, chunk: str, encoding: "Encoding") -> _ChunkTokens:
        ids = np.array(encoding.ids, dtype=np.int64)
        assert self.id_bytes is not None
        byte_lengths = self.id_bytes[ids]
        num_bytes = len(chunk.encode())
        if int(byte_lengths.sum()) == num_bytes and (self.unknown_id is None or self.unknown_id not in ids):
            return _ChunkTokens(ids, byte_lengths, num_bytes)
        # A space put before the text, or an unknown character.
        return self._with_offset_bytes(chunk, self.backend.encode(chunk, add_special_tokens=False))

    def _with_offset_bytes(self, chunk: str, encoding: "Encoding") -> _ChunkTokens:
        """The bytes of each token reach from the end of the token before it to its own end."""
        ids = np.array(encoding.ids, dtype=np.int64)
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(len(ids), 2)
        offsets, solid = _byte_offsets(chunk)
        reached = np.concatenate([[0], np.maximum.accumulate(spans[:, 1])])  # characters, before each and after all
        begins = np.maximum(spans[:, 0], reached[:-1])
        dropped = solid[begins] - solid[reached[:-1]]
        unknown = np.flatnonzero((ids == self.unknown_id) | (dropped > 0))[:EXAMPLES]
        shown = [chunk[reached[at] : spans[at, 1] if ids[at] == self.unknown_id else begins[at]] for at in unknown]
        if (at_end := int(solid[-1] - solid[reached[-1]])) and not shown:
            shown = [chunk[reached[-1] :]]
        examples = tuple(text.strip()[:EXAMPLE_CHARACTERS] for text in shown)
        return _ChunkTokens(ids, np.diff(offsets[reached]), int(offsets[-1]), dropped, at_end, examples)

    def _ids(self, text: str) -> npt.NDArray[np.int64]:
        return np.array(self.backend.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def chunks(self, text: str) -> Iterator[str]:
        """The text in pieces whose tokens, one piece after another, are the tokens of the text."""
        start = 0
        while len(text) - start > 2 * CHUNK_CHARACTERS:
            cut = self._cut(text, start + CHUNK_CHARACTERS)
            if cut is None:
                break
            yield text[start:cut]
            start = cut
        yield text[start:]

    def _cut(self, text: str, at: int) -> int | None:
        tried = 0
        for low in range(at, len(text), CUT_REACH):
            for pattern in CUTS:
                for found in itertools.islice(pattern.finditer(text, low, low + CUT_REACH), 10):
                    if self._is_seam(text, found.start()):
                        return found.start()
                    tried += 1
                    if tried == SEAMS_TRIED:  # this tokenizer looks further than any cut allows
                        return None
        return None

    def _is_seam(self, text: str, cut: int) -> bool:
        left, right = text[max(cut - SEAM_CHARACTERS, 0) : cut], text[cut : cut + SEAM_CHARACTERS]
        return np.array_equal(self._ids(left + right), np.concatenate([self._ids(left), self._ids(right)]))


def _unknown_id(backend: "Tokenizer", vocabulary: dict[str, int]) -> int | None:
    """The token that stands for whatever the tokenizer cannot write; ``None`` where it can write every byte."""
    model, unigram = backend.model, {}
    if type(model).__name__ == "Unigram":  # the one kind that shows this in its file only
        unigram = json.loads(backend.to_str())["model"]
    pieces = byte_characters() if type(backend.decoder).__name__ == "ByteLevel" else []
    if unigram.get("byte_fallback") or getattr(model, "byte_fallback", False):
        pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    if pieces and all(piece in vocabulary for piece in pieces):
        return None
    place: int | None = unigram.get("unk_id")
    return vocabulary.get(getattr(model, "unk_token", None) or "") if place is None else place


def _bytes_of_ids(backend: "Tokenizer", vocabulary: dict[str, int], num_ids: int) -> npt.NDArray[np.int64] | None:
    """Bytes that each id of a byte-level tokenizer stands for; ``None`` for another kind, which needs offsets."""
    if type(backend.decoder).__name__ != "ByteLevel" or backend.normalizer is not None:
        return None
    lengths = np.zeros(num_ids, dtype=np.int64)
    for token, token_id in vocabulary.items():
        lengths[token_id] = len(token)  # one character for each byte
    for token_id, added in backend.get_added_tokens_decoder().items():
        lengths[token_id] = len(added.content.encode())  # these are written as they are
    return lengths


_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()])


def _byte_offsets(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bytes of UTF-8 before each character and after the last, [len(text) + 1]; the same without white space."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    zero = np.zeros(1, dtype=np.int64)
    solid = np.where(np.isin(codes, _SPACES), 0, widths)
    return np.concatenate([zero, np.cumsum(widths)]), np.concatenate([zero, np.cumsum(solid)])
