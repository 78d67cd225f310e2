import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import TokenStore, cache_dir, load_tokenizer, tokenize_texts, train_wordpiece, voice_text
from ftkit.data import store as store_module
from ftkit.errors import DataError, ModelError

TEXTS = [voice_text("letters", 1_500), voice_text("market", 800), voice_text("almanac", 1_200)]
ODD = "  caf\u00e9 \u4e2d\u6587\U0001f600 <|endoftext|> [SEP]\r\n\r\nna\u00efve\u2028x\u00a0y\f z  \n"
KINDS = ["byte", "trained", "wordpiece"]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {
        "byte": load_tokenizer("byte"),
        "trained": load_tokenizer("train:900", texts=TEXTS),
        "wordpiece": train_wordpiece(TEXTS, 900),
    }


def covered(store: TokenStore, texts: list[str]) -> list[bytes]:
    """The bytes that each token covers, cut from the texts."""
    data = "".join(texts).encode()
    ends = np.cumsum(store.byte_lengths.astype(np.int64)).tolist()
    return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_tokenizers_own_with_an_end_of_text_between(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer = tokenizers[kind]
    store = tokenize_texts(TEXTS, tokenizer)
    expected: list[int] = []
    for number, text in enumerate(TEXTS):
        if number and tokenizer.eos_token_id is not None:
            expected.append(tokenizer.eos_token_id)
        expected += tokenizer(text, add_special_tokens=False)["input_ids"]
    assert store.ids.tolist() == expected
    assert (store.num_tokens, store.num_unique) == (len(expected), len(set(expected)))
    assert store.num_bytes == sum(len(text.encode()) for text in TEXTS)
    assert int(store.byte_lengths.astype(np.int64).sum()) == store.num_bytes
    assert store.byte_lengths[store.ids == tokenizer.eos_token_id].sum() == 0
    assert (store.ids.dtype, store.byte_lengths.dtype) == (np.uint16, np.uint16)


def test_byte_level_tokens_cover_exactly_their_own_bytes(tokenizers: dict[str, Any]) -> None:
    texts = [*TEXTS, ODD * 3]
    for kind in ("byte", "trained"):
        tokenizer = tokenizers[kind]
        letters = {
            character: bytes([byte])
            for byte, character in enumerate(tokenizers["byte"].convert_ids_to_tokens(range(256)))
        }
        store = tokenize_texts(texts, tokenizer)
        seen = 0
        for token_id, data in zip(store.ids.tolist(), covered(store, texts), strict=True):
            if token_id == tokenizer.eos_token_id:
                assert data == b""
            else:
                assert data == b"".join(letters[character] for character in tokenizer.convert_ids_to_tokens(token_id))
                seen += 1
        assert seen == store.num_tokens - len(texts) + 1


def test_word_pieces_cover_their_own_letters_and_the_space_before(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["wordpiece"]
    store = tokenize_texts(TEXTS[:1], tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(store.ids.tolist())
    for piece, data in zip(pieces[:-1], covered(store, TEXTS[:1])[:-1], strict=True):
        assert piece.removeprefix("##") == data.decode().strip().lower()
    assert len(pieces) > 1_500


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.lists(st.text(max_size=30) | st.sampled_from([ODD, " ", "\n\n", "lamp"]), min_size=1, max_size=5),
    st.sampled_from(KINDS),
)
def test_byte_lengths_of_any_texts_sum_to_their_bytes(
    tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, texts: list[str], kind: str
) -> None:
    try:
        store = tokenize_texts(texts, tokenizers[kind], cache=tmp_path_factory.getbasetemp() / "any")
    except DataError:
        assert kind == "wordpiece" or not any(texts)
        return
    assert int(store.byte_lengths.astype(np.int64).sum()) == store.num_bytes == len("".join(texts).encode())
    if kind != "wordpiece":
        assert tokenizers[kind].decode(store.ids[store.ids != tokenizers[kind].eos_token_id]) == "".join(texts)


def test_names_of_special_tokens_in_a_text_are_text(tokenizers: dict[str, Any]) -> None:
    text = "a <|endoftext|> b [SEP] c"
    for kind in KINDS:
        tokenizer = tokenizers[kind]
        ids = tokenize_texts([text], tokenizer).ids.tolist()
        assert not set(ids) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
        assert len(ids) > 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [50, 333, 2_000])
def test_cutting_into_chunks_changes_no_token(
    tokenizers: dict[str, Any], kind: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, (ODD + TEXTS[0][:300]) * 10, "word " * 2_000, "line\n" * 2_000, "x" * 5_000]
    whole = tokenize_texts(texts, tokenizers[kind], cache=tmp_path / "whole")
    monkeypatch.setattr(store_module, "CHUNK_CHARACTERS", chunk)
    monkeypatch.setattr(store_module, "BATCH_CHARACTERS", 5 * chunk)
    encoder = store_module._Encoder(tokenizers[kind])
    chunks = list(encoder.chunks(TEXTS[0]))
    assert "".join(chunks) == TEXTS[0]
    assert len(chunks) > 2
    assert max(map(len, chunks)) < 2 * chunk + 300
    cut = tokenize_texts(texts, tokenizers[kind], cache=tmp_path / "cut")
    assert np.array_equal(cut.ids, whole.ids)
    assert np.array_equal(cut.byte_lengths, whole.byte_lengths)
    assert cut.sha256 == whole.sha256


def test_a_tokenizer_that_merges_over_spaces_is_not_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Planted fault: with merges over any cut, chunks would give other tokens than the whole text."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="?"))
    text = "the lamp and the sea and the wind and " * 100
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["?"], show_progress=False)
    backend.train_from_iterator([text], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")
    whole = tokenizer(text)["input_ids"]
    assert len(whole) < 60
    monkeypatch.setattr(store_module, "CHUNK_CHARACTERS", 100)
    store = tokenize_texts([text], tokenizer, cache=tmp_path)
    assert store.ids.tolist() == whole
    assert store.num_bytes == len(text)


def test_settings_of_the_tokenizer_neither_cut_nor_pad_nor_warn(
    tokenizers: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = tokenize_texts(TEXTS, tokenizers["trained"]).ids.tolist()
    limited = load_tokenizer("train:900", texts=TEXTS)
    limited.model_max_length = 16
    limited(["a", "b b"], truncation=True, max_length=8, padding="max_length")
    capfd.readouterr()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        store = tokenize_texts(TEXTS, limited, cache=tmp_path)
    assert store.ids.tolist() == whole
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    assert limited.backend_tokenizer.truncation is not None  # the user's tokenizer is as it was


# The cache


def test_the_second_call_reads_what_the_first_wrote(
    tokenizers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "ftkit"):
        first = tokenize_texts(TEXTS, tokenizers["trained"])
        assert "MB/s" in caplog.text
        caplog.clear()
        second = tokenize_texts(TEXTS, tokenizers["trained"])
    assert caplog.text == ""
    assert first.path == second.path
    assert first.path.parent == cache_dir() / "tokens"
    assert np.array_equal(first.ids, second.ids)
    assert isinstance(second.ids, np.memmap)
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]
    assert sorted(path.name for path in first.path.iterdir()) == ["bytes.bin", "index.json", "tokens.bin"]


def test_other_texts_borders_or_tokenizers_are_other_stores(tokenizers: dict[str, Any]) -> None:
    stores = [
        tokenize_texts(texts, tokenizers[kind])
        for texts, kind in [(["ab", "c"], "byte"), (["a", "bc"], "byte"), (["abc"], "byte"), (["abc"], "trained")]
    ]
    assert len({store.path for store in stores}) == 4


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def newer_format(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tokens.bin", truncate),
        ("tokens.bin", flip),
        ("tokens.bin", Path.unlink),
        ("bytes.bin", truncate),
        ("bytes.bin", flip),
        ("bytes.bin", lambda path: path.write_bytes(b"")),
        ("index.json", truncate),
        ("index.json", Path.unlink),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", newer_format),
    ],
)
def test_a_damaged_store_is_built_again_with_a_warning(
    tokenizers: dict[str, Any], caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object]
) -> None:
    good = tokenize_texts(TEXTS, tokenizers["trained"])
    ids, sha256 = good.ids.tolist(), good.sha256
    damage(good.path / name)
    with caplog.at_level(logging.WARNING, "ftkit"):
        again = tokenize_texts(TEXTS, tokenizers["trained"])
    assert "is damaged" in caplog.text
    assert (again.ids.tolist(), again.sha256, again.path) == (ids, sha256, good.path)
    assert len(list(good.path.parent.iterdir())) == 1


