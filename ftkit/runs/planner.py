"""Whether a recipe runs, or is only planned.

``ftkit plan`` runs a recipe's own program, so that a plan needs nothing of a recipe and cannot differ from what it
does. While a planner is set, the run folder writes nothing (as in every process but the first), an engine that is
iterated over shows itself to the planner instead of training, and of passages only a few are written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

__all__ = ["PlansRuns", "planner", "planning_with"]


class PlansRuns(Protocol):
    """What a planner is told by the parts of a run."""

    def training(self, engine: Any) -> None:
        """An engine is about to train."""

    def followed(self, engine: Any, name: str, plan: dict[str, Any], heldout: Any) -> None:
        """An engine is about to train and to be measured on held-out text."""

    def passages(self, count: int, seconds: float) -> None:
        """Passages are about to be written, which would take this long."""

    def writing(self, tokens: int) -> None:
        """Models of the recipe will write passages of so many tokens, with their prompts."""

    def base(self, name: str, make: Callable[[Path], None]) -> Path:
        """A base that is not made yet, and how it is made in a folder; returns the folder of a stand-in."""


_PLANNER: ContextVar[PlansRuns | None] = ContextVar("ftkit_planner", default=None)


def planner() -> PlansRuns | None:
    """The planner, where a recipe is only planned; ``None`` where it runs."""
    return _PLANNER.get()


@contextmanager
def planning_with(chosen: PlansRuns) -> Iterator[None]:
    """Only plan what runs inside."""
    token = _PLANNER.set(chosen)
    try:
        yield
    finally:
        _PLANNER.reset(token)
