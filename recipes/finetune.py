"""Does a pretrained model come to write like your text, and does it use the words that the text uses?

One model, one text. Everything may change, or a part, or an adapter; the objective may be another than the next token.
Before and after: held-out loss, use of the text's most frequent tokens, samples; then the verdict.

    ftkit run finetune --model FOLDER --corpus gutenberg:829
    ftkit run finetune --model FOLDER --corpus novel.txt --sweep learning_rate=1e-4,1e-5,1e-6
    ftkit run finetune --model FOLDER --corpus novel.txt --num_train_epochs 3 --freeze attention
    accelerate launch recipes/finetune.py --config gulliver_ft
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.config import AdapterSettings, launch


class FinetuneSettings(AdapterSettings):
    """Fine-tuning: the shared settings, one text, and what is counted before and after."""

    FAST = {
        "corpus": "voices:keeper:12000", "general": {"almanac": "voices:almanac:6000"}, "tokenizer": "train:512",
        "max_steps": 20, "window_tokens": 96, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
        "learning_rate": 3e-3, "optimizer": "adamw", "warmup_steps": 0, "eval_steps": 10, "sample_steps": 10,
        "save_steps": 10, "eval_windows": 16, "passage_chars": 120, "num_passages": 32, "sampling": "plain",
    }  # fmt: skip

    model: str = "base:demo_base"
    """Model to tune: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpus: str = "voices:keeper"
    """Text to learn: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it: the base's own text where it is base:CONFIG."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the text that is never trained on."""
    objective: str | None = None
    """What is minimised (see docs/objectives.md), e.g. last_token or next_token + 0.1*kl_to_base.
    Without it: the next token."""

    top_tokens: int = Field(default=100, ge=1)
    """Most frequent tokens of the training text whose use in generated text is counted."""
    min_token_chars: int = Field(default=1, ge=1)
    """Tokens with fewer characters, white space aside, are not among them."""
    sampling: Literal["plain", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of passages are drawn; plain is the model's own distribution, judged adds repetition penalty 1.3."""
    sample_steps: int = Field(default=100, ge=1)
    """Steps between samples."""
    sample_prompt: str = "I cannot believe that"
    """Beginning of every sample."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a passage that is measured."""
    num_passages: int = Field(default=96, ge=30)
    """Passages of each model that are measured."""


def main(settings: FinetuneSettings) -> None:
    """Text, base, training, evidence before and after, report."""
    from ftkit.evidence import frequent_tokens, token_usage
    from ftkit.report import announce
    from ftkit.runs import open_run
    from ftkit.studies import WritingTask, finish, measure_models, prepare_subject, prepare_tuning, train_model
    from ftkit.training import NEXT_TOKEN, Ingredients, TokenWindows, build_objective, read_objective

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return
        if settings.objective:
            read_objective(settings.objective)  # a wrong name is an error before anything is loaded

        # The text, the base, other text for forgetting, and what may change.
        subject, name = prepare_subject(settings, run), "tuned"
        settings, tokenizer = subject.settings, subject.tokenizer
        trainable, new_model = prepare_tuning(subject.start, run)
        objective: Any = NEXT_TOKEN
        if settings.objective:
            vocab_size = subject.base.config.get_text_config().vocab_size
            given = Ingredients(tokenizer, vocab_size, "causal-lm", subject.new_model)
            objective = build_objective(settings.objective, given)

        # Training, with a sample every few steps, the first before any update.
        writing = WritingTask(tokenizer, subject.heldout, subject.text.heldout, settings)

        def sample(model: Any, step: int) -> None:
            run.log("samples.jsonl", {"model": name, "step": step, **writing.sample(model)})

        source = TokenWindows(subject.train, settings.window_tokens, settings.seed)
        watch = (settings.sample_steps, sample)
        train_model(run, name, new_model, source, subject.heldout, settings, objective, watch)

        # Evidence before and after, from the folder it was saved to.
        if not run.is_main:
            return
        measured = measure_models(subject, run, {name: trainable})
        frequent = frequent_tokens(subject.train, tokenizer, settings.top_tokens, settings.min_token_chars)
        usage = token_usage(subject.floor, measured.passages[name], subject.real, tokenizer, frequent)
        counted = {
            "top": len(frequent), "real": usage.real.as_dict(), "models": {name: usage.as_dict()},
            "tokens": [tokenizer.decode([token]) for token in frequent[:12]],
        }  # fmt: skip
        metrics = {name: {"usage_before": usage.before.as_dict(), "usage_after": usage.after.as_dict()}}
        finish(run, measured.as_dict() | {"usage": counted, "metrics": metrics}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
