"""What may change and how: optimizers with decay groups, schedules, and how far weights moved."""

from ftkit.tuning.movement import Movement, movement, snapshot
from ftkit.tuning.optimizers import build_optimizers, matrices_of_blocks
from ftkit.tuning.schedules import learning_rate_factor

__all__ = ["Movement", "build_optimizers", "learning_rate_factor", "matrices_of_blocks", "movement", "snapshot"]
