"""What does fine-tuning on my text do?

One model, one text. Everything may change, or a part, or an adapter; the objective may be another than the next token.
Before and after: held-out loss, use of the text's most frequent tokens, samples; then the verdict.
Needs: a text. Minutes: 2.

    ftkit run finetune --model FOLDER --corpus gutenberg:829
    ftkit run finetune --corpus novel.txt --num_train_epochs 3 --peft lora
    ftkit run finetune --corpus novel.txt --sweep learning_rate=1e-4,1e-5
    accelerate launch -m ftkit.recipes.finetune --config gulliver_ft
"""

from ftkit.recipe import (
    TRAINING_LENGTHS,
    AdapterSettings,
    FrequentTokenSettings,
    OneTextSettings,
    RunFolder,
    SampleSettings,
    launch,
    recipe,
)


class FinetuneSettings(OneTextSettings, SampleSettings, FrequentTokenSettings, AdapterSettings):
    """Fine-tuning: the shared settings, and what is minimised."""

    FAST = {**OneTextSettings.FAST, "warmup_steps": 0, "sample_steps": 10}
    LENGTHS = (*OneTextSettings.LENGTHS, *TRAINING_LENGTHS)

    objective: str | None = None
    """What is minimised (see docs/objectives.md), e.g. last_token or next_token + 0.1*kl_to_base.
    Without it: the next token."""
    sample_prompt: str = "I cannot believe that"
    """Beginning of every sample."""


@recipe
def main(settings: FinetuneSettings, run: RunFolder) -> None:
    """Text, base, training, evidence before and after, report."""
    from ftkit.jobs import (
        WritingTask,
        check_objective,
        finish,
        fit_training,
        log_samples,
        measure_models,
        prepare_target,
        prepare_tuning,
        train_model,
    )

    check_objective(settings.objective)

    # The text, the base, other text for forgetting, and what may change.
    target, name = prepare_target(settings, settings.corpus, run), "tuned"
    settings = fit_training(target, run)
    trainable, new_model = prepare_tuning(target.start, run, settings)
    objective = target.objective(settings.objective)

    # Training, with a sample every few steps, the first before any update.
    writing = WritingTask(target.writer, target.heldout, target.real, settings)
    watch = (settings.sample_steps, log_samples(run, name, writing))
    train_model(run, name, new_model, target.training_text, settings, objective, watch)

    # Evidence before and after, from the folder it was saved to.
    if run.is_main:
        measured = measure_models(target, run, {name: trainable})
        usage, counted = measured.token_usage(settings)
        before, after = usage[name].before.as_dict(), usage[name].after.as_dict()
        metrics = {name: {"usage_before": before, "usage_after": after}}
        finish(run, measured.as_dict() | {"usage": counted, "metrics": metrics}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
