"""The settings of recipes that train on prompts with completions."""

import re
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ftkit.config.settings import TRAINING_LENGTHS, AdapterSettings, Problem

__all__ = ["ExampleSettings"]


class ExampleSettings(AdapterSettings):
    """What recipes can be told that train on examples: prompts with completions, or dialogues."""

    FAST: ClassVar[dict[str, Any]] = {
        "examples": "halves:voices:keeper:12000", "tokenizer": "train:512", "max_steps": 20,
        "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "optimizer": "adamw",
        "eval_steps": 10, "save_steps": 10, "eval_windows": 16, "warmup_steps": 0, "num_answers": 8, "few_shot": 0,
    }  # fmt: skip
    LENGTHS = (*AdapterSettings.LENGTHS, *TRAINING_LENGTHS)

    model: str = "base:tales"
    """Base: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    examples: str = "halves:voices:keeper"
    """Examples to learn: FILE.jsonl, .json, .csv, .tsv or .parquet, a folder of them, hub:NAME[:SPLIT], or
    halves:TEXT, passages of a text whose first half is the prompt."""
    columns: dict[str, str] = {}
    """Columns of the examples: prompt=..., completion=... (and system=...), messages=..., or text=...
    Without it: recognized."""
    heldout_examples: str | None = None
    """Examples that are never trained on. Without it: heldout_share of examples, by their prompts."""
    heldout_share: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of the examples that is never trained on."""
    template: Literal["plain", "alpaca", "chatml"] | None = None
    """How messages become text. Without it: the tokenizer's chat template, else plain (nothing between prompt,
    completion and end token). It is saved with the model."""
    chat_template: str | None = None
    """File with a chat template in Jinja, instead of template."""
    loss_on: Literal["completions", "all", "last_turn"] = "completions"
    """What is learned: every answer of the assistant, every token, or the last answer alone."""
    window_tokens: int = Field(default=1024, ge=8)
    """Longest example in tokens, prompt included. Without it: the longest one that there is, at most 1,024 and the
    model's positions."""
    truncate: Literal["end", "start", "drop"] = "end"
    """Which side of a longer example is cut off; drop leaves it out."""
    also: dict[str, str] = {}
    """Other examples, each source with a name, for forgetting: NAME=FILE."""
    general: dict[str, str] = {}
    """Other real text, each with a name, for forgetting. Without it and also: the base's own text where it is known."""
    answer_pattern: str | None = None
    """Regular expression whose first group is the answer in a completion, such as '#### (.*)', for exact match."""
    num_answers: int | None = Field(default=None, ge=1)
    """Held-out prompts that each model answers. By default 50, then 100 and 200 where the verdict is not decided."""
    few_shot: int = Field(default=4, ge=0)
    """Training examples in the prompt of the base that the tuned model is compared with; 0 leaves this out."""
    judge_style: bool = False
    """Judge the style of the answers too: for rewrites, whose completions all have one style."""
    eval_windows: int = Field(default=64, ge=1)
    """Held-out examples on which loss is measured every eval_steps."""

    @field_validator("columns", mode="before")
    @classmethod
    def _several_in_one(cls, columns: Any) -> Any:
        """``prompt=question,completion=reply`` in one flag are two columns."""
        if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
            return columns
        pairs = ",".join(f"{role}={name}" for role, name in columns.items())
        parts = re.split(r",(?=(?:prompt|completion|system|messages|text)=)", pairs) if pairs else []
        return dict(part.split("=", 1) for part in parts)

    def problems(self) -> list[Problem]:
        """Two templates, or other examples and other text with one name."""
        found = super().problems()
        if self.template is not None and self.chat_template is not None:
            found.append(("template", "and chat_template are both given; keep one of them"))
        if both := sorted(set(self.also) & set(self.general)):
            found.append(("general", f"and also both name {both[0]!r}; give one of them another name"))
        return found

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """Embedded examples, unless flags name some."""
        fast = super().fast_values(values, flags)
        if "examples" in flags:
            fast.pop("examples", None)
            return fast
        return fast | {name: None for name in ("heldout_examples",) if name not in flags} | {"columns": {}, "also": {}}
