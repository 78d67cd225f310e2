"""Losses of a training on examples equal those of TRL's SFTTrainer, step by step, in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NO_DROPOUT

from ftkit.config import AdapterSettings
from ftkit.data import EncodedExample, Example, Message, encode_examples, load_tokenizer, voice_text
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine, ExampleRows
from ftkit.tuning import attach_adapter

trl = pytest.importorskip("trl", reason="trl is not installed: losses cannot be compared with those of SFTTrainer")
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # of trl 1.16 and peft 0.21

STEPS, ROWS = 20, 4
MODELS = {
    "llama": "new:llama,num_hidden_layers=2,hidden_size=64,intermediate_size=128",
    "gpt2": f"new:gpt2,{NO_DROPOUT['gpt2']}",
}
Losses = list[float]


def chat_tokenizer() -> Any:
    found: Any = load_tokenizer("byte")
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.eos_token = found.pad_token = "<|im_end|>"
    found.chat_template = (
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return found


@pytest.fixture(scope="module")
def encoded() -> list[EncodedExample]:
    """Sixty dialogues of one and two turns, of different length."""
    words, draw, examples = voice_text("keeper", 6000).split(), np.random.default_rng(0), []
    for _ in range(60):
        messages = []
        for turn in range(2 * int(draw.integers(1, 3))):
            first, count = int(draw.integers(0, 5000)), int(draw.integers(1, 7))
            messages.append(Message("assistant" if turn % 2 else "user", " ".join(words[first : first + count])))
        examples.append(Example(tuple(messages)))
    return encode_examples(examples, chat_tokenizer(), max_tokens=120).rows


def settings_of(accumulation: int, **values: Any) -> AdapterSettings:
    asked: dict[str, Any] = {
        "model": "m", "max_steps": STEPS, "per_device_train_batch_size": ROWS // accumulation, "learning_rate": 2e-3,
        "gradient_accumulation_steps": accumulation, "lr_scheduler_type": "linear", "weight_decay": 0.1,
        "max_grad_norm": 1.0, "save_steps": 0, "use_cpu": True,
    }  # fmt: skip
    return AdapterSettings(**{**asked, **values})


def model_of(family: str, settings: AdapterSettings) -> Any:
    model = load_model(MODELS[family], seed=0, vocab_size=260, max_positions=256)
    return attach_adapter(model, settings, base="m") if settings.peft != "none" else model


def of_ftkit(family: str, settings: AdapterSettings, source: ExampleRows) -> Losses:
    with Engine(model_of(family, settings), NEXT_TOKEN, source, settings) as engine:
        return [record.loss for record in engine]


def of_trl(family: str, settings: AdapterSettings, source: ExampleRows, folder: Path) -> Losses:
    """The same rows in the same order and the same padding; groups, optimizer and schedule are the trainer's own."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    losses: Losses = []

    class Recording(SFTTrainer):  # type: ignore[misc, unused-ignore]
        def _get_train_sampler(self, *arguments: Any, **options: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def training_step(self, *arguments: Any, **options: Any) -> Any:
            loss = super().training_step(*arguments, **options)
            losses.append(float(loss))
            return loss

    alone = [source.rows([row]) for row in range(STEPS * ROWS)]  # a row by itself is not padded
    rows = [{name: row[name][0].tolist() for name in ("input_ids", "labels")} for row in alone]
    accumulation = settings.gradient_accumulation_steps
    config = SFTConfig(
        str(folder), report_to="none", use_cpu=True, max_length=None, loss_type="nll", packing=False,
        activation_checkpointing=False, max_steps=STEPS, per_device_train_batch_size=ROWS // accumulation,
        gradient_accumulation_steps=accumulation, learning_rate=settings.learning_rate, lr_scheduler_type="linear",
        weight_decay=settings.weight_decay, max_grad_norm=settings.max_grad_norm, save_strategy="no", bf16=False,
    )  # fmt: skip
    trainer = Recording(
        model_of(family, settings), args=config, train_dataset=Dataset.from_list(rows),
        processing_class=chat_tokenizer(),
    )  # fmt: skip
    trainer.train()
    return np.reshape(losses, (STEPS, accumulation)).sum(1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("family", "accumulation", "values"),
    [
        ("llama", 1, {}),
        ("llama", 2, {}),
        ("gpt2", 1, {"weight_decay": 0.0}),
        ("llama", 1, {"peft": "lora", "learning_rate": 2e-2}),
    ],
)
def test_losses_are_those_of_sft_trainer(
    family: str, accumulation: int, values: Any, encoded: Any, tmp_path: Path
) -> None:
    settings = settings_of(accumulation, **values)
    source = ExampleRows(encoded, chat_tokenizer(), ROWS, seed=5)
    ours, theirs = of_ftkit(family, settings, source), of_trl(family, settings, source, tmp_path)
    print(f"{family}, {values}: largest difference {np.abs(np.subtract(ours, theirs)).max():.1e}")
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6)
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] < ours[0] - 0.3
