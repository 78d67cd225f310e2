"""Train everything, a part, or an adapter: what does each cost, and what does each learn and forget?

Three arms from one base on the same batches: ``full``, ``frozen`` (only what ``train`` names may change) and
``adapter``. For each: time and memory of a step, held-out bits per byte, style, bytes on disk, and what was forgotten.

    ftkit run compare_tuning --model FOLDER --corpus gutenberg:11 --peft lora
    accelerate launch recipes/compare_tuning.py --config compare_alice_small
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.config import AdapterSettings, launch
from ftkit.config.settings import Problem


class CompareTuningSettings(AdapterSettings):
    """Comparison of ways to tune: the shared settings, one text, and what differs between the arms."""

    FAST = {
        "corpus": "voices:keeper:12000", "general": {"almanac": "voices:almanac:6000"}, "tokenizer": "train:512",
        "max_steps": 20, "window_tokens": 96, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
        "learning_rate": 3e-3, "rate_of_arms": {}, "optimizer": "adamw", "eval_steps": 10, "save_steps": 10,
        "eval_windows": 16, "passage_chars": 120, "num_passages": 32, "sampling": "plain",
    }  # fmt: skip

    model: str = "base:demo_base"
    """Base of all arms: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpus: str = "voices:keeper"
    """Text to learn: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it: the base's own text where it is base:CONFIG."""
    train: str | list[str] | None = "mlp"
    """What the arm frozen may change."""
    peft: Literal["lora", "dora", "rslora", "ia3", "prefix", "prompt", "bias", "tokens"] = "lora"
    """The adapter of the third arm (see docs/adapters.md)."""
    rate_of_arms: dict[str, float] = {}
    """Peak learning rates of single arms (full, frozen, adapter); the others use learning_rate."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the text that is never trained on."""
    sampling: Literal["plain", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of passages are drawn; plain is the model's own distribution, judged adds repetition penalty 1.3."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a passage that is measured."""
    num_passages: int = Field(default=96, ge=30)
    """Passages of each model that are measured."""

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
        found = [item for item in super().problems() if item[0] not in ("train", "freeze")]
        if unknown := sorted(set(self.rate_of_arms) - {"full", "frozen", "adapter"}):
            found.append(("rate_of_arms", f"{unknown[0]!r} is no arm; there are full, frozen and adapter"))
        if not self.train and not self.freeze:
            found.append(("train", "is missing: without train or freeze the arm frozen is the arm full"))
        return found


def main(settings: CompareTuningSettings) -> None:
    """Text, base, three arms on the same batches, evidence for each, one table."""
    from ftkit.report import announce, arm_row
    from ftkit.runs import open_run
    from ftkit.studies import base_of_adapters, finish, measure_models, prepare_subject, save_trained
    from ftkit.training import (
        NEXT_TOKEN,
        CheckpointFolder,
        Engine,
        TokenWindows,
        build_probes,
        follow,
        with_steps_of_passes,
    )
    from ftkit.tuning import attach_adapter, check_adapter, check_tuning

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return

        # The text, the base, other text for forgetting, and what each arm may change.
        subject = prepare_subject(settings, run)
        settings = subject.settings
        arms = settings.arms()
        check_adapter(subject.base, arms["adapter"])
        trainable = {name: check_tuning(subject.new_model(), arms[name]) for name in ("full", "frozen")}
        place = base_of_adapters(subject.base, subject.tokenizer, subject.start.origin.model, settings, run)

        # Each arm on the same batches.
        source = TokenWindows(subject.train, settings.window_tokens, settings.seed)
        for name, asked in arms.items():
            if run.sealed(name):
                continue
            arm = with_steps_of_passes(asked, source)
            model: Any = subject.new_model()
            model = attach_adapter(model, arm, base=place) if name == "adapter" else model
            checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
            probes = build_probes(arm, model, subject.train, subject.heldout)
            with Engine(model, NEXT_TOKEN, source, arm, checkpoints) as engine:
                run.rewind(name, engine.step or -1)  # what a killed run logged after its checkpoint comes again
                for _ in follow(engine, run, name, source, subject.heldout, probes):
                    pass
                memory = engine.peak_bytes()
            save_trained(run, name, model, subject.tokenizer, source, memory_bytes=memory)

        # Evidence for each arm, from the folder it was saved to.
        if not run.is_main:
            return
        measured, rows = measure_models(subject, run, {name: trainable.get(name) for name in arms}), {}
        for name, evidence in measured.evidence.items():
            on_disk = sum(file.stat().st_size for file in run.model(name).glob("*.safetensors"))
            more = {
                "style, ngrams": evidence.styles[0].position,
                "memory of a step, MB": run.result(name)["memory_bytes"] / 1e6,
                "on disk, MB": on_disk / 1e6,
            }
            rows[name] = arm_row(run, name, evidence, more)
        finish(run, measured.as_dict() | {"arms": rows}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
