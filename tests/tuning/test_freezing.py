"""Frozen means bit-identical: for every kind of selector on every family, and against equal models."""

from contextlib import contextmanager

import pytest
import torch
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import ConfigError
from ftkit.models import from_hf_gpt2, load_model
from ftkit.training import CLASSIFICATION, NEXT_TOKEN, CheckpointFolder, Engine, TokenWindows
from ftkit.tuning import Freezing, ParameterGroups, build_optimizers, freeze, movement, parameter_table, snapshot

CAUSAL = ["ftkit_gpt2", "gpt2", "gpt_neo", "codegen", "llama", "qwen3"]
CLASSIFIERS = ["bert", "distilbert"]
SELECTORS = [
    "attention.q@1..", "attention.k,attention.v@-1", "mlp.out", "norm", "embedding[rows=13+32..40]", "embedding",
    "head", "all@0", "name:\\.0\\.", "^norm", "^attention.q",
]  # fmt: skip


def settings(**values: object) -> TrainingSettings:
    """Everything that moves a tensor without gradient: decay, momentum, accumulation, clipping."""
    defaults: dict[str, object] = {
        "model": "m", "tokenizer": "byte", "max_steps": 4, "window_tokens": 24, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "weight_decay": 0.1, "max_grad_norm": 0.5,
        "save_steps": 0, "use_cpu": True, "eval_steps": 100,
    }  # fmt: skip
    return TrainingSettings(**{**defaults, **values})


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> TokenWindows:
    cache = tmp_path_factory.mktemp("tokens")
    return TokenWindows(tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=cache), 24, 3)


class Classes:
    """The same windows with a class each."""

    def __init__(self, windows: TokenWindows) -> None:
        self.windows, self.fingerprint = windows, windows.fingerprint

    def rows(self, indices):
        ids = self.windows.rows(indices)["input_ids"]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def tiny(family: str) -> PreTrainedModel:
    task = "sequence-classification" if family in CLASSIFIERS else "causal-lm"
    return load_model(f"new:{family}", task=task, seed=1, vocab_size=257)


def train(model: PreTrainedModel, windows: TokenWindows, run: TrainingSettings) -> list[float]:
    classifies = hasattr(model, "classifier")
    with Engine(
        model, CLASSIFICATION if classifies else NEXT_TOKEN, Classes(windows) if classifies else windows, run
    ) as e:
        return [record.loss for record in e]


def frozen_elements(model: PreTrainedModel, selector: str) -> dict[str, torch.Tensor]:
    """A full-size bool tensor for each parameter: which elements the selector means."""
    from ftkit.tuning import select

    groups = ParameterGroups(model)
    chosen = select(groups, selector).masks
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = torch.zeros(parameter.shape, dtype=torch.bool)
        if name in chosen:
            shape = [1] * parameter.ndim
            shape[groups.dims[name]] = -1
            found[name] |= chosen[name].reshape(shape)
    return found


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("family", CAUSAL + CLASSIFIERS)
def test_frozen_elements_are_bit_identical_and_the_rest_moves(family, selector, windows):
    model = tiny(family)
    try:
        frozen = frozen_elements(model, selector)
    except ConfigError as error:
        assert "matches nothing" in str(error)
        assert (selector, family in CLASSIFIERS) == ("head", True)
        return
    before = snapshot(model)
    train(model, windows, settings(freeze=selector, max_steps=2))
    seen = 0
    for name, parameter in model.named_parameters():
        mask = frozen[name]
        assert torch.equal(parameter.detach()[mask].view(torch.int32), before[name][mask].view(torch.int32)), name
        seen += int(mask.sum())
    assert 0 < seen < model.num_parameters()
    trainable = freeze(tiny(family), settings(freeze=selector)).trainable
    proof = movement(before, model, trainable)
    assert proof.leaks == ()
    assert proof.frozen == seen
    assert proof.changed > 0
    assert set(proof.still) <= {"position", "embedding.type"}  # position rows beyond the window get no gradient


@pytest.mark.parametrize("family", CAUSAL + CLASSIFIERS)
def test_train_names_what_may_change(family, windows):
    model = tiny(family)
    before = snapshot(model)
    train(model, windows, settings(train="attention.q@1..,mlp.in@0"))
    for name, parameter in model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        # Names of the modules that hold these parts, over all families.
        in_mlp = any(part in name for part in ("fc_in", "c_fc", "up_proj", "intermediate", "lin1"))
        in_query = any(part in name for part in ("c_attn", "q_proj", "qkv_proj", "query", "q_lin"))
        assert changed == ((".0." in name and in_mlp) or (".1." in name and in_query)), name


