"""Two folders: every planted difference is found where it was planted, and nothing where there is none."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from other_processor import last_bits_by_load
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from ftkit.errors import ModelError
from ftkit.inspection.diff import diff_folders
from ftkit.inspection.verification import verify_folders
from ftkit.models import load_model, save_model, to_hf_gpt2
from ftkit.models.outputs import ROUNDING

WEIGHT = "transformer.h.1.attn.c_attn.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A small GPT-2 in a folder."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(load_model("new:gpt2"), None, folder)
    return folder


def changed(saved: Path, target: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of the folder with some tensors replaced, ``None`` leaves one out; dots are written as two underscores."""
    shutil.copytree(saved, target)
    state = load_file(saved / "model.safetensors")
    for name, tensor in tensors.items():
        state.pop(name.replace("__", "."), None)
        if tensor is not None:
            state[name.replace("__", ".")] = tensor.contiguous()
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_change_in_a_fused_matrix_is_found_in_its_part(saved, tmp_path):
    weight = load_file(saved / "model.safetensors")[WEIGHT]
    planted = weight.clone()
    planted[:, 64:128] *= 1.5
    other = changed(saved, tmp_path / "b", **{WEIGHT.replace(".", "__"): planted})
    difference = diff_folders(saved, other)
    [found] = [change for change in difference.changes if not change.identical]
    assert (found.group, found.layer, found.name) == ("attention.k", 1, WEIGHT.removeprefix("transformer."))
    assert found.relative == pytest.approx(0.5)
    assert found.largest == pytest.approx(float((planted - weight).abs().max()))
    assert found.elements == 64 * 64
    assert [change.name for change in difference.by_group if not change.identical] == ["attention.k"]
    assert [change.layer for change in difference.by_layer if not change.identical] == [1]
    norm = torch.cat([p.detach().flatten() for p in load_model(str(saved)).parameters()]).double().norm()
    assert difference.total.relative == pytest.approx(float((planted - weight).double().norm() / norm))
    assert difference.total.elements == 124_672
    assert not difference.identical
    reasons = verify_folders(saved, other).reasons
    assert reasons[0].startswith("values differ in h.1.attn.c_attn.weight")
    assert reasons[1].startswith("logits on the probe differ by up to")


def test_a_folder_in_shards_is_the_same_as_in_one_file(saved, tmp_path):
    load_model(str(saved)).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    difference = diff_folders(saved, tmp_path / "shards")
    assert difference.identical
    assert len(difference.changes) == 36
    assert all(change.identical for change in difference.changes)
    assert verify_folders(saved, tmp_path / "shards").equal


def test_a_body_alone_is_paired_with_the_same_body_under_a_head(saved, tmp_path):
    save_model(load_model(str(saved)).transformer, None, tmp_path / "body")
    assert diff_folders(saved, tmp_path / "body").identical
    found = verify_folders(saved, tmp_path / "body")
    assert found.equal
    assert found.logits_difference is None
    assert "without a head" in found.notes[0]


def test_a_sign_of_zero_and_a_nan_are_differences(saved, tmp_path):
    weight = load_file(saved / "model.safetensors")[WEIGHT]
    zero, minus, nan = weight.clone(), weight.clone(), weight.clone()
    zero[0, 0], minus[0, 0], nan[0, 0] = 0.0, -0.0, float("nan")
    folders = [
        changed(saved, tmp_path / str(number), **{WEIGHT.replace(".", "__"): values})
        for number, values in enumerate((zero, minus, nan))
    ]
    [found] = [change for change in diff_folders(*folders[:2]).changes if not change.identical]
    assert (found.largest, found.relative) == (0.0, 0.0)
    assert not diff_folders(*folders[:2]).identical
    assert diff_folders(folders[2], folders[2]).identical
    broken = diff_folders(folders[0], folders[2])
    assert max(change.largest for change in broken.changes) == float("inf")
    assert json.loads(json.dumps(broken.as_dict(), allow_nan=False))["relative"] is None


def test_a_converted_model_is_verified_by_its_logits(tmp_path):
    own = load_model("new:ftkit_gpt2", seed=1)
    save_model(own, None, tmp_path / "own")
    save_model(to_hf_gpt2(own), None, tmp_path / "hf")
    found = verify_folders(tmp_path / "own", tmp_path / "hf", tolerance=1e-6)  # own activation is one fused kernel
    assert found.equal
    assert (found.paired, found.largest) == (0, None)
    assert found.logits_difference < 1e-6
    assert "the logits decide" in found.notes[0]
    save_model(to_hf_gpt2(load_model("new:ftkit_gpt2", seed=2)), None, tmp_path / "other")
    assert not verify_folders(tmp_path / "own", tmp_path / "other", tolerance=1e-6).equal


