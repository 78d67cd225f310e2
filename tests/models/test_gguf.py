"""GGUF files: written, read again and judged; what is lost is what their type of numbers loses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer
from ftkit.errors import DeviceError, ModelError
from ftkit.inspection.converted_folder import convert_to_gguf
from ftkit.jobs.judged_models import load_sides
from ftkit.jobs.verdict_requests import VerdictRequest
from ftkit.models import load_model, save_model, task_of
from ftkit.models.gguf_files import gguf_contents, gguf_pieces
from ftkit.runs.models import shipped_base
from ftkit.tuning import attach_adapter

gguf = pytest.importorskip("gguf")
LLAMA = "new:llama,hidden_size=64,num_hidden_layers=2,num_attention_heads=4,num_key_value_heads=2,intermediate_size=172"
"""Rows of 172 numbers do not divide by a block of 32."""
PAIRS = "In the morning the keeper went down to the boats. In the evening the boats came back to the keeper. " * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with byte pairs."""
    path = tmp_path_factory.mktemp("gguf") / "llama"
    tokenizer = load_tokenizer("train:300", texts=[PAIRS])
    save_model(load_model(LLAMA, vocab_size=len(tokenizer), max_positions=64), tokenizer, path)
    return path


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    """The Llama in every type, and how far each is from it."""
    found = {}
    for kind in ("f32", "f16", "q8_0", "q4_0"):
        found[kind] = folder.parent / f"{kind}.gguf"
        convert_to_gguf(str(folder), found[kind], kind)
    return found


def logits(model: Any) -> torch.Tensor:
    rows = torch.randint(0, model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(input_ids=rows).logits


def test_fewer_bits_are_further_from_the_folder(folder, files):
    expected = logits(load_model(str(folder)))
    distances = {kind: float((logits(load_model(str(file))) - expected).norm()) for kind, file in files.items()}
    assert distances["f32"] == 0
    assert 0 < distances["f16"] < 0.1 * distances["q8_0"]
    assert distances["q8_0"] < 0.2 * distances["q4_0"]
    assert distances["q4_0"] < 0.3 * float(expected.norm())


def test_a_file_is_as_gguf_s_own_quantization_says(folder, files):
    weight = load_model(str(folder)).model.layers[1].mlp.up_proj.weight.detach().numpy()
    q4 = gguf.GGMLQuantizationType.Q4_0
    expected = gguf.quants.dequantize(gguf.quants.quantize(weight, q4), q4)
    read = load_model(str(files["q4_0"])).model.layers[1].mlp.up_proj.weight.detach().numpy()
    np.testing.assert_array_equal(read, expected)


def test_contents_name_types_and_shares(files):
    assert gguf_contents(str(files["f32"])).startswith("F32 100.0% of ")
    said = gguf_contents(str(files["q8_0"]))
    assert said.startswith("Q8_0 ")
    assert "F16 " in said  # down_proj
    assert said.endswith("% (5 tensors)")  # norms


@pytest.mark.parametrize("spec", ["new:gpt2,n_inner=96", "new:ftkit_gpt2"])
def test_a_gpt2_keeps_its_shape_and_its_tokens(folder, tmp_path, spec):
    own, file = load_tokenizer(str(folder)), tmp_path / "a.gguf"
    save_model(load_model(spec, vocab_size=len(own), max_positions=48), own, tmp_path / "model")
    assert convert_to_gguf(str(tmp_path / "model"), file, "f32").difference < 1e-5
    assert load_model(str(file)).config.n_positions == 48
    text, rebuilt = "The keeper said: “I am 12 years old.”", load_tokenizer(str(file))
    assert own(text)["input_ids"] == rebuilt(text)["input_ids"]
    assert rebuilt.eos_token == own.eos_token
    assert task_of(str(file)) == "causal-lm"


def test_a_tokenizer_that_no_other_tool_could_follow_is_refused(tmp_path):
    with pytest.raises(ModelError, match="looks up whole words before it merges pairs"):
        convert_to_gguf(str(shipped_base("base:tales")), tmp_path / "tales.gguf")
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_merged_into_its_file(folder, tmp_path):
    settings = AdapterSettings(model="m", peft="lora", use_cpu=True)
    adapted = attach_adapter(load_model(str(folder)), settings, base=str(folder))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05)
    save_model(adapted, load_tokenizer(str(folder)), tmp_path / "adapter")
    assert convert_to_gguf(str(tmp_path / "adapter"), tmp_path / "merged.gguf", "f32").difference < 1e-4
    torch.testing.assert_close(logits(load_model(str(tmp_path / "merged.gguf"))), logits(adapted), rtol=0, atol=1e-4)


