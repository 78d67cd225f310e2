"""What may change and how: groups and selectors, freezing and its proof, optimizers, rates and schedules."""

from ftkit.tuning.adapters import (
    adapter_targets,
    attach_adapter,
    check_adapter,
    check_adapter_gradients,
    merge_adapter,
    predicted_trainable,
)
from ftkit.tuning.freezing import Freezing, FrozenSpan, freeze
from ftkit.tuning.groups import ParameterGroups, Piece, Selection, select, trainable_selection
from ftkit.tuning.movement import GroupMovement, Movement, movement, snapshot
from ftkit.tuning.optimizers import build_optimizers, check_tuning, matrices_of_blocks
from ftkit.tuning.rates import peak_rates
from ftkit.tuning.schedules import learning_rate_factor
from ftkit.tuning.table import GroupRow, ParameterTable, parameter_table
from ftkit.tuning.watching import Watch

__all__ = [
    "Freezing",
    "FrozenSpan",
    "GroupMovement",
    "GroupRow",
    "Movement",
    "ParameterGroups",
    "ParameterTable",
    "Piece",
    "Selection",
    "Watch",
    "adapter_targets",
    "attach_adapter",
    "build_optimizers",
    "check_adapter",
    "check_adapter_gradients",
    "check_tuning",
    "freeze",
    "learning_rate_factor",
    "matrices_of_blocks",
    "merge_adapter",
    "movement",
    "parameter_table",
    "peak_rates",
    "predicted_trainable",
    "select",
    "snapshot",
    "trainable_selection",
]
