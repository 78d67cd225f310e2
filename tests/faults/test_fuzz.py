"""Random damage to what is read: a defined result or one error of ftkit's, at once, never a traceback."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trials

from ftkit.data import load_corpus, load_tokenizer, voice_text
from ftkit.errors import DataError, FtkitError, ModelError
from ftkit.models import load_model, save_model
from ftkit.runs.integrity import check_folder
from ftkit.training import CheckpointFolder

LONG = pytest.mark.nightly, pytest.mark.timeout(3600)


@contextmanager
def at_once() -> Iterator[None]:
    """No hang: at most five processor seconds."""
    started = time.process_time()
    yield
    assert time.process_time() - started < 5


@pytest.mark.parametrize("cases", [300, pytest.param(6000, marks=LONG)])
def test_damaged_texts_are_a_corpus_or_a_data_error(tmp_path, cases):
    draw, path, refused = random.Random(cases), tmp_path / "text.txt", 0
    text = voice_text("letters", 120)
    strange = [
        "\r\n",
        "\r",
        "\u2028",
        "\x0c",
        "\ufeff",
        "\u0085",
        "\x1a",
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***",
    ]
    for _ in range(cases):
        encoding = draw.choice(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252"])
        content = text.replace(draw.choice(text), draw.choice(strange)).encode(encoding, "replace")
        path.write_bytes(trials.mutated(content, draw))
        with at_once():
            try:
                corpus = load_corpus(str(path), encoding=draw.choice([encoding, "utf-8"]))
            except DataError as error:
                refused += 1
                assert str(path) in str(error)
                continue
        assert corpus.text.strip()
        assert "\r" not in corpus.text
        assert "\0" not in corpus.text
    assert 0.2 * cases < refused < 0.95 * cases


@pytest.mark.parametrize("cases", [60, pytest.param(500, marks=LONG)])
def test_a_damaged_checkpoint_is_never_taken_for_a_good_one(whole, tmp_path, cases):
    draw, found = random.Random(cases), 0
    shutil.copytree(whole / "checkpoints" / "model", tmp_path / "model")
    newest = tmp_path / "model" / "step-000008"
    files = {path: path.read_bytes() for path in sorted(newest.iterdir())}
    for _ in range(cases):
        path = draw.choice(list(files))
        content = trials.mutated(files[path], draw)
        path.write_bytes(content)
        with at_once():
            taken = CheckpointFolder(tmp_path / "model").newest_valid()
        assert taken is not None
        if taken == newest:  # only where nothing was changed, or white space in JSON
            assert content == files[path] or json.loads(content) == json.loads(files[path])
        else:
            found += 1
            assert taken.name == "step-000007"
            assert check_folder(newest).broken
        path.write_bytes(files[path])
    assert found > 0.9 * cases


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny saved model with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "model"
    tokenizer = load_tokenizer("byte")
    save_model(load_model("new:gpt2", seed=0, vocab_size=len(tokenizer)), tokenizer, folder)
    return folder


def refusals(folder: Path, file: str, length: int | None, cases: int) -> int:
    """How often loading says ``ModelError`` when the first bytes of a file are damaged; nothing else may come out."""
    draw, refused = random.Random(cases), 0
    raw = (folder / file).read_bytes()
    for _ in range(cases):
        (folder / file).write_bytes(trials.mutated(raw[:length], draw) + (raw[length:] if length else b""))
        with at_once():
            try:
                load_model(str(folder))
                load_tokenizer(str(folder))
            except FtkitError as error:
                assert isinstance(error, ModelError)
                refused += 1
    return refused


@pytest.mark.parametrize("cases", [40, pytest.param(500, marks=LONG)])
def test_a_damaged_safetensors_header_is_a_model_or_a_model_error(model_folder, tmp_path, cases):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    size = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    assert refusals(folder, "model.safetensors", 8 + size, cases) > 0.9 * cases


@pytest.mark.parametrize(
    ("file", "share"),
    [
        ("config.json", 0.5),
        ("tokenizer.json", 0.5),
        ("tokenizer_config.json", 0.3),
        ("generation_config.json", 0.0),  # transformers (5.23) goes on without one that it cannot read; ftkit uses none
    ],
)
@pytest.mark.parametrize("cases", [10, pytest.param(200, marks=LONG)])
def test_a_damaged_file_beside_the_weights_is_a_model_or_a_model_error(model_folder, tmp_path, file, share, cases):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    assert refusals(folder, file, None, cases) >= share * cases
