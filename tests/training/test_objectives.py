"""Objectives against torch, closed formulas, and themselves on the same batch in other pieces."""

import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import FAMILIES, settings, tiny

from ftkit.data import TokenSet, load_tokenizer
from ftkit.errors import ConfigError
from ftkit.models import load_model, log_probability_model
from ftkit.training import (
    CLASSIFICATION,
    MASKED_TOKENS,
    NEXT_TOKEN,
    NLL,
    Engine,
    MaskedWindows,
    Objective,
    RandomTokens,
    TokenWindows,
    check_objective,
    kl_to_base,
    last_tokens,
    loss_sums,
    smoothed,
    token_set_kl,
)
from ftkit.training.logs import doubt_of_first_loss
from ftkit.training.objectives import form_of_output

SET = TokenSet("every seventh", np.arange(257) % 7 == 0)


class Ragged:
    """Text windows of which each row asks for another number of targets, so that means of means are not the mean."""

    fingerprint = "ragged"

    def __init__(self, store):
        self.windows = TokenWindows(store, 32, 3)

    def rows(self, indices):
        batch = self.windows.rows(indices)
        labels = batch["labels"].clone()
        for place, index in enumerate(indices):
            labels[place, : 3 * (int(index) % 8)] = -100
        return {**batch, "labels": labels}


class Classes:
    """Rows with two classes."""

    fingerprint = "classes"

    def rows(self, indices):
        ids = torch.stack([torch.arange(9) + 5 + 3 * int(i) for i in indices])
        labels = torch.tensor([int(i) % 2 if int(i) % 3 else -100 for i in indices])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def first_step(model, objective, source, rows: int, parts: int):
    run = settings(per_device_train_batch_size=rows, gradient_accumulation_steps=parts, max_steps=1)
    with Engine(model, objective, source, run) as engine:
        record = next(iter(engine))
    return record.loss, record.grad_norm, record.num_targets


def masked_model():
    """An encoder for bytes and their mask, and windows that ask it something."""
    tokenizer = load_tokenizer("byte", with_mask=True)
    spec = "new:bert,hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0"
    return load_model(spec, task="masked-lm", vocab_size=len(tokenizer), max_positions=64), tokenizer


CASES = {
    **{f"next_token, {family}": (lambda f=family: tiny(f), lambda: NEXT_TOKEN, Ragged) for family in FAMILIES},
    "classification, bert": (
        lambda: tiny("bert", task="sequence-classification", labels=["a", "b"]),
        lambda: CLASSIFICATION,
        lambda store: Classes(),
    ),
    "masked_tokens, bert": (
        lambda: masked_model()[0],
        lambda: MASKED_TOKENS,
        lambda store: MaskedWindows(store, 32, 3, masked_model()[1]),
    ),
    "last_tokens": (tiny, lambda: last_tokens(3), Ragged),
    "smoothed": (tiny, lambda: smoothed(0.1), Ragged),
    "token_set": (tiny, lambda: token_set_kl(SET, 0.9), Ragged),
    "token_set, last": (tiny, lambda: token_set_kl(SET, 1.0, "last"), Ragged),
    "kl_to_base": (tiny, lambda: kl_to_base(tiny(seed=5)), Ragged),
    "nll": (lambda: log_probability_model(tiny()), lambda: NLL, Ragged),
}


@pytest.mark.parametrize("case", CASES)
def test_any_split_of_a_batch_gives_one_loss_and_one_gradient(store, case):
    model, objective, source = CASES[case]
    whole = first_step(model(), objective(), source(store), 8, 1)
    assert whole[1] > 1e-4
    for rows, parts in ((4, 2), (2, 4), (1, 8)):
        assert first_step(model(), objective(), source(store), rows, parts) == pytest.approx(whole, rel=1e-6)


