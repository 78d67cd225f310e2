"""Everything, a part, or an adapter?

Three arms from one base on the same batches: ``full``, ``frozen`` (only what ``train`` names may change) and
``adapter``. For each: time and memory of a step, held-out bits per byte, style, bytes on disk, and what was forgotten.
Needs: a text. Minutes: 12.

    ftkit run compare_tuning --model FOLDER --corpus gutenberg:11 --peft lora
    accelerate launch -m ftkit.recipes.compare_tuning --config compare_alice
"""

from typing import Any, Literal

from ftkit.recipe import AdapterSettings, OneTextSettings, Problem, RunFolder, launch, recipe


class CompareTuningSettings(OneTextSettings, AdapterSettings):
    """Comparison of ways to tune: the shared settings, and what differs between the arms."""

    FAST = {**OneTextSettings.FAST, "rate_of_arms": {}}

    train: str | list[str] | None = "mlp"
    """What the arm frozen may change."""
    peft: Literal["lora", "dora", "rslora", "ia3", "prefix", "prompt", "bias", "tokens"] = "lora"
    """The adapter of the third arm (see docs/adapters.md)."""
    rate_of_arms: dict[str, float] = {}
    """Peak learning rates of single arms (full, frozen, adapter); the others use learning_rate."""

    def arms(self) -> dict[str, "CompareTuningSettings"]:
        """The settings of each arm."""
        ways: dict[str, dict[str, Any]] = {
            "full": {"train": None, "freeze": None, "peft": "none"},
            "frozen": {"peft": "none"},
            "adapter": {"train": None, "freeze": None},
        }
        return {
            name: self.model_copy(update=way | {"learning_rate": self.rate_of_arms.get(name, self.learning_rate)})
            for name, way in ways.items()
        }

    def problems(self) -> list[Problem]:
        """train belongs to one arm and peft to another, so here they do not exclude each other."""
        problems = [item for item in super().problems() if item[0] not in ("train", "freeze")]
        if unknown := sorted(set(self.rate_of_arms) - {"full", "frozen", "adapter"}):
            problems.append(("rate_of_arms", f"unknown arm {unknown[0]!r}; the arms are full, frozen and adapter"))
        if not self.train and not self.freeze:
            problems.append(("train", "is missing: without train or freeze the arm frozen is the arm full"))
        return problems


@recipe
def main(settings: CompareTuningSettings, run: RunFolder) -> None:
    """Text, base, three arms on the same batches, evidence for each, one table."""
    from ftkit.jobs import finish, measure_models, prepare_target, prepare_tuning, train_model

    # The text, the base, other text for forgetting, and what each arm may change.
    target = prepare_target(settings, settings.corpus, run)
    arms = target.settings.arms()
    ways = {name: prepare_tuning(target.start, run, arm) for name, arm in arms.items()}

    # Each arm on the same batches.
    for name, arm in arms.items():
        _, new_model = ways[name]
        train_model(run, name, new_model, target.training_text, arm, measure_memory=True)

    # Evidence for each arm, from the folder it was saved to.
    if not run.is_main:
        return
    measured = measure_models(target, run, {name: trainable for name, (trainable, _) in ways.items()})
    costs = {
        name: {
            "style, ngrams": evidence.style.judges[0].position,
            "memory of a step, MB": run.result(name)["memory_bytes"] / 1e6,
            "on disk, MB": sum(file.stat().st_size for file in run.model(name).glob("*.safetensors")) / 1e6,
        }
        for name, evidence in measured.evidence.items()
    }
    finish(run, measured.as_dict() | {"arms": measured.arm_rows(run, costs)}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
