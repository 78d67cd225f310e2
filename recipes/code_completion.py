"""Does a code model learn my code?

A base learns a folder of code, notebooks, or a part of the standard library. Before and after it writes from the same
places in code that it never saw; how much of it parses, compiles, and looks like that code is counted beside real code
that was cut alike. Nothing that a model writes is run.
Needs: Python code. Minutes: 5.

    ftkit run code_completion --model FOLDER --corpus code:my_project
    ftkit run code_completion --corpus notebooks:calculus-book --peft lora
    accelerate launch -m ftkit.recipes.code_completion --config codegen_calculus
"""

from pydantic import Field

from ftkit.recipe import AdapterSettings, CodeSettings, RunFolder, launch, recipe


class CodeCompletionSettings(CodeSettings, AdapterSettings):
    """Tuning on code: the shared settings, and how often samples are shown."""

    FAST = {
        **CodeSettings.FAST, "corpus": "code:stdlib:120000", "heldout_share": 0.3, "max_steps": 16,
        "window_tokens": 128, "warmup_steps": 0, "eval_steps": 8, "sample_steps": 8, "save_steps": 8,
        "prompt_tokens": 16, "prompted_passages": 8,
    }  # fmt: skip

    sample_steps: int = Field(default=100, ge=1)
    """Steps between samples that are shown."""


@recipe
def main(settings: CodeCompletionSettings, run: RunFolder) -> None:
    """Code, base, training, samples of both from the same places, evidence, report."""
    from ftkit.evidence import as_evidence, decide
    from ftkit.jobs import finish, load_saved, prepare_code, prepare_tuning, train_model

    # The code, the base, and the places in held-out code from which both will write.
    study, name = prepare_code(settings, run), "code"
    settings, target = study.settings, study.target
    trainable, new_model = prepare_tuning(target.start, run, settings)

    # Training, with samples every few steps.
    watch = (settings.sample_steps, study.log_samples(name))
    train_model(run, name, new_model, target.training_text, settings, watch=watch)

    # Evidence, from the folder that the model was saved to.
    if run.is_main:
        tuned = load_saved(settings, run.model(name))
        evidence, passages = target.measure(run, name, tuned, trainable)
        code = study.measure(tuned, passages.heldout)
        verdict = decide(evidence)
        verdict.reasons.append(study.reason(code))
        measured = {
            "models": {name: evidence.as_dict()},
            "judges": {},
            **as_evidence({"base model": target.floor(evidence.passages), name: passages}),
            "real": {name: target.real},
            "code": code,
            "headline": {"metric": "parses", "higher_is_better": True},
            "metrics": {name: {key: code["scores"]["tuned"][key] for key in ("parses", "compiles", "well_formed")}},
            "finding": code["finding"],
        }
        finish(run, measured, {name: verdict.as_dict()})


if __name__ == "__main__":
    launch(main)
