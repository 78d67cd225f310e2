import importlib.util
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import convert_tiktoken, load_tokenizer, tokenizer_fingerprint, train_wordpiece, voice_text
from ftkit.errors import DeviceError, ModelError, NetworkError

TEXT = voice_text("letters", 4_000) + voice_text("keeper", 2_000)
ODD = (
    "  two  spaces\n\n\n tabs\t\tend \r\n caf\u00e9 \u4e2d\u6587 \U0001f600 don't WON'T I'll 12345 1,000.5 --- "
    "\u2028x\u00a0y \n"
)


@pytest.fixture(scope="module")
def trained() -> Any:
    return load_tokenizer("train:700", texts=[TEXT])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_byte_ids_are_the_bytes_and_decode_to_the_text(text: str) -> None:
    tokenizer = load_tokenizer("byte")
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_byte_and_trained_tokenizers_end_and_pad_with_end_of_text(trained: Any) -> None:
    byte = load_tokenizer("byte")
    assert (len(byte), byte.eos_token_id, byte.pad_token_id) == (257, 256, 256)
    for tokenizer in (byte, trained):
        assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
        assert tokenizer.is_fast
        assert set(tokenizer(["a", "bb"], padding=True)) == {"input_ids", "attention_mask"}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_a_trained_tokenizer_gives_every_text_back(trained: Any, text: str) -> None:
    assert trained.decode(trained(text)["input_ids"]) == text


def test_training_is_exact_in_size_deterministic_and_compresses(trained: Any) -> None:
    again = load_tokenizer("train:700", texts=iter([TEXT]))
    assert len(trained) == 700
    assert again.get_vocab() == trained.get_vocab()
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(trained)
    assert len(trained(TEXT)["input_ids"]) < 0.45 * len(TEXT.encode())


def test_too_little_text_for_the_vocabulary_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = load_tokenizer("train:5000", texts=["a short text"])
    assert 257 < len(tokenizer) < 300
    assert "gave only" in caplog.text


def test_word_pieces_are_bert_like_and_deterministic() -> None:
    tokenizer = train_wordpiece(iter([TEXT]), 600)
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokenizer) == 600
    pair = tokenizer("The lamp", "My dear")
    tokens = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    assert (tokens[0], tokens[-1], tokens.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    assert pair["token_type_ids"] == [0] * (tokens.index("[SEP]") + 1) + [1] * (len(tokens) - tokens.index("[SEP]") - 1)
    assert tokenizer.decode(tokenizer("The LAMP was lit", add_special_tokens=False)["input_ids"]) == "the lamp was lit"
    again = train_wordpiece([TEXT], 600)
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(tokenizer)
    assert "[UNK]" in tokenizer.tokenize("\u4e2d")
    assert len(train_wordpiece([TEXT], 40)) == 40


@pytest.mark.parametrize("make", ["byte", "train:400", "wordpiece", "tiktoken"])
def test_saved_tokenizers_load_with_plain_transformers(make: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    if make == "wordpiece":
        tokenizer = train_wordpiece([TEXT], 400)
    elif make == "tiktoken":
        tokenizer = convert_tiktoken(encoding_of("gpt2"))
    else:
        tokenizer = load_tokenizer(make, texts=[TEXT])
    tokenizer.save_pretrained(tmp_path)
    for other in (AutoTokenizer.from_pretrained(str(tmp_path)), load_tokenizer(str(tmp_path))):
        assert other(TEXT + ODD)["input_ids"] == tokenizer(TEXT + ODD)["input_ids"]
        assert other.pad_token == tokenizer.pad_token
        assert other.eos_token == tokenizer.eos_token
        assert other.model_input_names == tokenizer.model_input_names
        assert tokenizer_fingerprint(other) == tokenizer_fingerprint(tokenizer)


# tiktoken: encodings with the real patterns and a vocabulary made here, since the real one needs the network.

PATTERNS = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "cl100k": (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
        r"""|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
    "o200k": "|".join(
        [
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""",
            r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
            r"""\s*[\r\n]+""",
            r"""\s+(?!\S)""",
            r"""\s+""",
        ]
    ),
}
SPECIALS = {
    "gpt2": {"<|endoftext|>": 900},
    "cl100k": {
        "<|endoftext|>": 905,
        "<|fim_prefix|>": 906,
        "<|endofprompt|>": 950,
    },  # ids left free, as in the real one
    "o200k": {"<|endofprompt|>": 900},  # without an end of text
}


