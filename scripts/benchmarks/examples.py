"""A step on prompts with completions beside TRL's SFTTrainer: the same rows and order, with LoRA and without."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback

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


def run(name: str, lora: bool, rounds: int, options: Options) -> Section:
    """Steps of both; SFTTrainer keeps its own collator, so that its padding is its own work."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class InOrder(SFTTrainer):  # type: ignore[misc, unused-ignore]
        """Takes rows in their order, as the engine has them."""

        def _get_train_sampler(self, *arguments: Any, **values: Any) -> Any:
            rows: Any = self.train_dataset
            return SequentialSampler(rows)

    place, tokenizer = options.causal or LLAMA, load_tokenizer(options.causal or "byte")
    settings = AdapterSettings(
        model="m", max_steps=10**6, per_device_train_batch_size=ROWS, learning_rate=1e-4, max_grad_norm=1.0,
        lr_scheduler_type="constant", save_steps=0, peft="lora" if lora else "none", use_cpu=DEVICE.type == "cpu",
    )  # fmt: skip

    def model() -> Any:
        made = load_model(place, seed=0, vocab_size=VOCAB, max_positions=512)
        return attach_adapter(made, settings, base="m") if lora else made

    ours = model()
    vocab = int(ours.config.get_text_config().vocab_size)
    source = ExampleRows(made_up(vocab, 64 if options.quick else 512), tokenizer, ROWS, seed=0)
    turns = Turns({FTKIT: partial(next, iter(Engine(ours, NEXT_TOKEN, source, settings)))}, TRL)
    alone = [source.rows([row]) for row in range((rounds + 1) * ROWS)]
    rows = [{key: row[key][0].tolist() for key in ("input_ids", "labels")} for row in alone]
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            folder, report_to="none", use_cpu=DEVICE.type == "cpu", max_length=None, loss_type="nll", packing=False,
            gradient_checkpointing=False, activation_checkpointing=False, max_steps=rounds + 1,
            per_device_train_batch_size=ROWS, learning_rate=1e-4, lr_scheduler_type="constant", weight_decay=0.01,
            max_grad_norm=1.0, save_strategy="no", logging_strategy="no", disable_tqdm=True, bf16=False,
            dataloader_pin_memory=DEVICE.type != "cpu",
        )  # fmt: skip
        trainer = InOrder(
            model(), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[turns]
        )
        trainer.remove_callback(PrinterCallback)
        turns.clock.restart()
        trainer.train()
    facts = {
        "model": Path(place).name,
        "rows": ROWS,
        "mean_tokens": float(np.mean([len(r["input_ids"]) for r in rows])),
    }
    return Section(name, turns.times, [times_as_fast(turns.times, FTKIT, TRL, 1.0)], facts)


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    if find_spec("trl") is None:
        print("the parts sft-whole and sft-lora need trl, which is in the dev extra")
        return
    for name, lora in (("sft-whole", False), ("sft-lora", True)):
        yield name, partial(run, name, lora, options.rounds(9), options)
