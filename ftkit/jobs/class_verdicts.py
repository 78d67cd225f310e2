"""The test of classifiers, and a verdict on those that ftkit did not train.

training texts -------- seen among the test texts? counted words, frozen features -.
test texts ------------ what base, tuned model and the simple methods say ---------+-> verdict -> report
base, tuned ----------- movement --------------------------------------------------'
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ftkit.config import ClassifierSettings
from ftkit.data import LabelledSplit, load_tokenizer
from ftkit.display.wording import table_cell
from ftkit.errors import FtkitError, ModelError
from ftkit.evidence import (
    ClassifierCase,
    ClassifierScores,
    Verdict,
    classifier_finding,
    decide_classifier,
    feature_baseline,
    word_baseline,
)
from ftkit.jobs.classes import Classes
from ftkit.jobs.judged_models import check_same_start
from ftkit.jobs.verdict_requests import ClassVerdictRequest, read_classes
from ftkit.jobs.verdicts import Judged, SeveralJudged
from ftkit.models import class_names, has_head_for, load_model, read_configuration, usable_positions
from ftkit.models.trust import is_adapter_folder
from ftkit.report import write_verdicts
from ftkit.runs import RunFolder, write_evidence
from ftkit.training import Predictions
from ftkit.tuning import Movement, Selection, movement, snapshot

__all__ = ["ClassifierBench", "MeasuredClassifier", "judge_classifiers"]


@dataclass(frozen=True)
class MeasuredClassifier:
    """What was measured on one classifier."""

    predictions: Predictions
    """Of the test texts."""
    scores: ClassifierScores
    verdict: Verdict
    moved: Movement
    mistakes: list[dict[str, Any]]
    reload_difference: float

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``."""
        moved = {"leaks": self.moved.leaks, "frozen": self.moved.frozen, "reload_difference": self.reload_difference}
        return self.scores.as_dict() | moved


@dataclass(frozen=True)
class ClassifierBench:
    """The test of classifiers that started from one model, beside that model and two simple methods."""

    classes: Classes[Any]
    start: PreTrainedModel
    """The model before any training."""

    @cached_property
    def simpler(self) -> dict[str, Predictions]:
        """What start and simple methods say of the test texts."""
        classes, split, settings = self.classes, self.classes.split, self.classes.settings
        return {
            "untrained": classes.predict(self.start),
            "counted words": word_baseline(split.train, split.test, settings.seed),
            "frozen features": feature_baseline(
                self.start, classes.tokenizer, split.train, split.test, settings.window_tokens, settings.seed
            ),
        }

    def measure(
        self,
        tuned: PreTrainedModel,
        trainable: Selection | None = None,
        best_loss: float | None = None,
        tokenizer: Any = None,
    ) -> MeasuredClassifier:
        """Test a classifier once and decide.

        Args:
            tuned: The model from its folder.
            trainable: What was allowed to change; ``None`` means everything.
            best_loss: Its loss on the validation texts when it was saved, in nats, with which ``tuned`` is compared.
            tokenizer: Its own; ``None`` means that of the texts.
        """
        classes = self.classes if tokenizer is None else replace(self.classes, tokenizer=tokenizer)
        said, moved, difference = classes.predict(tuned), movement(snapshot(self.start), tuned, trainable), 0.0
        if best_loss is not None:
            difference = abs(float(classes.predict(tuned, classes.validation).nats.mean()) - best_loss)
        before = self.simpler["untrained"] if classes.knows_classes else None
        case = ClassifierCase(said, before, classes.seen, moved.changed, moved.leaks, difference)
        return MeasuredClassifier(
            said, classes.score(said), decide_classifier(case), moved, classes.mistakes(said), difference
        )

    def results(self, tuned: Mapping[str, MeasuredClassifier]) -> dict[str, Any]:
        """What was measured, for ``evidence.json``.

        Args:
            tuned: Classifiers by name; finding and mistakes are those of the first.
        """
        scores = {name: self.classes.score(said) for name, said in self.simpler.items()}
        name, first = next(iter(tuned.items()))
        return {
            "finding": classifier_finding(
                name, {**scores, name: first.scores}, {**self.simpler, name: first.predictions}
            ),
            "classifiers": {who: score.as_dict() for who, score in scores.items()}
            | {who: each.as_dict() for who, each in tuned.items()},
            "mistakes": first.mistakes,
        }