def test_accumulating_gives_what_transformers_trainer_gives_without_it(tmp_path):
    """With accumulation 4 Trainer itself reports four times as much on BERT (huggingface/transformers#47688)."""
    from transformers import Trainer, TrainingArguments

    source = Classes()
    rows = source.rows([1, 2, 4, 5, 7, 8, 10, 11])
    model = tiny("bert", task="sequence-classification", labels=["a", "b"])
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=8, max_steps=1, use_cpu=True, logging_steps=1,
        report_to=[], save_strategy="no", disable_tqdm=True, max_grad_norm=0.0, seed=0,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=[{k: v[i] for k, v in rows.items()} for i in range(8)])
    trainer.train()
    theirs = next(line["loss"] for line in trainer.state.log_history if "loss" in line)

    class Same(Classes):
        def rows(self, indices):
            return {name: tensor[list(indices)] for name, tensor in rows.items()}

    for per_device, parts in ((8, 1), (2, 4)):
        model = tiny("bert", task="sequence-classification", labels=["a", "b"])
        assert first_step(model, CLASSIFICATION, Same(), per_device, parts)[0] == pytest.approx(theirs, rel=1e-4)


def logits_and_batch(rows: int = 4, tokens: int = 9, vocab: int = 257):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(vocab, (rows, tokens), generator=generator)
    return torch.randn(rows, tokens, vocab, generator=generator) * 3, {"input_ids": ids, "labels": ids.clone()}


def test_the_last_tokens_are_the_last_that_are_asked():
    logits, batch = logits_and_batch()
    batch["labels"][1, 6:] = -100
    log_p = logits.log_softmax(-1)
    asked = [(row, place) for row, last in enumerate((7, 4, 7, 7)) for place in (last - 1, last)]
    by_hand = -sum(log_p[row, place, batch["input_ids"][row, place + 1]] for row, place in asked)
    assert last_tokens(2).loss_sum(logits, batch).item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert last_tokens(2).num_targets(batch) == 8
    assert last_tokens(99).num_targets(batch) == NEXT_TOKEN.num_targets(batch) == 3 * 8 + 5
    assert torch.allclose(last_tokens(99).loss_sum(logits, batch), NEXT_TOKEN.loss_sum(logits, batch), rtol=1e-6)


def test_smoothing_is_the_formula_of_the_paper_and_torchs():
    logits, batch = logits_and_batch()
    batch["labels"][:, 5] = -100
    targets = F.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    log_p = logits.log_softmax(-1)[targets != -100]
    right = log_p.gather(1, targets[targets != -100][:, None])[:, 0]
    by_hand = -(0.8 * right + 0.2 * log_p.mean(-1)).sum()
    ours = smoothed(0.2).loss_sum(logits, batch)
    assert ours.item() == pytest.approx(by_hand.item(), rel=1e-5)
    torchs = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.2)
    assert ours.item() / smoothed(0.2).num_targets(batch) == pytest.approx(torchs.item(), rel=1e-6)


@pytest.mark.parametrize("mass", [1.0, 0.9, 0.5, 0.0])
@pytest.mark.parametrize("where", ["all", "last"])
def test_the_token_sets_divergence_is_torchs_and_its_baseline_the_closed_formula(mass, where):
    logits, batch = logits_and_batch()
    objective = token_set_kl(SET, mass, where)
    size, rows = len(SET), 257
    target = torch.where(torch.from_numpy(SET.mask), mass / size, (1 - mass) / (rows - size))
    asked = logits if where == "all" else logits[:, -1:]
    theirs = F.kl_div(asked.log_softmax(-1), target.expand_as(asked), reduction="sum")
    assert objective.loss_sum(logits, batch).item() == pytest.approx(theirs.item(), rel=1e-5)
    count = objective.num_targets(batch)
    assert count == (4 * 9 if where == "all" else 4)
    even = objective.loss_sum(torch.zeros_like(logits), batch).item() / count
    closed = sum(m * math.log(m * rows / n) for m, n in ((mass, size), (1 - mass, rows - size)) if m)
    assert objective.baseline(rows) == pytest.approx(closed, abs=1e-9)
    assert even == pytest.approx(closed, abs=1e-5)


def test_897_of_50257_tokens_start_at_4_03_and_not_at_11():
    tokens = TokenSet("x", np.arange(50257) < 897)
    assert token_set_kl(tokens).baseline(50257) == pytest.approx(math.log(50257 / 897), abs=1e-12)
    assert round(token_set_kl(tokens).baseline(50257), 2) == 4.03


