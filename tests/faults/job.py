"""What happens to a training run when the machine under it fails?

A recipe like those of the package, with a model so small that whole runs can be killed by the dozen.
"""

import math

from ftkit.config import TrainingSettings, launch


class JobSettings(TrainingSettings):
    """A few steps of a tiny model on the CPU."""

    model: str = "new:ftkit_gpt2"
    """Model."""
    tokenizer: str | None = "byte"
    """Tokenizer."""
    corpus: str = "voices:keeper:3000"
    """Text."""
    max_steps: int = 8
    """Updates."""
    window_tokens: int = 32
    """Tokens in a window."""
    per_device_train_batch_size: int = 4
    """Windows."""
    learning_rate: float = 1e-3
    """Rate."""
    save_steps: int = 1
    """Steps between checkpoints."""
    eval_steps: int = 4
    """Steps between evaluations."""
    eval_windows: int = 2
    """Windows of an evaluation."""
    use_cpu: bool = True
    """On the CPU."""
    poison_step: int = 0
    """After this step one weight becomes NaN."""


def main(settings: JobSettings) -> None:
    """Text, model, training, and the saved model."""
    import torch

    from ftkit.data import load_tokenizer, tokenize_texts
    from ftkit.jobs import load_texts
    from ftkit.models import load_model, save_model
    from ftkit.runs import open_run
    from ftkit.training import NEXT_TOKEN, CheckpointFolder, Engine, HeldOutWindows, TokenWindows, train_and_log

    with open_run(settings, __file__) as run:
        if run.finished:
            return
        text = load_texts({"corpus": settings.corpus}, settings, run)["corpus"]
        tokenizer = load_tokenizer(settings.tokenizer)
        train, heldout = tokenize_texts(text.train, tokenizer), tokenize_texts(text.heldout, tokenizer)
        model = load_model(settings.model, seed=settings.seed, vocab_size=len(tokenizer), max_positions=32)
        if run.done_results("model") is None:
            source = TokenWindows(train, settings.window_tokens, settings.seed)
            unseen = HeldOutWindows(heldout, settings.window_tokens)
            checkpoints = CheckpointFolder(run.checkpoints("model"), settings.save_total_limit)
            with Engine(model, NEXT_TOKEN, source, settings, checkpoints) as engine:
                run.truncate_logs("model", engine.step or -1)
                for record in train_and_log(engine, run, "model", source, unseen):
                    if record.step == settings.poison_step:
                        with torch.no_grad():
                            model.lm_head.weight[0, 0] = math.nan
            if run.is_main:
                save_model(model, tokenizer, run.model("model"))
                run.mark_done("model")


if __name__ == "__main__":
    launch(main)
