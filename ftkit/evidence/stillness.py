"""Why nothing happened, as far as the weights can tell: what a model that learnt nothing was prevented by."""

from collections.abc import Sequence

from ftkit.tuning import Movement

__all__ = ["why_nothing"]

_SAME_SHARE = 0.02
"""Relative spread of the tensors' changes below which they all shrank alike."""


def why_nothing(movement: Movement, idle_matrices: Sequence[str] = ()) -> list[str]:
    """Causes that can be seen in the weights, likeliest first.

    Args:
        movement: What changed.
        idle_matrices: Second matrices of a LoRA adapter that are zero; see ``idle_matrices``.

    Returns:
        Sentences; empty where every group moved and no cause can be seen but too small a rate or too few steps.
    """
    if idle_matrices:
        return [
            f"its adapter does nothing: {len(idle_matrices)} second matrices are zero, as before the first step "
            f"({idle_matrices[0]})"
        ]
    if not movement.changed:
        return [
            "the weights are the base's, bit for bit: a rate of zero, everything frozen, a loss without targets, or an "
            "adapter that was saved elsewhere and not merged look like this"
        ]
    found = []
    moved = list(dict.fromkeys(row.group for row in movement.groups if row.change))
    if moved and len(moved) < len({row.group for row in movement.groups}):
        found.append(f"only {', '.join(moved)} changed ({movement.changed} of {movement.tensors} tensors)")
    changes = [change for change in movement.by_tensor.values() if change]
    if len(changes) > 2 and max(changes) - min(changes) < _SAME_SHARE * max(changes):
        found.append(
            f"{len(changes)} tensors changed by the same share, {max(changes):.2g}: weight decay alone does so, "
            "without any gradient; were all labels masked?"
        )
    return [*found, f"the weights moved by {movement.relative:.2g} of their norm"]