def test_a_build_that_fails_leaves_nothing(tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "file_sha256", disk_full)
    with pytest.raises(DataError, match=r"No space left on device.*FTKIT_CACHE"):
        tokenize_texts(TEXTS, tokenizers["byte"])
    assert list((cache_dir() / "tokens").iterdir()) == []


def test_a_cache_that_is_a_file_is_refused(tokenizers: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be stored"):
        tokenize_texts(TEXTS, tokenizers["byte"], cache=tmp_path / "file")


# What cannot be stored


def test_texts_without_tokens_are_refused(tokenizers: dict[str, Any]) -> None:
    for texts in ([], [""], ["", ""]):
        with pytest.raises(DataError, match=f"{len(texts)} texts, all empty"):
            tokenize_texts(texts, tokenizers["byte"])
    with pytest.raises(DataError, match="no token of 5 bytes"):
        tokenize_texts(["  \n", " \t"], tokenizers["wordpiece"])
    with pytest.raises(DataError, match=r"Text 2 has half of a surrogate pair at character 3"):
        tokenize_texts(["fine", "abc\ud800"], tokenizers["byte"])


def test_white_space_without_tokens_belongs_to_a_neighbour(tokenizers: dict[str, Any]) -> None:
    for texts in (["  ", "lamp"], ["lamp", "  \n"], ["lamp", " ", "lamp  ", "\n\n"]):
        store = tokenize_texts(texts, tokenizers["wordpiece"])
        assert int(store.byte_lengths.sum()) == store.num_bytes == len("".join(texts))
        assert store.num_tokens == len("".join(texts).split())


def test_a_token_that_covers_too_much_is_refused(tokenizers: dict[str, Any]) -> None:
    for text in ("lamp" + " " * 70_000 + "sea", "lamp" + " " * 70_000, "x" * 70_000):
        with pytest.raises(DataError, match=r"70,00\d bytes of text, more than 65,535"):
            tokenize_texts([text], tokenizers["wordpiece"])
    assert tokenize_texts(["x" * 70_000 + " " * 70_000], tokenizers["byte"]).num_tokens == 140_000


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="fast tokenizer is needed, Slow"):
        tokenize_texts(["a"], Slow())  # type: ignore[arg-type]


