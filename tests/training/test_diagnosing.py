"""Planted faults: a diverged training says which tensor, which module or which gradient went wrong first."""

import dataclasses
import logging
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FAMILIES, settings, tiny
from processes import ranks

import ftkit
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import DivergedError
from ftkit.models import load_model
from ftkit.runs import RunFolder
from ftkit.training import NEXT_TOKEN, Engine, HeldOutWindows, Objective, TokenWindows, train_and_log
from ftkit.training.divergence import diagnosis, first_bad_module

HERE = Path(__file__).parent


def verdict(store, model, objective=NEXT_TOKEN, **values) -> str:
    """What the engine says when it stops."""
    run = settings(**values)
    with pytest.raises(DivergedError) as caught, Engine(model, objective, TokenWindows(store, 32, 3), run) as engine:
        next(iter(engine))
    return str(caught.value)


def test_a_planted_nan_is_named_with_its_tensor(store):
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 5] = math.nan
    said = verdict(store, model)
    assert "1 of 16,384 values of transformer.h.1.mlp.c_fc.weight are not finite" in said.lower().replace(
        "1 Of", "1 of"
    )
    assert "Lower learning_rate" in said


@pytest.mark.parametrize("dropout", [False, True])
def test_planted_huge_activations_are_named_with_their_module_and_size(store, dropout):
    model = tiny("gpt2", dropout=dropout)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias.fill_(1e37)
        model.transformer.h[1].mlp.c_proj.weight.fill_(1.0)  # sums 256 of them
    said = verdict(store, model)
    assert "that of transformer.h.1.mlp.c_proj (Conv1D), whose input was finite and reached 1e+37" in said


def test_activations_that_only_the_backward_pass_cannot_bear_are_named_by_the_gradient(store):
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias.fill_(1e20)  # GELU is finite there, its slope is computed with a cube
    said = verdict(store, model)
    assert "gradient norm nan" in said
    assert "first gradient that is not finite is that of transformer.h.1.mlp.c_fc.bias (256 of 256 values)" in said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fault_between_modules_is_that_of_the_module_around_them(family):
    model = tiny(family).eval()
    blocks = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))

    def overflow(module, args, output):
        """The block's own sum overflows although every part of it is finite."""
        first = output[0] if isinstance(output, tuple) else output
        return (first * math.inf, *output[1:]) if isinstance(output, tuple) else first * math.inf

    blocks[0].register_forward_hook(overflow)
    name = next(name for name, module in model.named_modules() if module is blocks[0])
    said = first_bad_module(model, {"input_ids": torch.arange(8)[None], "use_cache": False})
    assert f"that of {name} ({type(blocks[0]).__name__})" in said
    assert all(not module._forward_hooks for module in blocks[1].modules())


def test_a_gradient_that_overflows_is_named_where_the_backward_pass_begins(store):
    def steep(logits, batch):
        return (logits * 0).sum().abs().sqrt()  # finite, its slope is not

    said = verdict(store, tiny("gpt_neo"), Objective("steep", steep, lambda batch: 1))
    assert "the loss is 0.0" in said
    assert "first gradient that is not finite is that of transformer.ln_f.bias" in said


def test_nothing_is_said_of_a_sound_model(store):
    model = tiny()
    batch = {"input_ids": TokenWindows(store, 32, 0).rows(range(2))["input_ids"]}
    assert diagnosis(model, [batch]) == ""


@pytest.mark.parametrize("tokenizer", ["its own", "another model's"])
def test_a_first_loss_above_uniform_is_a_warning_only_where_the_model_cannot_read_the_text(
    tmp_path, monkeypatch, caplog, tokenizer
):
    """base:tales starts above a uniform prediction on the keeper's log; permuted ids are another model's."""
    monkeypatch.setattr(logging.getLogger("ftkit"), "propagate", True)
    path = Path(ftkit.__file__).parent / "bases" / "tales"
    store = tokenize_texts([voice_text("keeper", 2000)], load_tokenizer(str(path)), cache=tmp_path)
    if tokenizer != "its own":
        np.random.default_rng(0).shuffle(ids := np.arange(store.tokenizer.vocab_size))
        store = dataclasses.replace(store, ids=ids[store.ids])
    run, model = RunFolder(tmp_path, "test", {"models": {}, "phases": {}}, is_main=True), load_model(str(path))
    step = settings(model=str(path), max_steps=1, per_device_train_batch_size=4, window_tokens=64, learning_rate=1e-6)
    source, heldout = TokenWindows(store, 64, 3), HeldOutWindows(store, 64)
    caplog.set_level(logging.INFO)
    with Engine(model, NEXT_TOKEN, source, step) as engine:
        (record,) = train_and_log(engine, run, "tuned", source, heldout)
    assert record.loss > math.log(model.config.vocab_size) + 2
    warned = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert ("its own" if not warned else "another model's") == tokenizer
    assert ("expects others" in caplog.text) == (not warned)
    assert all("tokenizer is not this model's" in line for line in warned)


def test_several_processes_say_it_each_for_itself_and_none_waits(tmp_path):
    started = time.monotonic()
    for done in ranks(2, HERE / "diverge_in_process.py", tmp_path):
        assert done.returncode == 0, done.stderr[-2000:]
    said = [(tmp_path / f"{number}.txt").read_text() for number in (0, 1)]
    assert all("transformer.h.1.mlp.c_proj" in text for text in said)
    assert time.monotonic() - started < 150
