"""Can a model answer like my examples?

Supervised fine-tuning on prompts with completions, or dialogues: whole, in part, or by an adapter. Before and after:
loss of held-out completions, the form of answers, exact match, copying; the base is also asked with examples in its
prompt. Then the verdict.
Needs: examples. Minutes: 1.

    ftkit run sft --model FOLDER --examples chats.jsonl --peft lora
    ftkit run sft --examples qa.csv --columns prompt=question,completion=reply
"""

from ftkit.recipe import ExampleSettings, RunFolder, launch, recipe


@recipe
def main(settings: ExampleSettings, run: RunFolder) -> None:
    """Examples, base, training, evidence before and after, report."""
    from ftkit.jobs import finish, measure_examples, prepare_examples, prepare_tuning, train_model

    # Two examples are shown as the model will see them.
    target = prepare_examples(settings, run)
    trainable, new_model = prepare_tuning(target.start, run, target.settings)

    # An answer to one held-out prompt is logged every few steps.
    train_model(
        run, "tuned", new_model, target.training_text, target.settings, watch=target.log_answers(run, "tuned")
    )  # fmt: skip
    if run.is_main:
        finish(run, *measure_examples(target, run, {"tuned": trainable}))


if __name__ == "__main__":
    launch(main)
