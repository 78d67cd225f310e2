"""The settings of recipes whose models learn a text and write passages that are measured."""

from typing import Any, Literal

from pydantic import Field

from ftkit.config.settings import TrainingSettings

__all__ = [
    "CodeSettings",
    "FrequentTokenSettings",
    "JudgeSettings",
    "OneTextSettings",
    "PassageSettings",
    "SampleSettings",
    "TextSettings",
]


class PassageSettings(TrainingSettings):
    """What recipes can be told whose models write passages."""

    sampling: Literal["plain", "greedy", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of passages are drawn; plain is the model's own distribution, judged adds repetition penalty 1.3."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a passage that is measured, real or generated."""
    num_passages: int | None = Field(default=None, ge=30)
    """Passages of each model that are measured, half of them after words of the training text. By default 96,
    then 192 and 384 where the verdict is not decided."""

    @property
    def other_texts(self) -> dict[str, str]:
        """Sources of other real text by name; empty where the recipe takes none."""
        return {}


class SampleSettings(PassageSettings):
    """What recipes can be told that show a sample every few steps."""

    sample_steps: int = Field(default=100, ge=1)
    """Steps between samples."""
    sample_prompt: str = ""
    """Beginning of every sample; empty: the end-of-text token."""


class TextSettings(PassageSettings):
    """What recipes can be told that tune a base on texts, and measure what it forgets on other text."""

    FAST = {
        "general": {"almanac": "voices:almanac:6000"}, "tokenizer": "train:512", "max_steps": 20, "window_tokens": 96,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "optimizer": "adamw",
        "eval_steps": 10, "save_steps": 10, "eval_windows": 16, "passage_chars": 120, "num_passages": 32,
        "sampling": "plain",
    }  # fmt: skip

    model: str = "base:tales"
    """Base of every model: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it: the base's own text where it is base:CONFIG."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of each text that is never trained on."""

    @property
    def other_texts(self) -> dict[str, str]:
        """Sources of other real text by name."""
        return self.general


class OneTextSettings(TextSettings):
    """What recipes can be told that tune a base on one text."""

    FAST = {**TextSettings.FAST, "corpus": "voices:keeper:12000"}

    corpus: str = "voices:keeper"
    """Text to learn: {sources}."""


class CodeSettings(OneTextSettings):
    """What recipes can be told that tune a base on code, and let it write from places in code."""

    model: str = "base:code_base_small"
    """Base: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpus: str = "code:stdlib/asyncio"
    """Code to learn: {sources}."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the code that is never trained on; whole files where there are many."""
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


class FrequentTokenSettings(TrainingSettings):
    """Which tokens of a text are counted in generated text."""

    top_tokens: int = Field(default=100, ge=1)
    """Most frequent tokens of the training text whose use in generated text is counted."""
    min_token_chars: int = Field(default=1, ge=1)
    """Tokens with fewer characters, white space aside, are not among them."""


class JudgeSettings(TrainingSettings):
    """How the encoder is trained that judges passages."""

    judge_model: str = "new:bert"
    """Judge: a BERT-like folder or Hub id that is fine-tuned, or new:bert for a tiny one from scratch."""
    judge_max_steps: int = Field(default=150, ge=1)
    """Updates of the judge."""
    judge_learning_rate: float = Field(default=5e-5, ge=0)
    """Peak learning rate of the judge."""
    judge_batch_size: int = Field(default=16, ge=2)
    """Passages in an update of the judge."""
    judge_tokens: int = Field(default=128, ge=8)
    """Longest passage in the judge's tokens, in training and in use alike."""
    judge_seeds: Literal[1, 2] = 1
    """2 trains the judge twice: agreement over two seeds is then that of two encoders, not of two heads on one."""

    def judge_settings(self) -> TrainingSettings:
        """Return the settings that the judge is trained with."""
        fields = type(self).model_fields
        unused = {name: fields[name].get_default(call_default_factory=True) for name in self.WHAT_MAY_CHANGE}
        changes: dict[str, Any] = unused | {
            "max_steps": self.judge_max_steps, "learning_rate": self.judge_learning_rate, "optimizer": "adamw",
            "warmup_steps": 0.1, "per_device_train_batch_size": self.judge_batch_size,
            "gradient_accumulation_steps": 1, "max_grad_norm": 1.0, "lr_scheduler_type": "linear", "min_lr_rate": 0.0,
        }  # fmt: skip
        return self.model_copy(update=changes)
