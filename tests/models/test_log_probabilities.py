"""Two forms of output, one model: what is drawn from them is the same, at any temperature."""

import pytest
import torch

from ftkit.data import load_tokenizer
from ftkit.generation import Sampling, generate_passages
from ftkit.models import load_model, log_probability_model

BYTES = load_tokenizer("byte")


def model():
    """Random weights, large enough that its rows are far from even."""
    made = load_model("new:gpt2,initializer_range=0.3", seed=1, vocab_size=257, max_positions=64)
    assert isinstance(made, torch.nn.Module)
    return made


def test_the_output_is_the_log_softmax_and_the_model_keeps_its_own():
    plain = model()
    adapted = log_probability_model(plain)
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        logits, log_p = plain(input_ids=ids).logits, adapted(input_ids=ids).logits
    assert torch.allclose(log_p, logits.log_softmax(-1))
    assert log_p.logsumexp(-1).abs().max() < 1e-5
    assert logits.logsumexp(-1).abs().min() > 1
    assert all(a is b for a, b in zip(plain.parameters(), adapted.parameters(), strict=True))


@pytest.mark.parametrize(
    "sampling",
    [*(Sampling(temperature=t) for t in (0.3, 0.7, 1.0, 1.5, 3.0)), Sampling(temperature=0.7, top_k=20, top_p=0.8)],
    ids=lambda s: f"T={s.temperature},k={s.top_k},p={s.top_p}",
)
def test_both_forms_draw_the_same_tokens_at_every_temperature(sampling):
    plain = model()
    options = {"new_tokens": 30, "sampling": sampling, "seed": 5}
    first, second = (generate_passages(m, BYTES, ["a", "bc"], **options) for m in (plain, log_probability_model(plain)))
    assert [p.ids for p in first] == [p.ids for p in second]
    other = generate_passages(plain, BYTES, ["a", "bc"], **{**options, "seed": 6})
    assert [p.ids for p in first] != [p.ids for p in other]


def test_the_repetition_penalty_alone_can_tell_them_apart():
    plain = model()
    options = {"new_tokens": 30, "sampling": Sampling(do_sample=False, repetition_penalty=1.3), "seed": 5}
    first, second = (generate_passages(m, BYTES, ["a", "bc"], **options) for m in (plain, log_probability_model(plain)))
    assert [p.ids for p in first] != [p.ids for p in second]


def test_saved_it_is_the_model_that_gives_logits(tmp_path):
    plain = model()
    log_probability_model(plain).save_pretrained(tmp_path)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(str(tmp_path))(input_ids=ids).logits, plain(input_ids=ids).logits)
