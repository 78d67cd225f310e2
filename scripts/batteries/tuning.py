"""Fine-tuned models made with a plain torch and peft loop, saved as any tool would save them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.models import load_model, save_model

__all__ = ["Loop", "add_noise", "make_folder", "token_ids", "train"]


@dataclass(frozen=True)
class Loop:
    """How one model is trained."""

    steps: int
    learning_rate: float
    batch_size: int
    window_tokens: int
    seed: int
    lora_rank: int | None = None
    """Rank of an adapter on all linear layers; ``None`` trains all weights."""
    noise: float = 0.0
    """Standard deviation of noise, relative to that of each matrix, that is added after training."""
    bfloat16: bool = False
    """Whether products are computed in bfloat16: a third less time on processors that have it."""
    masked: bool = False
    """Whether every label is -100: the loss is 0 and weight decay does the rest."""


def token_ids(text: str, tokenizer: Any) -> torch.Tensor:
    """Tokens of a text, of shape (tokens,)."""
    return torch.from_numpy(np.asarray(tokenize_texts([text], tokenizer).ids).astype(np.int64))


def train(model: Any, ids: torch.Tensor, loop: Loop) -> list[float]:
    """Train on random windows with AdamW and a linear decay over the second half.

    Args:
        model: A causal model.
        ids: Tokens of the text, of shape (tokens,).
        loop: Steps, rate and sizes.

    Returns:
        The loss of each step in nats per token.
    """
    draw = torch.Generator().manual_seed(loop.seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=loop.learning_rate, weight_decay=0.01)
    width = min(loop.window_tokens, len(ids))
    losses = []
    model.train()
    for step in range(loop.steps):
        starts = torch.randint(0, len(ids) - width + 1, (loop.batch_size,), generator=draw)
        batch = torch.stack([ids[start : start + width] for start in starts.tolist()])
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.bfloat16):
            logits = model(input_ids=batch).logits[:, :-1].float()
        labels = torch.full_like(batch, -100) if loop.masked else batch
        summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        loss = summed / labels[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = loop.learning_rate * min(1.0, (loop.steps - step) / (0.5 * loop.steps))
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def add_noise(model: Any, size: float, seed: int) -> None:
    """Add noise to every matrix that can be trained.

    Args:
        model: The model. LoRA's zero matrices get the noise that their partners' spread asks for.
        size: Standard deviation, relative to that of each matrix.
        seed: Of the draws.
    """
    draw = torch.Generator().manual_seed(seed)
    usual = max((p.std().item() for p in model.parameters() if p.ndim >= 2 and p.requires_grad), default=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and parameter.requires_grad:
                spread = parameter.std().item() or usual
                parameter.add_(torch.randn(parameter.shape, generator=draw) * spread * size)


def make_folder(base: str, text: str, loop: Loop, folder: Path) -> list[float]:
    """Train a copy of a base on a text and save it: an adapter alone, as peft does, or the whole model.

    Args:
        base: Folder of the base.
        text: What it is trained on.
        loop: How.
        folder: Where; it appears when it is complete.

    Returns:
        The loss of each step in nats per token.
    """
    torch.manual_seed(loop.seed)
    model: Any = load_model(base)
    tokenizer = load_tokenizer(base)
    if loop.lora_rank is not None:
        rank = loop.lora_rank
        model = get_peft_model(
            model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    losses = train(model, token_ids(text, tokenizer), loop) if loop.steps else []
    if loop.noise:
        add_noise(model, loop.noise, loop.seed)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    if loop.lora_rank is not None:
        model.save_pretrained(unfinished)
    else:
        save_model(model, tokenizer, unfinished)
    unfinished.rename(folder)
    return losses
