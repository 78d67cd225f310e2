"""What went wrong first, when a loss, a gradient or a weight is no finite number.

One more forward pass with hooks finds the module whose input was finite and whose output is not. Nothing here talks to
other processes: each looks at its own rows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

__all__ = ["diagnosis", "first_bad_gradient", "first_bad_module", "first_bad_parameter"]


def diagnosis(model: nn.Module, batches: Iterable[Mapping[str, Any]] = ()) -> str:
    """Where the first number came from that is not finite.

    Looks at weights, then at the forward pass of the batches in the mode that the model is in, then at the gradients.

    Args:
        model: The model as it was when something was not finite, its gradients included.
        batches: Inputs of its forward pass.

    Returns:
        One clause of a sentence; empty where tensors are divided between processes.
    """
    if any(isinstance(parameter.data, DTensor) for parameter in model.parameters()):
        return ""
    if bad := first_bad_parameter(model):
        return bad
    found = (first_bad_module(model, batch) for batch in batches)
    return next((bad for bad in found if bad), "") or first_bad_gradient(model)


def first_bad_parameter(model: nn.Module) -> str:
    """The first parameter, in the order of the model, with a value that is not finite."""
    for name, tensor in model.named_parameters():
        if bad := _not_finite(tensor):
            return f"{bad:,} of {tensor.numel():,} values of {name} are not finite"
    return ""


def first_bad_gradient(model: nn.Module) -> str:
    """The parameter whose gradient went wrong first in the backward pass, which begins with the last one."""
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and (bad := _not_finite(parameter.grad)):
            return f"the first gradient that is not finite is that of {name} ({bad:,} of {parameter.numel():,} values)"
    return ""


def first_bad_module(model: nn.Module, inputs: Mapping[str, Any]) -> str:
    """The module that first made something not finite of finite input, in the order in which modules are done.

    A module that holds others is named where none of them did it: the fault lies in what it computes between them.

    Args:
        model: The model, in the mode in which it should be looked at.
        inputs: Arguments of its forward pass.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if found or not any(_not_finite(tensor) for tensor in _tensors(output)):
            return
        # A mask may hold minus infinity.
        given = list(_tensors([args, {key: value for key, value in kwargs.items() if "mask" not in key}]))
        if not any(_not_finite(tensor) for tensor in given):
            reach = max((float(tensor.abs().max()) for tensor in given if tensor.numel()), default=0.0)
            size = f" and reached {reach:.3g}" if reach else ""
            what = f"{name} ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
            found.append(f"the first output that is not finite is that of {what}, whose input was finite{size}")

    hooks = [
        module.register_forward_hook(lambda *seen, name=name: look(name, *seen), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _not_finite(tensor: Tensor) -> int:
    return int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0


def _tensors(values: Any) -> Iterable[Tensor]:
    """Floating-point tensors in nested arguments or outputs."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
