"""What of a tensor lies on this process, where FSDP2 has divided tensors by rows.

Elements are found by their place in the whole tensor and changed in the part that lies here; only norms need the rest.
"""

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from ftkit.errors import DeviceError

__all__ = ["is_sharded", "local_indices", "local_part", "local_rows", "norms_over_shards"]


def is_sharded(module: nn.Module) -> bool:
    """Whether tensors of a module are divided between processes.

    Raises:
        DeviceError: They are divided in another way than by rows over all processes.
    """
    found: list[DTensor] = [tensor for tensor in module.parameters() if isinstance(tensor, DTensor)]
    for tensor in found:
        if tuple(tensor.placements) != (Shard(0),):
            raise DeviceError(
                f"tensors are divided as {tensor.placements}; only FSDP2 over all processes is known: leave "
                "parallelism_config and HSDP out of accelerate's configuration"
            )
    return bool(found)


def local_part(tensor: Tensor) -> Tensor:
    """The rows of a tensor that lie here, in the same memory; all of it where it is not divided."""
    alone: Any = tensor.detach() if tensor.requires_grad else tensor
    return alone.to_local() if isinstance(tensor, DTensor) else alone  # type: ignore[no-any-return]


def local_rows(tensor: Tensor) -> range:
    """Which rows those are."""
    total = tensor.shape[0] if tensor.ndim else 1
    if not isinstance(tensor, DTensor):
        return range(total)
    size = -(-total // tensor.device_mesh.size())  # as torch.chunk: the last part is the small one
    first = min(size * tensor.device_mesh.get_local_rank(), total)
    return range(first, min(first + size, total))


def local_indices(tensor: Tensor, dim: int, indices: Tensor) -> Tensor:
    """Indices along one dimension of a tensor as indices into the part that lies here.

    Args:
        tensor: The tensor.
        dim: The dimension.
        indices: Which elements along it, in the whole tensor.
    """
    if dim or not isinstance(tensor, DTensor):
        return indices
    rows = local_rows(tensor)
    return indices[(indices >= rows.start) & (indices < rows.stop)] - rows.start


def norms_over_shards(norms: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Norms of whole tensors from those of their parts.

    Args:
        norms: Norms of what lies here, [N].
        tensors: Any of the tensors that are divided; where they are not, ``norms`` is the answer.
    """
    mesh = next((tensor.device_mesh for tensor in tensors if isinstance(tensor, DTensor)), None)
    if mesh is None:
        return norms
    squares = norms.double() ** 2
    dist.all_reduce(squares, group=mesh.get_group())
    return squares.sqrt().to(norms.dtype)
