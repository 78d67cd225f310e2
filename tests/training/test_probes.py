"""Probes against numbers that torch and transformers give directly, and the proof that they change no training."""

import math
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, settings, tiny
from test_engine import digest

from ftkit.config import AdapterSettings
from ftkit.data import Masking, load_tokenizer, token_groups, tokenize_texts, train_wordpiece, voice_text
from ftkit.errors import ConfigError
from ftkit.runs import RunFolder
from ftkit.training import (
    NEXT_TOKEN,
    CallbackProbe,
    CheckpointFolder,
    Engine,
    HeldOutWindows,
    TokenWindows,
    build_probes,
    train_and_log,
)
from ftkit.training.probes import Activations, GroupProbabilities, block_modules
from ftkit.tuning import attach_adapter

ALL = ["activations", "token_groups:20", "update_ratio", "weight_change", "weights", "weight_change:attention.k@1"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, "test", {"status": "running", "phases": {}}, is_main=True)


def followed(run, store, model, run_settings, probes=None, checkpoints=None, stop=None):
    """Train with a diary; its probe records."""
    source = TokenWindows(store, run_settings.window_tokens, 3)
    probes = build_probes(run_settings, model, store.ids, HeldOutWindows(store, 32)) if probes is None else probes
    with Engine(model, NEXT_TOKEN, source, run_settings, checkpoints) as engine:
        run.truncate_logs("m", engine.step or -1)
        for record in train_and_log(engine, run, "m", source, HeldOutWindows(store, 32), probes):
            if record.step == stop:
                break
    return [record for record in run.records("metrics.jsonl") if record["split"] == "probe"]


def of(records, probe, step=None):
    return [r for r in records if r["probe"] == probe and (step is None or r["step"] == step)]


@pytest.mark.parametrize("family", ["ftkit_gpt2", "gpt2"])
def test_all_probes_together_leave_every_bit_of_the_weights_as_it_would_be(store, run, family):
    quiet, probed = tiny(family, dropout=True), tiny(family, dropout=True)
    assert followed(run, store, quiet, settings(max_steps=5, eval_windows=4)) == []
    records = followed(run, store, probed, settings(max_steps=5, eval_windows=4, probes=ALL, probe_steps=2))
    assert digest(quiet) == digest(probed)
    steps = {name.partition(":")[0]: {r["step"] for r in of(records, name.partition(":")[0])} for name in ALL}
    assert steps.pop("update_ratio") == {2, 4, 5}
    assert list(steps.values()) == [{0, 2, 4, 5}] * 4


def test_the_update_of_plain_sgd_is_its_rate_times_the_gradient(store, run):
    model = tiny("gpt2")
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    plain = settings(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.0, lr_scheduler_type="constant", max_steps=2, probe_steps=1,
        probes=["update_ratio"], eval_windows=2,
    )  # fmt: skip
    records = followed(run, store, model, plain)
    trained = [r for r in run.records("metrics.jsonl") if r["split"] == "train"]
    found = of(records, "update_ratio")
    assert len(found) == 2 * len(trained[0]["group_norms"]) == 18
    for record in found:
        norm = trained[record["step"] - 1]["group_norms"][record["of"]]
        assert record["update"] == pytest.approx(0.5 * norm, rel=1e-4)
        assert record["ratio"] == pytest.approx(record["update"] / record["weights"])
    [keys] = [r for r in found if r["of"] == "attention.k" and r["step"] == 1]
    attention = [start[f"transformer.h.{n}.attn.c_attn.{kind}"] for n in (0, 1) for kind in ("weight", "bias")]
    by_hand = torch.cat([part[..., 64:128].flatten() for part in attention]).norm()
    assert keys["weights"] == pytest.approx(float(by_hand), rel=1e-6)


def test_change_of_a_slice_since_the_last_time_and_since_the_start(store, run):
    model, seen = tiny("gpt2"), []

    def look(step: int) -> None:
        seen.append(model.transformer.h[1].attn.c_attn.weight.detach()[:, 64:128].double().clone())

    probes = ["weight_change:name:h.1.attn.c_attn.weight", "weight_change:attention.k@1"]
    asked = settings(max_steps=5, probes=probes, probe_steps=2, eval_windows=2)
    built = build_probes(asked, model, store.ids, HeldOutWindows(store, 32))
    records = followed(run, store, model, asked, [*built, CallbackProbe("look", 2, look)])
    found = [r for r in of(records, "weight_change") if r["of"] == "attention.k@1"]
    assert [(r["since"], r["step"]) for r in found] == [(0, 0), (0, 2), (2, 4), (4, 5)]
    assert {r["of"] for r in records} == {"attention.k@1", "name:h.1.attn.c_attn.weight"}
    bias = model.transformer.h[1].attn.c_attn.bias.detach()[64:128].norm()  # it started at 0
    assert found[-1]["from_start"] ** 2 == pytest.approx(float((seen[3] - seen[0]).norm() ** 2 + bias**2), rel=1e-5)
    assert found[-1]["relative_from_start"] == pytest.approx(found[-1]["from_start"] / float(seen[0].norm()), rel=1e-5)
    assert found[0]["change"] == found[0]["from_start"] == 0
    assert 0 < found[2]["change"] < found[2]["from_start"]


