"""What a probe is, and who asks it when.

A probe looks at a model between two updates. It cannot change the training: it writes to no weight, and whatever it
draws, every step seeds the random generators anew.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ftkit.runs import RunFolder
from ftkit.training.engine import Engine

__all__ = ["CallbackProbe", "Probe", "Probing", "Row"]

Row = dict[str, Any]
"""Numbers by name, and the names of what they are of."""


class Probe(Protocol):
    """Something that is measured while a model trains."""

    name: str
    """The record's ``probe``."""
    every: int
    """Steps between measurements; there is one at the start and one at the end too. 0: after 1, 2, 4, 8, ... steps."""

    def begin(self, step: int) -> None:
        """Look at the model that a training begins with, or goes on with.

        Args:
            step: Updates done.
        """
        return

    def before(self, step: int) -> None:
        """Look at the model before an update after which it will be measured.

        Args:
            step: That update, counted from 1.
        """
        return

    def measure(self, step: int) -> Iterable[Row]:
        """Measure now.

        Args:
            step: Updates done; 0 before the first.

        Returns:
            Rows, each a record of its own.
        """


@dataclass(frozen=True)
class CallbackProbe(Probe):
    """A function as a probe, such as a recipe's judge; it keeps its records itself."""

    name: str
    every: int
    function: Callable[[int], None]
    """Gets the updates done."""

    def measure(self, step: int) -> Iterable[Row]:
        """Call the function."""
        self.function(step)
        return ()


class Probing:
    """Asks the probes of one training when it is time, and logs what they say.

    Process 0 asks, of a model that is whole there for as long as it takes; every process comes along.

    Args:
        probes: The probes, made before the engine, so that the start is the start also of a resumed training.
        run: Where ``metrics.jsonl`` is.
        model: The model's name there.
        engine: What trains it.
    """

    def __init__(self, probes: Sequence[Probe], run: RunFolder, model: str, engine: Engine) -> None:
        self._probes, self._run, self._model, self._engine = probes, run, model, engine
        self._last = engine.settings.max_steps

    def _ask(self, probes: Sequence[Probe], ask: Callable[[Probe], None]) -> None:
        if not probes:
            return
        with self._engine.whole_model():
            for probe in probes if self._engine.accelerator.is_main_process else ():
                ask(probe)

    def _due(self, step: int) -> list[Probe]:
        return [probe for probe in self._probes if step == self._last or _is_turn(step, probe.every)]

    def begin(self, step: int) -> None:
        """Start after ``step`` updates; what a resumed training had measured at that step is there already."""
        self._ask(self._probes, lambda probe: probe.begin(step))
        if step == 0:
            self.measure(0)

    def before(self, step: int) -> None:
        """Let those look that will measure after update ``step``."""
        self._ask(self._due(step), lambda probe: probe.before(step))

    def measure(self, step: int) -> None:
        """Ask those whose time it is after ``step`` updates."""
        place = {"model": self._model, "step": step, "split": "probe"}

        def ask(probe: Probe) -> None:
            self._run.log("metrics.jsonl", *({**place, "probe": probe.name, **row} for row in probe.measure(step)))

        self._ask(self._due(step), ask)


def _is_turn(step: int, every: int) -> bool:
    """Whether a step is a multiple, or a power of two where every doubling counts; the start is both."""
    return step % every == 0 if every else step & (step - 1) == 0