def test_nothing_beside_the_file_is_read(folder, files, tmp_path):
    (tmp_path / "a.gguf").write_bytes(files["f32"].read_bytes())
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    assert torch.equal(logits(load_model(str(tmp_path / "a.gguf"))), logits(load_model(str(folder))))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[: len(data) // 2], "is damaged"),
        (lambda data: data[:200], "is damaged"),
        (lambda data: b"GGML" + data[4:], "is no GGUF file"),
        (lambda data: b"", "is no GGUF file"),
    ],
)
def test_a_damaged_file_gives_one_line(files, tmp_path, damage, said):
    (tmp_path / "bad.gguf").write_bytes(damage(files["q8_0"].read_bytes()))
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(tmp_path / "bad.gguf"))
    assert "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path, files, monkeypatch):
    with pytest.raises(ModelError, match="does not exist"):
        load_model("nowhere.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'ftkit\[gguf\]'"):
        load_model(str(files["f32"]))


def sides(base: Path, tuned: Path) -> tuple[Any, list[str]]:
    request = VerdictRequest(str(base), str(tuned), "text.txt", None, None, {}, None)
    _, side, assumed = load_sides(request, "causal-lm")
    return side, assumed


def test_a_verdict_says_what_was_dequantized_and_takes_the_base_s_tokenizer(folder, files):
    side, assumed = sides(folder, files["q4_0"])
    assert assumed == [
        f"the tuned model is a GGUF file whose numbers were dequantized: {gguf_contents(str(files['q4_0']))}"
    ]
    assert side.tokenizer.name_or_path == str(folder)
    _, assumed = sides(files["f32"], files["q4_0"])
    assert [said.split(" model is a GGUF")[0] for said in assumed] == ["the base", "the tuned"]


def test_a_file_with_other_tokens_keeps_its_own(folder, tmp_path):
    other = load_tokenizer("train:300", texts=["Ships sail over seas and gulls cry over ships at sea. " * 40])
    save_model(load_model(str(folder)), other, tmp_path / "other")
    convert_to_gguf(str(tmp_path / "other"), tmp_path / "other.gguf", "f32")
    assert gguf_pieces(str(tmp_path / "other.gguf")) != gguf_pieces(str(folder.parent / "f32.gguf"))
    side, _ = sides(folder, tmp_path / "other.gguf")
    assert side.tokenizer("Ships sail")["input_ids"] == other("Ships sail")["input_ids"]


def test_the_command_writes_a_file_and_refuses_what_it_cannot_describe(folder, tmp_path):
    def convert(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["convert", *map(str, arguments)], catch_exceptions=False)

    done = convert(folder, tmp_path / "a.gguf", "--to", "gguf")
    assert done.exit_code == 0, done.output
    assert "Q8_0" in done.output
    assert "largest difference of the logits" in done.output
    assert "exists already" in convert(folder, tmp_path / "a.gguf", "--to", "gguf").output
    wrong = convert(shipped_base("base:tales"), tmp_path / "b", "--to", "gpt2", "--type", "q8_0")
    assert "--type: has no effect" in wrong.output
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = tmp_path / "gelu"
    save_model(load_model(str(folder)), load_tokenizer(str(folder)), changed)
    (changed / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}), encoding="utf-8")
    assert "cannot describe hidden_act" in convert(changed, tmp_path / "c.gguf", "--to", "gguf").output
    assert not list(tmp_path.glob(".*"))
