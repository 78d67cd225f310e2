"""The elements of each group that a selection means, as indices into one dimension of a parameter."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ftkit.tuning.groups import ParameterGroups, Piece, Selection, select

__all__ = ["chosen_slices"]


def chosen_slices(
    model: nn.Module, selectors: str | Sequence[str] | Selection
) -> Iterator[tuple[Piece, nn.Parameter, Tensor]]:
    """Go through a selection group by group; what is fused comes apart.

    Args:
        model: The model.
        selectors: Selectors, or what they select.

    Yields:
        The piece, the parameter that it is of, and the chosen indices along ``piece.dim``, on the parameter's device.

    Raises:
        ConfigError: A selector that cannot be read or matches nothing.
    """
    groups = ParameterGroups(model)
    chosen = selectors if isinstance(selectors, Selection) else select(groups, selectors)
    parameters = dict(model.named_parameters())
    for piece in groups.pieces:
        if piece.name in chosen.masks:
            indices = torch.nonzero(chosen.masks[piece.name] & piece.mask)[:, 0]
            if len(indices):
                parameter = parameters[piece.name]
                yield piece, parameter, indices.to(parameter.device)