def test_sizes_are_parameters_times_bytes_of_the_dtype(saved, tmp_path):
    found = verify_folders(saved, saved)
    assert found.equal
    assert found.bytes_expected == found.bytes_found == (124_672 * 4, 124_672 * 4)
    assert found.ties == (True, True)
    assert (found.largest, found.l2) == (0.0, 0.0)
    assert found.logits_difference < ROUNDING
    load_model(str(saved)).bfloat16().save_pretrained(tmp_path / "half")
    half = verify_folders(saved, tmp_path / "half", tolerance=1.0)
    assert half.bytes_expected[1] == half.bytes_found[1] == 124_672 * 2
    assert half.reasons == ("dtypes differ: float32 and bfloat16",)
    assert 0 < half.largest < 1e-2


def test_a_tie_that_was_lost_is_a_reason(saved, tmp_path):
    state = load_file(saved / "model.safetensors")
    rows = state["transformer.wte.weight"]
    lost = changed(saved, tmp_path / "lost", lm_head__weight=rows + 1e-3)
    found = verify_folders(saved, lost)
    assert found.ties == (True, False)
    assert any("one tensor in" in reason for reason in found.reasons)
    assert "values differ in lm_head.weight (by 0.001)" in found.reasons  # compared with the matrix that is both
    twice = changed(saved, tmp_path / "twice", lm_head__weight=rows)  # the same values under both names: still a tie
    assert diff_folders(saved, twice).identical


def test_missing_and_misshapen_tensors_are_named(saved, tmp_path):
    without = changed(saved, tmp_path / "without", transformer__ln_f__bias=None)
    assert diff_folders(saved, without).only_first == ("ln_f.bias",)
    assert diff_folders(without, saved).only_second == ("ln_f.bias",)
    wider = changed(saved, tmp_path / "wider", transformer__ln_f__bias=torch.zeros(65))
    assert diff_folders(saved, wider).misshapen == ("ln_f.bias [64] and [65]",)


def test_buffers_of_older_files_are_no_difference(saved, tmp_path):
    older = changed(saved, tmp_path / "older", transformer__h__0__attn__bias=torch.ones(1, 1, 128, 128).tril())
    assert diff_folders(saved, older).identical


def test_tensors_of_an_unknown_architecture_are_compared_without_groups(saved, tmp_path):
    unknown = changed(saved, tmp_path / "unknown")
    config = json.loads((unknown / "config.json").read_text())
    (unknown / "config.json").write_text(json.dumps(config | {"model_type": "nobody_knows"}))
    difference = diff_folders(unknown, unknown)
    assert {change.group for change in difference.changes} == {"other"}
    assert sum(change.elements for change in difference.changes) == 124_672


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "does not exist"),
        ("config.json", b"{}", "has no model.safetensors or adapter_model.safetensors; it holds: config.json"),
        ("model.safetensors", b"spoilt", "cannot be read"),
        ("model.safetensors.index.json", b"[]", "cannot be read"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../../gone.safetensors"}}', "cannot be read"),
    ],
)
def test_folders_that_cannot_be_read_are_one_message(saved, tmp_path, name, content, message):
    folder = tmp_path / "spoilt"
    if name:
        folder.mkdir()
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        diff_folders(saved, folder)


def test_transformers_reads_what_was_compared(saved):
    model = GPT2LMHeadModel.from_pretrained(saved)
    stored = {change.name for change in diff_folders(saved, saved).changes}
    assert stored == {name.removeprefix("transformer.") for name, _ in model.named_parameters()}


def test_an_encoder_is_verified_by_its_masked_head(tmp_path):
    save_model(load_model("new:bert", task="masked-lm"), None, tmp_path / "bert")
    found = verify_folders(tmp_path / "bert", tmp_path / "bert")
    assert found.equal
    assert found.logits_difference < ROUNDING


def test_what_the_probe_does_not_show_is_still_a_difference(tmp_path):
    window = {size: f"new:gpt_neo,window_size={size}" for size in (64, 40)}
    for size, spec in window.items():
        save_model(load_model(spec), None, tmp_path / str(size))
    found = verify_folders(tmp_path / "64", tmp_path / "40")
    assert found.logits_difference < ROUNDING
    assert found.reasons == ("configurations differ: window_size 64 and 40",)
    for labels in (("a", "b"), ("b", "a")):
        model = load_model("new:bert", task="sequence-classification", labels=labels)
        save_model(model, None, tmp_path / "".join(labels))
    assert (
        verify_folders(tmp_path / "ab", tmp_path / "ba").reasons[0].startswith("classes differ: {0: 'a', 1: 'b'} and")
    )


def test_another_last_bit_is_no_difference_and_a_changed_weight_is_one(saved, tmp_path):
    with last_bits_by_load(1_000_000):
        found = [verify_folders(saved, saved).logits_difference for _ in range(3)]
        assert verify_folders(saved, saved).equal
        bias = torch.linspace(0, 1e-3, 64)
        other = changed(saved, tmp_path / "other", transformer__ln_f__bias=bias)
        assert "logits on the probe differ" in " ".join(verify_folders(saved, other).reasons)
    assert 0 < max(found) < ROUNDING
