"""What every objective must keep to, tried on random rows: a sum over targets, and a gradient that is its slope.

An objective that returns a mean instead of a sum trains without complaint, at a loss and a rate that depend on how the
batch is split. That cannot be seen in a curve, and is seen here at once.
"""

import torch

from ftkit.errors import ConfigError
from ftkit.training.objectives import Batch, Objective

__all__ = ["check_objective", "random_batch"]

_SLOPE = 1e-2
"""Step of the difference quotient along the gradient's direction, in units of the logits."""


def random_batch(vocab_size: int, rows: int = 3, tokens: int = 6) -> Batch:
    """Random rows as a language model's source gives them: ``input_ids`` and ``labels``, [B, T]."""
    ids = torch.randint(vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone()}


def check_objective(objective: Objective, vocab_size: int, batch: Batch | None = None) -> None:
    """Refuse an objective that is no sum over rows, or whose gradient is not the slope of its value.

    Args:
        objective: What to try.
        vocab_size: V (or C) of the logits it gets.
        batch: Rows to try it on; ``None`` takes those of ``random_batch``.

    Raises:
        ConfigError: What was found, and what is expected.
    """
    batch = random_batch(vocab_size) if batch is None else batch
    shape = (*batch["labels"].shape, vocab_size)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    value = objective.loss_sum(logits, batch)
    if value.shape != () or value.dtype is not torch.float32 or not bool(value.isfinite()):
        raise ConfigError(
            f"objective {objective.name}: loss_sum gave {value.dtype} of shape {list(value.shape)}; it must give one "
            "finite float32, the sum over targets in nats"
        )
    parts = [{name: tensor[row : row + 1] for name, tensor in batch.items()} for row in range(shape[0])]
    _check_sum(objective, logits.detach(), batch, parts)
    (slope,) = torch.autograd.grad(value, logits)
    norm = float(slope.norm())
    if not norm > 0:
        raise ConfigError(f"objective {objective.name}: its gradient is {norm:g}, so nothing would be learned")
    ahead, behind = (
        float(objective.loss_sum(logits.detach() + sign * _SLOPE * slope / norm, batch)) for sign in (1, -1)
    )
    measured = (ahead - behind) / (2 * _SLOPE)
    if abs(measured - norm) > 0.02 * norm + 1e-4 * abs(float(value.detach())):
        raise ConfigError(
            f"objective {objective.name}: its gradient says that it rises by {norm:.4g}, and it rises by {measured:.4g}"
        )


def _check_sum(objective: Objective, logits: torch.Tensor, batch: Batch, parts: list[Batch]) -> None:
    """Rows one by one must add up to all of them, in value and in targets."""
    whole = float(objective.loss_sum(logits, batch))
    added = sum(float(objective.loss_sum(logits[row : row + 1], part)) for row, part in enumerate(parts))
    if abs(whole - added) > 1e-4 * max(abs(whole), abs(added)):
        raise ConfigError(
            f"objective {objective.name}: {len(parts)} rows together give {whole:.6g}, one by one {added:.6g}; "
            "loss_sum must return the sum over targets, not their mean: the engine divides by num_targets"
        )
    counts = objective.num_targets(batch), sum(objective.num_targets(part) for part in parts)
    if counts[0] != counts[1] or counts[0] < 1:
        raise ConfigError(
            f"objective {objective.name}: num_targets gives {counts[0]} for {len(parts)} rows together, and "
            f"{counts[1]} one by one; it must count the targets that loss_sum adds up"
        )