@pytest.mark.parametrize("leak", ["whole", "slice"])
def test_a_planted_leak_fails_the_proof(leak, windows, monkeypatch):
    model = tiny("gpt2")
    before = snapshot(model)
    run = settings(freeze="attention.q,norm@0")
    if leak == "slice":

        @contextmanager
        def forgotten(self, step):
            yield

        monkeypatch.setattr(Freezing, "held", forgotten)
    train(model, windows, run)
    if leak == "whole":
        with torch.no_grad():
            model.transformer.h[0].ln_1.bias[3] += 1e-7
    proof = movement(before, model, freeze(tiny("gpt2"), run).trainable)
    names = {
        name for name in before if ("c_attn.weight" in name if leak == "slice" else name.endswith("h.0.ln_1.bias"))
    }
    assert set(proof.leaks) == names


def test_a_frozen_slice_trains_like_the_separate_matrix(windows):
    """GPT-2 with the queries of its fused matrix frozen, beside the own GPT-2 whose query matrix is frozen whole."""
    fused = load_model("new:gpt2,resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0", seed=1, vocab_size=257)
    separate = from_hf_gpt2(fused)
    run = settings(freeze="attention.q,attention.k@1", max_steps=6)
    losses = train(fused, windows, run), train(separate, windows, run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, one), (_, two) in zip(
        sorted(from_hf_gpt2(fused).named_parameters()), sorted(separate.named_parameters()), strict=True
    ):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=0, msg=name)


