"""``load_model`` returns a whole model or one error that says what is there; ``save_model`` writes all or nothing."""

import json
import shutil
import stat
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    DistilBertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    T5Config,
    T5ForConditionalGeneration,
)

from ftkit.data import load_tokenizer
from ftkit.errors import CheckpointError, DeviceError, ModelError, NetworkError
from ftkit.models import check_vocabulary, load_model, reload_difference, save_model, task_of
from ftkit.models.outputs import ROUNDING

FAMILIES = ["bert", "codegen", "ftkit_gpt2", "gpt2", "gpt_neo"]
DECODERS = [family for family in FAMILIES if family != "bert"]
CLASSIFIERS = [family for family in FAMILIES if family != "codegen"]  # transformers has no CodeGen classifier
GPT2 = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 24,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.arange(20)[None]


class Words:
    """A tokenizer as far as this module needs one."""

    def __init__(self, *ids):
        self.ids = ids

    def get_vocab(self):
        return {f"word{index}": index for index in self.ids}

    def save_pretrained(self, folder):
        (folder / "words.json").write_text(json.dumps(self.ids))


def edited(folder, change):
    """Apply ``change`` to the tensors of a saved folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def gpt2_folder(tmp_path):
    GPT2LMHeadModel(GPT2Config(**GPT2)).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


@pytest.fixture
def bert_folder(tmp_path):
    BertModel(BertConfig(**BERT)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


# ----------------------------------------------------------------------------------------------------- new models


@pytest.mark.parametrize(
    ("family", "task"),
    [(family, "causal-lm") for family in DECODERS] + [(family, "sequence-classification") for family in CLASSIFIERS],
)
def test_every_family_is_tiny_trains_and_reloads_exactly(family, task, tmp_path):
    model = load_model(f"new:{family}", task=task)
    assert model.config.model_type == family
    assert model.dtype == torch.float32
    assert not model.training
    assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 140_000
    labels = IDS if task == "causal-lm" else torch.tensor([1])
    model(IDS, labels=labels).loss.backward()
    save_model(model, None, tmp_path / "saved")
    assert reload_difference(model, tmp_path / "saved", IDS) < ROUNDING
    again = load_model(str(tmp_path / "saved"), task=task)
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits)


def test_a_seed_decides_the_weights_and_leaves_the_callers_random_state_alone():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    first, same, other = (load_model("new:gpt2", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)


def test_settings_of_a_spec_are_parsed_by_their_type():
    model = load_model("new:ftkit_gpt2,n_layer=3,hidden_size=32,bias=false,logit_scale=0.5,hidden_act=relu")
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (3, 32, 128)
    assert (config.bias, config.logit_scale, config.hidden_act) == (False, 0.5, "relu")
    assert load_model("new:gpt2,n_inner=none").config.n_inner is None


def test_rows_and_positions_come_from_the_arguments_unless_the_spec_says_them():
    for family in DECODERS:
        asked = load_model(f"new:{family}", vocab_size=77, max_positions=33).config
        assert (asked.vocab_size, asked.max_position_embeddings) == (77, 33)
        said = load_model(f"new:{family},vocab_size=50,max_position_embeddings=20", vocab_size=77, max_positions=33)
        assert (said.config.vocab_size, said.config.max_position_embeddings) == (50, 20)
        assert said.get_input_embeddings().weight.shape[0] == 50


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_gpt_neo_alternates_global_and_local_layers_at_any_depth(layers):
    model = load_model(f"new:gpt_neo,num_layers={layers}")
    assert model.config.attention_layers == ["global", "local", "global", "local"][:layers]
    assert model(IDS).logits.shape == (1, 20, 256)


def test_codegen_keeps_its_rotary_part_inside_a_head():
    for width, heads in ((64, 4), (128, 8), (32, 4)):
        model = load_model(f"new:codegen,n_embd={width},n_head={heads}")
        assert 0 < model.config.rotary_dim <= width // heads
        assert torch.isfinite(model(IDS).logits).all()


def test_labels_name_the_classes():
    model = load_model("new:bert", task="sequence-classification", labels=["alice", "edgar", "other"])
    assert model.config.id2label == {0: "alice", 1: "edgar", 2: "other"}
    assert model.config.label2id["edgar"] == 1
    assert model(IDS).logits.shape == (1, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("new:gtp2", r"family 'gtp2'; did you mean 'gpt2'\?"),
        ("new:", "family ''; there is: bert, codegen"),
        ("new:gpt2,n_lyer=3", r"'n_lyer', which gpt2 lacks; did you mean 'n_layer'\?"),
        ("new:gpt2,n_layer", "'n_layer' where key=value is expected"),
        ("new:gpt2,n_layer=", "'n_layer=' where key=value is expected"),
        ("new:gpt2,n_layer=2,num_hidden_layers=3", "sets 'n_layer' twice"),
        ("new:gpt2,n_embd=wide", "n_embd.*expected int"),
        ("new:gpt2,n_layer=2.5", "n_layer.*expected int"),
        ("new:gpt2,n_head=5", "64.*5"),
        ("new:ftkit_gpt2,n_head=5", "hidden_size 64 is not a multiple of num_attention_heads 5"),
        ("new:ftkit_gpt2,hidden_act=sine", "sine"),
        ("new:codegen,n_head=6", "n_head is 6"),
        ("new:gpt_neo,attention_types=local", "attention_types, which follow from num_layers"),
        ("new:gpt2,architectures=x", "'architectures', which gpt2 lacks"),
        ("new:bert", "reads in both directions"),
    ],
)
def test_a_wrong_spec_is_one_error_that_shows_it(spec, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(spec)
    assert spec in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("new:gpt2", {"task": "causal-ml"}, r"task is 'causal-ml'; did you mean 'causal-lm'\?"),
        ("new:gpt2", {"labels": ["a", "b"]}, "only sequence-classification has labels"),
        ("new:bert", {"task": "sequence-classification", "labels": ["a"]}, "two different names"),
        ("new:bert", {"task": "sequence-classification", "labels": ["a", "a"]}, "two different names"),
        ("new:gpt2", {"revision": "main"}, "has no revisions"),
        ("new:codegen", {"task": "sequence-classification"}, "cannot do task 'sequence-classification'"),
        ("", {}, "empty"),
    ],
)
def test_wrong_arguments_are_one_error(spec, options, message):
    with pytest.raises(ModelError, match=message):
        load_model(spec, **options)


def test_sdpa_becomes_eager_only_where_there_is_none():
    assert load_model("new:gpt2").config._attn_implementation == "sdpa"
    assert load_model("new:gpt_neo").config._attn_implementation == "eager"
    assert load_model("new:gpt2", attn_implementation="eager").config._attn_implementation == "eager"


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash attention is installed here")
def test_an_attention_that_is_not_installed_is_a_matter_of_the_environment():
    with pytest.raises(DeviceError, match=r"new:ftkit_gpt2.*FlashAttention2"):
        load_model("new:ftkit_gpt2", attn_implementation="flash_attention_2")
    with pytest.raises(ModelError, match="magic"):
        load_model("new:ftkit_gpt2", attn_implementation="magic")


# -------------------------------------------------------------------------------------------------- saved folders


def test_a_half_precision_folder_is_loaded_in_full_precision(tmp_path):
    GPT2LMHeadModel(GPT2Config(**GPT2)).to(torch.bfloat16).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_model(str(tmp_path)).parameters()} == {torch.float32}


def test_a_plain_encoder_gets_a_new_head_that_the_seed_decides(bert_folder):
    first, same, other = (
        load_model(str(bert_folder), task="sequence-classification", seed=seed, labels=["a", "b", "c"])
        for seed in (1, 1, 2)
    )
    assert first.classifier.weight.shape == (3, 16)
    assert torch.equal(first.classifier.weight, same.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    saved = load_file(bert_folder / "model.safetensors")
    assert torch.equal(first.bert.embeddings.word_embeddings.weight, saved["embeddings.word_embeddings.weight"])


def test_a_classifier_starts_from_a_language_model_of_either_kind(gpt2_folder, tmp_path):
    assert load_model(str(gpt2_folder), task="sequence-classification").score.weight.shape == (2, 16)
    BertForMaskedLM(BertConfig(**BERT)).save_pretrained(tmp_path / "mlm")  # has no pooler, and a head of its own
    assert load_model(str(tmp_path / "mlm"), task="sequence-classification")(IDS).logits.shape == (1, 2)


def test_a_body_alone_is_a_language_model_when_its_head_is_tied(tmp_path):
    GPT2Model(GPT2Config(**GPT2)).save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert model.lm_head.weight is model.transformer.wte.weight


def test_two_matrices_in_a_file_that_should_be_one_stay_two(gpt2_folder, tmp_path):
    head = torch.randn(40, 16)
    edited(gpt2_folder, lambda tensors: tensors.update({"lm_head.weight": head}))
    model = load_model(str(gpt2_folder))
    assert torch.equal(model.lm_head.weight, head)
    assert not model.config.tie_word_embeddings
    save_model(model, None, tmp_path / "again")
    assert torch.equal(load_model(str(tmp_path / "again")).lm_head.weight, head)


def test_a_body_alone_is_no_language_model_when_the_head_is_its_own(tmp_path):
    GPT2Model(GPT2Config(**GPT2, tie_word_embeddings=False)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"missing: lm_head\.weight"):
        load_model(str(tmp_path))


def test_buffers_of_older_versions_are_no_left_over_weights(gpt2_folder):
    edited(gpt2_folder, lambda tensors: tensors.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 24, 24)}))
    assert load_model(str(gpt2_folder)).config.n_layer == 2


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_a_missing_weight_is_named(gpt2_folder, task):
    edited(gpt2_folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.weight"))
    with pytest.raises(ModelError, match=r"missing: transformer\.h\.1\.mlp\.c_fc\.weight"):
        load_model(str(gpt2_folder), task=task)


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_layers_that_the_configuration_forgets_are_named(gpt2_folder, task):
    config = json.loads((gpt2_folder / "config.json").read_text())
    (gpt2_folder / "config.json").write_text(json.dumps({**config, "n_layer": 1}))
    with pytest.raises(ModelError, match=r"not used: transformer\.h\.1\..* and 5 more"):
        load_model(str(gpt2_folder), task=task)


def test_layers_that_the_configuration_of_a_plain_encoder_forgets_are_named(bert_folder):
    config = json.loads((bert_folder / "config.json").read_text())
    (bert_folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ModelError, match=r"not used: .*encoder\.layer\.1\."):
        load_model(str(bert_folder), task="sequence-classification")


def test_a_weight_of_another_shape_is_named_with_both(gpt2_folder):
    edited(gpt2_folder, lambda tensors: tensors.update({"transformer.wpe.weight": torch.zeros(25, 16)}))
    with pytest.raises(ModelError, match=r"wpe\.weight \(file \(25, 16\), model \(24, 16\)\)"):
        load_model(str(gpt2_folder))


def test_a_trained_head_that_lost_a_part_is_not_drawn_anew(tmp_path):
    model = load_model("new:bert", task="sequence-classification")
    save_model(model, None, tmp_path / "whole")
    for names in (["classifier.bias"], ["classifier.weight", "classifier.bias"], ["bert.pooler.dense.weight"]):
        shutil.copytree(tmp_path / "whole", tmp_path / names[0])
        edited(tmp_path / names[0], lambda tensors, names=names: [tensors.pop(name) for name in names])
        with pytest.raises(ModelError, match=f"missing: {names[-1] if len(names) > 1 else names[0]}"):
            load_model(str(tmp_path / names[0]), task="sequence-classification")


def test_a_classifier_is_no_language_model(tmp_path):
    save_model(load_model("new:gpt2", task="sequence-classification"), None, tmp_path / "saved")
    with pytest.raises(ModelError, match=r"not used: score\.weight"):
        load_model(str(tmp_path / "saved"))


def test_a_trained_head_keeps_its_labels(tmp_path):
    task = "sequence-classification"
    save_model(load_model("new:bert", task=task, labels=["alice", "edgar"]), None, tmp_path / "saved")
    assert load_model(str(tmp_path / "saved"), task=task).config.id2label == {0: "alice", 1: "edgar"}
    assert load_model(str(tmp_path / "saved"), task=task, labels=["alice", "edgar"]).config.num_labels == 2
    save_model(load_model("new:bert", task=task), None, tmp_path / "unnamed")
    assert load_model(str(tmp_path / "unnamed"), task=task, labels=["x", "y"]).config.id2label == {0: "x", 1: "y"}


def test_an_encoder_is_no_causal_model(tmp_path):
    BertForMaskedLM(BertConfig(**BERT)).save_pretrained(tmp_path)  # every weight of BertLMHeadModel would be there
    with pytest.raises(ModelError, match="bert reads in both directions"):
        load_model(str(tmp_path))


def test_an_architecture_without_the_task_is_refused(tmp_path):
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"t5 is an encoder-decoder model.*Use transformers.Seq2SeqTrainer"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("spec", ["./missing", "missing/", "~/missing-folder-of-ftkit", "/missing/folder", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_asked_of_the_hub(spec):
    with pytest.raises(ModelError, match=f"folder {spec} does not exist"):
        load_model(spec)


def spoil_config(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2", ')


def unknown_type(folder):
    (folder / "config.json").write_text('{"model_type": "gpt99"}')


def wrong_type(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": "two"}')


def no_config(folder):
    (folder / "config.json").unlink()


def adapter_only(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def garbled_header(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:8] + b"!" * 40 + data[48:])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_config, "JSON|json"),
        (unknown_type, "gpt99"),
        (wrong_type, "n_layer.*expected int"),
        (no_config, "no config.json.*model.safetensors"),
        (adapter_only, "has no adapter_model.safetensors"),
        (no_weights, "no model.safetensors; it holds: config.json"),
        (pickled_weights, "pickled.*pytorch_model.bin"),
        (cut_weights, "cannot be loaded: .*(incomplete|truncated|not fully covered|Incomplete)"),
        (garbled_header, "cannot be loaded: .*header"),
    ],
)
def test_a_spoilt_folder_is_one_error_that_names_it(gpt2_folder, spoil, message):
    spoil(gpt2_folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(gpt2_folder))
    assert str(gpt2_folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(gpt2_folder):
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(gpt2_folder / "model.safetensors"))


def test_code_of_a_folder_needs_consent(gpt2_folder):
    config = json.loads((gpt2_folder / "config.json").read_text())
    remote = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (gpt2_folder / "config.json").write_text(json.dumps({**config, "model_type": "strange", "auto_map": remote}))
    (gpt2_folder / "code.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ModelError, match=r"its own Python code.*trust_remote_code"):
        load_model(str(gpt2_folder))


# --------------------------------------------------------------------------------------------------------- the Hub


def test_an_id_that_is_not_cached_is_an_offline_error_with_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match=r"'someone/no-such-model'.*HF_HUB_OFFLINE is set.*--local-dir"):
        load_model("someone/no-such-model")


def test_without_a_network_the_answer_comes_at_once(monkeypatch):
    monkeypatch.setattr("ftkit.models.loader_errors.hub_answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(NetworkError, match="the Hub does not answer"):
        load_model("no-such-model")


@pytest.mark.parametrize("spec", ["two words", "some one/x", "a:b"])
def test_what_can_be_no_id_is_refused(spec):
    with pytest.raises(ModelError, match="no existing folder and no Hub id"):
        load_model(spec)


def test_a_cached_id_needs_no_network(gpt2_folder, tmp_path, monkeypatch):
    repository = tmp_path / "cache" / "models--someone--tiny"
    shutil.copytree(gpt2_folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ftkit.models.loader_errors.hub_answers", lambda: pytest.fail("the network was asked"))
    assert load_model("someone/tiny").config.n_positions == 24
    (repository / "snapshots" / ("0" * 40) / "adapter_config.json").write_text("{}")
    for read in (load_model, task_of):  # transformers would put it on the weights
        with pytest.raises(ModelError, match=r"holds an adapter.*'ftkit pull someone/tiny FOLDER'"):
            read("someone/tiny")


# ---------------------------------------------------------------------------------------- vocabulary, save, reload


def test_an_id_beyond_the_rows_is_refused_with_both_numbers():
    model = load_model("new:gpt2,vocab_size=100")
    check_vocabulary(model, Words(0, 5, 99))
    with pytest.raises(ModelError, match=r"ids up to 100, but the model has 100 embedding rows"):
        check_vocabulary(model, Words(0, 100))
    check_vocabulary(model, range(100))
    with pytest.raises(ModelError, match="ids up to 100"):
        check_vocabulary(model, range(101))
    padded = load_tokenizer("byte")
    padded.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(ModelError, match=r"was given '\[PAD\]' .*never resized.*resize_token_embeddings\(258\)"):
        check_vocabulary(load_model("new:gpt2,vocab_size=257"), padded)


def test_a_changed_weight_shows_in_the_reload_difference(tmp_path):
    model = load_model("new:ftkit_gpt2").train()
    save_model(model, None, tmp_path / "saved")
    assert reload_difference(model, tmp_path / "saved", IDS) < ROUNDING
    assert model.training
    with torch.no_grad():
        model.model.norm.bias[3] += 0.5
    assert 0.001 < reload_difference(model, tmp_path / "saved", IDS) < 1
    with torch.no_grad():
        model.model.norm.bias[3] = float("nan")
    assert reload_difference(model, tmp_path / "saved", IDS) == float("inf")
    edited(tmp_path / "saved", lambda tensors: tensors.pop("model.norm.bias"))
    with pytest.raises(ModelError, match=r"does not hold this model: missing: model\.norm\.bias"):
        reload_difference(model, tmp_path / "saved", IDS)


def test_half_precision_reloads_within_what_it_rounds(tmp_path):
    model = load_model("new:ftkit_gpt2").to(torch.bfloat16)
    save_model(model, None, tmp_path / "saved")
    assert reload_difference(model, tmp_path / "saved", IDS) < 4 * torch.finfo(torch.bfloat16).eps


def test_saving_writes_model_and_tokenizer_and_nothing_beside(tmp_path):
    save_model(load_model("new:gpt2"), Words(1, 2), tmp_path / "deep" / "down" / "model")
    names = {path.name for path in (tmp_path / "deep" / "down" / "model").iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "words.json"}
    assert [path.name for path in (tmp_path / "deep" / "down").iterdir()] == ["model"]
    plain = tmp_path / "plain"
    plain.mkdir()
    mode = stat.S_IMODE((tmp_path / "deep" / "down" / "model").stat().st_mode)
    assert mode == stat.S_IMODE(plain.stat().st_mode)


def test_saving_replaces_a_model_wholly(tmp_path):
    save_model(load_model("new:gpt2"), Words(1), tmp_path / "model")
    newer = load_model("new:gpt2", seed=7)
    save_model(newer, None, tmp_path / "model")
    assert not (tmp_path / "model" / "words.json").exists()
    assert reload_difference(newer, tmp_path / "model", IDS) < ROUNDING


def test_a_failed_save_leaves_the_old_model_and_no_rest(tmp_path):
    old = load_model("new:gpt2")
    save_model(old, None, tmp_path / "model")

    class Failing:
        def save_pretrained(self, folder):
            raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"the disk is full: .* MB needed, .* MB free"):
        save_model(load_model("new:gpt2", seed=7), Failing(), tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"the disk is full: .* MB needed, .* MB free"):
        save_model(old, Failing(), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert reload_difference(old, tmp_path / "model", IDS) < ROUNDING


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    for target in (tmp_path / "work", tmp_path / "work" / "thesis.txt"):
        with pytest.raises(ModelError, match="is not a model folder"):
            save_model(load_model("new:gpt2"), None, target)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    save_model(load_model("new:gpt2"), None, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").exists()


def test_loading_and_saving_print_nothing(tmp_path, bert_folder, capfd):
    model = load_model(str(bert_folder), task="sequence-classification")
    save_model(model, None, tmp_path / "saved")
    reload_difference(model, tmp_path / "saved", IDS)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize("family", FAMILIES)
def test_the_task_of_a_model_is_told_without_its_weights(family, tmp_path):
    expected = "masked-lm" if family == "bert" else "causal-lm"
    assert task_of(f"new:{family}") == expected
    save_model(load_model(f"new:{family}", task=expected), None, tmp_path / "saved")
    for weights in (tmp_path / "saved").glob("*.safetensors"):
        weights.write_bytes(b"")
    assert task_of(str(tmp_path / "saved")) == expected


def test_an_encoder_that_does_not_call_itself_one_is_known_by_its_heads(tmp_path):
    DistilBertConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert task_of(str(tmp_path)) == "masked-lm"
    with pytest.raises(ModelError, match="distilbert reads in both directions"):
        load_model(str(tmp_path))


def test_a_model_that_is_asked_for_the_other_direction_names_its_own_task():
    with pytest.raises(ModelError, match=r"gpt2 does not read in both directions.*Use it for causal-lm"):
        load_model("new:gpt2", task="masked-lm")
    with pytest.raises(ModelError, match=r"bert reads in both directions.*Use it for masked-lm"):
        load_model("new:bert")


def test_a_masked_head_is_loaded_whole_and_what_stood_beside_it_is_left_aside(tmp_path, bert_folder):
    pretrained = BertForPreTraining(BertConfig(**BERT)).eval()
    pretrained.save_pretrained(tmp_path / "pretrained")
    model = load_model(str(tmp_path / "pretrained"), task="masked-lm")
    torch.testing.assert_close(model(IDS).logits, pretrained(IDS).prediction_logits)
    with pytest.raises(ModelError, match=r"missing: cls\.predictions"):
        load_model(str(bert_folder), task="masked-lm")


def test_a_new_encoder_reloads_exactly(tmp_path):
    model = load_model("new:bert", task="masked-lm")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    save_model(model, None, tmp_path / "saved")
    assert reload_difference(model, tmp_path / "saved", IDS) < ROUNDING
    edited(tmp_path / "saved", lambda tensors: tensors["cls.predictions.bias"][3].add_(0.1))
    assert reload_difference(model, tmp_path / "saved", IDS) > 1e-4
