"""Does a model write better Python after it was tuned on your code?

A base learns a folder of code, notebooks, or a part of the standard library. Before and after it writes from the same
places in code that it never saw; how much of it parses, compiles, and looks like that code is counted beside real code
that was cut alike. Nothing that a model writes is run.

    ftkit run code_completion --model FOLDER --corpus code:my_project
    ftkit run code_completion --model Salesforce/codegen-350M-mono --corpus notebooks:calculus-book --peft lora
    accelerate launch recipes/code_completion.py --config codegen_calculus_small
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.config import AdapterSettings, launch
from ftkit.config.settings import Problem


class CodeCompletionSettings(AdapterSettings):
    """Tuning on code: the shared settings, the code, and how samples are taken."""

    FAST = {
        "corpus": "code:stdlib:120000", "general": {"almanac": "voices:almanac:6000"}, "tokenizer": "train:512",
        "heldout_share": 0.3, "max_steps": 16, "window_tokens": 128, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "optimizer": "adamw", "warmup_steps": 0,
        "eval_steps": 8, "sample_steps": 8, "save_steps": 8, "eval_windows": 16, "passage_chars": 120,
        "num_passages": 32, "prompt_tokens": 16, "prompted_passages": 8, "sampling": "plain",
    }  # fmt: skip

    model: str = "base:code_base_small"
    """Base: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpus: str = "code:stdlib/asyncio"
    """Code to learn: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it: the base's own text where it is base:CONFIG."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the code that is never trained on; whole files where there are many."""

    sampling: Literal["plain", "greedy", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens are drawn; plain is the model's own distribution."""
    temperature: float = Field(default=0.0, ge=0)
    """Temperature of the draw, instead of the one that sampling has; 0 keeps that."""
    prompt_tokens: int = Field(default=32, ge=1)
    """Tokens of held-out code before each sample; fewer where its file begins."""
    passage_chars: int = Field(default=320, ge=40)
    """Characters of a sample, real or generated, before it is cut back to whole lines."""
    num_passages: int = Field(default=96, ge=30)
    """Samples of each model, from as many places in held-out code where there are so many."""
    prompt: str = "for i in range(10):"
    """A beginning that both models complete too; empty leaves it out."""
    prompted_passages: int = Field(default=32, ge=2)
    """Completions of that beginning by each model."""
    sample_steps: int = Field(default=100, ge=1)
    """Steps between samples that are shown."""

    def problems(self) -> list[Problem]:
        """Settings without effect."""
        found = super().problems()
        if self.temperature and self.sampling == "greedy":
            found.append(("temperature", "has no effect with sampling: greedy; choose another, or leave it out"))
        return found


def main(settings: CodeCompletionSettings) -> None:
    """Code, base, training, samples of both from the same places, evidence, report."""
    from ftkit.evidence import decide
    from ftkit.report import announce
    from ftkit.runs import open_run
    from ftkit.studies import finish, load_saved, prepare_code, prepare_tuning, train_model
    from ftkit.training import TokenWindows

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return

        # The code, the base, and the places in held-out code from which both will write.
        study, name = prepare_code(settings, run), "code"
        settings, subject = study.settings, study.subject
        trainable, new_model = prepare_tuning(subject.start, run)

        # Training, with samples every few steps.
        def sample(model: Any, step: int) -> None:
            study.sample(model, name, step)

        source = TokenWindows(subject.train, settings.window_tokens, settings.seed)
        watch = (settings.sample_steps, sample)
        train_model(run, name, new_model, source, subject.heldout, settings, watch=watch)

        # Evidence, from the folder that the model was saved to.
        if not run.is_main:
            return
        tuned = load_saved(settings, run.model(name))
        passages = subject.write(tuned)
        evidence = subject.measure(run, name, tuned, passages, trainable)
        verdict, code = decide(evidence), study.measure(tuned, passages)
        verdict.reasons.append(study.reason(code))
        measured = {
            "models": {name: evidence.as_dict()},
            "judges": {},
            "passages": {"base model": subject.floor, name: passages},
            "real": {name: subject.real},
            "code": code,
            "headline": {"metric": "parses", "higher_is_better": True},
            "metrics": {name: {key: code["scores"]["tuned"][key] for key in ("parses", "compiles", "well_formed")}},
            "finding": code["finding"],
        }
        finish(run, measured, {name: verdict.as_dict()})


if __name__ == "__main__":
    launch(main)
