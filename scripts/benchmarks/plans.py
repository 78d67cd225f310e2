"""What `ftkit plan` predicts beside what the run takes, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import Options, Section
from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

_SHORT = [
    "--corpus", "voices:keeper:2500", "--general", "almanac=voices:almanac:1200", "--max_steps", "2", "--eval_steps",
    "2", "--sample_steps", "2", "--passage_chars", "20", "--num_passages", "30", "--eval_windows", "2", "--use_cpu",
]  # fmt: skip
"""A run of two steps whose evaluation, passages and judges have the sizes of a long one, a forward pass at a time."""


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    model: str
    """What ``load_model`` builds, or a folder."""
    vocab: int
    rows: int
    tokens: int
    flags: tuple[str, ...] = ()


_LORA, _BF16 = ("--peft", "lora"), ("--bf16",)
CASES = (
    Case("llama 4 x 128", "new:llama,hidden_size=128,num_hidden_layers=4,intermediate_size=512", 512, 16, 128),
    Case("gpt2 6 x 256", "new:gpt2,n_embd=256,n_layer=6,n_head=4", 4096, 8, 128),
    Case("gpt2 6 x 256", "new:gpt2,n_embd=256,n_layer=6,n_head=4", 4096, 8, 128, _LORA),
    Case("qwen3 2 x 256", "new:qwen3,hidden_size=256,num_hidden_layers=2", 32000, 8, 128, _BF16),
    Case("llama 4 x 128", "new:llama,hidden_size=128,num_hidden_layers=4,intermediate_size=512", 50257, 8, 256),
    Case("ftkit_gpt2 2 x 128", "new:ftkit_gpt2,n_embd=128,n_layer=2,n_head=4", 50257, 8, 256, (*_LORA, *_BF16)),
    Case("llama 2 x 64", "new:llama,hidden_size=64,num_hidden_layers=2,intermediate_size=256", 152000, 4, 64),
    Case("llama 2 x 64", "new:llama,hidden_size=64,num_hidden_layers=2,intermediate_size=256", 152000, 4, 64, _LORA),
)


def compare(case: Case) -> Section:
    """Plan and run one case."""
    with tempfile.TemporaryDirectory() as folder:
        model = case.model
        if model.startswith("new:"):
            made = load_model(model, vocab_size=case.vocab, max_positions=case.tokens)
            model = str(Path(folder, "base"))
            save_model(made, load_tokenizer("byte"), model)
        flags = [
            *_SHORT, "--model", model, "--window_tokens", str(case.tokens), "--per_device_train_batch_size",
            str(case.rows), *case.flags,
        ]  # fmt: skip
        planned = _last_json([sys.executable, "-m", "ftkit", "plan", "finetune", *flags, "--json"], whole=True)
        run = ["-m", "benchmarks.measured_run", "finetune", *flags, "--output_dir", str(Path(folder, "run"))]
        real = _last_json([sys.executable, *run])
    (arm,) = planned["arms"].values()
    memory = arm["memory"]
    pairs = {name: (memory["phases"][name]["rss_growth_bytes"], real["phases"][name]) for name in memory["phases"]}
    pairs |= {"rss": (memory["peak_rss_growth_bytes"], real["rss"])}
    pairs |= {"tensors": (memory["peak_tensor_bytes"], real["tensors"])}
    name = f"{case.name}, {case.vocab:,} tokens, {case.rows} x {case.tokens}{' '.join(('', *case.flags))}"
    return Section(name, {}, [_result(what, *pair) for what, pair in pairs.items()], {"flags": flags})


def _result(what: str, predicted: int, measured: int) -> dict[str, Any]:
    text = f"{what}: predicted {predicted / 1e6:,.0f} MB, measured {measured / 1e6:,.0f} MB"
    return {"measure": text, "exact": predicted / measured, "unit": "x", "target": None, "at_most": False}


def _last_json(command: list[str], whole: bool = False) -> dict[str, Any]:
    """What a program prints last: an object over several lines, or one line."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    said = done.stdout.strip()
    found: dict[str, Any] = json.loads(said[said.index("{\n") :] if whole else said.rpartition("\n")[2])
    return found


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    cases = list(CASES)
    if options.causal:
        cases += [
            Case(Path(options.causal).name, options.causal, 49152, 4, 64),
            Case(Path(options.causal).name, options.causal, 49152, 4, 64, _LORA),
        ]
    if options.quick:
        cases = cases[:1]
    for number, case in enumerate(cases, 1):
        yield f"plan-{number}", partial(compare, case)