def judge_classifiers(request: ClassVerdictRequest, tuned: Mapping[str, str], folder: Path) -> SeveralJudged:
    """Test classifiers beside their base and decide.

    Args:
        request: The base, the texts and the options.
        tuned: The classifiers by name: folders, adapters' folders too, or Hub ids.
        folder: Where ``evidence.json``, ``verdict.json`` and what the report needs are written.

    Raises:
        ConfigError: No texts to test on.
        DataError: Texts that cannot be read, or a class without test texts.
        ModelError: A model that cannot be loaded, that did not start from the base, or that knows other classes.
    """
    train, test = read_classes(request)
    for model in tuned.values():
        _check_classes(request, model, train.classes)
    start = load_model(
        request.base, task="sequence-classification", labels=train.classes, revision=request.revision, **request.reading
    )
    settings = ClassifierSettings(
        model=request.base, labelled=request.labelled, labelled_test=request.labelled_test, seed=request.seed,
        window_tokens=min(request.window_tokens, usable_positions(start) or request.window_tokens),
        revision=request.revision, **request.reading,
    )  # fmt: skip
    tokenizer = load_tokenizer(request.base, revision=request.revision, trust_remote_code=request.trust_remote_code)
    bench = ClassifierBench(Classes(settings, request.base, LabelledSplit(train, test, 0, 0), tokenizer), start)
    found = {name: _measured(request, bench, model) for name, model in tuned.items()}
    return _written(request, tuned, bench, found, folder)


def _check_classes(request: ClassVerdictRequest, tuned: str, names: tuple[str, ...]) -> None:
    """Refuse a model of other classes: with a new head it would be another model. Adapters are checked when loaded."""
    if is_adapter_folder(tuned):
        return
    config = read_configuration(tuned, **request.reading)
    if not has_head_for(config, names):
        raise ModelError(
            f"{tuned} is no classifier of {', '.join(names)}, the classes of {request.labelled}; its config.json names "
            f"{', '.join(class_names(config))}. Give texts with its classes, under the names that it has for them"
        )


def _measured(request: ClassVerdictRequest, bench: ClassifierBench, tuned: str) -> MeasuredClassifier:
    """One classifier, with its own tokenizer where it has one."""
    adapter = is_adapter_folder(tuned)
    of_base: dict[str, Any] = {"adapter_base": request.base, "revision": request.revision} if adapter else {}
    model = load_model(tuned, task="sequence-classification", labels=bench.classes.names, **of_base, **request.reading)
    if not adapter:
        check_same_start(request.base, tuned, bench.start, model)
    try:
        tokenizer = load_tokenizer(tuned, trust_remote_code=request.trust_remote_code, **of_base)
    except FtkitError:  # a folder without one is the usual case of an adapter
        tokenizer = None
    return bench.measure(model, tokenizer=tokenizer)


def _written(
    request: ClassVerdictRequest,
    tuned: Mapping[str, str],
    bench: ClassifierBench,
    found: Mapping[str, MeasuredClassifier],
    folder: Path,
) -> SeveralJudged:
    """Verdicts, and the files that a report is made from."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, "verdict", {"phases": {}, "data": {}, "status": "done"}, is_main=True)
    rows = {
        name: {
            "verdict": table_cell(each.verdict.verdict),
            "accuracy": table_cell(str(each.scores.accuracy), each.scores.accuracy),
            "macro F1": table_cell(str(each.scores.macro_f1), each.scores.macro_f1),
            "log-loss, nats": table_cell(str(each.scores.log_loss), each.scores.log_loss),
        }
        for name, each in found.items()
    }
    write_evidence(run, bench.results(found) | ({"arms": rows} if len(rows) > 1 else {}))
    run.update_manifest(request=asdict(request) | {"tuned": dict(tuned)})
    written = write_verdicts(run, {name: each.verdict.as_dict() for name, each in found.items()})
    judged = {
        name: Judged(each.verdict, each.scores, {}, written[name]["next"], folder) for name, each in found.items()
    }
    return SeveralJudged(judged, rows, folder)
