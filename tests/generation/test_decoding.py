"""The decoding loop, against transformers' generate."""

import numpy as np
import pytest
import torch

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer
from ftkit.generation import PRESETS, Sampling, decoder, generate_passages, passages
from ftkit.generation.decoder import PaddedRows, SpecialIds, can_decode, decode
from ftkit.models import load_model
from ftkit.tuning import attach_adapter

FAMILIES = ["ftkit_gpt2", "gpt2", "gpt_neo", "codegen", "llama", "qwen3"]
PROMPTS = ["once upon a time", "a", "the sea"]
PENALISED = Sampling(do_sample=False, repetition_penalty=1.3, banned_ids=(101, 32))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("byte")


def varied(family):
    """A tiny model whose greedy passages are not one token again and again."""
    return load_model(f"new:{family},initializer_range=0.4", vocab_size=300, max_positions=64)


def both_ways(monkeypatch, model, tokenizer, prompts, **options):
    """Passages by the loop and by generate."""
    assert can_decode(model)
    ours = generate_passages(model, tokenizer, prompts, **options)
    with monkeypatch.context() as patch:
        patch.setattr(passages, "can_decode", lambda model: False)
        return ours, generate_passages(model, tokenizer, prompts, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompts", [PROMPTS, ["abc", "def"]], ids=["padded", "of one length"])
@pytest.mark.parametrize("sampling", [PRESETS["greedy"], PENALISED], ids=["greedy", "penalised"])
def test_the_most_likely_tokens_are_those_of_generate(monkeypatch, tokenizer, family, prompts, sampling):
    ours, theirs = both_ways(monkeypatch, varied(family), tokenizer, prompts, new_tokens=30, sampling=sampling)
    assert ours == theirs
    assert len({passage.ids for passage in ours}) == len(prompts)
    assert len(set(ours[0].ids)) > 3


SHARING = {
    "same": ["once upon a time"] * 3,
    "of one length": ["once upon a time", "once upon a tide"],
    "padded behind the prefix": ["once upon a time", "once upo", "once upon all hills"],
    "one is the prefix": ["once upon", "once upon a time"],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", SHARING)
@pytest.mark.parametrize("sampling", [PRESETS["greedy"], PENALISED], ids=["greedy", "penalised"])
def test_what_rows_begin_with_is_computed_once_and_changes_nothing(monkeypatch, tokenizer, family, kind, sampling):
    monkeypatch.setattr(passages, "_WORTH_SHARING", 1)
    model, sizes = varied(family), []
    model.register_forward_pre_hook(
        lambda _, given, named: sizes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    ours = generate_passages(model, tokenizer, SHARING[kind], new_tokens=20, sampling=sampling)
    shared = {"same": 15, "of one length": 14, "padded behind the prefix": 7, "one is the prefix": 8}[kind]
    assert family == "gpt_neo" or sizes[0] == (1, shared)
    _, theirs = both_ways(monkeypatch, model, tokenizer, SHARING[kind], new_tokens=20, sampling=sampling)
    assert ours == theirs


def test_little_that_is_shared_is_computed_with_the_batch(tokenizer):
    assert passages._shared_tokens([[1, 2, 3]] * 96) == 0
    assert passages._shared_tokens([[*range(300), 7], [*range(300), 8]]) == 300
    assert passages._shared_tokens([[*range(300), 7]]) == 0


def test_a_passage_ends_where_generate_ends_it(monkeypatch, tokenizer):
    stopping = Sampling(do_sample=False, allow_stop=True)
    model = varied("gpt2")
    greedy = generate_passages(model, tokenizer, PROMPTS, new_tokens=20, sampling=stopping)
    monkeypatch.setattr(type(tokenizer), "eos_token_id", greedy[0].ids[7], raising=False)
    ours, theirs = both_ways(monkeypatch, model, tokenizer, PROMPTS, new_tokens=20, sampling=stopping)
    assert ours == theirs
    assert ours[0].stop_reason == "end of text"
    assert len(ours[0].ids) <= 7


def test_each_of_several_ids_ends_a_passage_as_generate_ends_it(monkeypatch, tokenizer):
    model = varied("llama")
    greedy = generate_passages(model, tokenizer, PROMPTS, new_tokens=20, sampling=PRESETS["greedy"])
    ends = [greedy[0].ids[5], greedy[1].ids[9]]
    ours, theirs = both_ways(
        monkeypatch, model, tokenizer, PROMPTS, new_tokens=20, sampling=PRESETS["greedy"], stop_ids=ends
    )
    assert ours == theirs
    for passage, whole in zip(ours, greedy, strict=True):
        places = [place for place, id_ in enumerate(whole.ids) if id_ in ends]
        assert passage.ids == whole.ids[: places[0] if places else None]
        assert passage.stop_reason == ("end of text" if places else "length")
    assert {passage.stop_reason for passage in ours[:2]} == {"end of text"}


def test_an_adapter_inside_is_decoded_and_virtual_tokens_and_ladders_are_left_to_generate(monkeypatch, tokenizer):
    settings = AdapterSettings(model="new:gpt2", tokenizer="byte", peft="lora")
    adapted = attach_adapter(varied("gpt2"), settings).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    ours, theirs = both_ways(monkeypatch, adapted, tokenizer, PROMPTS, new_tokens=12, sampling=PRESETS["greedy"])
    assert ours == theirs
    assert ours != generate_passages(varied("gpt2"), tokenizer, PROMPTS, new_tokens=12, sampling=PRESETS["greedy"])
    assert not can_decode(attach_adapter(varied("gpt2"), settings.model_copy(update={"peft": "prompt"})))
    assert not can_decode(load_model("new:ftkit_ladder,rung=4", vocab_size=300, max_positions=64))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=40, top_p=0.9)], ids=["plain", "cut"])
