"""Does a model that may change only some of its parts learn a text as well as one that may change everything?

Two arms from one base, ``everything`` and ``selected``, take the same batches in turn: their losses are compared step
by step, a watched matrix shows how far it moves, and each arm gets its own evidence and verdict.

    ftkit run targeted_freezing --model FOLDER --corpus gutenberg:2701 --train attention.q@6..,attention.k@6..
    accelerate launch recipes/targeted_freezing.py --config targeted_freeze_small
"""

from typing import Literal

from pydantic import Field

from ftkit.config import TrainingSettings, launch
from ftkit.config.settings import Problem


class TargetedFreezingSettings(TrainingSettings):
    """Targeted freezing: the shared settings, one text, and what is watched."""

    FAST = {
        "corpus": "voices:keeper:12000", "general": {"almanac": "voices:almanac:6000"}, "tokenizer": "train:512",
        "train": "attention.q@1..,attention.k@1..,attention.v@1..", "watch": "attention.k@1", "max_steps": 20,
        "window_tokens": 96, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
        "learning_rate": 3e-3, "optimizer": "adamw", "eval_steps": 10, "save_steps": 10, "eval_windows": 16,
        "passage_chars": 120, "num_passages": 32, "sampling": "plain",
    }  # fmt: skip

    model: str = "base:demo_base"
    """Base of both arms: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpus: str = "voices:keeper"
    """Text to learn: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it: the base's own text where it is base:CONFIG."""
    train: str | list[str] | None = "attention.q@1..,attention.k@1..,attention.v@1.."
    """What the arm selected may change; the arm everything may change all."""
    watch: str = "attention.k@-1"
    """Selectors of the tensors whose change is measured at every step."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the text that is never trained on."""

    top_tokens: int = Field(default=100, ge=1)
    """Most frequent tokens of the training text whose use in generated text is counted."""
    min_token_chars: int = Field(default=1, ge=1)
    """Tokens with fewer characters, white space aside, are not among them."""
    sampling: Literal["plain", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of passages are drawn; plain is the model's own distribution, judged adds repetition penalty 1.3."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a passage that is measured."""
    num_passages: int = Field(default=96, ge=30)
    """Passages of each model that are measured."""

    def problems(self) -> list[Problem]:
        """An arm without a difference is no comparison."""
        found = super().problems()
        if not self.train and not self.freeze:
            found.append(("train", "is missing: without train or freeze both arms are the same"))
        return found


def main(settings: TargetedFreezingSettings) -> None:
    """Text, base, two arms on the same batches, evidence for each, report."""
    from contextlib import ExitStack

    from ftkit.evidence import frequent_tokens, token_usage
    from ftkit.report import announce, arm_row
    from ftkit.runs import open_run
    from ftkit.studies import finish, measure_models, prepare_subject, save_trained
    from ftkit.training import NEXT_TOKEN, CheckpointFolder, Engine, TokenWindows, build_probes, follow, lockstep
    from ftkit.tuning import ParameterGroups, Watch, check_tuning, select

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return

        # The text, the base, other text for forgetting, and what each arm may change.
        subject = prepare_subject(settings, run)
        settings = subject.settings
        arms = {"everything": settings.model_copy(update={"train": None, "freeze": None}), "selected": settings}
        watched = select(ParameterGroups(subject.base), settings.watch)
        trainable = {name: check_tuning(subject.base, arm) for name, arm in arms.items()}

        # Both arms, step by step on the same batches.
        source = TokenWindows(subject.train, settings.window_tokens, settings.seed)
        if run.sealed("selected") is None:
            models = {name: subject.new_model() for name in arms}
            probes = {
                name: build_probes(arm, models[name], subject.train, subject.heldout) for name, arm in arms.items()
            }
            with ExitStack() as stack:
                engines = {}
                for name, arm in arms.items():
                    checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
                    engines[name] = stack.enter_context(Engine(models[name], NEXT_TOKEN, source, arm, checkpoints))
                    run.rewind(name, engines[name].step or -1)  # what a killed run logged after its checkpoint
                streams = {
                    name: follow(engine, run, name, source, subject.heldout, probes[name])
                    for name, engine in engines.items()
                }
                turns = lockstep(engines, streams)
                watches = {name: Watch(model, watched) for name, model in models.items()}
                for name, record in turns:
                    moved = {"model": name, "step": record.step, "split": "watch", "change": watches[name].change()}
                    run.log("metrics.jsonl", moved)
            for name, model in models.items():
                save_trained(run, name, model, subject.tokenizer, source)

        # Evidence for each arm, from the folder it was saved to.
        if not run.is_main:
            return
        frequent = frequent_tokens(subject.train, subject.tokenizer, settings.top_tokens, settings.min_token_chars)
        measured, usage, rows = measure_models(subject, run, trainable), {}, {}
        for name, evidence in measured.evidence.items():
            used = token_usage(subject.floor, measured.passages[name], subject.real, subject.tokenizer, frequent)
            usage[name] = used.as_dict()
            rows[name] = arm_row(run, name, evidence, {"use of frequent tokens, %": 100 * used.after.value})
        counted = {"top": len(frequent), "real": usage["selected"]["real"], "models": usage}
        finish(run, measured.as_dict() | {"arms": rows, "usage": counted}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
