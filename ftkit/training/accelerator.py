"""The processes and devices that a run has; everything distributed goes through accelerate."""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    parse_flag_from_env,
)
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from ftkit.config import TrainingSettings
from ftkit.errors import DeviceError
from ftkit.runs.environment import check_unsupported
from ftkit.runs.processes import check_processes, join_processes, stays_on_cpu

__all__ = ["WholeModel", "make_accelerator"]


def make_accelerator(settings: TrainingSettings) -> Accelerator:
    """Create the ``Accelerator`` for a run's settings and its launcher.

    Args:
        settings: ``bf16``, ``fp16``, ``use_cpu`` and ``require_processes`` are read.

    Raises:
        DeviceError: The device does not support a setting, or the number of processes is not the required one.
    """
    check_unsupported()
    check_processes(settings.require_processes)
    precision = "bf16" if settings.bf16 else "fp16" if settings.fp16 else "no"
    if settings.fp16 and (settings.use_cpu or not torch.accelerator.is_available()):
        raise DeviceError("fp16: needs an accelerator and there is none in use; train in float32, or with bf16")
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        # accelerate (1.15) keeps one precision for the life of a process; an earlier engine may have had another.
        AcceleratorState._reset_state()
    join_processes(settings.use_cpu)
    plugin = _sharding(settings) if parse_flag_from_env("ACCELERATE_USE_FSDP") else None
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=stays_on_cpu(settings.use_cpu),
        fsdp_plugin=plugin,
        # The engine divides by the targets of the whole batch itself; accelerate (1.15) would read the environment and
        # divide again.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    if plugin is not None:
        # accelerate (1.15) would silently run DDP on CPUs, and forgets its plugin when the state is made again.
        accelerator.state.fsdp_plugin = plugin
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def _sharding(settings: TrainingSettings) -> FullyShardedDataParallelPlugin:
    """FSDP2 by block, with what else the launcher's configuration says."""
    if "LOCAL_RANK" not in os.environ:
        raise DeviceError(
            "ACCELERATE_USE_FSDP is set and no launcher has started this process; start with 'accelerate launch "
            "--config_file recipes/accelerate/fsdp.yaml -m ftkit.recipes.NAME'"
        )
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise DeviceError("FSDP: version 1 is asked for, which is deprecated; set fsdp_version: 2")
    if settings.fp16:
        raise DeviceError("fp16 does not go with FSDP; train with bf16")
    if settings.optimizer == "adafactor":
        raise DeviceError(
            "optimizer: adafactor does not go with FSDP (torch 2.13 cannot divide its row and column means); e.g. adamw"
        )
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy=os.environ.get("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"),
        mixed_precision_policy=MixedPrecisionPolicy(),  # autocast does it, as without FSDP; losses stay in float32
        cpu_ram_efficient_loading=False,  # every process has loaded the model: other parts of a run need it whole
    )


# A model whose tensors FSDP has divided, put together again: for a moment, to evaluate and sample, or for good.
#
# A forward pass of a divided model needs every process, and decoding would gather every tensor again for every token.
# So
# process 0 gets the whole tensors once, in a second body without FSDP's hooks, and works alone.


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
