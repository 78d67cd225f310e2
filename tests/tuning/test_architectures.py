"""Fifteen architectures through everything that a run does; scripts/architectures tries all of them."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from benchmarks.architectures import METHODS, new_base, text_store, tiny_configuration, try_method
from ftkit.config import AdapterSettings
from ftkit.data import TokenStore
from ftkit.errors import ModelError
from ftkit.models import load_model
from ftkit.tuning import adapter_targets, attach_adapter

FAMILIES = [
    "bloom", "doge", "falcon_mamba", "gemma2", "gemma3_text", "gpt_neox", "gpt_oss", "mamba", "mistral", "mixtral",
    "olmo2", "opt", "phi3", "phimoe", "qwen2_moe",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return text_store(tmp_path_factory.mktemp("tokens"))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_architecture_is_trained_writes_and_is_loaded_again_whole_and_with_lora(family, store, tmp_path):
    base = new_base(family, tmp_path / "base")
    for method in METHODS:
        (tmp_path / method).mkdir()
        found = try_method(base, method, store, tmp_path / method)
        assert len(found["losses"]) == 2
        assert found["parameters"] > 0


def test_lora_leaves_alone_what_peft_or_the_model_reads_without_the_module():
    built = {
        name: AutoModelForCausalLM.from_config(tiny_configuration(name))
        for name in ("mamba", "qwen3_moe", "phimoe", "doge", "falcon")
    }
    ends = {
        name: {end.rpartition(".")[2] for end in adapter_targets(model, "all-linear")} for name, model in built.items()
    }
    assert ends["mamba"] == {"in_proj", "x_proj"}  # dt_proj's weight is read by itself, out_proj's by the kernels
    assert not ends["qwen3_moe"] & {"gate", "gate_proj", "up_proj", "down_proj"}
    assert "router" not in ends["phimoe"]
    assert "query_key_value" in ends["falcon"]  # a subclass of Linear with a forward of its own
    assert "dt_proj" not in ends["doge"]


def test_a_model_that_cannot_write_is_refused_when_it_is_loaded(tmp_path):
    with pytest.raises(ModelError, match=r"hrm_text as configured cannot write \(IndexError"):
        load_model(new_base("hrm_text", tmp_path))


def test_experts_that_stay_as_they_are_are_counted(tmp_path, caplog):
    model = load_model(new_base("mixtral", tmp_path))
    experts = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 3)
    with caplog.at_level("INFO", "ftkit.tuning"):
        attach_adapter(model, AdapterSettings(model=str(tmp_path), peft="lora"))
    assert f"{experts:,} parameters of experts stay as they are" in caplog.text
    assert experts > 0
    assert all(not torch.is_tensor(parameter.grad) for parameter in model.parameters())


def test_an_adapter_that_peft_cannot_load_again_is_refused_before_training_and_the_remedy_works(tmp_path):
    base = new_base("laguna", tmp_path)
    settings = AdapterSettings(model=base, peft="lora")
    with pytest.raises(ModelError, match=r"cannot load what it saves.*all-linear,\^name:shared_experts") as refusal:
        attach_adapter(load_model(base), settings)
    remedy = str(refusal.value).rpartition("lora_target_modules: ")[2]
    attach_adapter(load_model(base), settings.model_copy(update={"lora_target_modules": remedy}))


def test_weights_that_transformers_does_not_load_as_the_file_has_them_are_refused(tmp_path):
    base = new_base("youtu", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: tensor + 1 for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    plain = AutoModelForCausalLM.from_pretrained(base)
    if torch.equal(plain.get_input_embeddings().weight, tensors["model.embed_tokens.weight"]):
        pytest.skip("this version of transformers loads it")
    with pytest.raises(ModelError, match=r"does not load what the files hold: .*model\.embed_tokens\.weight"):
        load_model(base)