@pytest.mark.parametrize(("every", "looked"), [(0, [0, 1, 2, 4, 8, 11]), (4, [0, 4, 8, 11])])
def test_a_function_is_called_at_every_doubling_or_every_so_many_steps(every, looked, store, run):
    seen: list[int] = []
    followed(
        run, store, tiny("gpt2"), settings(max_steps=11, eval_windows=2), [CallbackProbe("look", every, seen.append)]
    )
    assert seen == looked


def test_a_resumed_training_counts_its_change_from_the_true_start(store, tmp_path):
    asked = settings(max_steps=6, probes=["weight_change:mlp"], probe_steps=2, save_steps=3, eval_windows=2)
    found = {}
    for name, stop in (("whole", None), ("stopped", 5)):
        run = RunFolder(tmp_path / name, "test", {"status": "running", "phases": {}}, is_main=True)
        run.path.mkdir()
        checkpoints = CheckpointFolder(run.checkpoints("m"))
        found[name] = followed(run, store, tiny(), asked, checkpoints=checkpoints, stop=stop)
        if stop:
            found[name] = followed(run, store, tiny(), asked, checkpoints=checkpoints)
    assert [r["step"] for r in found["stopped"]] == [r["step"] for r in found["whole"]] == [0, 2, 4, 6]
    assert [r["from_start"] for r in found["stopped"]] == [r["from_start"] for r in found["whole"]]
    assert [r["since"] for r in found["stopped"]] == [0, 0, 3, 4]  # the checkpoint was that of step 3


def test_a_model_that_thinks_every_token_equally_likely_stands_at_chance(store):
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    groups = token_groups(store.ids, 257, 20)
    rows = TokenWindows(store, 32, 0).rows(range(4))["input_ids"]
    found = GroupProbabilities(model, groups, rows, torch.ones_like(rows, dtype=torch.bool), 1, 3).measure(0)
    assert [row["group"] for row in found] == ["frequent", "rare", "unused"]
    for row in found:
        assert row["chance"] == pytest.approx(-math.log(257))
        assert row["log_probability"] == pytest.approx(row["chance"], rel=1e-6)
        assert row["probability"] == pytest.approx(1 / 257, rel=1e-6)


def test_group_probabilities_are_those_of_the_logits_without_places_that_hold_the_group(store):
    model = tiny("gpt_neo").train()
    groups = token_groups(store.ids, 257, 10)
    rows = TokenWindows(store, 32, 0).rows(range(5))["input_ids"]
    found = GroupProbabilities(model, groups, rows, torch.ones_like(rows, dtype=torch.bool), 1, 2).measure(0)
    assert model.training
    with torch.no_grad():
        p = model.eval()(input_ids=rows).logits.double().softmax(-1)
    for group, row in zip(groups, found, strict=True):
        kept = [
            p[b, t, v] for b in range(5) for t in range(32) for v in group.ids if rows[b, t].item() not in group.ids
        ]
        assert row["places"] * 10 == len(kept)
        assert row["probability"] == pytest.approx(float(torch.stack(kept).mean()), rel=1e-5)
        assert row["log_probability"] == pytest.approx(float(torch.stack(kept).log().mean()), rel=1e-5)
    assert found[0]["places"] < found[2]["places"] == 5 * 32
    assert found[2]["occurrences"] == 0 < found[1]["occurrences"] < found[0]["occurrences"]


def test_an_encoder_is_asked_at_its_masks(tmp_path):
    text = voice_text("keeper", 2000)
    tokenizer = train_wordpiece([text], 400)
    store = tokenize_texts([text], tokenizer, cache=tmp_path)
    from ftkit.models import load_model

    model = load_model("new:bert", task="masked-lm", seed=0, vocab_size=len(tokenizer), max_positions=32)
    asked = settings(probes=["token_groups:30", "activations"], eval_windows=6)
    probabilities, activations = build_probes(asked, model, store.ids, HeldOutWindows(store, 32, Masking(tokenizer)))
    found = {row["group"]: row for row in probabilities.measure(0)}
    assert 0 < found["rare"]["places"] <= 6 * 30 * 0.3
    assert len(list(activations.measure(0))) == 2


@pytest.mark.parametrize("family", [*FAMILIES, "bert", "llama"])
def test_activations_are_the_hidden_states_that_transformers_returns(family):
    from ftkit.models import load_model

    task = "masked-lm" if family == "bert" else "causal-lm"
    model = load_model(f"new:{family}", task=task, seed=0).train()
    ids = torch.arange(24).reshape(2, 12)
    found = Activations(model, ids, 1).measure(0)
    assert model.training
    with torch.no_grad():
        hidden = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states
    assert [row["layer"] for row in found] == [0, 1]
    last = 2 if family == "bert" else 1  # behind the last block, causal models show what their final norm makes of it
    for row, state in zip(found[:last], hidden[1 : last + 1], strict=True):
        assert row["std"] == pytest.approx(float(state.std()), rel=1e-5)
        assert row["mean"] == pytest.approx(float(state.mean()), abs=1e-6)
        assert row["max_abs"] == pytest.approx(float(state.abs().max()), rel=1e-6)
        assert (row["zeros"], row["not_finite"]) == (0.0, 0)