def encoding_of(name: str) -> Any:
    """A tiktoken encoding of 900 ranks, grown by merging frequent pairs."""
    import tiktoken

    ranks = {bytes([byte]): rank for rank, byte in enumerate(random.Random(0).sample(range(256), 256))}
    words = [
        [bytes([byte]) for byte in word]
        for word in (" " + TEXT[:6000] + ODD * 3).encode().replace(b" ", b"\0 ").split(b"\0")
    ]
    while len(ranks) < 900:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        for left, right in sorted(counts, key=lambda pair: (-counts[pair], pair))[:50]:
            if len(ranks) < 900:
                ranks.setdefault(left + right, len(ranks))
        words = [merged(word, ranks) for word in words]
    return tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens=SPECIALS[name])


def merged(word: list[bytes], ranks: dict[bytes, int]) -> list[bytes]:
    parts = list(word)
    while True:
        pairs = [
            (ranks[left + right], at)
            for at, (left, right) in enumerate(itertools.pairwise(parts))
            if left + right in ranks
        ]
        if not pairs:
            return parts
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_converted_tiktoken_gives_the_same_ids(name: str) -> None:
    encoding = encoding_of(name)
    tokenizer = convert_tiktoken(encoding)
    for text in (
        TEXT,
        ODD,
        ODD.strip(),
        voice_text("market", 500),
        voice_text("almanac", 500),
        "a  \n \nb   ",
        "x\n\n ",
        "",
    ):
        ids = encoding.encode(text, disallowed_special=())
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
    assert len(tokenizer) == max(tokenizer.get_vocab().values()) + 1
    for token, token_id in SPECIALS[name].items():
        assert tokenizer(token)["input_ids"] == [token_id]
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.eos_token_id == SPECIALS[name].get("<|endoftext|>", 901)


ENCODINGS: dict[str, tuple[Any, Any]] = {}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(PATTERNS)),
    st.text(
        alphabet="ab Z'\u2019sltverdm\n\r\t.,!1234567\u00e9\u0301\u4e2d\u00a0\u2028\u00df\U0001f600_/", max_size=40
    ),
)
def test_converted_tiktoken_agrees_on_any_mixture(name: str, text: str) -> None:
    if name not in ENCODINGS:
        encoding = encoding_of(name)
        ENCODINGS[name] = (encoding, convert_tiktoken(encoding))
    encoding, tokenizer = ENCODINGS[name]
    assert tokenizer(text)["input_ids"] == encoding.encode(text, disallowed_special=())


def test_tiktoken_names_and_downloads_fail_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    def no_network(name: str) -> None:
        raise ConnectionError(f"no route to {name}")

    monkeypatch.setattr(tiktoken, "get_encoding", no_network)
    with pytest.raises(NetworkError, match=r"no route to gpt2.*TIKTOKEN_CACHE_DIR"):
        load_tokenizer("tiktoken:gpt2")
    with pytest.raises(ModelError, match="did you mean 'cl100k_base'"):
        load_tokenizer("tiktoken:cl100k")


# Folders and the Hub


def test_a_folder_of_vocabulary_and_merges_is_gpt2(gpt2_folder: Path, books: Path) -> None:
    tokenizer = load_tokenizer(str(gpt2_folder))
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id) == (50_257, 50_256, 50_256)
    raw = (books / "35-time-machine.txt").read_text(encoding="utf-8")
    assert len(tokenizer(raw)["input_ids"]) == 49_774  # counted once with OpenAI's encoder


def test_a_bare_tokenizer_file_and_a_word_list_load(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    trained.backend_tokenizer.save(str(tmp_path / "bare" / "tokenizer.json"))
    bare = load_tokenizer(str(tmp_path / "bare"))
    assert bare(TEXT)["input_ids"] == trained(TEXT)["input_ids"]
    assert bare.eos_token == bare.pad_token == "<|endoftext|>"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "lamp", "##s"]
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("\n".join(words))
    assert load_tokenizer(str(tmp_path / "words"))("The lamps")["input_ids"] == [2, 5, 6, 7, 3]


