"""The language-model head together with its loss, a few rows at a time, so that all logits never exist at once.

With a vocabulary of 50,257 the logits of a batch, their log-probabilities and their gradient are by far the largest
tensors of a step. Here a chunk of rows goes through the head, gives its part of the loss and at once its part of the
gradients of hidden states, weight and bias, and is forgotten; the backward pass only multiplies by what comes from
above. Nothing is computed twice, and a chunk is small enough to stay in the processor's cache.

torch 2.13 has ``linear_cross_entropy``. It fails under autocast, takes the same time in float32 on a CPU with 25 % more
memory, and is faster in bfloat16 only where it sums gradients of chunks in bfloat16 (docs/performance.md). It can take
the place of this file when torch 2.13 is the lowest version and the function works under autocast.

Shapes: N rows, D width, V vocabulary rows.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from ftkit.models import is_adapter, virtual_tokens

__all__ = ["chunked_cross_entropy", "has_plain_head", "hidden_states_of"]

_PLAIN = {
    "CodeGenForCausalLM", "FtkitGPT2ForCausalLM", "FtkitLadderForCausalLM", "GPT2LMHeadModel", "GPTNeoForCausalLM",
    "LlamaForCausalLM", "Qwen3ForCausalLM",
}  # fmt: skip
"""Models whose logits are their head of the last hidden states, times ``logit_scale`` where they have one."""

_CHUNK_BYTES = {"cpu": 2**25}
"""Size of a chunk's logits: on a CPU about what its cache holds."""
_CHUNK_BYTES_ELSEWHERE = 2**28  # an accelerator is slow at small products; 256 MB beside its weights are few
_SMALL_BYTES = 2**20
"""Logits below this size are nothing to spare, and torch's two calls take less time than the dozen of a chunk."""


def chunked_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    ignore_index: int = -100,
    bias_V: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """Cross-entropy of ``hidden @ weight.T + bias`` against targets, summed, without holding all logits.

    Under autocast the products are computed in its type, and everything between them in float32, as torch does.

    Args:
        hidden_ND: Last hidden states.
        weight_VD: The head's weight.
        targets_N: Ids of the right tokens.
        ignore_index: The target that counts nowhere.
        bias_V: The head's bias.
        chunk_rows: Rows at a time; ``None`` chooses by the device. It changes the result by rounding only.

    Returns:
        The sum in nats, 0-dimensional, float32 (float64 for float64 inputs). Gradients exist once: a second backward
        pass through the same result is an error where there were chunks.
    """
    if hidden_ND.device.type == "cpu" and 2 * int((asked_N := targets_N != ignore_index).sum()) < len(targets_N):
        hidden_ND, targets_N = hidden_ND[asked_N], targets_N[asked_N]  # elsewhere counting would wait for the device
    if chunk_rows is None:
        if 4 * len(hidden_ND) * weight_VD.shape[0] <= _SMALL_BYTES:
            logits_NV = nn.functional.linear(hidden_ND, weight_VD, bias_V)
            exact = torch.promote_types(logits_NV.dtype, torch.float32)
            return nn.functional.cross_entropy(
                logits_NV.to(exact), targets_N, ignore_index=ignore_index, reduction="sum"
            )
        num_bytes = _CHUNK_BYTES.get(hidden_ND.device.type, _CHUNK_BYTES_ELSEWHERE)
        chunk_rows = max(1, num_bytes // (4 * weight_VD.shape[0]))
    wanted = [
        tensor is not None and tensor.requires_grad and torch.is_grad_enabled()
        for tensor in (hidden_ND, weight_VD, bias_V)
    ]
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, ignore_index, chunk_rows, wanted
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of rows."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        ignore_index: int,
        chunk_rows: int,
        wanted: list[bool],
    ) -> Tensor:
        device = hidden_ND.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else torch.promote_types(hidden_ND.dtype, weight_VD.dtype)
        exact = torch.promote_types(dtype, torch.float32)
        weight = weight_VD.to(dtype)
        room = torch.empty if len(hidden_ND) else torch.zeros  # without rows no chunk would fill it
        grads = [
            room(tensor.shape, dtype=exact, device=tensor.device) if want and tensor is not None else None
            for tensor, want in zip((hidden_ND, weight_VD, bias_V), wanted, strict=True)
        ]
        loss = torch.zeros((), dtype=exact, device=hidden_ND.device)
        with torch.autocast(device, enabled=False):
            for first in range(0, len(hidden_ND), chunk_rows):
                rows = slice(first, first + chunk_rows)
                hidden, targets_n1 = hidden_ND[rows].to(dtype), targets_N[rows, None]
                logits = nn.functional.linear(hidden, weight, None if bias_V is None else bias_V.to(dtype)).to(exact)
                asked_n1 = targets_n1 != ignore_index
                loss += _nats_and_gradient(logits, targets_n1.masked_fill(~asked_n1, 0), asked_n1)
                _accumulate(grads, rows, logits.to(dtype), hidden, weight, is_first=first == 0)
        ctx.grads = [
            None if grad is None else grad.to(tensor.dtype)
            for grad, tensor in zip(grads, (hidden_ND, weight_VD, bias_V if bias_V is not None else loss), strict=True)
        ]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Any, ...]:
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            raise RuntimeError(
                "a second backward pass through chunked_cross_entropy: its gradients are given away in the first. "
                "Compute the loss again, or use torch's cross_entropy on full logits"
            )
        return *(None if grad is None else grad.mul_(grad_loss) for grad in grads), None, None, None, None