def test_drawn_tokens_are_as_likely_as_generates_scores_say(sampling):
    model, rows, forbidden = load_model("new:gpt2,initializer_range=0.15", vocab_size=300).eval(), 8000, [3, 4, 5]
    config = passages._generation_config(sampling, 1, SpecialIds(forbidden, [], 0))
    config.output_scores = config.return_dict_in_generate = True
    ids = torch.full((rows, 1), 97)
    scores = model.generate(ids[:1], attention_mask=ids[:1] * 0 + 1, generation_config=config).scores[0]
    expected = rows * torch.softmax(scores[0].double(), 0)
    torch.manual_seed(0)
    drawn = decode(model, PaddedRows(ids, torch.ones_like(ids)), 1, sampling, SpecialIds(forbidden, [], 0))
    counts = torch.bincount(drawn[:, 0], minlength=300).double()
    assert not counts[expected == 0].any()
    often = expected >= 5
    assert int(often.sum()) > 10
    chi2, freedom = float(((counts - expected) ** 2 / expected)[often].sum()), int(often.sum())
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_the_largest_and_smallest_draws_find_a_token_that_is_possible(monkeypatch):
    scores = torch.tensor([[-torch.inf, 0.0, -3.0, -torch.inf], [1.0, -torch.inf, 30.0, -torch.inf]])
    for value, expected in ((0.0, [1, 0]), (1 - 2**-53, [2, 2])):
        monkeypatch.setattr(torch, "rand", lambda *shape, value=value, **_: torch.full(shape, value).double())
        assert decoder._drawn(scores).tolist() == expected


@pytest.mark.parametrize("vocabulary", [3, 64, 300, 4_100])
def test_a_draw_in_two_steps_is_the_plain_inversion_of_all_shares(vocabulary):
    scores = 3 * torch.randn(40, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    scores[:20, ::3] = -torch.inf
    states = [torch.Generator().manual_seed(seed) for seed in range(2)]
    draws = torch.cat([torch.rand(20, dtype=torch.float64, generator=state) for state in states]).numpy()
    shares = torch.softmax(scores, 1).double().numpy().cumsum(1)
    expected = [
        int(np.searchsorted(row, draw * row[-1], side="right")) for row, draw in zip(shares, draws, strict=True)
    ]
    drawn = decoder._drawn(scores, [torch.Generator().manual_seed(seed) for seed in range(2)])
    assert drawn.tolist() == expected


def test_room_is_taken_once_and_holds_what_a_growing_cache_holds():
    from transformers.cache_utils import DynamicLayer

    roomy, growing = decoder._RoomyLayer(9), DynamicLayer()
    places = set()
    for width in (4, 1, 1, 3):
        states = torch.randn(2, 3, width, 5), torch.randn(2, 3, width, 5)
        for found, expected in zip(roomy.update(*states), growing.update(*states), strict=True):
            assert torch.equal(found, expected)
        places.add(roomy.keys.data_ptr())
        assert roomy.get_seq_length() == growing.get_seq_length()
    assert len(places) == 1


@pytest.mark.parametrize("sampling", ["plain", "greedy"])
def test_a_diverged_model_writes_nothing_of_worth_and_does_not_crash(tokenizer, sampling):
    model = varied("ftkit_gpt2")
    with torch.no_grad():
        model.get_output_embeddings().weight[0, 0] = torch.nan
    written = generate_passages(model, tokenizer, ["Once"], new_tokens=5, sampling=PRESETS[sampling])
    assert len(written) == 1
    assert all(0 <= token < 300 for token in written[0].ids)


@pytest.mark.parametrize("family", ["gpt2", "ftkit_gpt2", "llama"])
def test_in_half_precision_the_head_reads_rows_that_lie_together(family):
    """torch would take gigabytes for others."""
    model, tokenizer = varied(family).to(torch.bfloat16), load_tokenizer("byte")
    read: list[bool] = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, given: read.append(given[0].is_contiguous()))
    written = generate_passages(model, tokenizer, ["Once", "Once upon"], new_tokens=4, sampling=PRESETS["greedy"])
    assert [len(passage.ids) for passage in written] == [4, 4]
    assert read == [True] * 4
