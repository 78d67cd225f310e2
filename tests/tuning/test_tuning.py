"""Schedules, optimizers and movement against torch and transformers."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.tuning import build_optimizers, learning_rate_factor, matrices_of_blocks, movement, snapshot


def settings(**values: object) -> TrainingSettings:
    return TrainingSettings(**{"model": "m", "max_steps": 40, "learning_rate": 1.0, **values})


@pytest.mark.parametrize(
    ("name", "reference"), [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_fall_as_those_of_transformers(name, reference, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = reference(optimizer, warmup, 40)
    run = settings(lr_scheduler_type=name, warmup_steps=warmup)
    for step in range(1, 41):
        if step > warmup:
            assert learning_rate_factor(step, run) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        else:
            assert learning_rate_factor(step, run) == pytest.approx(step / warmup)
        optimizer.step()
        schedule.step()


def test_warmup_as_a_share_and_floor():
    run = settings(lr_scheduler_type="linear", warmup_steps=0.25, min_lr_rate=0.1)
    assert learning_rate_factor(10, run) == 1.0
    assert learning_rate_factor(5, run) == 0.5
    assert 0.1 < learning_rate_factor(40, run) < 0.14


FAMILIES = ["ftkit_gpt2", "gpt2", "gpt_neo", "codegen"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_belongs_to_exactly_one_group(family, optimizer):
    model = load_model(f"new:{family}", vocab_size=64)
    optimizers = build_optimizers(model, settings(optimizer=optimizer))
    held = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == len({id(p) for p in held})
    for o in optimizers:
        for group in o.param_groups:
            assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.parametrize("family", FAMILIES)
def test_muon_gets_the_matrices_of_the_blocks_and_no_embedding(family):
    model = load_model(
        f"new:{family},num_hidden_layers=2" if family == "ftkit_gpt2" else f"new:{family}", vocab_size=64
    )
    names = set(matrices_of_blocks(model))
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    assert names
    assert not embeddings & {id(p) for n, p in model.named_parameters() if n in names}
    assert not any("wpe" in name or "embed" in name for name in names)
    blocks = {n for n, p in model.named_parameters() if p.ndim == 2 and (".h." in n or ".layers." in n)}
    assert names == blocks


def test_a_frozen_model_is_refused():
    model = load_model("new:gpt2", vocab_size=64).requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizers(model, settings())


def test_movement_is_the_relative_frobenius_norm_and_the_snapshot_is_a_copy():
    model = torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0, 0], [0, 4, 0]]))
    before = snapshot(model)
    assert movement(before, model).changed == 0
    with torch.no_grad():
        model.weight[0, 2] = 0.5
    moved = movement(before, model)
    assert (moved.changed, moved.tensors) == (1, 1)
    assert moved.relative == pytest.approx(0.5 / 5)


def test_schedule_steps_lay_the_rate_out_for_another_length():
    longer = settings(lr_scheduler_type="linear", warmup_steps=15, max_steps=300, schedule_steps=450)
    assert learning_rate_factor(15, longer) == 1.0
    assert learning_rate_factor(301, longer) == pytest.approx(0.345, abs=1e-3)  # lesson 07/019: 34.5 % of the peak
    shorter = settings(lr_scheduler_type="linear", schedule_steps=20, min_lr_rate=0.1)
    assert learning_rate_factor(21, shorter) == learning_rate_factor(40, shorter) == pytest.approx(0.1)


def test_cosine_with_cycles_is_that_of_transformers():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 8, 40, num_cycles=2)
    run = settings(lr_scheduler_type="cosine", warmup_steps=8, lr_cycles=2.0)
    for step in range(1, 41):
        if step > 8:
            assert learning_rate_factor(step, run) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


NAMED = ["adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "sgd"]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_optimizer_is_that_of_torch_with_decay_of_matrices_only(name):
    model = load_model("new:ftkit_gpt2", vocab_size=64)
    arguments = {"momentum": 0.9} if name == "sgd" else {}
    (optimizer,) = build_optimizers(model, settings(optimizer=name, optimizer_args=arguments, weight_decay=0.1))
    assert type(optimizer).__name__.lower() == name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for group in optimizer.param_groups:
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.1}
        assert group.get("momentum", 0.9) == 0.9 or name != "sgd"


def test_adamw_without_decay_is_adam():
    trained = []
    for name in ("adam", "adamw"):
        model = load_model("new:ftkit_gpt2", vocab_size=64)
        (optimizer,) = build_optimizers(model, settings(optimizer=name, weight_decay=0.0, learning_rate=1e-2))
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        trained.append(torch.cat([p.detach().ravel() for p in model.parameters()]))
    assert torch.equal(*trained)


def test_an_argument_that_an_optimizer_lacks_is_named():
    with pytest.raises(ConfigError, match="sgd has no 'momentun'; did you mean 'momentum'"):
        build_optimizers(load_model("new:gpt2"), settings(optimizer="sgd", optimizer_args={"momentun": 0.9}))