def _nats_and_gradient(logits_nV: Tensor, targets_n1: Tensor, asked_n1: Tensor) -> Tensor:
    """The loss of a chunk; its logits become their own gradient, softmax minus one at the target, in place."""
    highest_n1 = logits_nV.amax(1, keepdim=True)
    right_n1 = logits_nV.gather(1, targets_n1)
    total_n1 = logits_nV.sub_(highest_n1).exp_().sum(1, keepdim=True)
    nats_n1 = total_n1.log() + highest_n1 - right_n1
    logits_nV.div_(total_n1).scatter_add_(1, targets_n1, torch.full_like(nats_n1, -1.0)).masked_fill_(~asked_n1, 0.0)
    return nats_n1.masked_fill(~asked_n1, 0.0).sum()


def _accumulate(
    grads: list[Tensor | None], rows: slice, errors_nV: Tensor, hidden_nD: Tensor, weight_VD: Tensor, *, is_first: bool
) -> None:
    """Add a chunk's part to the gradients of hidden states, weight and bias, where they are wanted."""
    hidden_grad, weight_grad, bias_grad = grads
    if hidden_grad is not None:
        hidden_grad[rows] = errors_nV @ weight_VD
    if weight_grad is not None and weight_grad.dtype == errors_nV.dtype:
        torch.addmm(weight_grad, errors_nV.T, hidden_nD, beta=0 if is_first else 1, out=weight_grad)
    elif weight_grad is not None:  # the sum over chunks stays in float32
        part = errors_nV.T @ hidden_nD
        weight_grad.copy_(part) if is_first else weight_grad.add_(part)
    if bias_grad is not None:
        part = errors_nV.sum(0, dtype=bias_grad.dtype)
        bias_grad.copy_(part) if is_first else bias_grad.add_(part)


def _inner(model: Any) -> Any:
    return model.get_base_model() if is_adapter(model) else model


def has_plain_head(model: nn.Module) -> bool:
    """Whether a model's logits are exactly its head's linear map of its last hidden states.

    Known classes only, because nothing else tells what a ``forward`` does between the two; and only while the head is
    an ordinary linear layer, whose whole weight is here: no adapter on it, no hook on it or the model, no shard of it.

    Args:
        model: A model, perhaps with an adapter around it.
    """
    inner = _inner(model)
    if type(inner).__name__ not in _PLAIN or not type(inner).__module__.startswith(("transformers.", "ftkit.")):
        return False
    head = inner.lm_head
    hooks = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks
    whole = type(head.weight) is nn.Parameter and head.weight.ndim == 2
    changed = model._forward_hooks or inner._forward_hooks  # such as log_probability_model's
    return type(head) is nn.Linear and whole and not hooks and not changed and not virtual_tokens(model)


def hidden_states_of(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What the head of a model with a plain head reads, [B, T, D], scaled where the model scales its logits.

    Args:
        model: A model for which ``has_plain_head`` is true.
        inputs: Arguments of its forward pass.
    """
    inner: PreTrainedModel = _inner(model)
    hidden: Tensor = inner.base_model(**inputs, use_cache=False)[0]
    scale = getattr(inner.config, "logit_scale", 1.0)
    return hidden if scale == 1.0 else hidden * scale
