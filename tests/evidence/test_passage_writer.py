"""A passage depends on model, settings, seed and number alone; prompts and cuts are alike for models and real text."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from ftkit.data import cache_dir, load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import ConfigError
from ftkit.evidence import PassageWriter, Written, cut_passages
from ftkit.evidence.texts import last_words, prompted_passages, prompts_of
from ftkit.generation import PRESETS
from ftkit.jobs.cache import cached_passages
from ftkit.models import load_model

HELDOUT, TRAIN = [voice_text("keeper", 1500, seed=1)], [voice_text("keeper", 3000, seed=2)]


def writer_of(folder: Path | str, characters: int = 60) -> tuple[PassageWriter, Any]:
    tokenizer = load_tokenizer(str(folder))
    heldout = tokenize_texts(HELDOUT, tokenizer)
    writer = PassageWriter.after(heldout, HELDOUT, TRAIN, characters, PRESETS["plain"])
    model = load_model(str(folder))
    return writer.fitted(model), model


@pytest.fixture(scope="module")
def written(stories260k) -> tuple[PassageWriter, Any, Written]:
    writer, model = writer_of(stories260k)
    return writer, model, writer.write(model, 64, seed=3)


def test_more_passages_extend_fewer_and_half_follow_training_text(written):
    writer, model, all_of_them = written
    few = writer.write(model, 37, seed=3)
    assert (len(few.heldout), len(few.training)) == (19, 18)
    assert few.heldout == all_of_them.heldout[:19]
    assert few.training == all_of_them.training[:18]
    other = writer.write(model, 8, seed=4)
    assert not set(other.heldout) & set(all_of_them.heldout)


def test_another_process_writes_the_same(written, stories260k):
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from test_passage_writer import writer_of; "
        "writer, model = writer_of(sys.argv[2]); print(json.dumps(writer.write(model, 64, 3).heldout))"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(stories260k)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "", **threads})
    assert json.loads(found.stdout.splitlines()[-1]) == list(written[2].heldout)


def test_prompts_are_spread_over_the_text_and_begin_again(written):
    writer = written[0]
    prompts = writer.heldout_prompts
    asked = [writer._prompt(3, 2 * number) for number in range(2 * len(prompts))]
    assert asked[: len(prompts)] == asked[len(prompts) :]
    assert sorted(asked[: len(prompts)]) == sorted(prompts)
    first = sorted(prompts.index(prompt) for prompt in asked[: len(prompts) // 4])
    gaps = [b - a for a, b in pairwise(first)]
    assert max(gaps) <= 8, "a quarter of the prompts leaves no large part of the text out"
    assert writer._prompt(3, 1) in writer.training_prompts
    assert all(prompt in TRAIN[0] and len(prompt.split()) == 8 for prompt in writer.training_prompts)


def test_a_passage_follows_the_eight_words_of_its_prompt_and_no_text_is_lost():
    cut = prompted_passages(HELDOUT, 80, 8)
    words = HELDOUT[0].split()
    assert cut[0].prompt.split() == words[:8]
    whole = " ".join(each.passage for each in cut)
    assert whole.split() == words[8 : 8 + len(whole.split())]
    for before, each in pairwise(cut):
        assert each.prompt in HELDOUT[0]
        assert each.prompt.split() == before.passage.split()[-8:]
    assert max(len(each.passage) for each in cut) <= 80
    assert len(cut) >= len(cut_passages(HELDOUT, 80)) - 1


def test_short_documents_are_read_on_and_a_short_text_has_its_first_words_as_prompt():
    lines = [f"this is line {number} of many.\n" for number in range(40)]
    cut = prompted_passages(lines, 50, 8)
    assert cut[0].prompt == "this is line 0 of many.\nthis is"
    assert cut[0].passage == "line 1 of many. this is line 2 of many. this is"
    assert prompts_of(["five words and no more"], 200, 8) == ["five words and no more"]
    assert prompts_of([""], 200, 8) == [""]
    assert last_words("one two  three", 2) == "two  three"
    assert last_words("我爱北京天安门", 3) == "天安门"


def test_prompts_have_fewer_words_where_positions_are_few():
    model = load_model("new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", vocab_size=257, max_positions=128)
    heldout = tokenize_texts(HELDOUT, load_tokenizer("byte"))
    for characters, words in ((40, 8), (85, 3), (100, 1)):
        writer = PassageWriter.after(heldout, HELDOUT, TRAIN, characters, PRESETS["plain"]).fitted(model)
        assert writer.prompt_words == words
        assert len(writer.write(model, 4, 0).heldout) == 2
    with pytest.raises(ConfigError, match="set passage_chars to 102 or less"):
        PassageWriter.after(heldout, HELDOUT, TRAIN, 103, PRESETS["plain"]).fitted(model)


def test_three_blocks_together_are_the_blocks_alone_but_for_rounding(stories260k, monkeypatch):
    writer, model = writer_of(stories260k)
    model = model.double()  # so that no rounding is as large as the distance between two tokens
    together = writer.write(model, 96, seed=3)
    monkeypatch.setattr("ftkit.evidence.passages._MOST_KEPT", 0)
    assert writer.write(model, 96, seed=3) == together
    assert writer.write(model, 32, seed=3).heldout == together.heldout[:16]


def test_passages_whose_keys_and_values_are_large_are_decoded_by_blocks(written, monkeypatch):
    writer, model, _ = written
    sizes: list[int] = []

    def counted(self: PassageWriter, model: Any, seed: int, numbers: range) -> list[str]:
        sizes.append(len(numbers))
        return [""] * len(numbers)

    monkeypatch.setattr(PassageWriter, "_made", counted)
    writer.write(model, 192, 3)
    each = 2 * 5 * 4 * 8 * 4  # two of 5 blocks, 4 heads of width 8, in float32
    monkeypatch.setattr("ftkit.evidence.passages._MOST_KEPT", 96 * each * writer.new_tokens - 1)
    writer.write(model, 192, 3)
    writer.write(model, 7, 3)
    assert sizes == [96, 96, *[32] * 6, 32]


def test_parts_are_kept_by_all_that_they_depend_on(written, tmp_path, monkeypatch):
    writer, model, expected = written
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))

    def parts() -> int:
        return len(list((cache_dir() / "passages").iterdir()))

    assert cached_passages(writer, model, 64, 3) == expected
    assert parts() == 1
    assert cached_passages(writer, model, 192, 3).heldout[:32] == expected.heldout
    assert parts() == 2, "the first part was taken from the cache"
    monkeypatch.setattr(PassageWriter, "_made", None)
    assert cached_passages(writer, model, 64, 3) == expected
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        with pytest.raises(TypeError):  # not kept for this number of threads
            cached_passages(writer, model, 64, 3)
    finally:
        torch.set_num_threads(before)
