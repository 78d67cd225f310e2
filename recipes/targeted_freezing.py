"""Is a part of the model enough?

Two arms from one base, ``everything`` and ``selected``, take the same batches in turn: their losses are compared step
by step, a watched matrix shows how far it moves, and each arm gets its own evidence and verdict.
Needs: a text. Minutes: 5.

    ftkit run targeted_freezing --corpus gutenberg:2701 --train attention.q@1..
    accelerate launch -m ftkit.recipes.targeted_freezing --config targeted_freeze
"""

from ftkit.recipe import FrequentTokenSettings, OneTextSettings, Problem, RunFolder, launch, recipe


class TargetedFreezingSettings(OneTextSettings, FrequentTokenSettings):
    """Targeted freezing: the shared settings, what may change in one of the arms, and what is watched."""

    FAST = {
        **OneTextSettings.FAST,
        "train": "attention.q@1..,attention.k@1..,attention.v@1..",
        "watch": "attention.k@1",
    }

    train: str | list[str] | None = "attention.q@1..,attention.k@1..,attention.v@1.."
    """What the arm selected may change; the arm everything may change all."""
    watch: str = "attention.k@-1"
    """Selectors of the tensors whose change is measured at every step."""

    def problems(self) -> list[Problem]:
        """An arm without a difference is no comparison."""
        missing = not (self.train or self.freeze)
        text = "is missing: without train or freeze both arms are the same"
        return super().problems() + ([("train", text)] if missing else [])


@recipe
def main(settings: TargetedFreezingSettings, run: RunFolder) -> None:
    """Text, base, two arms on the same batches, evidence for each, report."""
    from ftkit.jobs import finish, measure_models, prepare_target, train_in_lockstep
    from ftkit.tuning import ParameterGroups, check_tuning, select

    # The text, the base, other text for forgetting, and what each arm may change.
    target = prepare_target(settings, settings.corpus, run)
    selected = target.settings
    arms = {"everything": selected.model_copy(update={"train": None, "freeze": None}), "selected": selected}
    trainable = {name: check_tuning(target.base, arm) for name, arm in arms.items()}

    # Both arms, step by step on the same batches, and what the watched tensors move at each.
    train_in_lockstep(run, target, arms, select(ParameterGroups(target.base), settings.watch))
    if not run.is_main:
        return

    # Evidence for each arm, from the folder it was saved to, and the use of the text's words.
    measured = measure_models(target, run, trainable)
    usage, counted = measured.token_usage(selected)
    used = {name: {"use of frequent tokens, %": 100 * usage[name].after.value} for name in arms}
    table = measured.arm_rows(run, used)
    finish(run, measured.as_dict() | {"arms": table, "usage": counted}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