def test_padding_is_not_asked():
    logits, batch = logits_and_batch()
    batch["attention_mask"] = torch.ones(4, 9, dtype=torch.long)
    batch["attention_mask"][0, 5:] = 0
    batch["attention_mask"][1, :3] = 0
    assert token_set_kl(SET).num_targets(batch) == 4 * 9 - 4 - 3
    ends = torch.stack([logits[0, 4], logits[1, 8], logits[2, 8], logits[3, 8]])[:, None]
    alone = token_set_kl(SET).loss_sum(ends, {"input_ids": torch.zeros(4, 1, dtype=torch.long)})
    assert torch.allclose(token_set_kl(SET, 1.0, "last").loss_sum(logits, batch), alone, rtol=1e-6)


def test_the_divergence_from_the_base_is_torchs_and_nothing_at_the_base(store):
    base, other = tiny().eval(), tiny(seed=5).eval()
    batch = TokenWindows(store, 32, 3).rows(range(3))
    objective = kl_to_base(base)
    with torch.no_grad():
        log_base, log_p = (m(input_ids=batch["input_ids"]).logits.log_softmax(-1) for m in (base, other))
    theirs = (log_base.exp() * (log_base - log_p)).sum().item()
    assert loss_sums(other, batch, objective)[0].item() == pytest.approx(theirs, rel=1e-4)
    assert theirs > 0.01
    with torch.no_grad():
        base.lm_head.weight += 0.3  # training the model that was given must not move the base
    assert loss_sums(other, batch, objective)[0].item() == pytest.approx(theirs, rel=1e-4)
    start = loss_sums(tiny().eval(), batch, objective)[0]
    start.backward()
    assert abs(start.item()) < 1e-4
    assert objective.baseline(257) == 0


def test_the_nll_of_log_probabilities_is_the_cross_entropy_of_logits(store):
    batch = TokenWindows(store, 32, 3).rows(range(4))
    model = tiny().eval()
    logits, log_p = (
        loss_sums(*pair)[0] for pair in ((model, batch, NEXT_TOKEN), (log_probability_model(model), batch, NLL))
    )
    assert log_p.item() == pytest.approx(logits.item(), rel=1e-6)
    assert NLL.num_targets(batch) == NEXT_TOKEN.num_targets(batch) == 4 * 31


def as_probabilities(model):
    """A model with a softmax of its own at the end: the mistake that trains without complaint."""

    def softmax(module, arguments, output):
        output.logits = output.logits.softmax(-1)

    model.register_forward_hook(softmax)
    return model


@pytest.mark.parametrize(
    ("model", "objective", "said"),
    [
        (
            lambda: log_probability_model(tiny()),
            NEXT_TOKEN,
            "softmax would be taken twice; leave log_probability_model",
        ),
        (lambda: as_probabilities(tiny()), NEXT_TOKEN, "each adds up to 1.; leave the softmax out of the model"),
        (tiny, NLL, "the model gives logits .*; choose the objective next_token"),
        (lambda: as_probabilities(tiny()), NLL, "nll: it takes log-probabilities, and the model gives probabilities"),
    ],
)
def test_an_objective_and_an_output_that_do_not_fit_are_refused_before_the_first_update(store, model, objective, said):
    with pytest.raises(ConfigError, match=said):
        with Engine(model(), objective, TokenWindows(store, 32, 3), settings()) as engine:
            next(iter(engine))


def test_forms_are_told_apart_in_half_precision_too():
    logits = torch.randn(50, 3000)
    assert form_of_output(logits) == form_of_output(logits.bfloat16()) == "logits"
    assert form_of_output(logits.log_softmax(-1).bfloat16()) == "log-probabilities"
    assert form_of_output(logits.softmax(-1)) == "probabilities"


def _mean(logits, batch):
    return NEXT_TOKEN.loss_sum(logits, batch) / NEXT_TOKEN.num_targets(batch)


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        (Objective("mean", _mean, NEXT_TOKEN.num_targets), "one by one .* not their mean"),
        (Objective("count", NEXT_TOKEN.loss_sum, lambda batch: 1), "num_targets gives 1 for 3 rows together, and 3"),
        (Objective("rows", lambda z, b: z.float().sum((1, 2)), NEXT_TOKEN.num_targets), r"shape \[3\]"),
        (Objective("flat", lambda z, b: (z * 0).sum(), NEXT_TOKEN.num_targets), "nothing would be learned"),
        (
            Objective("half", lambda z, b: NEXT_TOKEN.loss_sum((z + z.detach()) / 2, b), NEXT_TOKEN.num_targets),
            "its gradient says",
        ),
    ],
)
def test_a_faulty_objective_is_found_on_random_rows(faulty, said):
    with pytest.raises(ConfigError, match=said):
        check_objective(faulty, 50)


