"""What is learned from my text alone?

Random weights of any architecture, one text or several, random windows; samples while it learns; a verdict that
compares the trained model with the untrained one on text that neither has seen. A causal model learns the next token
and writes; an encoder learns masked tokens and fills them in.
Needs: a text. Minutes: 2.

    ftkit run pretrain --corpus gutenberg:829
    ftkit run pretrain --corpus gutenberg:829 --model new:bert
    accelerate launch -m ftkit.recipes.pretrain --config pretrain_model5_small
"""

from typing import Any

from pydantic import Field

from ftkit.recipe import EpochSettings, Problem, RunFolder, SampleSettings, launch, recipe


class PretrainSettings(SampleSettings, EpochSettings):
    """Pretraining: the shared settings, with defaults for learning from scratch."""

    FAST = {
        "corpora": {}, "corpus": "voices:keeper:10000", "tokenizer": "train:512", "max_steps": 30, "window_tokens": 96,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "warmup_steps": 0,
        "eval_steps": 10, "sample_steps": 10, "save_steps": 10, "passage_chars": 120, "num_passages": 32,
        "sample_prompt": "", "donor": None, "watch_gradients": [],
    }  # fmt: skip

    corpus: str | None = None
    """Text to learn: {sources}."""
    corpora: dict[str, str] = {}
    """Several texts to learn together, each with a name; instead of corpus."""
    tokenizer: str | None = "train:2048"
    """Tokenizer: a folder, a Hub id, tiktoken:NAME, byte, or train:SIZE (byte-level BPE trained on the text)."""
    objective: str | None = None
    """What is minimised (see docs/objectives.md), e.g. last_token, smoothed:0.1 or next_token + 0.1*token_set:x.
    Without it: the next token, of an encoder masked tokens."""
    donor: str | None = None
    """Model whose tokenizer is used and from which transplant is copied: a folder, a Hub id, or base:CONFIG."""
    transplant: str | list[str] | None = "embedding"
    """What is copied from the donor before training: selectors; null copies nothing."""
    learning_rate: float = Field(default=1e-3, ge=0)
    """Peak learning rate of AdamW."""
    num_passages: int | None = Field(default=None, ge=8)
    """Passages of each model that are measured; half of them follow words of the training text."""

    @property
    def sources(self) -> dict[str, str]:
        """The texts by name."""
        return {"corpus": self.corpus} if self.corpus else self.corpora

    @property
    def untrained(self) -> bool | None:
        """Not where a donor's weights are copied."""
        return None if self.donor and self.transplant else super().untrained

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """Texts and a donor that are given as flags take the place of what is tiny."""
        fast = super().fast_values(values, flags)
        if flags.get("donor"):
            fast.pop("tokenizer")
        return fast | ({"corpus": None} if "corpora" in flags else {})

    def problems(self) -> list[Problem]:
        """One text or several, not both and not none."""
        wrong = bool(self.corpus) == bool(self.corpora)
        return super().problems() + ([("corpus", "give either corpus or corpora, one of them")] if wrong else [])


@recipe
def main(settings: PretrainSettings, run: RunFolder) -> None:
    """Train, compare with the untrained model, report."""
    from ftkit.evidence import as_evidence, decide
    from ftkit.jobs import TrainingText, check_objective, finish, log_samples, prepare_pretraining, train_model
    from ftkit.tuning import check_tuning

    check_objective(settings.objective)

    # Texts, divided before they are tokenized; the model, from random weights but for what is copied; and what it
    # learns: to write, or to fill in.
    study = prepare_pretraining(settings, settings.sources, run, settings.donor, settings.transplant)
    settings, task, model = study.settings, study.task, study.new_model()
    trainable = check_tuning(model, settings)
    task.check(model)

    # Training, with a sample every few steps.
    watch = (settings.sample_steps, log_samples(run, "model", task))
    text = TrainingText(task.source(study.train), task.held_out())
    train_model(run, "model", lambda: model, text, settings, study.objective(settings.objective), watch)

    # Evidence: the trained model beside the untrained one.
    if run.is_main:
        evidence, passages = study.measure(run, "model", trainable)
        measured = {"models": {"model": evidence.as_dict()}, "judges": {}, **as_evidence(passages)}
        finish(run, {**measured, "real": {"model": task.real}}, {"model": decide(evidence).as_dict()})


if __name__ == "__main__":
    launch(main)
