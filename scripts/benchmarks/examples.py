"""A step on prompts with completions beside TRL's SFTTrainer: the same rows and order, with LoRA and without; memory.

python -m benchmarks.examples ARM MODEL [--lora]        (in the folder scripts)   memory of one arm, in this process
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback

from benchmarks.growth import Point, memory_beside
from benchmarks.measuring import DEVICE, Options, Section, times_as_fast
from benchmarks.training import Turns
from ftkit.config import AdapterSettings
from ftkit.data import EncodedExample, Example, Message, load_tokenizer
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine, ExampleRows
from ftkit.tuning import attach_adapter

FTKIT, TRL = "ftkit", "TRL's SFTTrainer"
ROWS, EXAMPLES = 4, 400
LLAMA = "new:llama,hidden_size=256,intermediate_size=688,num_hidden_layers=6,num_attention_heads=4"
VOCAB = 4096
"""Tokens of the made-up model; a folder brings its own."""


def made_up(vocab: int, longest: int) -> list[EncodedExample]:
    """Examples of random ids, about as long as those of GSM8K: prompts and completions have 107 tokens on average."""
    rng, found = np.random.default_rng(0), []
    example = Example((Message("user", "a"), Message("assistant", "b")))
    for _ in range(EXAMPLES):
        prompt, answer = (int(n) for n in np.clip(rng.gamma(5.0, 107 / 5, 2), 8, longest // 2))
        ids = rng.integers(3, vocab, prompt + answer).tolist()
        labels = [-100] * prompt + ids[prompt:]
        found.append(EncodedExample(ids, labels, [0] * len(ids), example))
    return found


def settings(lora: bool) -> AdapterSettings:
    """Those of both arms."""
    return AdapterSettings(
        model="m", max_steps=10**6, per_device_train_batch_size=ROWS, learning_rate=1e-4, max_grad_norm=1.0,
        lr_scheduler_type="constant", save_steps=0, peft="lora" if lora else "none", use_cpu=DEVICE.type == "cpu",
    )  # fmt: skip


def model_of(place: str, lora: bool) -> Any:
    """A model, with LoRA where it is asked for."""
    made = load_model(place, seed=0, vocab_size=VOCAB, max_positions=512)
    return attach_adapter(made, settings(lora), base="m") if lora else made


def rows_of(model: Any, tokenizer: Any, quick: bool) -> ExampleRows:
    """The examples of both arms."""
    vocab = int(model.config.get_text_config().vocab_size)
    return ExampleRows(made_up(vocab, 64 if quick else 512), tokenizer, ROWS, seed=0)


def train_with_trl(model: Any, tokenizer: Any, source: ExampleRows, steps: int, turns: Turns) -> list[dict[str, Any]]:
    """Steps of SFTTrainer on the rows that ftkit has; it keeps its own collator, so its padding is its own."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc, unused-ignore]
        """Takes rows in their order, as the engine has them."""

        def _get_train_sampler(self, *arguments: Any, **values: Any) -> Any:
            rows: Any = self.train_dataset
            return SequentialSampler(rows)

    alone = [source.rows([row]) for row in range(steps * ROWS)]
    rows = [{key: row[key][0].tolist() for key in ("input_ids", "labels")} for row in alone]
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            folder, report_to="none", use_cpu=DEVICE.type == "cpu", max_length=None, loss_type="nll", packing=False,
            gradient_checkpointing=False, activation_checkpointing=False, max_steps=steps,
            per_device_train_batch_size=ROWS, learning_rate=1e-4, lr_scheduler_type="constant", weight_decay=0.01,
            max_grad_norm=1.0, save_strategy="no", logging_strategy="no", disable_tqdm=True, bf16=False,
            dataloader_pin_memory=DEVICE.type != "cpu",
        )  # fmt: skip
        trainer = InOrder(
            model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[turns]
        )
        trainer.remove_callback(PrinterCallback)
        turns.clock.restart()
        trainer.train()
    return rows


def run(name: str, lora: bool, rounds: int, options: Options) -> Section:
    """Steps of both in turns."""
    place, tokenizer = options.causal or LLAMA, load_tokenizer(options.causal or "byte")
    ours = model_of(place, lora)
    source = rows_of(ours, tokenizer, options.quick)
    turns = Turns({FTKIT: partial(next, iter(Engine(ours, NEXT_TOKEN, source, settings(lora))))}, TRL)
    rows = train_with_trl(model_of(place, lora), tokenizer, source, rounds + 1, turns)
    tokens = float(np.mean([len(r["input_ids"]) for r in rows]))
    facts = {"model": Path(place).name, "rows": ROWS, "mean_tokens": tokens}
    return Section(name, turns.times, [times_as_fast(turns.times, FTKIT, TRL, 1.3)], facts)


def memory_of(arm: str, lora: bool, place: str, quick: bool) -> None:
    """Print by how much the process grew at most in two steps of an arm; the peak of making its model is left out."""
    point, tokenizer = Point(), load_tokenizer("byte" if place == LLAMA else place)
    model = model_of(place, lora)
    source = rows_of(model, tokenizer, quick)
    point.forget_peak()
    if arm == TRL:
        train_with_trl(model, tokenizer, source, 2, Turns({}, TRL))
    else:
        steps = iter(Engine(model, NEXT_TOKEN, source, settings(lora)))
        next(steps)
        next(steps)
    point.end()


def memory(name: str, lora: bool, options: Options) -> Section:
    """Memory of both, each in a process of its own."""
    place, flags = options.causal or LLAMA, ["--lora"] * lora + ["--quick"] * options.quick
    arms = {arm: ["benchmarks.examples", arm, place, *flags] for arm in (FTKIT, TRL)}
    return memory_beside(name, arms, TRL, {"model": Path(place).name})


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    if find_spec("trl") is None:
        print("the parts sft-whole and sft-lora need trl, which is in the dev extra")
        return
    for name, lora in (("sft-whole", False), ("sft-lora", True)):
        yield name, partial(run, name, lora, options.rounds(9), options)
        if lora or not options.quick:  # two processes each
            yield f"{name}-memory", partial(memory, f"{name}-memory", lora, options)


if __name__ == "__main__":
    asked_arm, asked_place, *flags = sys.argv[1:]
    memory_of(asked_arm, "--lora" in flags, asked_place, "--quick" in flags)