def test_gradient_zero_is_not_frozen(windows):
    """Trap: AdamW decays what has a zero gradient; this is what the restoring is for."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.01)
    parameter.grad = torch.zeros(1)
    optimizer.step()
    assert parameter.item() == pytest.approx(0.999)
    model = tiny("ftkit_gpt2")
    whole = freeze(model, settings(freeze="mlp"))
    held = {id(p) for o in build_optimizers(model, settings()) for g in o.param_groups for p in g["params"]}
    frozen = [p for name, p in model.named_parameters() if ".mlp." in name]
    assert frozen
    assert not any(id(p) in held or p.requires_grad for p in frozen)
    assert whole.frozen(1).masks.keys() == {name for name, _ in model.named_parameters() if ".mlp." in name}


@pytest.mark.parametrize("selector", ["mlp", "attention.q", "embedding[rows=32]"])
def test_frozen_until_and_from_a_step(selector, windows):
    def values(model: PreTrainedModel) -> torch.Tensor:
        masks = frozen_elements(model, selector)
        return torch.cat([p.detach()[masks[name]].clone() for name, p in model.named_parameters()])

    for run, still in (
        (settings(freeze_until={selector: 2}, max_steps=5), [True, True, False, False, False]),
        (settings(freeze_from={selector: 2}, max_steps=5), [False, False, True, True, True]),
    ):
        model = tiny("gpt2")
        last = values(model)
        with Engine(model, NEXT_TOKEN, windows, run) as engine:
            for step, _ in enumerate(engine):
                now = values(model)
                assert torch.equal(now, last) == still[step], (run.freeze_until, step)
                last = now


def test_blocks_thaw_from_the_top(windows):
    model = load_model("new:ftkit_gpt2,num_hidden_layers=3", seed=1, vocab_size=257)
    started: dict[str, int] = {}
    before = snapshot(model)
    with Engine(model, NEXT_TOKEN, windows, settings(unfreeze_every=2, max_steps=7)) as engine:
        for record in engine:
            for name, parameter in model.named_parameters():
                if not torch.equal(parameter, before[name]):
                    started.setdefault(name, record.step)
    assert {step for name, step in started.items() if ".layers.2." in name or name.startswith("model.norm")} == {1}
    assert {step for name, step in started.items() if ".layers.1." in name} == {3}
    assert {step for name, step in started.items() if ".layers.0." in name or "embed" in name} == {5}
    assert started.keys() == dict(model.named_parameters()).keys()


def test_a_resumed_run_with_timed_freezing_equals_the_whole(windows, tmp_path):
    run = settings(freeze="attention.q@0", freeze_until={"mlp": 2}, max_steps=6, save_steps=3)
    whole, again = tiny("gpt2"), tiny("gpt2")
    train(whole, windows, run)
    with Engine(again, NEXT_TOKEN, windows, run, CheckpointFolder(tmp_path)) as engine:
        for record in engine:
            if record.step == 4:
                break
    resumed = tiny("gpt2")
    with Engine(resumed, NEXT_TOKEN, windows, run, CheckpointFolder(tmp_path)) as engine:
        assert engine.step == 3
        list(engine)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_time_for_what_is_frozen_anyway_has_no_effect_and_is_refused():
    with pytest.raises(ConfigError, match="'mlp' is frozen for the whole run"):
        freeze(tiny("gpt2"), settings(freeze="mlp", freeze_until={"mlp": 2}))


def test_rates_of_groups_and_of_depth():
    model = load_model("new:ftkit_gpt2,num_hidden_layers=3", vocab_size=64)
    run = settings(layer_lr_decay=0.5, learning_rates={"norm": 3e-3, "name:layers\\.2\\.mlp": 0.0})
    optimizers = build_optimizers(model, run)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: g["peak_lr"] for o in optimizers for g in o.param_groups for p in g["params"]}
    assert rates["model.layers.2.self_attn.q_proj.weight"] == pytest.approx(1e-2 * 0.5)
    assert rates["model.layers.0.self_attn.q_proj.weight"] == pytest.approx(1e-2 * 0.5**3)
    assert rates["model.embed_tokens.weight"] == pytest.approx(1e-2 * 0.5**4)
    assert {rate for name, rate in rates.items() if "norm" in name} == {3e-3}
    assert {rate for name, rate in rates.items() if "layers.2.mlp" in name} == {0.0}
    assert rates.keys() == dict(model.named_parameters()).keys()
    table = parameter_table(ParameterGroups(model), None, rates)
    assert next(row for row in table.rows if row.group == "norm").learning_rates == (3e-3,)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"attention.q": 1e-3}, "means a slice of transformer.h.0.attn.c_attn.weight"),
        ({"norm": 1e-3, "norm@0": 1e-4}, "'norm' and 'norm@0' give transformer.h.0.ln_1.weight two rates"),
        ({"nrom": 1e-3}, "did you mean 'norm'"),
    ],
)
def test_rates_that_cannot_be(rates, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizers(tiny("gpt2"), settings(learning_rates=rates))


@pytest.mark.parametrize("empty", ["", [], " , "])
def test_an_empty_selector_is_an_error_and_not_everything(empty):
    for asked in ({"freeze": empty}, {"train": empty}):
        with pytest.raises(ConfigError, match="is empty; the model has"):
            freeze(tiny("gpt2"), settings(**asked))


@pytest.mark.parametrize(
    "asked",
    [
        {"unfreeze_every": 100},
        {"freeze_until": {"all": 3}, "freeze_from": {"all": 1}},
        {"freeze_until": {"mlp": 2}, "freeze_from": {"mlp@0": 1}},
    ],
)
def test_freezing_that_leaves_no_step_to_something_is_refused(asked):
    with pytest.raises(ConfigError, match="leave no step of max_steps: 4 in which all of it may change"):
        freeze(tiny("gpt2"), settings(**asked))


def test_what_lies_below_the_blocks_thaws_last_and_has_the_lowest_rate():
    model = tiny("bert")
    below = {name for name, _ in model.named_parameters() if ".embeddings." in name}
    assert any("LayerNorm" in name for name in below)
    frozen = freeze(model, settings(unfreeze_every=2)).frozen(2)
    assert below <= frozen.masks.keys()
    optimizers = build_optimizers(tiny("bert"), settings(layer_lr_decay=0.5))
    model = tiny("bert")
    rates = {
        id(p): g["peak_lr"] for o in build_optimizers(model, settings(layer_lr_decay=0.5)) for g in o.param_groups
        for p in g["params"]
    }  # fmt: skip
    assert optimizers
    assert {rates[id(p)] for name, p in model.named_parameters() if name in below} == {1e-2 * 0.5**3}


def test_a_rate_for_what_does_not_train_has_no_effect_and_is_refused():
    model = tiny("gpt2")
    freeze(model, settings(freeze="mlp"))
    with pytest.raises(ConfigError, match="'mlp' has no effect: nothing of it trains"):
        build_optimizers(model, settings(learning_rates={"mlp": 1e-3}))


def test_movement_names_the_block_that_stood_still_and_takes_scalars():
    model = tiny("ftkit_gpt2")
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    before = snapshot(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.0.mlp.fc_in" not in name:
                parameter.add_(0.1)
    found = movement(before, model)
    assert found.still == ("mlp.in@0",)
    assert found.by_tensor["scale"] == pytest.approx(0.1)
