"""Recipes whose arms share batches: what each may change did, nothing else, and the table says what it cost."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recipe_runs import read, run_recipe
from safetensors.torch import load_file

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.evidence import comparison
from ftkit.training import held_out_loss

SMALL = {
    "model": "new:gpt2", "max_steps": 6, "window_tokens": 64, "eval_steps": 3, "save_steps": 3, "eval_windows": 4,
    "passage_chars": 40, "num_passages": 30,
}  # fmt: skip


LOSSES: list[tuple[object, object]] = []
"""Every model whose loss was measured for the evidence of ``frozen``, and its text."""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def noted(model, rows, *given, **named):
        LOSSES.append((model, rows.store))
        return held_out_loss(model, rows, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "held_out_loss", noted)
        return run_recipe("targeted_freezing", tmp_path_factory.mktemp("runs") / "frozen", **SMALL)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe("compare_tuning", tmp_path_factory.mktemp("runs") / "compared", **SMALL, peft="lora")


def test_the_selected_arm_changed_its_slices_and_nothing_else(frozen):
    tensors = {arm: load_file(frozen / "models" / arm / "model.safetensors") for arm in ("everything", "selected")}
    movement = {arm: read(frozen, "evidence.json")["models"][arm]["measures"]["weights"] for arm in tensors}
    weight = "transformer.h.1.attn.c_attn.weight"
    assert movement["selected"]["by_tensor"][weight] > 0
    assert [name for name, change in movement["selected"]["by_tensor"].items() if change] == [
        weight,
        weight.replace("weight", "bias"),
    ]
    assert movement["selected"]["leaks"] == movement["everything"]["leaks"] == []
    assert movement["everything"]["frozen"] == 0
    total = sum(tensor.numel() for tensor in tensors["selected"].values())
    assert movement["selected"]["frozen"] == total - 3 * (64 * 64 + 64)


def test_the_base_reads_each_text_once_for_both_arms(frozen):
    asked = Counter((id(model), id(store)) for model, store in LOSSES)
    assert len({id(model) for model, _ in LOSSES}) == 3, "the base and two arms"
    assert len({id(store) for _, store in LOSSES}) == 3, "held-out text, training text, other text"
    assert set(asked.values()) == {1}


def test_both_arms_saw_the_same_batches_and_all_five_figures_are_there(frozen):
    records = [json.loads(line) for line in (frozen / "metrics.jsonl").read_text().splitlines()]
    first = {r["model"]: r["loss"] for r in records if r["split"] == "train" and r["step"] == 1}
    assert first["everything"] == first["selected"]
    watched = [r["change"] for r in records if r["split"] == "watch"]
    assert len(watched) == 12
    assert min(watched) > 0
    drawn = {path.stem for path in (frozen / "figures").glob("*.svg")}
    assert {"train_loss", "paired_loss", "usage", "usage_change", "watched_change", "seconds"} <= drawn
    page = (frozen / "report.html").read_text(encoding="utf-8")
    assert 'id="comparison"' in page
    assert "12,480 (" in page


def test_usage_is_a_share_between_floor_and_ceiling(frozen):
    usage = read(frozen, "evidence.json")["usage"]
    assert usage["top"] == 100
    assert usage["models"].keys() == {"everything", "selected"}
    assert usage["models"]["everything"]["before"] == usage["models"]["selected"]["before"]
    for found in usage["models"].values():
        assert found["change"]["value"] == pytest.approx(found["after"]["value"] - found["before"]["value"])
        assert all(0 <= found[key]["value"] <= 1 for key in ("before", "after", "real"))


def test_each_arm_trains_what_it_says_and_an_adapter_needs_less(compared):
    plan, phases = (read(compared, "manifest.json")[key] for key in ("plan", "phases"))
    assert plan["full"]["trainable"] == plan["full"]["parameters"]
    assert plan["frozen"]["trainable"] == 2 * (64 * 256 + 256 + 256 * 64 + 64)
    assert plan["adapter"]["trainable"] == 2 * 8 * ((64 + 192) + (64 + 64) + 2 * (64 + 256))
    memory = {arm: phases[arm]["memory_bytes"] for arm in plan}
    assert memory["full"] > memory["frozen"]
    assert memory["full"] > memory["adapter"]
    rows = read(compared, "evidence.json")["arms"]
    sizes = [rows[arm]["on disk, MB"]["value"] for arm in ("full", "frozen", "adapter")]
    assert sizes[0] == sizes[1] > 4 * sizes[2]
    assert read(compared, "verdict.json").keys() == set(rows)
    assert (compared / "models" / "adapter" / "adapter_config.json").is_file()


def test_arms_see_the_same_batches(compared):
    records = [json.loads(line) for line in (compared / "metrics.jsonl").read_text().splitlines()]
    first = {r["model"]: r["loss"] for r in records if r["split"] == "train" and r["step"] == 1}
    assert first.keys() == {"full", "frozen", "adapter"}
    assert np.ptp(list(first.values())) < 1e-5


def test_a_comparison_without_a_difference_is_refused():
    from ftkit.errors import ConfigError

    for name in ("targeted_freezing", "compare_tuning"):
        settings_class = main_settings(load_recipe(find_recipe(name)).main)
        flags = read_flags(settings_class, ["--train", "none", "--model", "new:gpt2", "--tokenizer", "byte"])
        with pytest.raises(ConfigError, match="train: is missing: without train or freeze"):
            resolve(settings_class, name, flags)
