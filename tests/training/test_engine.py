"""The engine against references it does not share code with, and against itself in other shapes."""

import hashlib
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FAMILIES, settings, tiny
from torch.nn.functional import cross_entropy

from ftkit.errors import CheckpointError, DeviceError, DivergedError, InterruptedRun
from ftkit.training import (
    CLASSIFICATION,
    NEXT_TOKEN,
    CheckpointFolder,
    Engine,
    Objective,
    TokenWindows,
    WeightedSum,
    loss_sums,
)

HERE = Path(__file__).parent


def digest(model: torch.nn.Module) -> str:
    """SHA-256 over all parameters."""
    found = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        found.update(name.encode() + parameter.detach().numpy().tobytes())
    return found.hexdigest()


def train(store, model, run_settings, folder: Path | None = None, stop: int | None = None):
    """Train a model and return its records."""
    checkpoints = CheckpointFolder(folder) if folder else None
    records = []
    with Engine(
        model, NEXT_TOKEN, TokenWindows(store, run_settings.window_tokens, 3), run_settings, checkpoints
    ) as engine:
        for record in engine:
            records.append(record)
            if record.step == stop:
                break
    return records


@pytest.mark.parametrize("family", FAMILIES)
def test_next_token_loss_is_that_of_transformers(store, family):
    model = tiny(family).eval()
    batch = TokenWindows(store, 32, 0).rows(range(4))
    with torch.no_grad():
        ours = loss_sums(model, batch, NEXT_TOKEN)[0] / NEXT_TOKEN.num_targets(batch)
        logits = model(input_ids=batch["input_ids"]).logits
        theirs = model(**batch).loss
    assert NEXT_TOKEN.num_targets(batch) == 4 * 31
    assert torch.allclose(ours, theirs, rtol=1e-6)
    by_hand = cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), batch["input_ids"][:, 1:].reshape(-1))
    assert torch.allclose(ours, by_hand, rtol=1e-6)


def test_classification_loss_is_that_of_transformers():
    model = tiny("bert", task="sequence-classification", labels=["a", "b", "c"]).eval()
    batch = {
        "input_ids": torch.randint(5, 250, (4, 9)),
        "attention_mask": torch.ones(4, 9, dtype=torch.long),
        "labels": torch.tensor([0, 2, 1, 1]),
    }
    with torch.no_grad():
        assert torch.allclose(loss_sums(model, batch, CLASSIFICATION)[0] / 4, model(**batch).loss, rtol=1e-6)


def test_masked_labels_are_not_counted(store):
    model = tiny().eval()
    batch = TokenWindows(store, 32, 0).rows(range(2))
    masked = {**batch, "labels": batch["labels"].clone()}
    masked["labels"][:, :16] = -100
    with torch.no_grad():
        assert NEXT_TOKEN.num_targets(masked) == 2 * 16
        assert torch.allclose(loss_sums(model, masked, NEXT_TOKEN)[0] / 32, model(**masked).loss, rtol=1e-6)


def test_a_trajectory_equals_a_plain_torch_loop(store):
    mine, theirs = tiny(), tiny()
    run = settings(weight_decay=0.1, max_grad_norm=0.5)
    records = train(store, mine, run)
    source = TokenWindows(store, 32, 3)
    decayed = [p for p in theirs.parameters() if p.ndim >= 2]
    plain = [p for p in theirs.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 6)
    theirs.train()
    for step in range(6):
        loss = theirs(**source.rows(range(8 * step, 8 * step + 8))).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        assert records[step].loss == pytest.approx(loss.item(), rel=1e-5)
        assert records[step].grad_norm == pytest.approx(norm.item(), rel=1e-4)
    for ours, reference in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(ours, reference, atol=5e-6)


@pytest.mark.parametrize("family", [*FAMILIES, "bert"])
def test_accumulation_does_not_change_loss_or_gradient(store, family):
    """transformers' Trainer is off by the accumulation factor on BERT (huggingface/transformers#47688)."""
    found = []
    for rows, parts in ((8, 1), (4, 2), (1, 8)):
        run = settings(per_device_train_batch_size=rows, gradient_accumulation_steps=parts, max_steps=2)
        if family == "bert":
            model, objective = tiny("bert", task="sequence-classification", labels=["a", "b"]), CLASSIFICATION
            source = Labelled()
        else:
            model, objective, source = tiny(family), NEXT_TOKEN, TokenWindows(store, 32, 3)
        with Engine(model, objective, source, run) as engine:
            found.append([(r.loss, r.grad_norm, r.num_targets) for r in engine])
    for other in found[1:]:
        assert np.allclose(found[0], other, rtol=2e-6)


