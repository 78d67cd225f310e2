"""Passages: the same as without a batch, never a forbidden id, new tokens only."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer
from ftkit.errors import ModelError
from ftkit.generation import PRESETS, Sampling, end_ids, generate_passages, random_starts
from ftkit.models import load_model
from ftkit.tuning import attach_adapter

GREEDY = PRESETS["greedy"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("byte")


@pytest.fixture(scope="module")
def model():
    return load_model("new:ftkit_gpt2,initializer_range=0.4", vocab_size=300, max_positions=64)


def test_prompts_of_different_length_continue_as_if_alone(model, tokenizer):
    prompts = ["a", "once upon a time", "the sea"]
    together = generate_passages(model, tokenizer, prompts, new_tokens=12, sampling=GREEDY)
    alone = [generate_passages(model, tokenizer, [p], new_tokens=12, sampling=GREEDY)[0] for p in prompts]
    assert [p.ids for p in together] == [p.ids for p in alone]
    assert [p.prompt for p in together] == prompts
    assert len({p.ids for p in together}) == 3


def test_greedy_equals_a_loop_over_logits(model, tokenizer):
    passage = generate_passages(model, tokenizer, ["the sea"], new_tokens=10, sampling=GREEDY)[0]
    ids = tokenizer("the sea")["input_ids"]
    for _ in range(10):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        logits[256:] = -torch.inf  # the end-of-text token and rows without a token
        ids.append(int(logits.argmax()))
    assert list(passage.ids) == ids[-10:]
    assert passage.text == tokenizer.decode(ids[-10:])


def test_ids_without_a_token_banned_ids_and_special_tokens_never_come_out(model, tokenizer):
    flat = load_model("new:ftkit_gpt2,initializer_range=0.0001", vocab_size=300, max_positions=64)
    banned = tuple(range(100))
    passages = generate_passages(
        flat, tokenizer, ["a"] * 40, new_tokens=50, sampling=Sampling(banned_ids=banned), seed=1
    )
    seen = {id_ for passage in passages for id_ in passage.ids}
    assert seen <= set(range(100, 256))
    assert len(seen) > 140
    assert all(len(passage.ids) == 50 and passage.stop_reason == "length" for passage in passages)


def test_the_end_of_text_stops_a_passage_where_it_may(tokenizer):
    model = load_model("new:ftkit_gpt2,initializer_range=0.0001", vocab_size=257, max_positions=64)
    passages = generate_passages(
        model, tokenizer, ["a"] * 64, new_tokens=60, sampling=Sampling(allow_stop=True), seed=3
    )
    stopped = [p for p in passages if p.stop_reason == "end of text"]
    assert 5 <= len(stopped) <= 25  # 64 * (1 - (256/257)^60) = 13.4 are expected
    assert all(tokenizer.eos_token_id not in p.ids and len(p.ids) < 60 for p in stopped)


def test_a_special_token_that_ends_a_turn_may_come_out_only_where_it_is_asked_for():
    tokenizer = load_tokenizer("byte")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    turn_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model = load_model("new:ftkit_gpt2,initializer_range=0.0001", vocab_size=258, max_positions=64)
    options = {"new_tokens": 60, "sampling": Sampling(), "seed": 3}
    asked = generate_passages(model, tokenizer, ["a"] * 64, stop_ids=[turn_end], **options)
    stopped = [passage for passage in asked if passage.stop_reason == "end of text"]
    assert 5 <= len(stopped) <= 25
    assert all(turn_end not in passage.ids and tokenizer.eos_token_id not in passage.ids for passage in asked)
    plain = generate_passages(model, tokenizer, ["a"] * 64, **options)
    assert {passage.stop_reason for passage in plain} == {"length"}


@pytest.mark.parametrize(("stored", "expected"), [(None, (256,)), (7, (7, 256)), ([9, 256, 7], (7, 9, 256))])
def test_the_ends_of_a_text_are_those_of_model_and_tokenizer(model, tokenizer, monkeypatch, stored, expected):
    monkeypatch.setattr(model.generation_config, "eos_token_id", stored)
    assert end_ids(model, tokenizer) == expected
    settings = AdapterSettings(model="m", tokenizer="byte", peft="lora")
    adapted = attach_adapter(load_model("new:gpt2", vocab_size=300, max_positions=64), settings)
    adapted.generation_config.eos_token_id = stored
    assert end_ids(adapted, tokenizer) == expected


def test_the_callers_random_state_and_mode_are_left_alone(model, tokenizer):
    model.train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = generate_passages(model, tokenizer, ["a", "b"], new_tokens=8, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    model.eval()
    assert generate_passages(model, tokenizer, ["a", "b"], new_tokens=8, seed=5) == first
    assert generate_passages(model, tokenizer, ["a", "b"], new_tokens=8, seed=6) != first


def test_the_repetition_penalty_is_transformers_rule(tokenizer):
    from transformers import RepetitionPenaltyLogitsProcessor

    scores = torch.tensor([[2.0, -2.0, 1.0]])
    found = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[0, 1, 1, 1]]), scores.clone())
    assert torch.allclose(found, torch.tensor([[2.0 / 1.3, -2.0 * 1.3, 1.0]]))


def test_too_long_a_passage_is_refused_with_both_numbers(model, tokenizer):
    with pytest.raises(ModelError, match=r"prompt of 3 tokens and 62 new ones need 65 positions; the model has 64"):
        generate_passages(model, tokenizer, ["abc"], new_tokens=62)


def test_an_empty_prompt_starts_from_the_end_of_text(model, tokenizer):
    assert generate_passages(model, tokenizer, [""], new_tokens=5)[0].prompt == "<|endoftext|>"


def test_random_starts_follow_the_text():
    ids = np.array([7] * 90 + [9] * 10)
    starts = [row[0] for row in random_starts(ids, 4000, seed=0)]
    assert set(starts) == {7, 9}
    assert starts.count(9) / 4000 == pytest.approx(0.1, abs=0.02)


STORED = {
    "min_p": 0.9, "num_beams": 3, "repetition_penalty": 3.0, "suppress_tokens": list(range(97, 123)), "max_length": 5,
    "no_repeat_ngram_size": 1, "begin_suppress_tokens": list(range(256)), "forced_eos_token_id": 7, "max_new_tokens": 2,
    "min_new_tokens": 3, "temperature": 0.1, "top_k": 1, "top_p": 0.1, "typical_p": 0.1, "epsilon_cutoff": 0.2,
    "eos_token_id": list(range(256)), "do_sample": True, "bad_words_ids": [[115]], "num_return_sequences": 2,
}  # fmt: skip


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("family", ["opt", "gpt2"], ids=["by generate", "by the own loop"])
def test_nothing_in_generation_config_json_changes_a_passage(tokenizer, tmp_path, family, lora):
    shape = {"vocab_size": 300, "max_position_embeddings": 64, "init_std": 0.4, "initializer_range": 0.4}
    small = {
        "hidden_size": 16,
        "ffn_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 16,
    }
    config = AutoConfig.for_model(
        family, **shape, **(small if family == "opt" else {"n_embd": 16, "n_layer": 1, "n_head": 2})
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()

    def passages():
        model = load_model(str(tmp_path))
        if lora:
            model = attach_adapter(model, AdapterSettings(model="m", tokenizer="byte", peft="lora")).eval()
        drawn = [
            generate_passages(model, tokenizer, ["the sea", "a"], new_tokens=12, sampling=sampling)
            for sampling in (PRESETS["plain"], GREEDY, PRESETS["judged"])
        ]
        return drawn, model.generation_config.num_beams

    expected, _ = passages()
    (tmp_path / "generation_config.json").write_text(json.dumps(STORED))
    assert passages() == (expected, 3), "the file was read, and nothing of it was used"


def test_a_tokenizer_without_end_of_text_and_pad_writes_all_the_same():
    backend = Tokenizer(models.WordLevel({letter: number for number, letter in enumerate("abcd")}, unk_token="a"))
    bare = PreTrainedTokenizerFast(tokenizer_object=backend)
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=16", vocab_size=4, max_positions=16)
    written = generate_passages(model, bare, [[1], [2, 3]], new_tokens=5, seed=1)
    assert [len(passage.ids) for passage in written] == [5, 5]
    alone = generate_passages(model, bare, [[2, 3]], new_tokens=5, sampling=PRESETS["greedy"])
    assert (
        alone[0].ids == generate_passages(model, bare, [[1], [2, 3]], new_tokens=5, sampling=PRESETS["greedy"])[1].ids
    )
    with pytest.raises(ModelError, match="an empty prompt has nothing to start from"):
        generate_passages(model, bare, [""], new_tokens=5)
