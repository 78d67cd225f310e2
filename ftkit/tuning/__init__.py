"""What may change and how: groups and selectors, freezing and its proof, optimizers, rates and schedules."""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.tuning.adapters import (
        adapter_targets,
        attach_adapter,
        check_adapter,
        check_adapter_gradients,
        idle_matrices,
        merge_adapter,
        predicted_trainable,
    )
    from ftkit.tuning.frozen_parameters import Freezing, FrozenSpan, freeze
    from ftkit.tuning.gradient_clip import Clipping, ClipReport, GradientNorms, clip_report
    from ftkit.tuning.groups import (
        GroupRow,
        ParameterGroups,
        ParameterTable,
        Piece,
        Selection,
        parameter_table,
        select,
        trainable_selection,
    )
    from ftkit.tuning.movement import GroupMovement, Movement, Watch, movement, snapshot
    from ftkit.tuning.optimizers import (
        build_optimizers,
        check_tuning,
        learning_rate_factor,
        matrices_of_blocks,
        peak_rates,
        schedule_warning,
    )
    from ftkit.tuning.same_start import MIN_CORRELATION, median_correlation

__all__ = [
    "MIN_CORRELATION",
    "ClipReport",
    "Clipping",
    "Freezing",
    "FrozenSpan",
    "GradientNorms",
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
    "clip_report",
    "freeze",
    "idle_matrices",
    "learning_rate_factor",
    "matrices_of_blocks",
    "median_correlation",
    "merge_adapter",
    "movement",
    "parameter_table",
    "peak_rates",
    "predicted_trainable",
    "schedule_warning",
    "select",
    "snapshot",
    "trainable_selection",
]

load_names_lazily(__name__)
