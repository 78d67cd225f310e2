"""A schedule whose end changes nothing is said before training, with the number of idle updates."""

import pytest

from ftkit.config import TrainingSettings
from ftkit.report.schedule import sparkline
from ftkit.tuning import learning_rate_factor, schedule_warning


def settings(**values: object) -> TrainingSettings:
    return TrainingSettings(tokenizer="byte", **{"max_steps": 100, "lr_scheduler_type": "linear", **values})


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({}, 0),
        ({"schedule_steps": 85}, 15),
        ({"schedule_steps": 85, "warmup_steps": 10}, 15),
        ({"schedule_steps": 85, "min_lr_rate": 0.1}, 0),
        ({"schedule_steps": 150}, 0),
        ({"lr_scheduler_type": "cosine", "schedule_steps": 40}, 60),
        ({"lr_scheduler_type": "cosine", "schedule_steps": 40, "lr_cycles": 1.0}, 0),
        ({"lr_scheduler_type": "constant"}, 0),
        ({"learning_rate": 0.0, "learning_rates": {"norm": 1e-3}}, 0),
        ({"learning_rate": 0.0, "optimizer": "muon"}, 0),
    ],
)
def test_idle_updates_at_the_end_are_counted(values, idle):
    run = settings(**values)
    said = schedule_warning(run)
    assert bool(said) == bool(idle)
    if idle:
        rates = [learning_rate_factor(step, run) for step in range(1, 101)]
        assert rates[100 - idle :] == [0.0] * idle
        assert rates[100 - idle - 1] > 0
        assert f"after update {100 - idle}: the last {idle} of 100 updates" in said


@pytest.mark.parametrize(
    "values", [{}, {"learning_rates": {"norm": 0.0}}, {"optimizer": "muon", "muon_learning_rate": 0}]
)
def test_a_rate_of_zero_is_said_before_anything_is_trained(values):
    assert schedule_warning(settings(learning_rate=0.0, **values)).startswith("learning_rate is 0: no update")


def test_a_sparkline_shows_the_shape_and_blanks_where_nothing_changes():
    assert sparkline([0.125, 0.25, 0.5, 1.0, 0.0]) == "▂▃▅█ "
    assert len(sparkline([1.0] * 1000)) == 60
    assert sparkline([0.0, 0.0]) == "  "
