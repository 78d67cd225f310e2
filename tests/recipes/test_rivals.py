"""Other tools beside ftkit: the form of folders, a tool that gives no answer, the tables. No tool is installed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from batteries.pretrained import Bench
from batteries.tuning import Loop
from benchmarks import rival_tools, rivals
from ftkit.data import load_tokenizer, voice_text
from ftkit.models import load_model, save_model
from ftkit.models.adapter_files import wrap

LLAMA = "new:llama,num_hidden_layers=1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rivals") / "base"
    tokenizer = load_tokenizer("train:300", texts=[voice_text("keeper", 4000)])
    save_model(load_model(LLAMA, vocab_size=len(tokenizer)), tokenizer, folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(folder)("The lamp", return_tensors="pt")["input_ids"]
    found: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
    return found


def test_an_adapter_becomes_a_whole_model_with_the_keys_of_both_versions(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: Any = wrap(load_model(str(base)), config, None, None)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    readable = rivals.make_readable(tmp_path / "adapter", base, tmp_path / "readable")
    written = json.loads((readable / "config.json").read_text(encoding="utf-8"))
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"]
    assert written["torch_dtype"] == written["dtype"] == "float32"
    tokenizer = json.loads((readable / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    merged: torch.Tensor = adapted.merge_and_unload()(
        input_ids=load_tokenizer(str(base))("The lamp", return_tensors="pt")["input_ids"]
    ).logits
    assert torch.allclose(logits(readable), merged, atol=1e-6)
    assert not torch.allclose(logits(base), merged, atol=1e-3)


def asking(base: Path, folder: Path) -> rivals.Asking:
    (folder / "a-file").write_text("", encoding="utf-8")
    return rivals.Asking(Bench("stories260k", base, folder, Loop(1, 1e-3, 1, 8, 0), 15), folder / "a-file")


def test_a_tool_that_cannot_be_installed_is_a_row(base: Path, tmp_path: Path) -> None:
    row = asking(base, tmp_path).ask("pyrecall", {"base": str(base)}, tmp_path / "asked")
    assert list(row) == ["cannot"]
    assert row["cannot"].startswith("it could not be installed")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ValueError('no such mode')", "ValueError: no such mode"),
        ("raise OSError('offline mode is enabled')\nprint()", "needs the Hub: not run"),
        ("raise SystemExit(3)", "it ended without a word"),
    ],
)
def test_a_tool_that_fails_says_why_and_what_it_took(code: str, why: str, tmp_path: Path) -> None:
    usage = rivals.measured([sys.executable, "-c", code], tmp_path)
    assert usage["code"] != 0
    assert rivals.reason(tmp_path / "log.txt", usage) == why
    assert 0 < usage["cpu_seconds"] < usage["seconds"] * 4
    assert 2**20 < usage["peak_bytes"] < 2**27, "a bare Python, not the process that asked"


def test_passages_in_place_of_canaries_are_of_the_two_texts() -> None:
    class Letters:
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            assert not add_special_tokens
            return {"input_ids": [ord(letter) for letter in text]}

        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    found = rival_tools._passages_as_canaries(Letters(), "ab" * 2000, "cd" * 4000)["canaries"]
    assert {(each["included"], each["secret"][:2]) for each in found} == {(True, "ab"), (False, "cd")}
    assert [sum(each["included"] is side for each in found) for side in (True, False)] == [32, 100]


POINT = {
    "scale": 0.5,
    "gain": {"value": 0.5, "low": 0.4, "high": 0.6},
    "rise": {"value": 0.04, "low": 0.03, "high": 0.05},
}
MUCH = {"scale": 1.0, "gain": POINT["gain"], "rise": {"value": 0.2, "low": 0.1, "high": 0.3}}
TOOK = {"cpu_seconds": 20, "seconds": 30, "peak_bytes": 500 * 2**20, "versions": {"ftkit": "0.1"}}
MORE = {**TOOK, "cpu_seconds": 40, "seconds": 60, "peak_bytes": 700 * 2**20}
ROWS = [
    {"base": "stories260k", "case": "honest", "tool": "ftkit", "word": "worked", "figure": "gain 1.0", **TOOK},
    {"base": "stories260k", "case": "untouched", "tool": "ftkit", "word": "nothing", "figure": "gain 0", **MORE},
    {"base": "stories260k", "case": "honest", "tool": "pyrecall", "cannot": "needs the Hub: not run"},
    {"base": "stories260k", "case": "forgotten", "tool": "avr-cl", "word": "drift, converged", "figure": "1.4 to 1.1",
     "mended": dict.fromkeys(("as trained", "avr-cl", "ftkit blend"), POINT) | {"points": [POINT, MUCH]}, **TOOK},
]  # fmt: skip


def test_the_tables_are_drawn_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": ROWS}), encoding="utf-8")
    assert rivals.main(["--table", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:6] == [
        "| case | ftkit | pyrecall |",
        "|---|---|---|",
        "| untouched | nothing; gain 0 |  |",
        "| honest | worked; gain 1.0 | cannot be asked: needs the Hub: not run |",
    ]
    assert "| ftkit | ftkit 0.1 | 2 of 2 | 30 s | 45 s | 600 MiB |" in lines
    assert "| pyrecall | | 0 of 1 | | | |" in lines
    assert [line.replace("\xa0", " ") for line in lines[-2:]] == [
        "| ftkit blend, its choice: alpha 0.5 | 0.500 [0.400, 0.600] | 4.0 % [3.0, 5.0] |",
        "| ftkit blend at alpha 1 | 0.500 [0.400, 0.600] | 20.0 % [10.0, 30.0] |",
    ]


def test_what_the_file_holds_is_not_asked_again(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def answer(tool: str, name: str, _: rivals.Asking) -> rivals.Row:
        asked.append((tool, name))
        return {"cannot": "planted"}

    monkeypatch.setattr(rivals, "ask", answer)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": ROWS}), encoding="utf-8")
    rivals.run(asking(base, tmp_path), ["ftkit", "avr-cl", "pyrecall"], ["honest", "forgotten", "canaries"], file)
    assert asked == [("ftkit", "forgotten"), ("ftkit", "canaries"), ("pyrecall", "forgotten")]
    assert len(json.loads(file.read_text(encoding="utf-8"))["rows"]) == len(ROWS) + 3


def test_the_page_shows_what_was_recorded() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "rivals.md").read_text(encoding="utf-8").splitlines()
    files = sorted((docs / "evidence" / "rivals").glob("*.json"))
    lines = [line for file in files for line in rivals.table(rivals.read(file)).splitlines() if line.startswith("|")]
    assert len(lines) > 20
    assert [line for line in lines if line not in page] == []
