"""Adapters that peft has written, against peft's own loading: embeddings, added tokens, fields, bases in 4 bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models import load_model, save_model, task_of
from ftkit.models.meta_models import outline
from ftkit.tuning import merge_adapter, movement, snapshot

pytestmark = pytest.mark.filterwarnings("ignore")  # peft 0.21 warns of tied embeddings, and of names that go

ROWS, ADDED = 40, 3
IDS = torch.arange(ROWS - 16, ROWS).reshape(2, 8)
SMALL = {"vocab_size": ROWS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three tiny bases: a tied and an untied Llama, a tied GPT-2."""
    folder = tmp_path_factory.mktemp("bases")
    llama = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 32, **SMALL,
    }  # fmt: skip
    torch.manual_seed(0)
    for name, config in {
        "tied": LlamaConfig(**llama, tie_word_embeddings=True),
        "untied": LlamaConfig(**llama, tie_word_embeddings=False),
        "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, **SMALL),
    }.items():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
    return folder


def theirs(base: Path, added: int = 0) -> PreTrainedModel:
    """The base as a user of peft has it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    if added:
        model.resize_token_embeddings(ROWS + added)
    return model


def written(base: Path, folder: Path, added: int = 0, **config: Any) -> Path:
    """An adapter with random values, saved by peft."""
    wrapped = get_peft_model(
        theirs(base, added), LoraConfig(**{"r": 2, "lora_alpha": 4, "task_type": "CAUSAL_LM", **config})
    )
    generator = torch.Generator().manual_seed(2)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    wrapped.save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(model: torch.nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    return model.eval()(input_ids=ids).logits  # type: ignore[no-any-return]


def edit(folder: Path, **values: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


Q = {"target_modules": ["q_proj"]}
EMBEDDINGS = {
    "targeted": ({"target_modules": ["embed_tokens", "q_proj"]}, 0),
    "head targeted": ({"target_modules": ["lm_head", "q_proj"]}, 0),
    "added": (Q, ADDED),
    "taken away": (Q, -2),
    "added and targeted": ({"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, ADDED),
    "rows": ({**Q, "trainable_token_indices": [30, 31]}, 0),
    "rows of both ends": ({**Q, "trainable_token_indices": {"embed_tokens": [30], "lm_head": [31]}}, 0),
    "added rows": ({**Q, "trainable_token_indices": [ROWS, ROWS + 1]}, ADDED),
    "whole": ({**Q, "modules_to_save": ["embed_tokens", "lm_head"]}, 0),
    "whole, tied": ({**Q, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, 0),
    "whole, added": ({**Q, "modules_to_save": ["embed_tokens", "lm_head"]}, ADDED),
    "dora": ({"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}, 0),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_embeddings_in_an_adapter_are_loaded_as_peft_loads_them(bases, tmp_path, tied, name):
    config, added = EMBEDDINGS[name]
    if tied == "tied" and name == "rows of both ends":
        config = {**config, "trainable_token_indices": {"embed_tokens": [30], "lm_head": [30]}}
    folder = written(bases / tied, tmp_path / "adapter", added, **config)
    ids = torch.arange(ROWS + added - 16, ROWS + added).reshape(2, 8)  # added tokens too
    expected = logits(PeftModel.from_pretrained(theirs(bases / tied, added), folder), ids)
    assert (logits(theirs(bases / tied, added), ids) - expected).abs().max() > 1e-3  # the adapter does something
    ours = load_model(str(folder), adapter_base=str(bases / tied))
    torch.testing.assert_close(logits(ours, ids), expected, atol=1e-5, rtol=1e-5)
    moved = movement(snapshot(load_model(str(bases / tied))), ours)
    assert moved.changed > 0
    assert not moved.leaks  # an embedding in the adapter's file is the adapter's
    save_model(ours, None, tmp_path / "again")
    torch.testing.assert_close(logits(load_model(str(tmp_path / "again")), ids), expected, atol=1e-5, rtol=1e-5)
    edit(folder, base_model_name_or_path=str(bases / tied))
    shapes = {key: tensor.shape for key, tensor in ours.named_parameters()}
    assert shapes.items() <= {key: p.shape for key, p in outline(str(folder)).model.named_parameters()}.items()


def test_two_matrices_for_a_tied_one_are_refused(bases, tmp_path):
    """peft takes whichever it reads last."""
    folder = written(bases / "tied", tmp_path / "adapter", ADDED, **Q)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.weight"] += 1
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"one tensor in the base, have different values"):
        load_model(str(folder), adapter_base=str(bases / "tied"))
    tensors["base_model.model.lm_head.weight"] = torch.zeros(ROWS, 16)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"embeddings of different sizes: .* 4[03] and .* 4[03] rows"):
        load_model(str(folder), adapter_base=str(bases / "tied"))


FIELDS = {
    "gaussian": {**Q, "init_lora_weights": "gaussian"},
    "orthogonal": {**Q, "init_lora_weights": "orthogonal"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": r".*down_proj"},
    "patterns": {
        "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1],
        "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 9},
    },
    "pattern of names": {"target_modules": r".*layers\.1.*(q|v)_proj"},
    "lora_bias": {**Q, "lora_bias": True},
    "parameters": {**Q, "target_parameters": ["v_proj.weight"]},
    "norms": {**Q, "modules_to_save": ["norm"]},
    "no task": {**Q, "task_type": None},
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_peft_follows_are_followed_or_do_nothing(bases, tmp_path, name):
    folder = written(bases / "untied", tmp_path / "adapter", **FIELDS[name])
    expected = logits(PeftModel.from_pretrained(theirs(bases / "untied"), folder))
    # A later peft has other fields, an older one had these; switched off they mean nothing.
    edit(folder, use_future=False, merge_weights=False, enable_lora=None, future_pattern={}, future_list=[])
    assert torch.equal(logits(load_model(str(folder), adapter_base=str(bases / "untied"))), expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_future", True), ("future_rank", 8), ("init_lora_weights", "pissa"), ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"), ("layer_replication", [[0, 2], [1, 2]]), ("use_qalora", True),
        ("alora_invocation_tokens", [1, 2]),
    ],
)  # fmt: skip
def test_a_field_that_may_change_the_computation_is_refused_by_name_and_value(bases, tmp_path, field, value):
    folder = edit(written(bases / "untied", tmp_path / "adapter", **Q), **{field: value})
    with pytest.raises(ModelError, match=f"sets {field} .*does not support") as error:
        load_model(str(folder), adapter_base=str(bases / "untied"))
    assert json.dumps(value) in str(error.value)


def test_an_adapter_without_a_task_does_what_its_base_does(tmp_path):
    save_model(load_model("new:bert", task="masked-lm"), None, tmp_path / "base")
    wrapped = get_peft_model(load_model(str(tmp_path / "base"), task="masked-lm"), LoraConfig(target_modules=["query"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    assert task_of(str(tmp_path / "adapter")) == "masked-lm"
    ours = load_model(str(tmp_path / "adapter"), task="masked-lm")
    assert torch.equal(logits(ours), logits(wrapped))
    save_model(ours, None, tmp_path / "again")
    assert torch.equal(logits(load_model(str(tmp_path / "again"), task="masked-lm")), logits(wrapped))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4 bits, bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8 bits, bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "4 bits, gptq"),
    ],
)
def test_a_quantized_base_is_refused_with_what_to_use_instead(bases, tmp_path, settings, said):
    quantized = shutil.copytree(bases / "tied", tmp_path / "quantized")
    config = json.loads((quantized / "config.json").read_text())
    (quantized / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    folder = written(bases / "tied", tmp_path / "adapter", **Q)
    edit(folder, base_model_name_or_path="../quantized")
    for look in (load_model, task_of, outline):
        with pytest.raises(ModelError, match=rf"quantized \({said}\).* --base or adapter_base"):
            look(str(quantized))
    with pytest.raises(ModelError, match=rf"quantized \({said}\)"):
        load_model(str(folder))
    expected = logits(PeftModel.from_pretrained(theirs(bases / "tied"), folder))
    assert torch.equal(logits(load_model(str(folder), adapter_base=str(bases / "tied"))), expected)


def test_a_configuration_beside_an_adapter_makes_it_no_whole_model(bases, tmp_path):
    folder = edit(written(bases / "tied", tmp_path / "adapter", **Q), base_model_name_or_path=str(bases / "tied"))
    expected = logits(load_model(str(folder)))
    shutil.copy(bases / "tied" / "config.json", folder)  # several trainers write one
    assert torch.equal(logits(load_model(str(folder))), expected)
    assert outline(str(folder)).has_adapter


def test_whole_weights_with_an_adapter_beside_them_are_refused_by_every_reader(bases, tmp_path):
    """transformers puts the adapter on top, so that one which was merged already counts twice."""
    from ftkit.hub.transfer import push
    from ftkit.inspection.diff import diff_folders
    from ftkit.inspection.verification import verify_folders

    folder = edit(written(bases / "tied", tmp_path / "adapter", **Q), base_model_name_or_path=str(bases / "tied"))
    load_model(str(folder)).merge_and_unload().save_pretrained(folder)
    readers = {
        "load": load_model, "task": task_of, "outline": outline, "diff": lambda f: diff_folders(bases / "tied", f),
        "verify": lambda f: verify_folders(f, bases / "tied"), "push": lambda f: push(f, "owner/name"),
    }  # fmt: skip
    for read in readers.values():
        with pytest.raises(ModelError, match=r"whole weights \(model.safetensors\) and an adapter \(adapter_config"):
            read(str(folder))
    for leftover in folder.glob("adapter_*"):
        leftover.unlink()
    assert not verify_folders(folder, bases / "tied").equal


def test_stale_shards_beside_a_whole_file_are_read_by_nobody(bases, tmp_path):
    from ftkit.inspection.diff import diff_folders
    from ftkit.inspection.verification import verify_folders

    folder = tmp_path / "stale"
    other = theirs(bases / "untied")
    other.lm_head.weight.data.zero_()
    other.save_pretrained(folder, max_shard_size="5KB")
    assert (folder / "model.safetensors.index.json").exists()
    shutil.copy(bases / "untied" / "model.safetensors", folder)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(theirs(bases / "untied")))
    assert torch.equal(logits(load_model(str(folder))), logits(theirs(bases / "untied")))
    assert diff_folders(bases / "untied", folder).identical
    assert verify_folders(bases / "untied", folder).equal


# ------------------------------------------------------------------------------------------- merged


def test_a_merge_onto_a_tied_embedding_is_refused_with_the_reason(bases, tmp_path):
    """peft merges into the one matrix, and so changes the other end too."""
    for base, targets in {"tied": ["embed_tokens", "q_proj"], "gpt2": ["wte", "c_attn"]}.items():
        written(bases / base, tmp_path / base, target_modules=targets)
        model: Any = load_model(str(tmp_path / base), adapter_base=str(bases / base))
        expected = logits(model)
        with pytest.raises(ModelError, match=r"cannot be merged.*compute something else.*one tensor here"):
            merge_adapter(model)
        assert torch.equal(logits(model), expected)
    untied = written(bases / "untied", tmp_path / "untied", target_modules=["embed_tokens", "lm_head"])
    model = load_model(str(untied), adapter_base=str(bases / "untied"))
    torch.testing.assert_close(logits(merge_adapter(model)), logits(model), atol=1e-5, rtol=1e-5)


def test_what_a_merge_gets_wrong_is_found_whatever_it_is(bases, tmp_path, monkeypatch):
    model: Any = load_model(str(written(bases / "untied", tmp_path / "a", **Q)), adapter_base=str(bases / "untied"))
    merged = merge_adapter(model)
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    merge = type(model.base_model).merge_and_unload
    monkeypatch.setattr(
        type(model.base_model), "merge_and_unload", lambda self, **how: _scaled(merge(self, **how), 1.01)
    )
    with pytest.raises(ModelError, match="would compute something else"):
        merge_adapter(model)


def _scaled(model: PreTrainedModel, factor: float) -> PreTrainedModel:
    model.get_submodule("model.layers.0.mlp.up_proj").weight.data.mul_(factor)  # type: ignore[union-attr, operator]
    return model


def test_an_adapter_on_a_tied_embedding_moves_that_end_alone(bases, tmp_path):
    folder = written(bases / "tied", tmp_path / "adapter", target_modules=["embed_tokens"])
    base = load_model(str(bases / "tied"))
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.model.embed_tokens.lora_embedding_{side}"] for side in "AB")
    moved = movement(snapshot(base), load_model(str(folder), adapter_base=str(bases / "tied")))
    expected = float((2 * (b @ a).T).norm() / base.get_input_embeddings().weight.norm())  # alpha over r is 2
    assert {name: value for name, value in moved.by_tensor.items() if value} == {
        "model.embed_tokens.weight": pytest.approx(expected, rel=1e-5)
    }
    assert not moved.leaks


@pytest.mark.parametrize("kind", ["same values", "other values"])
def test_a_merged_model_that_was_saved_untied_is_the_adapters_model(bases, tmp_path, kind):
    from ftkit.inspection.diff import diff_folders
    from ftkit.inspection.verification import verify_folders

    targets = {"same values": ["q_proj", "v_proj"], "other values": ["lm_head", "q_proj"]}[kind]
    folder = written(bases / "tied", tmp_path / "adapter", target_modules=targets)
    edit(folder, base_model_name_or_path=str(bases / "tied"))
    wrapped: Any = PeftModel.from_pretrained(theirs(bases / "tied"), folder)
    head = wrapped.get_base_model().get_output_embeddings()
    inner = getattr(head, "base_layer", head)
    inner.weight = torch.nn.Parameter(inner.weight.detach().clone())
    whole = wrapped.merge_and_unload()
    whole.config.tie_word_embeddings = False
    whole.save_pretrained(tmp_path / "merged")
    assert "lm_head.weight" in load_file(tmp_path / "merged" / "model.safetensors")

    found = verify_folders(folder, tmp_path / "merged")
    assert found.equal, found.reasons
    before = snapshot(load_model(str(bases / "tied")))
    adapter, merged = (movement(before, load_model(str(path))) for path in (folder, tmp_path / "merged"))
    assert (adapter.changed, adapter.tensors) == (merged.changed, merged.tensors)
    assert adapter.relative == pytest.approx(merged.relative, rel=1e-5)
    changed = {change.name for change in diff_folders(bases / "tied", tmp_path / "merged").changes if change.largest}
    assert ("lm_head.weight" in changed) == (kind == "other values")
    edit(folder, lora_alpha=5)
    assert not verify_folders(folder, tmp_path / "merged").equal


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_an_adapter_that_is_trained_on_is_measured_from_where_it_stood(bases, tmp_path, kind):
    from peft import PromptTuningConfig

    if kind == "lora":
        written(bases / "tied", tmp_path / "a", **Q)
    else:
        prompt = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
        get_peft_model(theirs(bases / "tied"), prompt).save_pretrained(tmp_path / "a")
    start, now = (load_model(str(tmp_path / "a"), adapter_base=str(bases / "tied")) for _ in range(2))
    still = movement(snapshot(start), now)
    assert (still.changed, still.relative, still.leaks) == (0, 0.0, ())
    [*_, last] = [parameter for parameter in now.parameters() if parameter.requires_grad]
    last.data.add_(1.0)
    moved = movement(snapshot(start), now)
    assert (moved.changed, moved.leaks) == (1, ())
    now.get_base_model().get_submodule("model.norm").weight.data.add_(1.0)  # type: ignore[operator]
    assert len(movement(snapshot(start), now).leaks) == 1
