"""The models and rows that are trained."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM

from ftkit import training
from ftkit.config import TrainingSettings
from ftkit.models import load_model

_NO_DROPOUT = {
    "gpt2": "resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0",
    "ftkit_gpt2": "embedding_dropout=0.0,attention_dropout=0.0,attention_output_dropout=0.0,mlp_dropout=0.0",
}


@dataclass(frozen=True)
class Shape:
    """A GPT-2 and the rows of a step."""

    blocks: int
    width: int
    heads: int
    vocab: int
    rows: int
    tokens: int
    positions: int

    def quick(self) -> "Shape":
        """The same in tiny."""
        return replace(self, blocks=1, width=32, heads=2, vocab=300, rows=2, tokens=16)


SMALL = Shape(blocks=6, width=256, heads=4, vocab=4096, rows=16, tokens=256, positions=256)
GPT2 = Shape(blocks=12, width=768, heads=12, vocab=50257, rows=4, tokens=256, positions=1024)
TINY = Shape(blocks=2, width=64, heads=4, vocab=256, rows=4, tokens=32, positions=64)
DEEP = replace(TINY, blocks=12)
"""As many tensors as GPT-2 124M has, and hardly any arithmetic."""


class Rows(training.Dataset, Dataset[Any]):
    """Random tokens by number: ftkit's source of batches, and Trainer's data set."""

    fingerprint = "random"

    def __init__(self, shape: Shape) -> None:
        self.ids = torch.randint(0, shape.vocab, (64, shape.tokens), generator=torch.Generator().manual_seed(0))

    def rows(self, indices: Any) -> dict[str, torch.Tensor]:
        """A batch."""
        ids = self.ids[torch.as_tensor(np.asarray(indices) % len(self.ids))]
        return {"input_ids": ids, "labels": ids}

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self.ids[index % len(self.ids)]
        return {"input_ids": ids, "labels": ids}


def spec_of(family: str, shape: Shape) -> str:
    """A new model of a shape, as ``load_model`` takes it."""
    if family == "llama":
        return (
            f"new:llama,hidden_size={shape.width},intermediate_size={8 * shape.width // 3},"
            f"num_hidden_layers={shape.blocks},num_attention_heads={shape.heads}"
        )
    return f"new:{family},n_embd={shape.width},n_layer={shape.blocks},n_head={shape.heads},{_NO_DROPOUT[family]}"


def new_model(family: str, shape: Shape) -> Any:
    """Random weights of one seed, without dropout."""
    return load_model(spec_of(family, shape), seed=0, vocab_size=shape.vocab, max_positions=shape.positions)


def usual_model(shape: Shape, ours: Any = None) -> Any:
    """A model, by default HF GPT-2 of a shape, with the same weights as transformers builds it."""
    ours = ours or new_model("gpt2", shape)
    model = AutoModelForCausalLM.from_config(ours.config, attn_implementation="sdpa", dtype=torch.float32)
    model.load_state_dict(ours.state_dict())
    return model


def settings(shape: Shape, bf16: bool = False) -> TrainingSettings:
    """Those of every arm: AdamW, constant rate, clipping at 1."""
    return TrainingSettings(
        model="bench", max_steps=1 << 20, eval_steps=1 << 20, save_steps=0, per_device_train_batch_size=shape.rows,
        window_tokens=shape.tokens, learning_rate=1e-4, lr_scheduler_type="constant", max_grad_norm=1.0, bf16=bf16,
    )  # fmt: skip
