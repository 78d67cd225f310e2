"""The settings of recipes that train classifiers."""

import re
from typing import Any

from pydantic import Field

from ftkit.config.settings import Problem, TrainingSettings

__all__ = ["ClassifierSettings", "EarlyStopSettings"]


class ClassifierSettings(TrainingSettings):
    """What recipes can be told that teach a model to tell classes of texts apart."""

    FAST = {
        "classes": {"keeper": "voices:keeper:9000", "almanac": "voices:almanac:12000"}, "tokenizer": "train:512",
        "window_tokens": 48, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "optimizer": "adamw",
        "warmup_steps": 0.1, "clip_after": 0, "texts_per_class": 0, "eval_steps": 10, "save_steps": 10,
        "eval_texts": 60,
    }  # fmt: skip
    SAVES_BY_LOSS = False
    LENGTHS = (*TrainingSettings.LENGTHS, "tokenizer")
    """The tokenizer of a ``new:`` model follows from the texts too."""

    model: str = "new:bert"
    """Encoder or decoder to start from: a folder, a Hub id, new:FAMILY,key=value,... for random weights, or
    base:CONFIG; it gets a new head where it has none for these classes."""
    tokenizer: str | None = None
    """Tokenizer: a folder, a Hub id, tiktoken:NAME, byte, or train:SIZE (trained on the texts to learn from).
    Without it: the one saved beside the model; of a new: model one that is trained, its size by the texts."""
    labelled: str | None = None
    """Texts with a class each: FILE.csv, .tsv, .jsonl or .parquet#TEXT,LABEL (names of columns; without them:
    text,label), a folder/ with a sub-folder for each class, or hub:NAME or hub:NAME:SPLIT, either with #TEXT,LABEL."""
    merge_labels: bool = False
    """Labels that differ in case or white space only are one class; without it they stop the run."""
    classes: dict[str, str] = {}
    """Instead of labelled: a source for each class. Of a file each line is a text, of other sources each paragraph."""
    passage_chars: int = Field(default=0, ge=0)
    """Cut the text of each class into passages of about so many characters, the end of each text held out; 0: lines
    and paragraphs as they are, divided at random."""
    labelled_test: str | None = None
    """Texts with a class each to test on. Without it: heldout_share of labelled."""
    texts_per_class: int = Field(default=0, ge=0)
    """Most texts of each class to learn from, drawn by the seed; 0 takes all."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of each class that is never trained on, and tested on."""
    window_tokens: int = Field(default=128, ge=8)
    """Longest text in tokens, with those that the tokenizer adds; the end of a longer one is cut off."""
    per_device_train_batch_size: int = Field(default=32, ge=1)
    """Texts in one backward pass on one process."""
    eval_texts: int = Field(default=400, ge=10)
    """Texts of the two fixed samples, of test and training texts, that are looked at every eval_steps."""

    metrics: list[str] = []
    """Metrics of the evaluate library that the test is measured with too: a folder or a Hub id each, with options
    after it: f1:average=macro. They are Python files that run: they need trust_remote_code."""

    def problems(self) -> list[Problem]:
        """Texts that are missing or given twice, and names that no class can have."""
        found = super().problems()
        if self.tokenizer is None:  # a new model gets one that follows from the texts
            found = [(name, said) for name, said in found if name != "tokenizer"]
        if (self.labelled is None) == (not self.classes):
            both = "are both given; keep one of them" if self.classes else "are both missing; give one of them"
            found.append(("labelled", f"and classes {both}"))
        if len(self.classes) == 1:
            found.append(("classes", f"needs two or more, found only {next(iter(self.classes))!r}"))
        for name in self.classes:
            if not re.fullmatch(r"\S(.*\S)?", name):
                found.append(("classes", f"{name!r} is not a valid class name; it is empty, or has a space at an end"))
        return found

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """Embedded voices as classes, and no other texts, unless flags name some."""
        fast = super().fast_values(values, flags)
        if flags.get("labelled") or flags.get("classes"):
            fast.pop("classes", None)
        return fast | {name: None for name in ("labelled", "labelled_test") if name not in flags}


class EarlyStopSettings(ClassifierSettings):
    """What recipes can be told that stop when texts kept aside get no better."""

    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the texts to learn from that is kept aside to find the best step; the test set decides nothing."""
    patience: int = Field(default=3, ge=0)
    """Evaluations (every eval_steps) without a lower loss on these texts after which training stops; 0: it does not."""
