"""Masked language modelling against transformers' collator and losses, exact counts and planted faults."""

import math

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM, DataCollatorForLanguageModeling

from ftkit.config import TrainingSettings
from ftkit.data import Masking, load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import DataError, ModelError
from ftkit.models import load_model
from ftkit.training import MASKED_TOKENS, Engine, HeldOutWindows, MaskedWindows, TokenWindows, held_out_loss, loss_sums

TEXT = voice_text("keeper", 2000)
BERT = "new:bert,hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0"


def settings(**values: object) -> TrainingSettings:
    """Settings for a few steps on the CPU."""
    defaults: dict[str, object] = {"model": "m", "window_tokens": 32, "save_steps": 0, "use_cpu": True}
    return TrainingSettings(**{**defaults, **values})


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("train:512", texts=[TEXT], with_mask=True)


@pytest.fixture(scope="module")
def pieces(tokenizer, tmp_path_factory):
    return tokenize_texts([TEXT], tokenizer, cache=tmp_path_factory.mktemp("pieces"))


def shares(inputs, labels, truth, mask_id, special_ids):
    """(ordinary tokens, how many of them were asked for, masked, replaced, kept)."""
    asked = labels != -100
    assert torch.equal(labels[asked], truth[asked])
    assert torch.equal(inputs[~asked], truth[~asked])
    assert not torch.isin(truth[asked], special_ids).any()
    masked, kept = asked & (inputs == mask_id), asked & (inputs == truth)
    ordinary = int((~torch.isin(truth, special_ids)).sum())
    return ordinary, int(asked.sum()), int(masked.sum()), int((asked & ~masked & ~kept).sum()), int(kept.sum())


def close(found: int, of: int, share: float) -> bool:
    """Within four standard deviations of a binomial count."""
    return abs(found - of * share) < 4 * math.sqrt(of * share * (1 - share))


def test_shares_are_berts_and_those_of_transformers_collator(pieces, tokenizer):
    source = MaskedWindows(pieces, 64, 0, tokenizer)
    batch = source.rows(range(400))
    truth = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    special = torch.tensor(tokenizer.all_special_ids)
    torch.manual_seed(0)
    collated = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)([{"input_ids": row} for row in truth])
    # A random token is the right one by chance, so a little more than a tenth is kept, a little less replaced.
    chance = 0.1 / len(source.masking.ordinary_ids)
    for inputs, labels in ((batch["input_ids"], batch["labels"]), (collated["input_ids"], collated["labels"])):
        ordinary, asked, masked, replaced, kept = shares(inputs, labels, truth, tokenizer.mask_token_id, special)
        assert ordinary > 20_000
        assert close(asked, ordinary, 0.15)
        assert close(masked, asked, 0.8)
        assert close(replaced, asked, 0.1 - chance)
        assert close(kept, asked, 0.1 + chance)


def test_windows_stand_between_cls_and_sep_and_show_the_text(pieces, tokenizer):
    source = MaskedWindows(pieces, 64, 5, tokenizer)
    batch = source.rows(range(6))
    assert batch["input_ids"].shape == (6, 64)
    assert (batch["input_ids"][:, 0] == tokenizer.cls_token_id).all()
    assert (batch["input_ids"][:, -1] == tokenizer.sep_token_id).all()
    truth = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    assert torch.equal(truth[:, 1:-1], TokenWindows(pieces, 62, 5).rows(range(6))["input_ids"])


def test_a_row_follows_from_seed_and_number_alone(pieces, tokenizer):
    source = MaskedWindows(pieces, 32, 5, tokenizer)
    together = source.rows([3, 900_000_000_000, 7])
    for name in ("input_ids", "labels"):
        alone = MaskedWindows(pieces, 32, 5, tokenizer).rows([900_000_000_000])[name]
        assert torch.equal(together[name][1:2], alone)
    assert not torch.equal(together["labels"], MaskedWindows(pieces, 32, 6, tokenizer).rows([3, 9, 7])["labels"])
    fingerprints = {
        MaskedWindows(pieces, *rest).fingerprint
        for rest in ((32, 5, tokenizer), (33, 5, tokenizer), (32, 6, tokenizer), (32, 5, tokenizer, 0.3))
    }
    assert len({*fingerprints, TokenWindows(pieces, 32, 5).fingerprint}) == 5
    assert source.fingerprint in fingerprints


def test_replacements_are_ordinary_tokens_only(tokenizer):
    masking = Masking(tokenizer, 1.0)
    inputs, _ = masking.rows(torch.full((200, 100), int(masking.ordinary_ids[0])), range(200), seed=1)
    seen = set(inputs[:, 1:-1].unique().tolist()) - {tokenizer.mask_token_id}
    assert seen <= set(masking.ordinary_ids.tolist())
    assert not seen & set(tokenizer.all_special_ids)
    assert len(seen) > 0.9 * len(masking.ordinary_ids)


def test_special_tokens_are_never_asked_for_and_other_rows_have_a_target(tokenizer):
    masking = Masking(tokenizer, 0.01)
    rows = torch.full((300, 4), tokenizer.unk_token_id)
    rows[:200, 2] = int(masking.ordinary_ids[3])
    _, labels = masking.rows(rows, range(300), seed=0)
    asked = labels != -100
    assert asked[:200, 3].all()  # behind [CLS]
    assert int(asked.sum()) == 200


