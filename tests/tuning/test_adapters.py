"""Adapters against closed formulas, peft's own loader, the base they stand on, and planted faults."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, PreTrainedModel

from ftkit.config import AdapterSettings
from ftkit.config.resolve import read_flags
from ftkit.data import TokenStore, load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import CheckpointError, ConfigError, ModelError
from ftkit.generation import PRESETS, generate_passages
from ftkit.inspection.diff import diff_folders
from ftkit.inspection.verification import verify_folders
from ftkit.models import load_model, reload_difference, save_model, virtual_tokens
from ftkit.models.meta_models import outline
from ftkit.models.outputs import ROUNDING
from ftkit.training import NEXT_TOKEN, CheckpointFolder, Engine, HeldOutWindows, TokenWindows, held_out_loss
from ftkit.tuning import (
    ParameterGroups,
    adapter_targets,
    attach_adapter,
    check_adapter,
    check_adapter_gradients,
    merge_adapter,
    movement,
    predicted_trainable,
    select,
    snapshot,
)

LM, CLS = "causal-lm", "sequence-classification"
METHODS = ["lora", "dora", "rslora", "ia3", "prefix", "prompt", "bias", "tokens"]
PROMPTS = ("prefix", "prompt")
MODELS = [
    ("ftkit_gpt2", LM), ("gpt2", LM), ("gpt_neo", LM), ("codegen", LM), ("llama", LM), ("qwen3", LM),
    ("ftkit_gpt2", CLS), ("gpt2", CLS), ("gpt_neo", CLS), ("llama", CLS), ("qwen3", CLS), ("bert", CLS),
    ("distilbert", CLS),
]  # fmt: skip
REFUSED = {
    ("prefix", "distilbert", CLS), ("prompt", "gpt2", CLS), ("prompt", "gpt_neo", CLS), ("prompt", "llama", CLS),
    ("prompt", "qwen3", CLS), ("bias", "llama", LM), ("bias", "llama", CLS), ("bias", "qwen3", LM),
    ("bias", "qwen3", CLS),
}  # fmt: skip
POSSIBLE = [(m, f, t) for f, t in MODELS for m in METHODS if (m, f, t) not in REFUSED]
# Two diagonals through the table, which meet no refusal: every model twice, every method three times or more.
DIAGONALS = {(METHODS[(a * i + b) % 8], *model) for i, model in enumerate(MODELS) for a, b in ((3, 4), (5, 7))}
CASES = [pytest.param(*case, marks=() if case in DIAGONALS else pytest.mark.nightly) for case in POSSIBLE]
IDS = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(0))
IDS[:, 2] = 8  # one of the tokens that are trained


def settings(peft: str, **values: object) -> AdapterSettings:
    """Settings of an adapter and of a few steps on the CPU."""
    extra = {"trainable_tokens": [7, 8, 9]} if peft == "tokens" else {}
    extra |= {"virtual_tokens": 5} if peft in PROMPTS else {}
    run = {
        "model": "m", "max_steps": 6, "window_tokens": 32, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "save_steps": 0, "use_cpu": True,
    }  # fmt: skip
    return AdapterSettings(**{"peft": peft, **run, **extra, **values})


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders FAMILY-TASK with tiny saved models."""
    folder = tmp_path_factory.mktemp("bases")
    for family, task in MODELS:
        model = load_model(f"new:{family}", task=task, vocab_size=257)
        model.config.pad_token_id = 0
        save_model(model, load_tokenizer("byte"), folder / f"{family}-{task}")
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Byte tokens of an embedded voice."""
    return tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=tmp_path_factory.mktemp("tokens"))


def base_of(bases: Path, family: str, task: str = LM) -> PreTrainedModel:
    return load_model(str(bases / f"{family}-{task}"), task=task)


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Of the last positions, so that virtual tokens are left out."""
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found[:, -IDS.shape[1] :] if found.ndim == 3 else found