def test_large_vocabularies_take_four_bytes() -> None:
    tokenizer = load_tokenizer("byte")
    tokenizer.add_tokens([f"\u00abword{number}\u00bb" for number in range(66_000)])
    store = tokenize_texts(["a\u00abword65999\u00bbb"], tokenizer)
    assert store.ids.dtype == np.uint32
    assert store.ids.tolist() == [97, 257 + 65_999, 98]
    assert store.byte_lengths.tolist() == [1, len("\u00abword65999\u00bb".encode()), 1]


# Exact counts, with OpenAI's vocabulary on raw files

COUNTS = {
    "11-alice.txt": 48_977,
    "829-gulliver.txt": 149_507,
    "2148-poe.txt": 144_110,
    "2701-moby-dick.txt": 331_658,
    "35-time-machine.txt": 49_774,
}


def counted(names: list[str], books: Path, tokenizer: Any) -> dict[str, int]:
    found = {}
    for name in names:
        text = (books / name).read_text(encoding="utf-8-sig")
        store = tokenize_texts([text], tokenizer)
        assert int(store.byte_lengths.astype(np.int64).sum()) == len(text.encode())
        found[name] = store.num_tokens
    return found


def test_two_books_have_the_known_numbers_of_gpt2_tokens(books: Path, gpt2_folder: Path) -> None:
    names = ["11-alice.txt", "35-time-machine.txt"]
    assert counted(names, books, load_tokenizer(str(gpt2_folder))) == {name: COUNTS[name] for name in names}


@pytest.mark.nightly
def test_all_books_have_the_known_numbers_of_gpt2_tokens(books: Path, gpt2_folder: Path) -> None:
    assert counted(list(COUNTS), books, load_tokenizer(str(gpt2_folder))) == COUNTS


@pytest.mark.nightly
def test_memory_stays_bounded_on_a_large_text(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = """
import resource, sys, pathlib
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
text = voice_text("market", 100_000)
tokenizer = load_tokenizer("train:1000", texts=[text])
many = [text * 40, text * 40]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = tokenize_texts(many, tokenizer, cache=pathlib.Path(sys.argv[1]))
print(store.num_bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    num_bytes, grown_mb = map(int, re.findall(r"\d+", out.stdout))
    assert num_bytes > 40_000_000
    assert grown_mb < 300