class Labelled:
    """Rows with two classes."""

    fingerprint = "labelled"

    def rows(self, indices):
        ids = torch.stack([torch.full((9,), 5 + int(i) % 100) for i in indices])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": torch.tensor([int(i) % 2 for i in indices]),
        }


def test_evaluation_between_steps_does_not_change_training(store):
    quiet, noisy = tiny(dropout=True), tiny(dropout=True)
    run = settings()
    train(store, quiet, run)
    with Engine(noisy, NEXT_TOKEN, TokenWindows(store, 32, 3), run) as engine:
        for _ in engine:
            torch.rand(17)
            noisy.eval()
    assert digest(quiet) == digest(noisy)


@pytest.mark.parametrize(
    ("optimizer", "stop"),
    [(name, stop) for name in ("adamw", "muon") for stop in (1, 3, 5)]
    + [
        (name, 3)
        for name in ("adadelta", "adafactor", "adagrad", "adam", "adamax", "asgd", "nadam", "radam", "rmsprop", "sgd")
    ],
)
def test_resumed_equals_uninterrupted_bit_for_bit(store, tmp_path, optimizer, stop):
    run = settings(optimizer=optimizer, save_steps=1, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    whole = tiny(dropout=True)
    reference = train(store, whole, run)
    train(store, tiny(dropout=True), run, tmp_path, stop=stop + 1)  # the break comes before the save of its step
    resumed = tiny(dropout=True, seed=9)
    rest = train(store, resumed, run, tmp_path)
    assert [r.step for r in rest] == list(range(stop + 1, 7))
    assert digest(resumed) == digest(whole)
    assert [(r.loss, r.grad_norm, r.learning_rate) for r in rest] == [
        (r.loss, r.grad_norm, r.learning_rate) for r in reference[stop:]
    ]


def test_a_checkpoint_of_other_data_is_refused(store, tmp_path):
    run = settings(save_steps=1, max_steps=2)
    train(store, tiny(), run, tmp_path)
    with pytest.raises(CheckpointError, match="a different text, tokenizer"):
        Engine(tiny(), NEXT_TOKEN, TokenWindows(store, 32, 4), run, CheckpointFolder(tmp_path))


def test_non_finite_loss_stops_before_the_update(store, tmp_path):
    model = tiny()
    run = settings(save_steps=1)
    before = None
    with pytest.raises(DivergedError, match=r"step 4: the loss is nan.*step-000003"):
        with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run, CheckpointFolder(tmp_path)) as engine:
            for record in engine:
                if record.step == 3:
                    engine.save()
                    with torch.no_grad():
                        model.lm_head.weight[0, 0] = math.nan
                    before = digest(model)
    assert digest(model) == before
    newest = CheckpointFolder(tmp_path).newest_valid()
    assert newest is not None
    assert newest.name == "step-000003"


def test_a_rate_beyond_reason_ends_as_diverged(store):
    with pytest.raises(DivergedError, match="Lower learning_rate"):
        train(store, tiny(), settings(learning_rate=1e30, max_steps=20, lr_scheduler_type="constant"))


def test_no_target_at_all_is_an_error_not_a_nan(store):
    class Masked(TokenWindows):
        def rows(self, indices):
            batch = super().rows(indices)
            return {**batch, "labels": torch.full_like(batch["labels"], -100)}

    with (
        pytest.raises(DivergedError, match="no target"),
        Engine(tiny(), NEXT_TOKEN, Masked(store, 32, 3), settings()) as engine,
    ):
        next(iter(engine))


def test_fp16_without_an_accelerator_is_refused(store):
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator here")
    with pytest.raises(DeviceError, match="fp16"):
        Engine(tiny(), NEXT_TOKEN, TokenWindows(store, 32, 3), settings(fp16=True))


def test_bf16_trains_and_keeps_float32_weights(store):
    model = tiny()
    records = train(store, model, settings(bf16=True))
    assert records[-1].loss < records[0].loss
    assert all(p.dtype is torch.float32 for p in model.parameters())


def test_the_first_loss_of_an_untrained_model_is_ln_v(store):
    assert train(store, tiny(), settings(max_steps=1))[0].loss == pytest.approx(math.log(257), rel=0.02)


def test_activation_checkpointing_changes_nothing(store):
    plain, saving = tiny(dropout=True), tiny(dropout=True)
    train(store, plain, settings())
    train(store, saving, settings(activation_checkpointing=True))
    assert digest(plain) == digest(saving)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_obeyed_after_the_step_and_nothing_is_lost(store, tmp_path, number):
    run = settings(save_steps=100)
    whole, model = tiny(), tiny()
    train(store, whole, run)
    with pytest.raises(InterruptedRun) as caught:
        with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run, CheckpointFolder(tmp_path)) as engine:
            for record in engine:
                if record.step == 2:
                    os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number
    resumed = tiny()
    assert [r.step for r in train(store, resumed, run, tmp_path)] == [3, 4, 5, 6]
    assert digest(resumed) == digest(whole)