def disturb(model: torch.nn.Module) -> None:
    """Other values for everything that can be trained."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


# ------------------------------------------------------------------------------------------- what works where


def test_the_table_of_what_is_refused_is_the_whole_truth(bases):
    found = set()
    for family, task in MODELS:
        model = base_of(bases, family, task)
        for method in METHODS:
            try:
                check_adapter(model, settings(method), task)
            except ConfigError as error:
                assert f"{method} does not work with {family} for {task}" in str(error)
                assert "there is: lora, dora, rslora, ia3" in str(error)
                found.add((method, family, task))
    assert found == REFUSED


def test_the_fast_part_of_the_table_has_every_model_and_every_method():
    fast = [case for case in POSSIBLE if case in DIAGONALS]
    assert len(fast) == len(DIAGONALS) == 26
    assert {case[1:] for case in fast} == set(MODELS)
    assert min(sum(case[0] == method for case in fast) for method in METHODS) >= 3


@pytest.mark.parametrize(("method", "family", "task"), CASES)
def test_an_adapter_keeps_every_promise(bases, tmp_path, method, family, task):
    base = base_of(bases, family, task)
    before, start = snapshot(base), logits(base)
    predicted = predicted_trainable(base, settings(method), task)
    model = attach_adapter(base, settings(method), task)

    # The count is the formula's, of what autograd would train.
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == predicted

    # Untrained it computes what the base does, and movement says so; virtual tokens promise nothing.
    if method not in PROMPTS:
        torch.testing.assert_close(logits(model), start)
        assert (movement(before, model).changed, movement(before, model).relative) == (0, 0.0)

    # Changed, it computes something else, and the base under it is bit-identical.
    disturb(model)
    changed = logits(model)
    assert not torch.allclose(changed, start, atol=1e-4)
    moved = movement(before, model)
    assert moved.changed > 0
    assert moved.relative > 0
    assert (moved.leaks, moved.still) == ((), ())
    assert moved.frozen > 0

    # Saved, it is small and comes back, also over another seed for new heads.
    save_model(model, None, tmp_path / "adapter")
    again = load_model(str(tmp_path / "adapter"), task=task, seed=5)
    torch.testing.assert_close(logits(again), changed)
    assert not again.training
    assert reload_difference(model, tmp_path / "adapter", IDS) < ROUNDING
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "base.json"
    }  # fmt: skip

    # Merged, it is a plain model that is tied as its base and survives a round trip.
    if method in PROMPTS:
        with pytest.raises(ModelError, match=f"{method} tuning cannot be merged"):
            merge_adapter(model)
        return
    merged = merge_adapter(model)
    assert torch.allclose(logits(merged), changed, atol=1e-5)
    assert torch.equal(logits(model), changed)
    fresh = base_of(bases, family, task)
    assert dict(merged.named_parameters()).keys() == dict(fresh.named_parameters()).keys()
    assert merged.config.tie_word_embeddings == fresh.config.tie_word_embeddings
    save_model(merged, None, tmp_path / "merged")
    assert reload_difference(merged, tmp_path / "merged", IDS) < ROUNDING


def test_gpt2_small_with_rank_8_on_c_attn_trains_294912_parameters():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(GPT2Config())
    assert predicted_trainable(model, settings("lora", lora_target_modules="c_attn")) == 294_912
    assert predicted_trainable(model, settings("dora", lora_target_modules="c_attn")) == 294_912 + 12 * 2304
    assert predicted_trainable(model, settings("prefix", virtual_tokens=20)) == 2 * 12 * 20 * 768
    assert predicted_trainable(model, settings("prompt", virtual_tokens=20)) == 20 * 768
    assert predicted_trainable(model, settings("ia3")) == 12 * (2304 + 3072)


# ------------------------------------------------------------------------------------------- targets


def test_targets_are_selectors_or_names_of_modules(bases):
    gpt2, own = base_of(bases, "gpt2"), base_of(bases, "ftkit_gpt2")
    assert len(adapter_targets(gpt2, "all-linear")) == 8
    assert adapter_targets(gpt2, "c_attn") == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    assert adapter_targets(gpt2, "attention@1") == ["transformer.h.1.attn.c_attn", "transformer.h.1.attn.c_proj"]
    assert adapter_targets(own, "attention.q,mlp.out@-1") == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.fc_out"
    ]  # fmt: skip
    assert adapter_targets(own, ["all-linear", "^mlp"]) == adapter_targets(own, "attention")


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        ("gpt2", "c_attn,atention", "'atention' matches nothing; did you mean 'attention'"),
        ("gpt2", "c_attn,c_atn", "'c_atn' matches nothing; did you mean 'c_attn'"),
        ("gpt2", "attention.q", r"part of transformer.h.0.attn.c_attn, which holds attention.q, attention.k"),
        ("ftkit_gpt2", "norm", "holds no linear map"),
        ("ftkit_gpt2", "head", "holds no linear map"),
        ("ftkit_gpt2", "attention,^attention", "leaves no linear map"),
        ("ftkit_gpt2", "attention@7", "there are blocks 0 to 1"),
    ],
)
def test_a_target_that_matches_nothing_is_an_error_even_if_others_match(bases, family, wanted, message):
    with pytest.raises(ConfigError, match=message):
        attach_adapter(base_of(bases, family), settings("lora", lora_target_modules=wanted))


def test_tokens_outside_the_model_are_refused(bases):
    with pytest.raises(ConfigError, match="no token 257; the model has ids 0 to 256"):
        attach_adapter(base_of(bases, "gpt2"), settings("tokens", trainable_tokens=[3, 257]))


def test_an_adapter_on_an_adapter_is_refused(bases):
    model = attach_adapter(base_of(bases, "gpt2"), settings("lora"))
    with pytest.raises(ConfigError, match="has an adapter already"):
        attach_adapter(model, settings("ia3"))
    with pytest.raises(ConfigError, match="task 'masked-lm'"):
        attach_adapter(base_of(bases, "gpt2"), settings("ia3"), "masked-lm")


def test_trained_tokens_move_both_ends_of_a_tied_model_and_no_other_row(bases):
    model = attach_adapter(base_of(bases, "gpt2"), settings("tokens"))
    disturb(model)
    merged, base = merge_adapter(model), base_of(bases, "gpt2")
    rows = (merged.transformer.wte.weight != base.transformer.wte.weight).any(1).nonzero()[:, 0].tolist()
    assert rows == [7, 8, 9]
    assert merged.lm_head.weight is merged.transformer.wte.weight


def test_adapter_tensors_are_a_group_of_their_own(bases):
    for method in METHODS:
        model = attach_adapter(base_of(bases, "ftkit_gpt2"), settings(method))
        groups = ParameterGroups(model)
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert "other" not in groups.names
        assert all("other" not in piece.also_groups for piece in groups.pieces)
        if method != "bias":
            assert set(select(groups, "adapter").masks) == trainable
        assert sum(piece.numel for piece in groups.pieces) == sum(p.numel() for p in model.parameters())


# ------------------------------------------------------------------------------------------- folders


def saved(bases: Path, folder: Path, method: str = "lora", family: str = "gpt2") -> Path:
    """A base and an adapter beside it, as a run keeps them."""
    shutil.copytree(bases / f"{family}-{LM}", folder / "base")
    model = attach_adapter(load_model(str(folder / "base")), settings(method))
    disturb(model)
    save_model(model, load_tokenizer("byte"), folder / "tuned")
    return folder / "tuned"


def test_the_tokens_that_end_an_answer_come_back_with_the_adapter(bases, tmp_path):
    """peft saves no generation settings: the base would run on after the end of a turn that was learned."""
    saved(bases, tmp_path)
    model = attach_adapter(load_model(str(tmp_path / "base")), settings("lora"))
    model.get_base_model().generation_config.eos_token_id = [256, 10]
    save_model(model, load_tokenizer("byte"), tmp_path / "answers")
    assert load_model(str(tmp_path / "answers")).generation_config.eos_token_id == [256, 10]
    assert GenerationConfig.from_pretrained(tmp_path / "answers").eos_token_id == [256, 10]
    assert load_model(str(tmp_path / "base")).generation_config.eos_token_id != [256, 10]
    (tmp_path / "answers" / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"generation_config.json: cannot be read"):
        load_model(str(tmp_path / "answers"))


def test_a_moved_run_still_finds_its_base(bases, tmp_path):
    saved(bases, tmp_path / "here")
    expected = logits(load_model(str(tmp_path / "here" / "tuned")))
    (tmp_path / "here").rename(tmp_path / "there")
    torch.testing.assert_close(logits(load_model(str(tmp_path / "there" / "tuned"))), expected)
    assert str(tmp_path) not in (tmp_path / "there" / "tuned" / "base.json").read_text()
    assert str(tmp_path) not in (tmp_path / "there" / "tuned" / "adapter_config.json").read_text()
    assert load_tokenizer(str(tmp_path / "there" / "tuned")).vocab_size == load_tokenizer("byte").vocab_size


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft 0.21 asks transformers 5.23 for an old name
@pytest.mark.parametrize("method", METHODS)
def test_peft_itself_loads_the_folder(bases, tmp_path, method):
    from peft import PeftModel

    folder = saved(bases, tmp_path, method, "ftkit_gpt2")
    theirs = PeftModel.from_pretrained(load_model(str(tmp_path / "base")), str(folder))
    torch.testing.assert_close(logits(theirs), logits(load_model(str(folder))))


def test_another_base_is_refused_with_both_hashes(bases, tmp_path):
    folder = saved(bases, tmp_path)
    model = load_model(str(tmp_path / "base"))
    with torch.no_grad():
        model.transformer.h[0].ln_1.weight[3] += 1e-6
    save_model(model, None, tmp_path / "base")
    with pytest.raises(ModelError, match=r"trained on a base with [\d,]+ parameters and SHA-256 .* has changed"):
        load_model(str(folder))


def test_a_base_that_is_gone_is_named(bases, tmp_path):
    folder = saved(bases, tmp_path)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ModelError, match=r"base"):
        load_model(str(folder))


def test_an_adapter_over_unsaved_random_weights_is_not_saved(tmp_path):
    model = attach_adapter(load_model("new:gpt2"), settings("lora"))
    with pytest.raises(ModelError, match="Save the base first"):
        save_model(model, None, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 under transformers 5.23
def test_an_adapter_that_peft_has_saved_is_loaded_onto_the_base_that_it_names(bases, tmp_path):
    """Nothing but peft wrote it: no base.json, so no hash. The base may also be named by the caller."""
    from peft import LoraConfig, get_peft_model

    base = str(bases / f"gpt2-{LM}")
    theirs = get_peft_model(
        load_model(base), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    theirs.peft_config["default"].base_model_name_or_path = base
    theirs.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected = theirs.eval()(ids).logits
        torch.testing.assert_close(load_model(str(tmp_path / "adapter"))(ids).logits, expected)
        _edit(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="somebody/gone")
        torch.testing.assert_close(load_model(str(tmp_path / "adapter"), adapter_base=base)(ids).logits, expected)


def test_spoiled_folders_are_refused(bases, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved(bases, tmp_path / "run")
    tensors = load_file(folder / "adapter_model.safetensors")
    name = sorted(tensors)[0]

    def broken(match: str, task: str = LM) -> None:
        with pytest.raises(ModelError, match=match):
            load_model(str(folder), task=task)
        shutil.rmtree(tmp_path / "run")
        saved(bases, tmp_path / "run")

    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    broken("pickled weights .* are not read")
    (folder / "base.json").unlink()
    _edit(folder / "adapter_config.json", base_model_name_or_path=None)
    broken("names no base model")
    (folder / "adapter_model.safetensors").write_bytes(b"12")
    broken("cannot be read")
    save_file({k: v for k, v in tensors.items() if k != name}, folder / "adapter_model.safetensors")
    broken(f"missing: {name}")
    save_file({**tensors, "stray": torch.ones(1)}, folder / "adapter_model.safetensors")
    broken("not used: stray")
    save_file({**tensors, name: torch.ones(1)}, folder / "adapter_model.safetensors")
    broken("wrong shape")
    _edit(folder / "adapter_config.json", peft_type="XLORA")
    broken("of type XLORA")
    _edit(folder / "adapter_config.json", layer_replication=[[0, 1]])
    broken(r"sets layer_replication \(\[\[0, 1\]\]\), which ftkit does not support")
    broken("trained for causal-lm, but sequence-classification", CLS)


def test_a_prompt_that_began_as_text_fetches_no_tokenizer_and_runs_no_code(bases, tmp_path):
    """peft fetches a tokenizer, with trust_remote_code if asked; the values are in the file, so nothing needs it."""
    folder = saved(bases, tmp_path, "prompt")
    expected = logits(load_model(str(folder)))
    _edit(
        folder / "adapter_config.json", prompt_tuning_init="TEXT", prompt_tuning_init_text="x",
        tokenizer_name_or_path="evil/evil", tokenizer_kwargs={"trust_remote_code": True},
    )  # fmt: skip
    loaded = load_model(str(folder))
    assert torch.equal(logits(loaded), expected)
    assert loaded.peft_config["default"].tokenizer_name_or_path is None
    assert outline(str(folder)).has_adapter


def test_a_base_beside_the_adapter_never_counts_from_the_working_directory(bases, tmp_path, monkeypatch):
    folder = saved(bases, tmp_path / "run")
    shutil.copytree(bases / f"bert-{CLS}", tmp_path / "base")  # what ../base means for whoever stands in run/
    monkeypatch.chdir(tmp_path / "run")
    assert outline(str(folder)).config.model_type == "gpt2"
    assert {change.group for change in diff_folders(folder, folder).changes} == {"adapter"}
    shutil.rmtree(tmp_path / "run" / "base")
    for look in (load_model, outline):
        with pytest.raises(ModelError, match=r"base '\.\./base', which is not there \(it counts from the adapter"):
            look(str(folder))


def test_a_base_that_computes_otherwise_with_the_same_weights_is_refused(bases, tmp_path):
    folder = saved(bases, tmp_path)
    _edit(tmp_path / "base" / "config.json", n_head=1)
    with pytest.raises(ModelError, match=r"configured otherwise than when .* was trained: n_head 4 and 1"):
        load_model(str(folder))
    _edit(tmp_path / "base" / "config.json", n_head=4, resid_pdrop=0.3)  # dropout is no part of the computation
    assert load_model(str(folder))


def test_base_records_that_mean_nothing_are_one_message(bases, tmp_path):
    folder = saved(bases, tmp_path)
    for name, values, message in (
        ("base.json", {"base": "."}, "is an adapter itself"),
        ("base.json", {"base": 5}, "names the base 5"),
        ("base.json", {"base": "../base"}, None),
        ("adapter_config.json", {"peft_type": ["LORA"]}, "of type"),
        ("adapter_config.json", {"peft_type": "LORA", "r": "x"}, "cannot be read|does not fit"),
    ):
        _edit(folder / name, **values)
        if message:
            with pytest.raises(ModelError, match=message):
                load_model(str(folder))


def test_adapters_of_another_scale_are_not_the_same_model(bases, tmp_path):
    folder = saved(bases, tmp_path)
    shutil.copytree(folder, tmp_path / "louder")
    assert verify_folders(folder, tmp_path / "louder").equal
    _edit(tmp_path / "louder" / "adapter_config.json", lora_alpha=1600)
    assert verify_folders(folder, tmp_path / "louder").reasons == ("adapters differ: lora_alpha 16 and 1600",)


# ------------------------------------------------------------------------------------------- training


def train(store: TokenStore, model: PreTrainedModel, run: AdapterSettings, folder: Path | None = None, stop: int = 0):
    """Train, and return the records and the engine."""
    records = []
    checkpoints = CheckpointFolder(folder) if folder else None
    with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run, checkpoints) as engine:
        for record in engine:
            records.append(record)
            if record.step == stop:
                engine.save()
                break
    return records, engine


def digest(model: torch.nn.Module) -> str:
    """SHA-256 over all parameters."""
    found = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        found.update(name.encode() + parameter.detach().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_leaves_its_base_alone(bases, store, method):
    base = base_of(bases, "ftkit_gpt2")
    before = snapshot(base)
    run = settings(method, **({"trainable_tokens": [101, 32]} if method == "tokens" else {}), weight_decay=0.1)
    model = attach_adapter(base, run)
    first = held_out_loss(model, HeldOutWindows(store, 32), 4).nats_per_target
    train(store, model, run)
    assert held_out_loss(model, HeldOutWindows(store, 32), 4).nats_per_target < first
    moved = movement(before, model)
    assert moved.leaks == ()
    assert moved.changed > 0


@pytest.mark.parametrize("method", ["lora", "dora", "prompt", "bias"])
def test_a_resumed_adapter_equals_an_uninterrupted_one_bit_for_bit(bases, store, tmp_path, method):
    run = settings(method, save_steps=100, **({"lora_dropout": 0.1} if method == "lora" else {}))
    whole = attach_adapter(base_of(bases, "gpt2"), run)
    reference, _ = train(store, whole, run)
    train(store, attach_adapter(base_of(bases, "gpt2"), run), run, tmp_path, stop=3)
    resumed = attach_adapter(base_of(bases, "gpt2"), run)
    rest, _ = train(store, resumed, run, tmp_path)
    assert [(r.step, r.loss) for r in rest] == [(r.step, r.loss) for r in reference[3:]]
    assert digest(resumed) == digest(whole)


def test_a_checkpoint_holds_the_adapter_only_and_knows_its_base(bases, store, tmp_path):
    from safetensors.torch import load_file

    run = settings("lora", save_steps=2, max_steps=2)
    model = attach_adapter(base_of(bases, "gpt2"), run)
    train(store, model, run, tmp_path)
    stored = load_file(tmp_path / "step-000002" / "model.safetensors")
    assert stored.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    other = load_model("new:gpt2", seed=3, vocab_size=257)
    with pytest.raises(CheckpointError, match="a different base"):
        train(store, attach_adapter(other, run), run, tmp_path)


def test_activation_checkpointing_changes_no_adapter(bases, store):
    found = []
    for saving in (False, True):
        run = settings("lora", activation_checkpointing=saving, max_steps=3)
        model = attach_adapter(base_of(bases, "ftkit_gpt2"), run)
        train(store, model, run)
        found.append(digest(model))
    assert found[0] == found[1]


def test_an_adapter_without_gradient_stops_the_run(bases, store):
    """The planted fault of a course: the adapter is built, counted, and stands beside the model."""
    run = settings("lora", max_steps=3)
    model = attach_adapter(base_of(bases, "gpt2"), run)
    model.base_model.model.transformer.h[1].mlp.c_fc.forward = lambda x: model.base_model.model.transformer.h[
        1
    ].mlp.c_fc.base_layer(x)
    with pytest.raises(ModelError, match=r"2 tensors of the adapter have had no gradient.*h\.1\.mlp\.c_fc\.lora_A"):
        train(store, model, run)


def test_a_working_adapter_has_gradients_after_two_updates_not_after_one(bases, store):
    run = settings("lora", max_steps=2)
    model = attach_adapter(base_of(bases, "gpt2"), run)
    with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run) as engine:
        steps = iter(engine)
        optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in engine.optimizers]
        next(steps)
        with pytest.raises(ModelError, match="8 tensors"):  # B starts at zero, so A has no gradient yet
            check_adapter_gradients(model, optimizers)
        next(steps)
        check_adapter_gradients(model, optimizers)


def test_tokens_that_never_occur_stop_an_untied_run_at_its_end(bases, store):
    run = settings("tokens", trainable_tokens=[1], max_steps=3)
    absent = attach_adapter(base_of(bases, "codegen"), run)
    assert not (np.asarray(store.ids) == 1).any()
    with pytest.raises(ModelError, match="must occur in the text"):
        train(store, absent, run)


def test_adapters_are_drawn_from_the_seed_and_leave_the_callers_generator_alone(bases):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    one, same, other = (attach_adapter(base_of(bases, "gpt2"), settings("lora", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert digest(one) == digest(same) != digest(other)


# ------------------------------------------------------------------------------------------- generation and positions


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *[("gpt2", method) for method in ("lora", "prefix", "prompt")],
        ("llama", "prefix"),
        ("codegen", "prompt"),
        *[("ftkit_gpt2", method) for method in ("prefix", "prompt")],
    ],
)
def test_a_batch_of_prompts_is_continued_as_each_one_alone(bases, family, method):
    model = attach_adapter(base_of(bases, family), settings(method))
    disturb(model)
    prompts = [[7, 20, 30], [9], [40, 41, 42, 43, 44, 45]]
    tokenizer, greedy = load_tokenizer("byte"), PRESETS["greedy"]
    together = generate_passages(model, tokenizer, prompts, new_tokens=6, sampling=greedy)
    alone = [generate_passages(model, tokenizer, [row], new_tokens=6, sampling=greedy)[0] for row in prompts]
    assert [passage.ids for passage in together] == [passage.ids for passage in alone]
    row = list(prompts[2])
    for token in together[2].ids:  # every token follows from a pass over the whole row, without a cache
        after = logits_of(model, row)
        assert token == after.index(max(after))
        row.append(token)


def logits_of(model: torch.nn.Module, row: list[int]) -> list[float]:
    """What follows a row, without the ids that are never generated."""
    with torch.no_grad():
        last = model(input_ids=torch.tensor([row])).logits[0, -1].clone()
    last[load_tokenizer("byte").all_special_ids] = -torch.inf
    found: list[float] = last.tolist()
    return found


def test_virtual_tokens_take_positions(bases):
    model = attach_adapter(base_of(bases, "gpt2"), settings("prefix"))
    assert virtual_tokens(model) == 5
    assert virtual_tokens(attach_adapter(base_of(bases, "gpt2"), settings("lora"))) == 0
    with pytest.raises(ModelError, match="the model has 123"):
        generate_passages(model, load_tokenizer("byte"), [[7]], new_tokens=123, sampling=PRESETS["greedy"])


# ------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("text", ["7,9", "[7, 9]", "7, 9,"])
def test_tokens_are_given_as_a_flag_with_commas(text):
    flags = read_flags(AdapterSettings, ["--peft", "tokens", "--trainable_tokens", text])
    assert (flags.problems, flags.values["trainable_tokens"]) == ([], [7, 9])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"lora_r": 4}, "lora_r"),
        ({"peft": "ia3", "lora_target_modules": "mlp"}, "lora_target_modules"),
        ({"peft": "lora", "virtual_tokens": 4}, "virtual_tokens"),
        ({"peft": "lora", "trainable_tokens": [4]}, "trainable_tokens"),
        ({"peft": "tokens"}, "trainable_tokens"),
        ({"peft": "tokens", "trainable_tokens": [4, 4]}, "trainable_tokens"),
        ({"peft": "lora", "optimizer": "muon"}, "optimizer"),
        ({"peft": "lora", "train": "norm"}, "train"),
        ({"peft": "prefix", "freeze": "norm"}, "freeze"),
        ({"peft": "prefix", "unfreeze_every": 2}, "unfreeze_every"),
    ],
)
def test_settings_without_effect_or_in_conflict_are_said(values, name):
    assert [problem[0] for problem in AdapterSettings(model="m", **values).problems()] == [name]
    assert AdapterSettings(model="m").problems() == []
