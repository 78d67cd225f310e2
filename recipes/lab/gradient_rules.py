"""What do freezing, clipping and a schedule each do to the training of a classifier?

Five arms from one start on the same batches: ``baseline`` (everything trains, nothing is clipped, one rate),
``freeze``, ``clip`` and ``schedule`` with one rule each, and ``all``. For each: accuracy and log-loss on all test
texts, how much the training loss varies at the end, what clipping cut, and what a step costs.

    ftkit run gradient_rules --classes negative=neg.txt --classes positive=pos.txt
    ftkit run gradient_rules --labelled reviews.csv#review,sentiment
    accelerate launch -m ftkit.recipes.lab.gradient_rules --config imdb_clip_sched
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from ftkit.recipe import ClassifierSettings, Problem, RunFolder, launch, recipe


class GradientRulesSettings(ClassifierSettings):
    """Rules about gradients and rates: the shared settings of classifiers; here they say what the rules are."""

    FAST = {
        **ClassifierSettings.FAST, "max_steps": 24, "learning_rate": 1e-3, "schedule_steps": 36, "max_grad_norm": 0.3,
        "eval_steps": 8, "save_steps": 12, "watch_gradients": ["mlp.out@-1"],
    }  # fmt: skip
    RULES: ClassVar[dict[str, tuple[str, ...]]] = {
        "freeze": ("train", "freeze", "freeze_until", "freeze_from", "unfreeze_every"),
        "clip": ("max_grad_norm", "max_grad_value", "max_group_norms", "clip_after"),
        "schedule": ("lr_scheduler_type", "warmup_steps", "min_lr_rate", "lr_cycles", "schedule_steps"),
    }
    """The settings that make each rule; an arm without a rule has none of them."""

    freeze: str | list[str] | None = "attention,embedding,position"
    """What may not change in the arms freeze and all: selectors."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Global norm to which gradients are clipped in the arms clip and all."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "linear"
    """Shape of the learning rate in the arms schedule and all; the others keep the peak."""
    warmup_steps: float = Field(default=0.05, ge=0)
    """Steps of linear warm-up in the arms schedule and all; below 1: as a share of max_steps."""
    watch_gradients: list[str] = ["mlp.out@-1"]
    """Selectors whose gradient norms are shown, beside that of the classifier and the global one."""

    def without(self, *rules: str) -> "GradientRulesSettings":
        """These settings with some of the rules taken away."""
        off: dict[str, Any] = {
            name: None if name in ("train", "freeze") else 0 for rule in rules for name in self.RULES[rule]
        }
        ways: dict[str, Any] = {"lr_scheduler_type": "constant", "lr_cycles": 0.5, "max_group_norms": {}}
        ways |= {"freeze_until": {}, "freeze_from": {}}
        return self.model_copy(update={name: ways.get(name, value) for name, value in off.items()})

    def arms(self) -> dict[str, "GradientRulesSettings"]:
        """The settings of each arm."""
        single = {rule: self.without(*(other for other in self.RULES if other != rule)) for rule in self.RULES}
        return {"baseline": self.without(*self.RULES), **single, "all": self}

    def problems(self) -> list[Problem]:
        """Add rules that change nothing, whose arm would be the baseline."""
        found = super().problems()
        arms, needed = self.arms(), {"freeze": "freeze", "clip": "max_grad_norm", "schedule": "lr_scheduler_type"}
        return found + [
            (name, f"is missing: without it the arm {arm} would be the baseline")
            for arm, name in needed.items()
            if arms[arm] == arms["baseline"]
        ]


@recipe
def main(settings: GradientRulesSettings, run: RunFolder) -> None:
    """Texts, five arms on the same batches, all test texts for each, one table, one sentence."""
    from ftkit.jobs import finish, load_saved, prepare_classes, train_classifier
    from ftkit.lab.gradient_rules import arm_difference, classifier_row, loss_curve, rules_finding
    from ftkit.tuning import check_tuning, movement, snapshot

    # The texts, a start that is the same for every arm, and what each arm may change.
    classes = prepare_classes(settings, run)
    arms, start = classes.settings.arms(), classes.new_model()
    trainable = {name: check_tuning(classes.new_model(), arm) for name, arm in arms.items()}

    # Each arm on the same batches.
    for name, arm in arms.items():
        train_classifier(run, name, classes, arm)
    if not run.is_main:
        return

    # Every arm on all test texts, from the folder it was saved to, beside the model that nobody has trained.
    predictions, curves, found, before = {"untrained": classes.predict(start)}, {}, {}, snapshot(start)
    for name in arms:
        tuned = load_saved(classes.settings, run.model(name), "sequence-classification")
        predictions[name] = classes.predict(tuned)
        steps = [r for r in run.records("metrics.jsonl") if (r["model"], r["split"]) == (name, "train")]
        curves[name] = loss_curve(steps)
        moved = movement(before, tuned, trainable[name])
        found[name] = {"leaks": moved.leaks, "frozen": moved.frozen, **run.result(name)}
    scores = {name: classes.score(predicted) for name, predicted in predictions.items()}
    baseline = predictions["baseline"], curves["baseline"]
    differences = {
        name: arm_difference(baseline, (predictions[name], curves[name]), len(arms) - 1)
        for name in arms
        if name != "baseline"
    }
    idle = [name for name in ("clip", "all") if not curves[name].clipped]
    evidence = {
        "finding": rules_finding(scores["baseline"].accuracy, differences, idle),
        "classifiers": {name: {**score.as_dict(), **found.get(name, {})} for name, score in scores.items()},
        "differences": {name: difference.as_dict() for name, difference in differences.items()},
        "arms": {name: classifier_row(run, name, scores[name], curves[name], differences.get(name)) for name in arms},
        "headline": {"metric": "accuracy", "higher_is_better": True},
        "metrics": {name: scores[name].metrics(predictions[name]) for name in arms},
    }
    finish(run, evidence)


if __name__ == "__main__":
    launch(main)
