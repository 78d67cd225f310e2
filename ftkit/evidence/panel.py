"""The judges of a run, each tested at its gate, and their scores of a model."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.evidence.gates import Gate, gate
from ftkit.evidence.judges import Judge, JudgeRequest, JudgeSettings, JudgeTexts, all_judges
from ftkit.evidence.style import StyleScore, score_style
from ftkit.memory import memory_phase
from ftkit.runs import RunFolder
from ftkit.runs.planner import planner

__all__ = ["Panel", "build_judges"]

_logger = logging.getLogger("ftkit.evidence")


@dataclass(frozen=True)
class Panel:
    """Judges and their gates, in one order."""

    judges: list[Judge]
    gates: dict[str, Gate]

    @memory_phase("judge")
    def score(
        self, target: str, base: Sequence[str], tuned: Sequence[str], real: Sequence[str]
    ) -> tuple[StyleScore, ...]:
        """What every judge says of a model's passages; see ``score_style``."""
        return tuple(score_style(judge, target, base, tuned, real, self.gates[judge.name]) for judge in self.judges)

    @memory_phase("judge")
    def score_step(self, target: str, passages: Sequence[str]) -> dict[str, float]:
        """Mean probability of the target and share of passages given to it, by judge: one point of a curve."""
        found = {}
        for judge in self.judges:
            probabilities, place = judge.probabilities(passages), judge.classes.index(target)
            found[f"{judge.name}_probability"] = float(probabilities[:, place].mean())
            found[f"{judge.name}_accuracy"] = float(np.mean(probabilities.argmax(1) == place))
        return found

    def as_dict(self) -> dict[str, Any]:
        """The gates, for ``evidence.json``."""
        return {name: asdict(passed) for name, passed in self.gates.items()}


@memory_phase("judge")
def build_judges(
    texts: JudgeTexts,
    targets: Sequence[str],
    seed: int,
    settings: JudgeSettings | None = None,
    run: RunFolder | None = None,
) -> Panel:
    """Build every judge that is installed, and test each at its gate.

    Args:
        texts: Passages by class.
        targets: The classes whose scores will be used.
        seed: Seed of judges that are fitted.
        settings: Of judges that are trained; ``None`` builds none of them.
        run: Where trained judges are kept.

    Returns:
        The panel. A judge that fails its gate is in it, and its scores are not used.
    """
    request = JudgeRequest(texts, seed, settings, run)
    built = [found for build in all_judges() if (found := build(request)) is not None]
    if planner():
        return Panel([each.judge for each in built], {})  # a plan judges nothing
    gates = {
        each.judge.name: gate(each.judge, texts.heldout, targets, train=texts.train, twin=each.twin) for each in built
    }
    for name, passed in gates.items():
        _logger.info("judge %s %s: %s", name, "passed its gate" if passed.speaks else "failed its gate", passed.reason)
    return Panel([each.judge for each in built], gates)