@pytest.mark.parametrize("spec", ["train:512", "byte"])
def test_tokenizers_made_for_an_encoder_have_its_tokens(spec, tmp_path):
    tokenizer = load_tokenizer(spec, texts=[TEXT], with_mask=True)
    ids = {getattr(tokenizer, f"{name}_token_id") for name in ("mask", "cls", "sep", "pad")}
    assert len(ids) == 4
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1
    whole = tokenizer("the lamp")["input_ids"]
    assert (whole[0], whole[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again("the lamp")["input_ids"] == whole
    assert again.mask_token_id == tokenizer.mask_token_id


def test_without_a_mask_token_the_error_says_what_has_one():
    with pytest.raises(ModelError, match=r"no mask token.*train:SIZE"):
        Masking(load_tokenizer("byte"))
    with pytest.raises(DataError, match="is 0; it must be above 0"):
        Masking(load_tokenizer("byte", with_mask=True), 0)
    with pytest.raises(DataError, match="2 tokens has no room"):
        Masking(load_tokenizer("byte", with_mask=True)).text_tokens(2)


def bert(tokenizer, **values):
    return load_model(BERT, task="masked-lm", vocab_size=len(tokenizer), max_positions=64, **values)


def test_the_loss_is_that_of_transformers_without_a_shift(pieces, tokenizer):
    model = bert(tokenizer)
    assert isinstance(model, BertForMaskedLM)
    batch = MaskedWindows(pieces, 48, 0, tokenizer).rows(range(4))
    with torch.no_grad():
        ours = loss_sums(model, batch, MASKED_TOKENS)[0] / MASKED_TOKENS.num_targets(batch)
        theirs = model(**batch).loss
        shifted = model(input_ids=batch["input_ids"], labels=batch["labels"].roll(1, 1)).loss
    assert MASKED_TOKENS.num_targets(batch) == int((batch["labels"] != -100).sum())
    assert torch.allclose(ours, theirs, rtol=1e-6)
    assert not torch.allclose(ours, shifted, rtol=1e-3)
    assert ours.item() == pytest.approx(math.log(len(tokenizer)), rel=0.03)


def test_held_out_loss_asks_the_same_questions_every_time_and_counts_their_bytes(pieces, tokenizer):
    model, masking = bert(tokenizer), Masking(tokenizer)
    loss = held_out_loss(model, HeldOutWindows(pieces, 32, masking))
    again = held_out_loss(model, HeldOutWindows(pieces, 32, Masking(tokenizer)), batch_rows=3)
    assert len(loss.nats) == pieces.num_tokens // 30
    assert np.allclose(loss.nats, again.nats, rtol=1e-5)
    window = torch.from_numpy(np.asarray(pieces.ids[90:120]).astype(np.int64))[None]
    inputs, labels = masking.rows(window, [3], seed=0)
    asked = (labels[0] != -100).nonzero().flatten()
    with torch.no_grad():
        expected = model(input_ids=inputs, labels=labels).loss.item() * len(asked)
    assert loss.nats[3] == pytest.approx(expected, rel=1e-5)
    assert loss.targets[3] == len(asked)
    assert loss.bytes[3] == sum(int(pieces.byte_lengths[90 + place - 1]) for place in asked)
    everything = held_out_loss(model, HeldOutWindows(pieces, 32, Masking(tokenizer, 1.0)))
    assert everything.bytes.sum() == pieces.byte_lengths[: len(loss.nats) * 30].astype(int).sum()


def test_training_lowers_the_masked_loss_and_resumes_its_rows(pieces, tokenizer):
    model = bert(tokenizer)
    before = held_out_loss(model, HeldOutWindows(pieces, 32, Masking(tokenizer)))
    run = settings(max_steps=40, learning_rate=3e-3, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    with Engine(model, MASKED_TOKENS, MaskedWindows(pieces, 32, 0, tokenizer), run) as engine:
        losses = [record.loss for record in engine]
    after = held_out_loss(model, HeldOutWindows(pieces, 32, Masking(tokenizer)))
    assert after.bits_per_byte < 0.9 * before.bits_per_byte
    assert losses[-1] < losses[0]


def test_micro_batches_add_up_to_the_batch(pieces, tokenizer):
    found = []
    for rows, parts in ((8, 1), (2, 4)):
        model = bert(tokenizer)
        run = settings(per_device_train_batch_size=rows, gradient_accumulation_steps=parts, max_steps=2)
        with Engine(model, MASKED_TOKENS, MaskedWindows(pieces, 32, 0, tokenizer), run) as engine:
            found.append([(r.loss, r.grad_norm, r.num_targets) for r in engine])
    assert np.allclose(found[0], found[1], rtol=5e-6)


def test_next_token_questions_are_as_before(store):
    loss = held_out_loss(load_model("new:ftkit_gpt2", vocab_size=257), HeldOutWindows(store, 32))
    assert (loss.targets == 31).all()
    assert loss.bytes[2] == store.byte_lengths[65:96].sum()
