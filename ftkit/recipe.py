"""What a recipe imports at its top: the settings classes, and the frame around its ``main``.

@recipe
def main(settings: MySettings, run: RunFolder) -> None:
    ...

if __name__ == "__main__":
    launch(main)
"""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from ftkit.config import (
    TRAINING_LENGTHS,
    AdapterSettings,
    ClassifierSettings,
    CodeSettings,
    EarlyStopSettings,
    EpochSettings,
    ExampleSettings,
    FrequentTokenSettings,
    JudgeSettings,
    OneTextSettings,
    PassageSettings,
    Problem,
    SampleSettings,
    Settings,
    TextSettings,
    TrainingSettings,
    launch,
)
from ftkit.runs import RunFolder, open_run
from ftkit.runs.models import SERVING_MODELS

__all__ = [
    "TRAINING_LENGTHS",
    "AdapterSettings",
    "ClassifierSettings",
    "CodeSettings",
    "EarlyStopSettings",
    "EpochSettings",
    "ExampleSettings",
    "FrequentTokenSettings",
    "JudgeSettings",
    "OneTextSettings",
    "PassageSettings",
    "Problem",
    "RunFolder",
    "SampleSettings",
    "Settings",
    "TextSettings",
    "TrainingSettings",
    "launch",
    "recipe",
]

S = TypeVar("S", bound=Settings)


def recipe(main: Callable[[S, RunFolder], None]) -> Callable[[S], None]:
    """Make or continue the run folder of a recipe, and run the recipe in it.

    Args:
        main: Trains and measures. A finished run is announced again, and ``main`` is not called.

    Returns:
        The function of the settings alone that ``launch`` and ``ftkit run`` call.
    """

    @wraps(main)
    def start(settings: S) -> None:
        with open_run(settings, main.__globals__["__file__"]) as run:
            if not run.finished:
                main(settings, run)
                if run.is_main:
                    _write_cards(run)
                return
            from ftkit.report import announce

            section = main.__globals__.get("report_section")
            announce(run, *([section()] if section else []))

    return start


def _write_cards(run: RunFolder) -> None:
    """Give each model that the run has made a card, with what was measured on it and how it is loaded."""
    from ftkit.hub.card import write_card

    for name in run.manifest["models"]:
        if name not in SERVING_MODELS:
            write_card(run.model(name))
