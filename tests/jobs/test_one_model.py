"""An adapter is judged with one model in memory; a base of the same shape with other weights is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ftkit
from ftkit.data import load_tokenizer, voice_text
from ftkit.errors import ModelError
from ftkit.jobs import judged_models
from ftkit.jobs.verdicts import Judged
from ftkit.models import base_or_beneath, contains_base, is_adapter, load_model, plain_state, save_model
from ftkit.models.adapter_files import wrap
from ftkit.tuning import median_correlation, movement, snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and text."""
    path = tmp_path_factory.mktemp("one-model")
    model = load_model("new:gpt2,n_embd=32,n_layer=2,n_head=2", vocab_size=257, max_positions=128, seed=1)
    save_model(model, load_tokenizer("byte"), path / "base")
    (path / "text.txt").write_text(voice_text("keeper", 3000, seed=1))
    return path


def adapted(folder: Path, name: str, **config: Any) -> Path:
    """An adapter as peft saves it, without a tokenizer and with matrices that are not zero."""
    from peft import LoraConfig

    options = {"r": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"} | config
    model = wrap(load_model(str(folder / "base")), LoraConfig(**options), None, None)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder / name)
    return folder / name


def judged(folder: Path, tuned: Path, **options: Any) -> Judged:
    return ftkit.verdict(
        folder / "base", tuned, folder / "text.txt", num_passages=30, passage_chars=40, window_tokens=64,
        eval_windows=16, **options,
    )  # fmt: skip


@pytest.mark.parametrize("use_dora", [False, True])
def test_one_model_measures_what_two_measure(folder, monkeypatch, use_dora):
    """Two loads and one give the same numbers; so does the merged model, whose weights are those of the adapter."""
    tuned, loaded = adapted(folder, f"lora-{use_dora}", use_dora=use_dora), []

    def load(spec: str, **options: Any) -> Any:
        loaded.append(spec)
        return load_model(spec, **options)

    monkeypatch.setattr(judged_models, "load_model", load)
    one = judged(folder, tuned)
    assert loaded == [str(tuned)]
    assert not any("tokenizer" in reason for reason in one.verdict.reasons)
    monkeypatch.setattr(judged_models, "contains_base", lambda model: False)
    two = judged(folder, tuned)
    assert loaded[1:] == [str(tuned), str(folder / "base")]
    assert json.dumps(one.evidence.as_dict()) == json.dumps(two.evidence.as_dict())
    assert one.verdict.as_dict() == two.verdict.as_dict()


def test_the_base_beneath_an_adapter_is_the_base(folder):
    adapter: Any = load_model(str(adapted(folder, "beneath")), adapter_base=str(folder / "base"))
    base = load_model(str(folder / "base"))
    ids = torch.arange(60)[None]
    assert contains_base(adapter)
    assert not contains_base(base)
    with base_or_beneath(None, adapter) as beneath:
        assert not is_adapter(beneath)
        assert torch.equal(beneath(input_ids=ids).logits, base(input_ids=ids).logits)
        state = plain_state(beneath)
    assert not torch.equal(adapter(input_ids=ids).logits, base(input_ids=ids).logits)
    assert state.keys() == base.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in base.state_dict().items())
    with base_or_beneath(base, adapter) as given:
        assert given is base


@pytest.mark.parametrize("config", [{"bias": "lora_only"}, {"modules_to_save": ["ln_f"]}])
def test_an_adapter_that_trained_the_base_does_not_contain_it(folder, config):
    name = "-".join(config)
    adapter = load_model(str(adapted(folder, name, **config)), adapter_base=str(folder / "base"))
    assert not contains_base(adapter)


def test_a_base_that_changed_under_its_adapter_is_noticed(folder):
    adapter: Any = load_model(str(adapted(folder, "changed")), adapter_base=str(folder / "base"))
    with torch.no_grad():
        adapter.get_base_model().transformer.wte.weight[3, 3] += 1
    assert not contains_base(adapter)


def test_the_weights_of_an_adapter_are_compared_without_copying_the_model(folder):
    """One tensor after the other gives what comparing the merged model gives, and the adapter is left as it is."""
    from ftkit.tuning import merge_adapter

    adapter: Any = load_model(str(adapted(folder, "moved")), adapter_base=str(folder / "base"))
    before = snapshot(load_model(str(folder / "base")))
    state = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
    found, merged = movement(before, adapter), movement(before, merge_adapter(adapter))
    assert found.by_tensor == merged.by_tensor
    assert (found.relative, found.changed, found.tensors) == (merged.relative, merged.changed, merged.tensors)
    assert found.changed == 4
    assert all(torch.equal(tensor, state[name]) for name, tensor in adapter.state_dict().items())


def test_a_wrong_base_of_the_same_shape_is_refused(folder, tmp_path):
    other = load_model("new:gpt2,n_embd=32,n_layer=2,n_head=2", vocab_size=257, max_positions=128, seed=2)
    save_model(other, load_tokenizer("byte"), tmp_path / "other")
    with pytest.raises(ModelError, match=r"other did not start from .*base: their weights .* not correlated \(median"):
        judged(folder, tmp_path / "other")


def test_weights_that_noise_drowned_are_no_wrong_base(folder):
    base, drowned = load_model(str(folder / "base")), load_model(str(folder / "base"))
    assert median_correlation(base, drowned) == pytest.approx(1)
    with torch.no_grad():
        for parameter in drowned.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert median_correlation(base, drowned) is None


def test_half_precision_is_named_and_changes_the_numbers_little(folder):
    tuned = adapted(folder, "half")
    full, half = judged(folder, tuned), judged(folder, tuned, dtype="bfloat16")
    assert "the models were judged in bfloat16" in half.verdict.reasons
    assert half.evidence.heldout.gain.value == pytest.approx(full.evidence.heldout.gain.value, abs=0.02)
    assert not any("judged in" in reason for reason in full.verdict.reasons)