def test_a_folder_of_an_own_model_loads(trained: Any, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert load_tokenizer(str(tmp_path)).get_vocab() == trained.get_vocab()


@pytest.mark.parametrize("damage", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}'])
def test_damaged_folders_are_model_errors(trained: Any, tmp_path: Path, damage: str, content: str) -> None:
    trained.save_pretrained(tmp_path)
    (tmp_path / damage).write_text(content)
    try:
        tokenizer = load_tokenizer(str(tmp_path))
    except ModelError:
        return
    assert damage == "tokenizer_config.json"  # settings that say nothing leave the vocabulary usable
    assert tokenizer("lamp")["input_ids"] == trained("lamp")["input_ids"]


def test_folders_without_a_tokenizer_say_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    with pytest.raises(ModelError, match=r"tokenizer\.json, or vocab\.json.*found: model\.safetensors"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "runs" / "alice").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"no such folder.*did you mean 'alice'"):
        load_tokenizer(str(tmp_path / "runs" / "alise"))


@pytest.mark.parametrize("value", ["../.env", "/etc/hostname", "a/../../.env"])
def test_a_setting_that_reads_outside_the_folder_is_refused(trained: Any, tmp_path: Path, value: str) -> None:
    trained.save_pretrained(tmp_path / "t")
    (tmp_path / ".env").write_text("TOKEN=canary")
    settings_file = tmp_path / "t" / "tokenizer_config.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"vocab_file": value}))
    with pytest.raises(ModelError, match="outside the folder"):
        load_tokenizer(str(tmp_path / "t"))


def test_code_in_a_folder_does_not_run_unasked(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Evil: pass\n")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}')
    with pytest.raises(ModelError):
        load_tokenizer(str(folder))
    assert not canary.exists()


def test_hub_names_without_a_network_are_network_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match=r"no-such-owner/no-such-model.*HF_HUB_OFFLINE.*byte or train"):
        load_tokenizer("no-such-owner/no-such-model")
    with pytest.raises(ModelError, match="fixed revision"):
        load_tokenizer("no-such-owner/no-such-model", trust_remote_code=True)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("train:256", "at least 257"),
        ("train:many", "'many' is no vocabulary size"),
        ("train:-5", "no vocabulary size"),
        ("train:", "Write byte, train:4096"),
        ("tiktokn:gpt2", "did you mean 'tiktoken'"),
        ("./nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("", "no such folder"),
        ("two words", "no such folder"),
        ("x" * 5000 + "/y/z", "no such folder"),
    ],
)
def test_wrong_specifications_are_model_errors(spec: str, part: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(spec, texts=[TEXT])
    assert part in str(caught.value)


def test_training_needs_texts_and_room() -> None:
    with pytest.raises(ModelError, match="no text to train on"):
        load_tokenizer("train:300")
    with pytest.raises(ModelError, match="no room"):
        train_wordpiece([TEXT], 5)


def test_fingerprint_sees_the_vocabulary_and_not_padding() -> None:
    tokenizer = load_tokenizer("train:400", texts=[TEXT])
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "bb"], padding=True, truncation=True, max_length=1)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.add_tokens(["lighthouse"])
    assert tokenizer_fingerprint(tokenizer) != before
    assert tokenizer_fingerprint(load_tokenizer("train:401", texts=[TEXT])) != before


CASED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Alice", "met", "the", "Queen", "q", "##ueen", "alice"]


@pytest.mark.parametrize(
    ("config", "words", "pieces"),
    [
        (None, CASED, ["Alice", "met", "the", "Queen"]),
        ({"tokenizer_class": "BertTokenizer"}, CASED, ["Alice", "met", "the", "Queen"]),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, CASED, ["alice", "met", "the", "q", "##ueen"]),
        (None, [w for w in CASED if w == w.lower() or w[0] == "["], ["alice", "met", "the", "q", "##ueen"]),
    ],
)
def test_a_vocabulary_with_capitals_is_not_lower_cased_unless_its_files_say_so(config, words, pieces, tmp_path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    if config:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.tokenize("Alice met the Queen") == pieces
    tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(str(tmp_path / "saved")).tokenize("Alice met the Queen") == pieces


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
@pytest.mark.parametrize("kind", ["LlamaTokenizer", "T5Tokenizer", "XLMRobertaTokenizer"])
def test_a_package_that_files_need_is_named_with_what_installs_it(kind: str, tmp_path: Path) -> None:
    config = {"tokenizer_class": kind, "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        (tmp_path / name).write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(DeviceError, match=r"needs sentencepiece.*pip install sentencepiece") as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
