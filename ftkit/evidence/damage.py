"""What a part of the model is worth: the loss on a text while the part is destroyed, block by block from the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from ftkit.data import TokenStore
from ftkit.errors import ConfigError
from ftkit.evidence.intervals import Interval, bits_per_byte, gain_in_bits
from ftkit.inspection.perturbation import Perturbation, perturb
from ftkit.training import HeldOutLoss, HeldOutWindows, held_out_loss
from ftkit.tuning import ParameterGroups, select

__all__ = ["DamagePoint", "damage_curve"]


@dataclass(frozen=True)
class DamagePoint:
    """The loss with the first few blocks perturbed."""

    blocks: int
    """Perturbed blocks, counted from the input."""
    bits_per_byte: Interval
    rise: Interval
    """Bits per byte above the unperturbed model, on the same windows (paired)."""

    def as_row(self) -> dict[str, Any]:
        """As one row of a table."""
        row: dict[str, Any] = {"blocks": self.blocks, **self.bits_per_byte.as_dict()}
        return row | {f"rise_{key}": value for key, value in self.rise.as_dict().items()}


def damage_curve(
    model: PreTrainedModel,
    store: TokenStore,
    window_tokens: int,
    selectors: str | Sequence[str] = "attention.q",
    *,
    kind: Perturbation = "noise",
    seed: int = 42,
    value: float | None = None,
    max_windows: int | None = None,
) -> list[DamagePoint]:
    """Measure the loss with the first 0, 1, 2, ... blocks perturbed.

    Args:
        model: A causal language model; it is left as it was, bit for bit.
        store: Text that the model was not trained on.
        window_tokens: Tokens in a window of evaluation.
        selectors: What to perturb, inside the blocks.
        kind: How, as ``perturb`` says.
        seed: Draws noise and order; a block gets the same at every point of the curve.
        value: For ``constant`` only.
        max_windows: Windows to use, spread evenly over the text; ``None`` uses all.

    Returns:
        One point for each number of blocks, from none to all.

    Raises:
        ConfigError: Selectors that match nothing, or something outside the blocks.
    """
    groups = ParameterGroups(model)
    chosen = select(groups, selectors)
    inside = chosen & select(groups, "all@0..") if groups.num_layers else None
    if not inside or chosen - inside:
        outside = ", ".join(sorted((chosen - inside if inside else chosen).masks)[:3])
        raise ConfigError(f"{selectors!r} selects {outside}, outside the blocks; a damage curve goes block by block")

    def loss() -> HeldOutLoss:
        return held_out_loss(model, HeldOutWindows(store, window_tokens), max_windows)

    whole = loss()
    points = [_point(0, whole, whole)]
    for blocks in range(1, groups.num_layers + 1):
        some = chosen & select(groups, f"all@..{blocks - 1}")
        if not some:  # the selector begins in a later block
            points.append(_point(blocks, whole, whole))
            continue
        with perturb(model, some, kind, seed=seed, value=value):
            points.append(_point(blocks, whole, loss()))
    return points


def _point(blocks: int, whole: HeldOutLoss, damaged: HeldOutLoss) -> DamagePoint:
    gain = gain_in_bits(damaged, whole)  # of the whole model over the damaged one
    return DamagePoint(blocks, bits_per_byte(damaged), gain)
