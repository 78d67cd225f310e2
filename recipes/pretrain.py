"""What does a model learn from nothing but your text?

Random weights of any architecture, one text or several, random windows; samples while it learns; a verdict that
compares the trained model with the untrained one on text that neither has seen. A causal model learns the next token
and writes; an encoder learns masked tokens and fills them in.

    ftkit run pretrain --corpus gutenberg:829
    ftkit run pretrain --corpus gutenberg:829 --model new:bert
    accelerate launch recipes/pretrain.py --config pretrain_model5_small
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.config import TrainingSettings, launch
from ftkit.config.settings import Problem


class PretrainSettings(TrainingSettings):
    """Pretraining: the shared settings, with defaults for learning from scratch."""

    FAST = {
        "corpora": {}, "corpus": "voices:keeper:10000", "tokenizer": "train:512", "max_steps": 30, "window_tokens": 96,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "warmup_steps": 0,
        "eval_steps": 10, "sample_steps": 10, "save_steps": 10, "passage_chars": 120, "num_passages": 16,
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
    sampling: Literal["plain", "greedy", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of samples and passages are drawn; plain is the model's own distribution."""
    sample_steps: int = Field(default=100, ge=1)
    """Steps between samples."""
    sample_prompt: str = ""
    """Beginning of every sample; empty: the end-of-text token."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a passage that is measured."""
    num_passages: int = Field(default=64, ge=8)
    """Passages of each model that are measured."""

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
        found = super().problems() + ([("corpus", "give either corpus or corpora, one of them")] if wrong else [])
        if self.donor and self.is_overridden("tokenizer") and self.tokenizer:
            found.append(
                ("tokenizer", f"has no effect beside donor: {self.donor}, whose tokenizer is used; leave it out")
            )
        if self.transplant and self.is_overridden("transplant") and not self.donor:
            found.append(("transplant", "has no effect without a donor; name one, or leave it out"))
        return found


def main(settings: PretrainSettings) -> None:
    """Train, compare with the untrained model, report."""
    from ftkit.data import tokenize_texts
    from ftkit.evidence import ComparedPassages, ComparedTexts, Comparison, decide, gather_evidence
    from ftkit.inspection import transplant
    from ftkit.models import task_of
    from ftkit.report import announce
    from ftkit.runs import open_run
    from ftkit.studies import (
        finish,
        fit_language,
        foresee_base,
        language_task,
        load_saved,
        load_start,
        load_start_tokenizer,
        load_texts,
        prepare_base,
        read_special_tokens,
        train_model,
    )
    from ftkit.training import Ingredients, build_objective, read_objective
    from ftkit.tuning import check_tuning

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return
        if settings.objective:
            read_objective(settings.objective)  # a wrong name is told before anything is loaded

        # Text, divided before it is tokenized.
        texts = load_texts(settings.sources, settings, run)
        train_texts = [piece for text in texts.values() for piece in text.train]
        heldout_texts = [piece for text in texts.values() for piece in text.heldout]
        kind = task_of(
            settings.model,
            settings.revision,
            trust_remote_code=settings.trust_remote_code,
            allow_pickle=settings.allow_pickle,
        )
        base, _ = foresee_base(settings, train_texts, kind == "masked-lm")
        settings = fit_language(settings, run, base, texts, kind)
        donor = prepare_base(settings.donor).model if settings.donor else None
        reads = settings.model_copy(update={"tokenizer": donor}) if donor else settings
        tokenizer = load_start_tokenizer(reads, settings.model, train_texts, kind == "masked-lm")
        read_special_tokens(settings, run, texts, tokenizer)
        train, heldout = tokenize_texts(train_texts, tokenizer), tokenize_texts(heldout_texts, tokenizer)

        # The model, from random weights but for what is copied, and what it learns: to write, or to fill in.
        def untrained() -> Any:
            model = load_start(
                settings, settings.model, task=kind, vocab_size=len(tokenizer), max_positions=settings.window_tokens
            )
            if donor and settings.transplant:
                transplant(load_saved(settings, donor, kind), model, settings.transplant)
            return model

        model, task = untrained(), language_task(kind, tokenizer, heldout, heldout_texts, settings)
        trainable = check_tuning(model, settings)
        task.check(model)
        objective: Any = task.objective
        if settings.objective:
            rows = model.config.get_text_config().vocab_size
            objective = build_objective(settings.objective, Ingredients(tokenizer, rows, kind, untrained))

        # Training, with a sample every few steps.
        def sample(model: Any, step: int) -> None:
            run.log("samples.jsonl", {"model": "model", "step": step, **task.sample(model)})

        watch = (settings.sample_steps, sample)
        train_model(run, "model", lambda: model, task.source(train), heldout, settings, objective, watch)

        # Evidence: the trained model beside the untrained one.
        if run.is_main:
            base = untrained()
            tuned = load_saved(settings, run.model("model"), kind)
            passages = {"base model": task.write(base), "model": task.write(tuned)}
            evidence = gather_evidence(
                Comparison(
                    base, tuned, ComparedTexts(heldout, train_texts, train_texts + heldout_texts),
                    ComparedPassages(passages["base model"], passages["model"], task.real), settings.window_tokens,
                    masking=task.masking, trainable=trainable,
                    reload_difference=run.result("model")["reload_difference"],
                    passes=run.manifest["plan"]["model"]["passes"],
                )
            )  # fmt: skip
            finish(
                run,
                {
                    "models": {"model": evidence.as_dict()},
                    "judges": {},
                    "passages": passages,
                    "real": {"model": task.real},
                },
                {"model": decide(evidence).as_dict()},
            )


if __name__ == "__main__":
    launch(main)
