"""A model whose tensors FSDP has divided, put together again: for a moment, to evaluate and sample, or for good.

A forward pass of a divided model needs every process, and decoding would gather every tensor again for every token. So
process 0 gets the whole tensors once, in a second body without FSDP's hooks, and works alone.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

__all__ = ["WholeModel"]


class WholeModel:
    """The body that a model had before it was divided, without weights.

    Args:
        model: The model, before anything wraps it.
    """

    def __init__(self, model: nn.Module) -> None:
        hollow = {
            id(tensor): nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=tensor.requires_grad)
            for tensor in model.parameters()
        }
        self._body: nn.Module = copy.deepcopy(model, memo=dict(hollow))
        self._is_inside = False

    @contextmanager
    def inside(self, model: nn.Module, here: bool) -> Iterator[None]:
        """Let a model be whole inside the block; every process comes here. A block inside another changes nothing.

        Args:
            model: The divided model.
            here: Whether this process gets the weights; elsewhere the model stays divided and must be left alone.
        """
        if self._is_inside:  # on every process alike: here the model is whole already, elsewhere it is left alone
            yield
            return
        weights, self._is_inside = _gathered(model, here), True
        divided = model.__class__, model.__dict__
        try:
            if here:
                self._take_the_place_of(model, weights)
            yield
        finally:
            self._is_inside = False
            if here:
                model.__class__, model.__dict__ = divided
                hollow = {name: torch.empty_like(tensor, device="meta") for name, tensor in weights.items()}
                _fill(self._body, hollow)

    def for_good(self, model: nn.Module) -> None:
        """Make a model whole on every process and leave it so."""
        self._take_the_place_of(model, _gathered(model, here=True))

    def _take_the_place_of(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        body = self._body
        buffers = dict(model.named_buffers())
        for name, buffer in body.named_buffers():
            buffer.copy_(buffers[name])
        _fill(body, weights)
        body.to(next(iter(weights.values())).device).train(model.training)
        model.__class__, model.__dict__ = body.__class__, body.__dict__


def _gathered(model: nn.Module, here: bool) -> dict[str, Tensor]:
    """Whole tensors of a divided model, where they are wanted."""
    found = {}
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if here:
            found[name] = whole.detach()
    return found


def _fill(body: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a body other tensors; what was shared stays shared."""
    made = {id(old): nn.Parameter(weights[name], old.requires_grad) for name, old in body.named_parameters()}
    for module in body.modules():
        for name, old in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            module.register_parameter(name, made[id(old)])