def test_clipping_waits_and_cuts_by_value_as_torch_does(store):
    def change(**values: object) -> tuple[float, float]:
        """Largest element and norm of the change in two steps of plain SGD at rate 1: the clipped gradients."""
        model = tiny()
        found = []
        before = [p.detach().clone() for p in model.parameters()]
        run = settings(
            optimizer="sgd", learning_rate=1.0, weight_decay=0.0, lr_scheduler_type="constant", max_steps=2, **values
        )
        with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 5), run) as engine:
            for record in engine:
                moved = torch.cat([(b - p.detach()).ravel() for b, p in zip(before, model.parameters(), strict=True)])
                found.append((float(moved.abs().max()), float(moved.norm()), record.grad_norm))
                before = [p.detach().clone() for p in model.parameters()]
        return found

    free, by_norm, by_value, late = (
        change(), change(max_grad_norm=0.1), change(max_grad_value=0.01), change(max_grad_norm=0.1, clip_after=1)
    )  # fmt: skip
    assert free[0][1] == pytest.approx(free[0][2], rel=1e-3)
    assert free[0][1] > 0.5
    assert by_norm[0][1] == pytest.approx(0.1, rel=1e-2)
    assert by_norm[0][2] == free[0][2]  # the norm that is told is the one before clipping
    assert by_value[0][0] == pytest.approx(0.01, rel=1e-2)
    assert late[0] == free[0]
    assert late[1][1] == pytest.approx(0.1, rel=1e-2)


def test_the_order_of_a_step(store, monkeypatch):
    """Backward, mask, norms, clip, update, restore: one of each, in this order, with the rate of its step."""
    calls: list[str] = []

    def recorded(owner: object, name: str, label: str) -> None:
        original = getattr(owner, name)

        def call(*args: object, **kwargs: object) -> object:
            calls.append(label)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    run = settings(
        max_steps=2, gradient_accumulation_steps=2, max_grad_norm=0.1, train="attention.q", freeze_until={"all@0": 1}
    )
    with Engine(tiny("gpt2"), NEXT_TOKEN, TokenWindows(store, 32, 5), run) as engine:
        recorded(engine.accelerator, "backward", "backward")
        recorded(engine.freezing, "drop_gradients", "mask")
        recorded(engine.clipping, "norms", "norms")
        recorded(engine.clipping, "clip", "clip")
        recorded(engine._steppers[0], "step", "update")
        held = engine.freezing.held

        @contextmanager
        def held_and_recorded(step: int) -> Iterator[None]:
            with held(step):
                yield
            calls.append("restore")

        monkeypatch.setattr(engine.freezing, "held", held_and_recorded)
        rates = [record.learning_rate for record in engine]
    assert calls == ["backward", "backward", "mask", "norms", "clip", "update", "restore"] * 2
    assert rates == [1e-3, 5e-4]


def test_a_weighted_sum_is_the_sum_of_its_parts(store):
    """Next token and last eight tokens together: the loss and its gradient are the weighted ones of the two alone."""

    def last_eight(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(logits[:, -9:-1].flatten(0, 1), batch["labels"][:, -8:].flatten(), reduction="sum")

    late = Objective("late", last_eight, lambda batch: 8 * len(batch["labels"]))
    found = {}
    for name, objective in {
        "both": WeightedSum(((0.5, NEXT_TOKEN), (2.0, late))), "next": NEXT_TOKEN, "late": late
    }.items():  # fmt: skip
        model = tiny()
        before = [p.detach().clone() for p in model.parameters()]
        run = settings(max_steps=1, optimizer="sgd", learning_rate=1.0, weight_decay=0.0)
        with Engine(model, objective, TokenWindows(store, 32, 5), run) as engine:
            record = next(iter(engine))
        found[name] = record, [(b - p.detach()) for b, p in zip(before, model.parameters(), strict=True)]
    both, following, last = (found[name][0] for name in ("both", "next", "late"))
    assert both.losses == pytest.approx({"next_token": following.loss, "late": last.loss}, rel=1e-6)
    assert both.loss == pytest.approx(0.5 * following.loss + 2 * last.loss, rel=1e-6)
    assert (both.num_targets, following.losses) == (8 * 31, {})
    for ours, first, second in zip(*(found[name][1] for name in ("both", "next", "late")), strict=True):
        assert torch.allclose(ours, 0.5 * first + 2 * second, atol=1e-6)