def test_dead_and_broken_blocks_show_in_their_activations(caplog):
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
        model.transformer.wpe.weight.zero_()
    ids = torch.arange(8)[None]
    assert Activations(model, ids, 1).measure(0)[0]["zeros"] == 1.0
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[0] = math.nan
    with caplog.at_level("WARNING", logger="ftkit.training"):
        found = Activations(model, ids, 1).measure(7)
    assert [row["not_finite"] for row in found] == [0, 8 * 64]
    assert "step 7" in caplog.text
    assert "transformer.h.1.mlp.c_fc" in caplog.text


def test_a_model_without_blocks_has_no_activations_to_show(store):
    from ftkit.models import load_model

    model = load_model("new:ftkit_ladder,rung=1", vocab_size=257)
    with pytest.raises(ConfigError, match="no blocks are known"):
        build_probes(settings(probes=["activations"]), model, store.ids, HeldOutWindows(store, 32))


def test_blocks_are_found_behind_an_adapter():
    model = tiny("gpt2")
    blocks = list(model.transformer.h)
    wrapped = attach_adapter(model, AdapterSettings(model="m", peft="lora"))
    assert list(block_modules(wrapped).values()) == blocks
    assert {row["layer"] for row in Activations(wrapped, torch.arange(8)[None], 1).measure(0)} == {0, 1}


def test_distributions_count_every_weight_and_have_the_deviation_of_torch(store, run):
    model = tiny("gpt2")
    records = followed(run, store, model, settings(max_steps=4, probes=["weights"], probe_steps=4, eval_windows=2))
    assert {r["step"] for r in records} == {0, 4}
    for step in (0, 4):
        assert sum(sum(r["counts"]) for r in of(records, "weights", step)) == sum(
            p.numel() for name, p in model.named_parameters() if not name.endswith("bias")
        )
    [last] = [r for r in of(records, "weights", 4) if (r["group"], r["layer"]) == ("mlp.in", 1)]
    weight = model.transformer.h[1].mlp.c_fc.weight.detach()
    assert last["std"] == pytest.approx(float(weight.std()), rel=1e-6)
    assert last["counts"] == [int(n) for n in torch.histc(weight, 100, last["low"], last["high"])]


def test_a_selector_that_matches_nothing_stops_before_the_training(store):
    for probe in ("weight_change:attention.x", "update_ratio:mlp@9"):
        with pytest.raises(ConfigError, match=r"attention|blocks 0 to 1"):
            build_probes(settings(probes=[probe]), tiny(), store.ids, HeldOutWindows(store, 32))


def test_a_text_that_uses_every_token_has_no_unused_group(tmp_path, caplog):
    tokenizer = load_tokenizer("byte")
    text = "".join(chr(code) for code in range(0x20, 0x7F)) * 20
    store = tokenize_texts([text], tokenizer, cache=tmp_path)
    model = tiny()
    model.config.vocab_size = int(store.ids.max()) + 1
    unused = [n for n in range(model.config.vocab_size) if n not in set(store.ids.tolist())]
    found = build_probes(settings(probes=["token_groups"]), model, store.ids, HeldOutWindows(store, 32))[0]
    assert len(found.measure(0)) == (3 if unused else 2)


def test_what_clipping_cut_is_noted(store, run):
    clipped = settings(max_steps=4, max_grad_norm=0.3, clip_after=1, eval_windows=2)
    followed(run, store, tiny(), clipped)
    steps = [r for r in run.records("metrics.jsonl") if r["split"] == "train"][1:]
    cut = [r["grad_norm"] - 0.3 for r in steps if r["grad_norm"] > 0.3]
    assert cut
    noted = run.manifest["clipping"]["m"]
    assert (noted["steps"], noted["limits"]) == (3, {"global": 0.3})
    assert noted["clipped_share"] == pytest.approx(len(cut) / 3)
    assert noted["mean_lost_norm"] == pytest.approx(sum(cut) / len(cut))
    followed(run, store, tiny(), clipped, stop=3)  # left early
    assert run.manifest["clipping"]["m"]["steps"] == 2


def test_without_a_limit_nothing_of_clipping_is_noted(store, run):
    followed(run, store, tiny(), settings(max_steps=1, eval_windows=2))
    assert "clipping" not in run.manifest


def test_a_training_without_text_has_probes_of_weights_only():
    made = build_probes(settings(probes=["weights", "update_ratio"]), tiny())
    assert [probe.name for probe in made] == ["weights", "update_ratio"]
    with pytest.raises(ConfigError, match="'token_groups:5' looks at a text"):
        build_probes(settings(probes=["token_groups:5"]), tiny())
