"""Own GPT-2 and Hugging Face's, from the same weights, choose the same ids in every decoding mode.

transformers' generation mixin is in no distribution of it, so this file stands in for it.
"""

import logging

import pytest
import torch
from transformers import StaticCache

from ftkit.models import FtkitGPT2Config, FtkitGPT2ForCausalLM, load_model, to_hf_gpt2
from ftkit.models.cache_ftkit_gpt2 import cache_of

NUM_NEW = 12
MODES = {
    "greedy": {"do_sample": False},
    "greedy without a cache": {"do_sample": False, "use_cache": False},
    "greedy with a static cache": {"do_sample": False, "cache_implementation": "static"},
    "sampling": {"do_sample": True},
    "sampling at a low temperature": {"do_sample": True, "temperature": 0.3},
    "top-k": {"do_sample": True, "top_k": 5},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.6},
    "typical": {"do_sample": True, "typical_p": 0.7},
    "several answers": {"do_sample": True, "num_return_sequences": 3},
    "beam": {"do_sample": False, "num_beams": 3},
    "beam with several answers": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "beam sample": {"do_sample": True, "num_beams": 3},
    "repetition penalty": {"do_sample": False, "repetition_penalty": 2.0},
    "no repeated pair": {"do_sample": False, "no_repeat_ngram_size": 2},
    "stopping at an end": {"do_sample": True, "eos_token_id": [5, 6, 7, 8, 9, 10, 11, 12], "pad_token_id": 0},
}


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    config = FtkitGPT2Config(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        initializer_range=0.4,  # wide enough that the choices differ from one another
    )
    own = FtkitGPT2ForCausalLM(config).eval()
    return own, to_hf_gpt2(own)


def prompt(rows=2, tokens=6, seed=3):
    return torch.randint(13, 61, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def generated(model, settings, inputs=None, **more):
    torch.manual_seed(5)
    settings = {"max_new_tokens": NUM_NEW, "pad_token_id": 0, **settings, **more}
    return model.generate(prompt() if inputs is None else inputs, **settings)


@pytest.mark.parametrize("mode", MODES)
def test_both_models_choose_the_same_ids(pair, mode):
    own, hugging_face = pair
    ids = generated(own, MODES[mode])
    assert ids.shape[1] > 6
    assert len(ids[:, 6:].unique()) >= 3  # a model that repeats itself would prove nothing
    assert torch.equal(ids, generated(hugging_face, MODES[mode]))


@pytest.mark.parametrize("mode", ["greedy", "sampling", "beam"])
def test_both_models_choose_the_same_ids_for_a_left_padded_batch(pair, mode):
    inputs = prompt()
    mask = torch.ones_like(inputs)
    inputs[0, :3], mask[0, :3] = 0, 0
    own, hugging_face = (generated(model, MODES[mode], inputs, attention_mask=mask) for model in pair)
    assert torch.equal(own, hugging_face)


def test_left_padding_does_not_change_what_a_row_becomes(pair):
    inputs = prompt()
    mask = torch.ones_like(inputs)
    inputs[0, :3], mask[0, :3] = 0, 0
    together = generated(pair[0], MODES["greedy"], inputs, attention_mask=mask)
    assert torch.equal(together[0, 3:], generated(pair[0], MODES["greedy"], inputs[:1, 3:])[0])
    assert torch.equal(together[1], generated(pair[0], MODES["greedy"], inputs[1:])[0])


@pytest.mark.parametrize("model", ["new:ftkit_gpt2", "new:ftkit_ladder,rung=4"])
def test_transformers_has_nothing_to_warn_of(model, monkeypatch):
    said: list[str] = []
    logger = type(logging.getLogger("transformers"))
    for name in ("warning", "warning_once"):
        monkeypatch.setattr(logger, name, lambda self, message, *args, **_: said.append(message), raising=False)
    own, ids = load_model(model, vocab_size=61, max_positions=32), prompt()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    generated(own.eval(), MODES["greedy"], ids, attention_mask=mask)
    own.train()(ids, labels=ids).loss.backward()
    logging.getLogger("transformers.test").warning("heard")
    assert said == ["heard"]


def test_an_assistant_changes_no_greedy_choice(pair):
    torch.manual_seed(1)
    assistant = FtkitGPT2ForCausalLM(pair[0].config).eval()
    alone = generated(pair[0], MODES["greedy"], prompt(rows=1))
    assert torch.equal(generated(pair[0], MODES["greedy"], prompt(rows=1), assistant_model=assistant), alone)
    assert torch.equal(generated(pair[1], MODES["greedy"], prompt(rows=1), assistant_model=assistant), alone)


def test_caches_change_no_logit(pair):
    own, ids = pair[0], prompt(tokens=10)
    with torch.no_grad():
        whole = own(ids).logits
        for cache in (None, StaticCache(config=own.config, max_cache_len=16)):
            first = own(ids[:, :4], cache=cache, use_cache=True)
            steps = [first.logits]
            for position in range(4, 10):
                steps.append(own(ids[:, position : position + 1], cache=cache_of(first)).logits)
            torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=0)


def test_generation_starts_from_embeddings_too(pair):
    own = pair[0]
    embeddings = own.get_input_embeddings()(prompt())
    torch.manual_seed(5)
    ids = own.generate(inputs_embeds=embeddings, max_new_tokens=NUM_NEW, do_sample=False, pad_token_id=0)
    assert torch.equal(ids, generated(own, MODES["greedy"])[:, 6:])


def test_generation_in_training_mode_works_and_keeps_the_mode(pair):
    own = pair[0].train()
    try:
        assert generated(own, MODES["greedy"]).shape == (2, 6 + NUM_NEW)
        assert own.training
    finally:
        own.eval()


def test_generation_stops_at_the_context_with_both_numbers(pair):
    with pytest.raises(ValueError, match=r"needs 33 positions.*max_position_embeddings=32"):
        generated(pair[0], MODES["greedy"], max_new_tokens=60)
