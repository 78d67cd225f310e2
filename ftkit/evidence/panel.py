"""The judges of a run, each tested at its gate, and their scores of a model."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.evidence.corrupted import with_corrupted
from ftkit.evidence.gates import Gate, gate
from ftkit.evidence.judges import BASE, BuiltJudge, Judge, JudgeRequest, JudgeSettings, JudgeTexts, all_judges
from ftkit.evidence.style import JudgeView, StyleScore, score_style
from ftkit.evidence.style_vectors import fit_vectors
from ftkit.memory import memory_phase
from ftkit.runs import RunFolder
from ftkit.runs.planner import planner

__all__ = ["Panel", "build_judges"]

_logger = logging.getLogger("ftkit.evidence")


_MOST_OTHERS = 200
"""Held-out passages of another class that a model is compared with at most: the distances then take a second."""


@dataclass(frozen=True)
class Panel:
    """Judges, each with its gate and its vectors by its name."""

    judges: list[Judge]
    views: dict[str, JudgeView]

    @property
    def gates(self) -> dict[str, Gate]:
        """The judges' gates, by name."""
        return {name: view.gate for name, view in self.views.items()}

    @memory_phase("judge")
    def score(
        self, target: str, base: Sequence[str], tuned: Sequence[str], real: Sequence[str], level: float = 0.95
    ) -> tuple[StyleScore, ...]:
        """What every judge says of a model's passages; see ``score_style``."""
        return tuple(
            score_style(judge, target, base, tuned, real, self.views[judge.name], level) for judge in self.judges
        )

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
        texts: Passages by class; corrupted text of the targets is added.
        targets: The classes whose style is judged.
        seed: Seed of judges that are fitted.
        settings: Of judges that are trained; ``None`` builds none of them.
        run: Where trained judges are kept.

    Returns:
        The panel. A judge that fails its gate is in it, and its scores are not used.
    """
    request = JudgeRequest(texts := with_corrupted(texts, targets, seed), seed, settings, run)
    built = [found for build in all_judges() if (found := build(request)) is not None]
    if planner():
        return Panel([each.judge for each in built], {})  # a plan judges nothing
    views = {each.judge.name: _view(each, texts, targets) for each in built}
    for name, view in views.items():
        passed = "passed its gate" if view.gate.speaks else "failed its gate"
        _logger.info("judge %s %s: %s", name, passed, view.gate.reason)
    return Panel([each.judge for each in built], views)


def _view(built: BuiltJudge, texts: JudgeTexts, targets: Sequence[str]) -> JudgeView:
    """Test a judge at its gate, and fit its vectors on the same held-out passages."""
    judge, heldout = built.judge, texts.heldout
    said = judge.probabilities([passage for name in judge.classes for passage in heldout[name]])
    truth = np.repeat(np.arange(len(judge.classes)), [len(heldout[name]) for name in judge.classes])
    tested = gate(judge, heldout, targets, train=texts.train, twin=built.twin, probabilities=said)
    vectors = fit_vectors(said, truth)
    others = {}
    for number, name in enumerate(judge.classes):
        found = said[truth == number]
        if name != BASE and len(found):
            places = np.linspace(0, len(found) - 1, min(len(found), _MOST_OTHERS)).astype(int)
            others[name] = vectors(found[places])
    return JudgeView(tested, vectors, others)
