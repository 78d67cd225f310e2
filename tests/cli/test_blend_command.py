"""``ftkit blend`` writes a point between base and tuned model, the measured one or the one that is asked for."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model, save_model
from ftkit.models.adapter_files import wrap


def blend(*arguments: object) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["blend", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows one voice, a model tuned from it to another one, adapters of it, and text of both."""
    path = tmp_path_factory.mktemp("blend")
    for name, voice, seed in (("text", "keeper", 1), ("heldout", "keeper", 2), ("general", "letters", 3)):
        (path / f"{name}.txt").write_text(voice_text(voice, 2400, seed=seed), encoding="utf-8")
    tokenizer = load_tokenizer("train:384", texts=[(path / f"{name}.txt").read_text() for name in ("text", "general")])
    model: Any = load_model(
        "new:gpt2,n_layer=1,n_embd=48,n_head=2,resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0", seed=0,
        vocab_size=len(tokenizer), max_positions=64,
    )  # fmt: skip
    model.generation_config.temperature, model.generation_config.do_sample = 0.55, True
    for name, out in (("general", "base"), ("text", "tuned")):
        ids = torch.tensor(tokenize_texts([(path / f"{name}.txt").read_text()], tokenizer).ids.astype("int64"))
        rows = ids[: len(ids) // 64 * 64].reshape(-1, 64)
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
        for step in range(120):
            batch = rows[step * 16 % (len(rows) - 16) :][:16]
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        save_model(model.eval(), tokenizer, path / out)
    for name, kinds in (("lora", {}), ("dora", {"use_dora": True})):
        config = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM", **kinds)
        adapted: Any = wrap(load_model(str(path / "base")), config, str(path / "base"), None)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        save_model(adapted, tokenizer, path / name)
    return path


def texts(folder: Path) -> list[object]:
    """What a measured blend is given."""
    return [
        "--text", folder / "text.txt", "--heldout", folder / "heldout.txt", "--general", folder / "general.txt",
        "--window-tokens", 64,
    ]  # fmt: skip


def test_the_largest_gain_that_does_not_forget_is_written_and_the_curve_is_drawn(folder, tmp_path):
    out, curve = tmp_path / "out", tmp_path / "curve.svg"
    done = blend(
        folder / "base", folder / "tuned", out, *texts(folder), "--threshold", "forgot_rise=0.3", "--figure", curve
    )
    assert done.exit_code == 0, done.stderr
    made = json.loads((out / "blend.json").read_text(encoding="utf-8"))
    points = made["points"]
    assert [point["scale"] for point in points] == [0, 0.25, 0.5, 0.75, 1]
    assert points[0]["gain"]["value"] == 0
    assert points[4]["rise"]["low"] > 0.3, "the tuned model has not forgotten"
    allowed = [point for point in points[1:] if point["rise"]["high"] <= 0.3]
    assert made["alpha"] == max(allowed, key=lambda point: point["gain"]["value"])["scale"]
    assert 0 < made["alpha"] < 1
    assert f"the model at alpha {made['alpha']:g}, the largest gain" in done.stdout
    assert curve.read_text(encoding="utf-8").startswith("<?xml")
    assert curve.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert len(curve.with_suffix(".csv").read_text().splitlines()) == 6
    assert load_model(str(out)).generation_config.temperature == 0.55
    assert load_tokenizer(str(out)).vocab_size == load_tokenizer(str(folder / "base")).vocab_size
    first, last, mixed = (
        load_file(folder_ / "model.safetensors") for folder_ in (folder / "base", folder / "tuned", out)
    )
    assert mixed.keys() == last.keys()
    for name, tensor in mixed.items():
        assert torch.allclose(tensor, first[name] + made["alpha"] * (last[name] - first[name]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ends_are_bit_by_bit_what_they_were(folder, tmp_path, dtype):
    for name in ("base", "tuned"):
        model = load_model(str(folder / name))
        save_model(copy.deepcopy(model).to(dtype), load_tokenizer(str(folder / name)), tmp_path / name)
    for alpha, name in ((0, "base"), (1, "tuned")):
        done = blend(tmp_path / "base", tmp_path / "tuned", tmp_path / f"out{alpha}", "--alphas", alpha)
        assert done.exit_code == 0, done.stderr
        found, original = (load_file(tmp_path / each / "model.safetensors") for each in (f"out{alpha}", name))
        assert found.keys() == original.keys()
        assert all(tensor.dtype == dtype for tensor in found.values())
        assert all(torch.equal(tensor, original[key]) for key, tensor in found.items())


def test_an_adapter_is_scaled_and_stays_an_adapter_of_its_type(folder, tmp_path):
    half = tmp_path / "lora"
    save_model(load_model(str(folder / "lora")), load_tokenizer(str(folder / "base")), half)
    stored = {name: tensor.bfloat16() for name, tensor in load_file(half / "adapter_model.safetensors").items()}
    save_file(stored, half / "adapter_model.safetensors", metadata={"format": "pt"})
    for alpha in (0, 0.5, 1):
        done = blend(folder / "base", half, tmp_path / f"out{alpha}", "--alphas", alpha)
        assert done.exit_code == 0, done.stderr
        assert f"the adapter at alpha {alpha}" in done.stdout
        found = load_file(tmp_path / f"out{alpha}" / "adapter_model.safetensors")
        assert found.keys() == stored.keys()
        for name, tensor in found.items():
            scale = alpha if "lora_B" in name else 1
            assert torch.equal(tensor, (scale * stored[name].float()).bfloat16()), name
    ids = torch.arange(40)[None]
    with torch.no_grad():
        nothing = load_model(str(tmp_path / "out0"), adapter_base=str(folder / "base"))(input_ids=ids).logits
        assert torch.equal(nothing, load_model(str(folder / "base"))(input_ids=ids).logits)


def test_an_adapter_that_does_not_add_becomes_a_whole_model(folder, tmp_path):
    done = blend(folder / "base", folder / "dora", tmp_path / "out", "--alphas", 1)
    assert (done.exit_code, "the model at alpha 1" in done.stdout) == (0, True), done.stderr
    ids = torch.arange(40)[None]
    with torch.no_grad():
        logits = [load_model(str(path))(input_ids=ids).logits for path in (tmp_path / "out", folder / "dora")]
    assert torch.allclose(logits[0], logits[1], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--alphas", "0,half"], 2, "numbers separated by commas, found '0,half'"),
        (["--alphas", "3"], 2, "takes numbers from 0 (base) to 2, found [3.0]"),
        ([], 2, "chosen by --text and --general"),
        (["--alphas", "1", "--verdict"], 2, "--verdict and --figure need --text"),
        (["--text", "text.txt", "--alphas", "1"], 2, "--general: is missing"),
        (["--alphas", "1", "--threshold", "forgot_rize=1"], 2, "forgot_rise"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(tmp_path, options, code, said):
    done = blend("no/base", "no/tuned", tmp_path / "out", *options)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr


def test_where_every_point_forgets_nothing_is_written(folder, tmp_path):
    out = tmp_path / "out"
    done = blend(folder / "base", folder / "tuned", out, *texts(folder), "--alphas", "0,1")
    assert (done.exit_code, out.exists()) == (4, False)
    assert "no alpha above 0 has a sure gain" in done.stderr
    assert "give smaller --alphas" in done.stderr
    done = blend(folder / "base", folder / "tuned", folder / "base", "--alphas", "1")
    assert (done.exit_code, "exists and is not an empty folder" in done.stderr) == (4, True)


def test_a_verdict_on_what_was_written_is_given_where_it_is_asked_for(folder, tmp_path):
    done = blend(
        folder / "base",
        folder / "tuned",
        tmp_path / "out",
        *texts(folder),
        "--alphas",
        1,
        "--verdict",
        "--passage-chars",
        60,
    )
    assert done.exit_code == 0, done.stderr
    assert "(also: forgot)" in done.stdout
