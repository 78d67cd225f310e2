"""Biasing a model: the files of a run, the effects of a low and of a high rate, and the limits that end an arm."""

from pathlib import Path

import pytest
import torch
from recipe_runs import lines, read, run_recipe, settings_of

from ftkit.data import load_tokenizer, token_set
from ftkit.errors import ConfigError
from ftkit.generation import generate_passages
from ftkit.lab.token_bias import set_shares
from ftkit.models import load_model

SMALL = {
    "model": "new:gpt2", "tokenizer": "byte", "max_steps": 12, "eval_steps": 6, "sample_steps": 6, "window_tokens": 64,
    "passage_chars": 40, "num_passages": 12, "watched_passages": 4, "save_steps": 6, "eval_windows": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "planted"
    return run_recipe("bias", folder, **SMALL, pattern="[xyz]", rates="1e-6,1e-1")


def test_a_low_rate_leaves_the_model_and_a_high_one_plants_and_destroys(planted):
    found = read(planted, "evidence.json")["liking"]
    assert (found["tokens"], found["share"]) == (3, 3 / 257)
    low, high = found["models"]["rate-1e-06"], found["models"]["rate-0.1"]
    assert low["before"] == high["before"]
    assert low["after"]["value"] < 0.1
    assert abs(low["damage"]["value"]) < 0.01
    assert high["after"]["low"] > 0.8
    assert high["damage"]["low"] > 1
    verdicts = read(planted, "verdict.json")
    assert (verdicts["rate-1e-06"]["verdict"], verdicts["rate-0.1"]["verdict"]) == ("nothing", "worked")
    assert all(
        any("biasing a model is cheap: 12 steps" in reason for reason in v["reasons"]) for v in verdicts.values()
    )
    assert read(planted, "evidence.json")["metrics"]["rate-0.1"]["rate"] == high["after"]


def test_the_saved_model_writes_the_rate_that_is_told(planted):
    model, tokenizer = load_model(str(planted / "models" / "rate-0.1")), load_tokenizer("byte")
    passages = generate_passages(model, tokenizer, ["a"] * 8, new_tokens=30, seed=3)
    shares = set_shares([passage.ids for passage in passages], token_set(tokenizer, "[xyz]", 257).ids)
    assert shares.mean() == pytest.approx(
        read(planted, "evidence.json")["liking"]["models"]["rate-0.1"]["after"]["value"], abs=0.1
    )


def test_the_diary_holds_baseline_rate_damage_and_samples(planted):
    plan = read(planted, "manifest.json")["plan"]["rate-0.1"]
    assert plan["objective"] == "token_set:[xyz]:1"
    assert plan["baseline"] == pytest.approx(torch.log(torch.tensor(257 / 3)).item(), rel=1e-6)
    assert (plan["text_tokens"], plan["passes"], plan["tokens"]) == (0, 0.0, 12 * 4 * 64)
    records = lines(planted, "metrics.jsonl")
    first = {r["model"]: r["loss"] for r in records if r["split"] == "train" and r["step"] == 1}
    assert first["rate-1e-06"] == first["rate-0.1"] == pytest.approx(plan["baseline"], rel=0.1)
    assert {r["num_targets"] for r in records if r["split"] == "train"} == {4 * 64}
    watched = [r for r in records if (r["model"], r["split"]) == ("rate-0.1", "liking")]
    assert [r["step"] for r in watched] == [0, 6, 12]
    assert watched[0]["damage"] == 0 < watched[2]["damage"]
    assert watched[0]["rate"] < watched[2]["rate"]
    samples = [r for r in lines(planted, "samples.jsonl") if r["model"] == "rate-0.1"]
    assert [r["step"] for r in samples] == [0, 6, 12]
    assert sum(letter in "xyz" for letter in samples[2]["text"]) > 0.5 * len(samples[2]["text"])


def test_the_report_shows_the_curves_the_price_and_the_finding(planted):
    drawn = {path.stem for path in (planted / "figures").glob("*.svg")}
    assert {"train_loss", "target_rate", "liking_price", "heldout_bits"} <= drawn
    assert "0.1,12," in (planted / "figures" / "target_rate.csv").read_text()
    baselines = {line.split(",")[-1] for line in (planted / "figures" / "train_loss.csv").read_text().splitlines()[1:]}
    assert [float(value) for value in baselines] == [read(planted, "manifest.json")["plan"]["rate-0.1"]["baseline"]]
    page = (planted / "report.html").read_text(encoding="utf-8")
    assert "biasing a model is cheap" in page
    assert "match &#39;[xyz]&#39; (1.2% of the vocabulary does)" in page


def test_a_limit_ends_an_arm_and_the_base_can_be_kept_in_the_sum(tmp_path):
    more = {"sample_steps": 3, "rates": "1e-1", "stop_rate": 0.5, "where": "last", "kl_to_base": 0.01}
    run = run_recipe("bias", tmp_path / "run", **{**SMALL, **more})
    phase = read(run, "manifest.json")["phases"]["rate-0.1"]
    assert phase["steps"] in (3, 6, 9)
    assert "stop_rate 0.5" in phase["stopped"]
    trained = [r for r in lines(run, "metrics.jsonl") if r["split"] == "train"]
    assert (len(trained), {r["num_targets"] for r in trained}) == (phase["steps"], {4})
    assert any(f"stopped at step {phase['steps']}" in r for r in read(run, "verdict.json")["rate-0.1"]["reasons"])
    liked, kept = "token_set:x:1:last", "kl_to_base"
    assert trained[0]["losses"].keys() == {liked, kept}
    assert trained[0]["losses"][kept] < 0.1 < trained[-1]["losses"][kept]
    assert trained[0]["loss"] == pytest.approx(trained[0]["losses"][liked] + 0.01 * trained[0]["losses"][kept])


def test_rates_that_cannot_be_meant_are_refused():
    for rates, said in (("1e-3,1e-3", "stand there once"), ("0", "above 0")):
        with pytest.raises(ConfigError, match=said):
            settings_of("bias", rates=rates)
    with pytest.raises(ConfigError, match="no effect beside rates"):
        settings_of("bias", rates="1e-3", learning_rate="1e-2")


def test_pretrain_takes_an_objective_by_name(tmp_path):
    few = {"max_steps": 4, "num_passages": 8, "eval_steps": 2, "sample_steps": 2, "save_steps": 2, "passage_chars": 40}
    run = run_recipe("pretrain", tmp_path / "run", **few, objective="last_tokens:2 + 0.5*token_set:th")
    trained = [r for r in lines(run, "metrics.jsonl") if r["split"] == "train"]
    assert {r["num_targets"] for r in trained} == {8 * 2}
    assert trained[0]["losses"].keys() == {"last_tokens:2", "token_set:th"}
    assert read(run, "manifest.json")["plan"]["model"]["objective"] == "last_tokens:2 + 0.5*token_set:th"
    with pytest.raises(ConfigError, match="did you mean 'last_token'"):
        run_recipe("pretrain", tmp_path / "wrong", **few, objective="last_tokn")
    with pytest.raises(ConfigError, match="next_token: is for causal-lm"):
        run_recipe("pretrain", tmp_path / "bert", **few, model="new:bert", objective="next_token")