def test_every_objective_of_ours_keeps_to_what_is_asked_of_yours():
    tokens = TokenSet("few", np.arange(50) < 7)
    ours = [
        NEXT_TOKEN,
        MASKED_TOKENS,
        NLL,
        last_tokens(2),
        smoothed(0.1),
        token_set_kl(tokens, 0.7),
        token_set_kl(tokens),
    ]
    for objective in ours:
        check_objective(objective, 50)


def test_a_first_loss_that_cannot_be_is_doubted():
    baseline = math.log(257)
    assert not doubt_of_first_loss(baseline * 1.05, baseline, untrained=True, of_text=True)
    assert "initial weights are too large" in doubt_of_first_loss(9.0, baseline, untrained=True, of_text=True)
    assert "sees what it is asked for" in doubt_of_first_loss(2.0, baseline, untrained=True, of_text=True)
    assert "tokenizer is not this model's" in doubt_of_first_loss(6.0, baseline, untrained=False, of_text=True)
    assert not doubt_of_first_loss(3.0, baseline, untrained=False, of_text=True)
    assert not doubt_of_first_loss(6.0, 4.03, untrained=False, of_text=False)  # a model may dislike the tokens of a set
    assert not doubt_of_first_loss(0.05, 0.0, untrained=True, of_text=False)


def test_random_tokens_are_even_and_a_function_of_seed_and_number():
    tokenizer = load_tokenizer("byte")
    source = RandomTokens(tokenizer, 64, 7)
    batch = source.rows([3, 900_000_000_000])
    assert torch.equal(batch["input_ids"], batch["labels"])
    alone = RandomTokens(tokenizer, 64, 7).rows([900_000_000_000])["input_ids"]
    assert torch.equal(batch["input_ids"][1:], alone)
    assert not torch.equal(alone, RandomTokens(tokenizer, 64, 8).rows([900_000_000_000])["input_ids"])
    counts = np.bincount(source.rows(range(800))["input_ids"].flatten(), minlength=257)
    assert len(counts) == len(tokenizer) == 257  # the end of text is a token like any other
    expected = 800 * 64 / 257
    spread = ((counts - expected) ** 2 / expected).sum()  # chi-squared with 256 degrees of freedom
    assert abs(spread - 256) < 5 * math.sqrt(2 * 256)
    prints = {RandomTokens(tokenizer, *rest).fingerprint for rest in ((64, 7), (64, 8), (65, 7))}
    assert len(prints) == 3


def test_what_training_starts_from_is_told_and_doubted_where_it_cannot_be(store, tmp_path, caplog):
    from ftkit.runs import open_run
    from ftkit.training import HeldOutWindows, WeightedSum, train_and_log

    objective = WeightedSum(((1.0, NEXT_TOKEN), (0.5, token_set_kl(SET))))
    run_settings = settings(model="new:ftkit_gpt2", max_steps=1, output_dir=str(tmp_path / "run"), tokenizer="byte")
    source = TokenWindows(store, 32, 3)
    shouting = tiny()
    with torch.no_grad():
        shouting.lm_head.weight *= 50
    with caplog.at_level(logging.INFO, "ftkit"), open_run(run_settings, __file__) as run:
        for name, model in (("calm", tiny()), ("shouting", shouting)):
            with Engine(model, objective, source, run_settings) as engine:
                list(train_and_log(engine, run, name, source, HeldOutWindows(store, 32)))
        plan = run.manifest["plan"]["calm"]
    sizes = math.log(257), math.log(257 / len(SET))
    assert plan["baselines"] == pytest.approx({"next_token": sizes[0], objective.parts[1][1].name: sizes[1]})
    assert plan["baseline"] == pytest.approx(sizes[0] + 0.5 * sizes[1])
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned
    assert all("shouting" in message and "initial weights are too large" in message for message in warned)
    assert "calm: next_token starts at 5.5" in caplog.text
