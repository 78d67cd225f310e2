"""Layers that train in fewer passes over their tensors, and compute outside training what they always did.

What is written here costs a CPU time only because it is many small operations, each with a tensor of its own: the
activation of GPT-2 is eight of them, a norm of Llama six, and peft's LoRA adds a scaling, a sum and a gradient of each
to every linear map. The formulas are the same and equal but for rounding. Whatever is not the plain case of a layer
(dropout, DoRA, other types than float32, autocast, hooks on its parts) stays with the layer's own code.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

__all__ = ["fuse_layers"]

_PROBE_ROWS = 3
"""Rows of random numbers on which a norm is compared; its formula is the same for every row."""


def fuse_layers(model: nn.Module) -> None:
    """Let activations, norms and LoRA train in fewer operations.

    Nothing gets or loses a weight, so what is saved is the same.

    Args:
        model: Its layers become of a class below their own, which has the same name.
    """
    for module in model.modules():
        own: Any = type(module)
        if own is NewGELUActivation:
            module.__class__ = _below(_FusedGELU, own)
        elif own is LoraLinear:
            module.__class__ = _below(_FusedLora, own)
        elif _is_rms_norm(module):
            module.__class__ = _below(_FusedNorm, own)


@cache
def _below(fused: Any, own: Any) -> Any:
    """A class that is fused and falls back on a layer's own."""
    return type(own.__name__, (fused, own), {"__module__": own.__module__})


def _is_plain(*tensors: Tensor) -> bool:
    """Whether tensors are of float32 and are to be computed with as such."""
    kind = tensors[0].device.type
    return {each.dtype for each in tensors} == {torch.float32} and not torch.is_autocast_enabled(kind)


class _FusedGELU(nn.Module):
    """transformers' ``gelu_new``, of which GPT-2, GPT-Neo and CodeGen are made."""

    def forward(self, input: Tensor) -> Any:
        """The activation of every element."""
        return nn.functional.gelu(input, approximate="tanh") if self.training else super().forward(input)


def _is_rms_norm(module: nn.Module) -> bool:
    """Whether a module divides by the root of the mean square and multiplies by its weight, as Llama's norm does.

    Its name does not tell: Gemma's multiplies by one more than its weight. So both are computed and compared.
    """
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if isinstance(module, _FusedNorm) or not isinstance(epsilon, float):
        return False
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1:
        return False
    if weight.dtype != torch.float32 or weight.device.type == "meta":
        return False
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(_PROBE_ROWS, len(weight), generator=generator).to(weight.device)
        try:
            expected = module(probe)
        except Exception:  # another kind of module asks for more than one tensor
            return False
        return isinstance(expected, Tensor) and torch.allclose(_rms_norm(probe, weight, epsilon), expected)


class _FusedNorm(nn.Module):
    """Llama's norm, and those that compute the same."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Any:
        """Normed rows."""
        if self.training and _is_plain(hidden_states, self.weight):
            return _rms_norm(hidden_states, self.weight, self.variance_epsilon)
        return super().forward(hidden_states)


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * weight; its gradient keeps x and one number a row (B. Zhang, R. Sennrich, 2019).

    torch's ``rms_norm`` is made of as many operations as transformers' on a CPU and takes the same time there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """Normed rows."""
        x_ND = hidden.reshape(-1, hidden.shape[-1])
        squares_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True).square_()
        scale_N1 = squares_N1.div_(x_ND.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, scale_N1)
        y_ND: Tensor = (x_ND * scale_N1).mul_(weight_D)
        return y_ND.view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of rows and weight."""
        x_ND, weight_D, scale_N1 = ctx.saved_tensors
        given_ND = gradients[0].reshape(x_ND.shape)
        of_weight = (given_ND * x_ND).mul_(scale_N1).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        through_ND = given_ND * weight_D
        along_N1 = torch.linalg.vecdot(through_ND, x_ND).unsqueeze(-1).mul_(scale_N1.pow(3)).div_(x_ND.shape[-1])
        return through_ND.mul_(scale_N1).addcmul_(x_ND, along_N1, value=-1).view(gradients[0].shape), of_weight, None


class _FusedLora(nn.Module):
    """peft's LoRA of a linear map."""

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Of every row."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else None
        if not self.training or args or kwargs or not _is_plain_lora(self, name, x):
            return super().forward(x, *args, **kwargs)
        base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        weight = base.weight.T if isinstance(base, Conv1D) else base.weight
        return _lora_linear(x, weight, base.bias, down, up, self.scaling[name])


def _is_plain_lora(module: Any, name: str | None, hidden: Tensor) -> bool:
    """Whether a LoRA layer does nothing but y = W x + b + s B A x, with W and b frozen."""
    if module.disable_adapters or module.merged or name not in module.lora_A or name in module.lora_variant:
        return False
    base, down, up = module.base_layer, module.lora_A[name], module.lora_B[name]
    parts = [base, down, up, module.lora_dropout[name]]
    return (
        type(base) in (nn.Linear, Conv1D)
        and isinstance(parts[-1], nn.Identity)
        and up.bias is None
        and not any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        and not any(parameter.requires_grad for parameter in base.parameters())
        and _is_plain(hidden, *base.parameters(), down.weight, up.weight)
    )


_rms_norm: Callable[..., Tensor] = _RMSNorm.apply


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + s B A x (E. J. Hu et al., 2021): products that are added where they are made."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight_OI: Tensor, bias: Tensor | None, down_RI: Tensor, up_OR: Tensor, scale: float
    ) -> Tensor:
        """Of every row."""
        x_NI = hidden.reshape(-1, hidden.shape[-1])
        low_NR = x_NI @ down_RI.T
        ctx.save_for_backward(x_NI, weight_OI, down_RI, up_OR, low_NR)
        ctx.scale, ctx.shape = scale, hidden.shape
        y_NO = nn.functional.linear(x_NI, weight_OI, bias).addmm_(low_NR, up_OR.T, alpha=scale)
        return y_NO.view(*hidden.shape[:-1], y_NO.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        """Gradients of rows, A and B."""
        x_NI, weight_OI, down_RI, up_OR, low_NR = ctx.saved_tensors
        given_NO = gradients[0].reshape(len(x_NI), -1)
        low_gradient_NR = (given_NO @ up_OR).mul_(ctx.scale)
        of_rows = None
        if ctx.needs_input_grad[0]:
            of_rows = (given_NO @ weight_OI).addmm_(low_gradient_NR, down_RI).view(ctx.shape)
        return of_rows, None, None, low_gradient_NR.T @ x_NI, (given_NO.T @ low_NR).mul_(ctx.scale), None


_lora_linear: Callable[..., Tensor] = _LoraLinear.apply
