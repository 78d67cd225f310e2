"""Peak memory of a verdict on an adapter or on a whole model, beside the bytes of its base.

    python -m benchmarks.verdict_memory TEXT [--whole] [--dtype bfloat16] [--layers 32]        (in the folder scripts)
    python -m benchmarks.verdict_memory --paper        what larger models would need on an accelerator, by formula

Makes a Llama of 360 million parameters with random weights and a LoRA adapter or another version of it, both in a
temporary folder, and judges that on TEXT, a file of 100 kB or more. Prints the highest resident memory of the process
beside the bytes of one model, counted from the moment at which all modules are imported. The part that is no page of a
model's file is shown apart: float32 weights stay in that file, and the system drops its pages when it needs room.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

TIMES, MORE = 1.3, 1e9
"""The bound: so many times the bytes of one model, and so many bytes more. Of two whole models the part counts that is
no page of a file."""


def make(folder: Path, text: Path, layers: int, dtype: str, whole: bool) -> int:
    """Make a base that is stored in a dtype, and an adapter or a whole model; returns the base's parameters."""
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    from ftkit.data import load_tokenizer
    from ftkit.models import save_model
    from ftkit.models.adapter_files import wrap

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=960, intermediate_size=2560, num_hidden_layers=layers, num_attention_heads=15,
        num_key_value_heads=5, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).to(getattr(torch, dtype))
    tokenizer = load_tokenizer("train:2048", texts=[text.read_text(encoding="utf-8")])
    save_model(model, tokenizer, folder / "base")
    size: int = sum(parameter.numel() for parameter in model.parameters())
    if whole:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        save_model(model, tokenizer, folder / "tuned")
        return size
    wrapped: Any = wrap(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"), None, None)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.01)
    wrapped.save_pretrained(folder / "tuned")
    return size


class Meter:
    """Samples the memory of this process until it is stopped."""

    def __init__(self) -> None:
        self._start, self.peaks = self._now(), {"resident": 0, "own": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @staticmethod
    def _now() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        found = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}
        return {"resident": found["RssAnon"] + found["RssFile"], "own": found["RssAnon"]}

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            for kind, now in self._now().items():
                self.peaks[kind] = max(self.peaks[kind], now - self._start[kind])

    def stop(self) -> dict[str, int]:
        """End, and return the highest bytes: resident in all, and without pages of files."""
        self._ended.set()
        self._thread.join()
        return self.peaks


def judge(folder: Path, text: Path, dtype: str) -> None:
    """Judge, and print the peak as JSON."""
    import ftkit
    from ftkit.jobs.plan import IMPORTED

    for module in IMPORTED:
        importlib.import_module(module)
    meter = Meter()
    result = ftkit.verdict(
        folder / "base", folder / "tuned", text, num_passages=30, passage_chars=60, window_tokens=64,
        eval_windows=16, dtype=dtype,
    )  # fmt: skip
    print(json.dumps({**meter.stop(), "verdict": result.verdict.verdict}))


SHAPES: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": {"shape": (896, 4864, 24, 14, 2, 64, 151936)},
    "Llama-3.2-1B": {"shape": (2048, 8192, 16, 32, 8, 64, 128256)},
    "Llama-3.2-3B": {"shape": (3072, 8192, 28, 24, 8, 128, 128256)},
    "Llama-3.1-8B": {"shape": (4096, 14336, 32, 32, 8, 128, 128256), "tie_word_embeddings": False},
}
"""Width, width of the MLP, blocks, heads, heads of keys and values, width of a head, vocabulary; as published."""
PASSAGE_TOKENS = 132
"""Of 400 characters with SmolLM2's tokenizer."""
LOGITS_BYTES = 3 * 2**30
"""Of one pass of an evaluation on an accelerator: the logits, their logarithms, and those of the base."""
WHOLE_BYTES = 16
"""A parameter that AdamW trains in float32: weight, gradient, two moments."""
FROZEN_BYTES = 4
"""A parameter of the base under an adapter in float32; the adapter itself is about a fiftieth of it and left out."""
KEPT = 0.8
"""Share of a device for them; the rest is for activations and the library."""
DEVICES = (
    ("16 GB", 16e9, 1, "one_gpu.yaml"), ("24 GB", 24e9, 1, "one_gpu.yaml"), ("80 GB", 80e9, 1, "one_gpu.yaml"),
    ("2 x 80 GB", 160e9, 2, "fsdp.yaml"), ("8 x 80 GB", 640e9, 8, "fsdp.yaml, --num_processes 8"),
    ("two machines of 8 x 80 GB", 1280e9, 16, "fsdp.yaml, with the flags below"),
)  # fmt: skip


def paper() -> None:
    """What a verdict in bfloat16 holds at its largest: weights, and either keys and values or logits."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    from ftkit.evidence.passages import kept_bytes, rows_together

    _paper_of_training()
    print("| shape | parameters | weights | passages together | keys and values | an adapter | a whole model |")
    print("|---|---|---|---|---|---|---|")
    for name, given in SHAPES.items():
        width, inner, blocks, heads, kept_heads, head, vocab = given["shape"]
        config = LlamaConfig(
            vocab_size=vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=blocks, head_dim=head,
            num_attention_heads=heads, num_key_value_heads=kept_heads,
            tie_word_embeddings=given.get("tie_word_embeddings", True),
        )  # fmt: skip
        with torch.device("meta"):
            size = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
        each = kept_bytes(config, PASSAGE_TOKENS, 2)
        rows, more = rows_together(each), max(rows_together(each) * each, LOGITS_BYTES)
        numbers = (2 * size, rows * each, 2 * size + more, 4 * size + more)
        weights, kept, one, two = (f"{number / 1e9:.1f} GB" for number in numbers)
        print(f"| {name} | {size / 1e9:.2f} billion | {weights} | {rows} | {kept} | {one} | {two} |")


def _paper_of_training() -> None:
    """The largest models that devices hold while they are trained, and what loading takes of each machine."""
    heads = ("devices", "tuned whole", "under an adapter", "configuration", "host memory while loading")
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for name, memory, processes, file in DEVICES:
        whole, frozen = (KEPT * memory / each for each in (WHOLE_BYTES, FROZEN_BYTES))
        loading = FROZEN_BYTES * whole * min(processes, 8)
        print(f"| {name} | {whole / 1e9:.1f} billion | {frozen / 1e9:.1f} billion | {file} | {loading / 1e9:,.0f} GB |")
    print()


def main() -> None:
    """Make the models, judge in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.paper:
        paper()
        return
    if asked.text is None:
        parser.error("give TEXT, or --paper")
    if asked.folder:
        judge(asked.folder, asked.text, asked.dtype)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make(folder, asked.text, asked.layers, asked.dtype, asked.whole)
        command = [sys.executable, "-m", "benchmarks.verdict_memory", str(asked.text), "--folder", name]
        done = subprocess.run([*command, "--dtype", asked.dtype], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    of_model = size * (4 if asked.dtype == "float32" else 2)
    bound = TIMES * of_model + MORE
    print(f"parameters {size:,}, {asked.dtype}: {of_model / 1e9:.2f} GB")
    print(f"peak {found['resident'] / 1e9:.2f} GB (bound {bound / 1e9:.2f}), without files {found['own'] / 1e9:.2f}")
    sys.exit(found["own" if asked.whole else "resident"] > bound)


if __name__ == "__main__":
    main()
