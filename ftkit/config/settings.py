"""The settings that recipes share, under Hugging Face's names.

The string under each field is its help text, wherever the setting is shown. A recipe adds its own fields in a subclass.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftkit.config.no_effect import NO_EFFECT
from ftkit.config.probes import probe_problems
from ftkit.errors import nearest_name

__all__ = [
    "SETTINGS_VERSION",
    "TRAINING_LENGTHS",
    "AdapterSettings",
    "EpochSettings",
    "Problem",
    "Settings",
    "TrainingSettings",
    "tiny_of",
]

_SECRET = re.compile(r"://[^/\s]*:[^/\s]*@|\b(?:hf|ghp|github_pat|sk)_[A-Za-z0-9_]{8,}")

_TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")

_FAST_EPOCHS = 0.5  # a run with --fast must end within a minute

SETTINGS_VERSION = 2
"""Part of the keys of caches that depend on settings. It goes up when the name or the meaning of a setting changes."""

TRAINING_LENGTHS = (
    "peft", "per_device_train_batch_size", "learning_rate", "max_steps",
    "load_best_model_at_end", "early_stopping_patience",
)  # fmt: skip
"""Settings of a recipe that tunes a model which follow from model and text where they are not set (see
``ftkit.jobs.lengths.fit_steps``)."""

Problem = tuple[str, str]
"""A setting's name and what is wrong with it."""

_FAMILY_OF_PREFIX = {"eleutherai/gpt-neo": "gpt_neo", "salesforce/codegen": "codegen", "bert-": "bert", "gpt2": "gpt2"}


def tiny_of(model: str) -> str:
    """The tiny random model of the same family, which ``--fast`` uses instead of downloading or training a large one.

    Args:
        model: A model setting: ``new:FAMILY,...``, a folder, or a Hub id.

    Returns:
        ``new:FAMILY``, of the ladder with its rung; the own GPT-2 where the family cannot be told without a download.
    """
    if model.startswith("new:"):
        family, *pairs = model.split(",")
        return ",".join([family, *(pair for pair in pairs if pair.strip().startswith("rung="))])  # rungs are models
    configuration = Path(model).expanduser() / "config.json"
    if configuration.is_file():
        try:
            return f"new:{json.loads(configuration.read_text(encoding='utf-8'))['model_type']}"
        except (ValueError, KeyError):
            return "new:ftkit_gpt2"
    name = model.lower().removeprefix("openai-community/").removeprefix("google-bert/")
    return next(
        (f"new:{family}" for prefix, family in _FAMILY_OF_PREFIX.items() if name.startswith(prefix)), "new:ftkit_gpt2"
    )


def _in_two_blocks(value: Any) -> Any:
    """Selectors for a tiny model, which has two blocks: ``attention.q@6..`` becomes ``attention.q@1..``."""
    if isinstance(value, str):
        return re.sub(r"@[-+.\d]+", lambda blocks: re.sub(r"\d+", lambda n: str(min(int(n[0]), 1)), blocks[0]), value)
    if isinstance(value, list):
        return [_in_two_blocks(item) for item in value]
    return {_in_two_blocks(key): item for key, item in value.items()} if isinstance(value, dict) else value


class Settings(BaseModel):
    """What every recipe can be told."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    SELECTING: ClassVar[tuple[str, ...]] = ()
    """Settings that name parts of a model."""
    BY_STEP: ClassVar[tuple[str, ...]] = ()
    """Settings that name steps of the run, by part."""
    LENGTHS: ClassVar[tuple[str, ...]] = ("window_tokens", "passage_chars", "judge_tokens")
    """Settings that follow from model and text where they are not set (see ``ftkit.jobs.lengths``)."""
    FAST: ClassVar[dict[str, Any]] = {}
    """What ``--fast`` sets: small enough to finish offline within a minute on two cores."""

    output_dir: str | None = None
    """Folder of the run. Without it: runs/RECIPE-TIME."""
    resume: bool = False
    """Continue the run in output_dir from its newest valid checkpoint instead of refusing a folder that is in use."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    """Seed of everything that is drawn: weights, windows, dropout, samples."""
    require_processes: int = Field(default=0, ge=0)
    """Refuse to start with another number of processes than this; 0 takes what the launcher has started."""
    report_to: str | list[str] = "none"
    """Trackers that see what metrics.jsonl gets: tensorboard, wandb, trackio, mlflow; each must be installed."""

    def is_overridden(self, name: str) -> bool:
        """Whether a setting differs from its default; a resolved file gives every setting, needed or not."""
        return bool(getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True))

    @property
    def unset_lengths(self) -> frozenset[str]:
        """Lengths that nobody has set, in a file or by a flag."""
        return frozenset(self.LENGTHS) & frozenset(type(self).model_fields) - self.model_fields_set

    @property
    def trackers(self) -> list[str]:
        """The names in ``report_to``."""
        given = self.report_to.split(",") if isinstance(self.report_to, str) else self.report_to
        return [name.strip() for name in given if name.strip() != "none"]

    def problems(self) -> list[Problem]:
        """Settings that contradict each other or have no effect, each with a message; subclasses add to the list."""
        unknown = [name for name in self.trackers if name not in _TRACKERS]
        return [("report_to", f"unknown tracker {name!r}{nearest_name(name, _TRACKERS)}") for name in unknown]

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """What ``--fast`` sets over ``values``, the settings of the file, and under ``flags``."""
        return dict(cls.FAST)

    @classmethod
    def fast_value(cls, name: str, value: Any, tiny: bool = True) -> Any:
        """What ``--fast`` leaves of a setting of a file, an arm or a sweep: steps and epochs are bounded.

        Args:
            name: The setting.
            value: What was asked for.
            tiny: Whether the model is the tiny one, which has two blocks.
        """
        steps = cls.FAST.get("max_steps")
        if name in cls.SELECTING and tiny:
            value = _in_two_blocks(value)
        if name in cls.BY_STEP and steps and isinstance(value, dict):
            return {key: min(step, steps - 1) if isinstance(step, int) else step for key, step in value.items()}
        limit = {"max_steps": steps, "num_train_epochs": _FAST_EPOCHS}.get(name)
        return min(value, limit) if limit and isinstance(value, int | float) else value


class TrainingSettings(Settings):
    """What every recipe that trains can be told."""

    WHAT_MAY_CHANGE: ClassVar[tuple[str, ...]] = (
        "train", "freeze", "freeze_until", "freeze_from", "unfreeze_every", "learning_rates", "layer_lr_decay",
        "optimizer_args", "lr_cycles", "schedule_steps", "max_grad_value", "max_group_norms", "clip_after",
        "watch_gradients", "probes", "load_best_model_at_end", "early_stopping_patience", "early_stopping_threshold",
    )  # fmt: skip
    """Settings that speak about one model and its run, and mean nothing for another, such as a judge."""
    SELECTING = (
        "train", "freeze", "freeze_until", "freeze_from", "learning_rates", "max_group_norms", "watch_gradients",
        "probes",
    )  # fmt: skip
    BY_STEP = ("freeze_until", "freeze_from")
    SAVES_BY_LOSS: ClassVar[bool] = True
    """Whether a held-out loss may choose the step that is saved; not where a recipe has a rule of its own."""

    model: str = "new:ftkit_gpt2"
    """Model to start from: a folder, a Hub id, or new:FAMILY,key=value,... for random weights
    (families ftkit_gpt2, gpt2, gpt_neo, codegen, bert; keys are fields of the family's configuration)."""
    revision: str | None = None
    """Revision of a Hub model: branch, tag or commit. Without it: main."""
    trust_remote_code: bool = False
    """Run Python files that the model brings along; a Hub id then needs a revision. Read them first."""
    allow_pickle: bool = False
    """Read pytorch_model.bin where a model has no safetensors; tensors only, code in it does not run."""
    tokenizer: str | None = None
    """Tokenizer: a folder, a Hub id, tiktoken:NAME, byte, or train:SIZE (byte-level BPE trained on the corpora).
    Without it: the one saved beside the model."""
    encoding: str = "utf-8"
    """Encoding of text files; a file that does not follow it is refused."""
    special_tokens: Literal["auto", "text", "tokens"] = "auto"
    """How special tokens that stand in a text (<|im_start|>, <s>) are read: each as its one token, or as text; auto
    takes tokens where they are many and stand at the edges of lines, as in a chat, and says so."""

    max_steps: int = Field(default=500, ge=1)
    """Optimizer updates."""
    per_device_train_batch_size: int = Field(default=16, ge=1)
    """Windows in one backward pass on one process."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Backward passes on each process before an update; the loss is one mean over all their targets."""
    window_tokens: int = Field(default=256, ge=2)
    """Tokens in a training window; a window of T tokens has T - 1 targets."""
    split: Literal["tail", "head", "blocks"] = "tail"
    """Where held-out text lies: at the end, at the beginning, or in random contiguous blocks."""
    heldout_share: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of the text that is never trained on."""

    train: str | list[str] | None = None
    """What may change: selectors such as attention.q@6..,norm (see docs/selecting.md). Without it: everything."""
    freeze: str | list[str] | None = None
    """What may not change: selectors, taken away from train."""
    freeze_until: dict[str, int] = {}
    """Selectors that stay frozen up to and including a step, each with the step."""
    freeze_from: dict[str, int] = {}
    """Selectors that stop changing after a step, each with the step."""
    unfreeze_every: int = Field(default=0, ge=0)
    """Unfreeze from the top: the last block trains at once, each lower one this many steps later; 0 does not."""

    optimizer: Literal[
        "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "asgd", "muon", "nadam", "radam", "rmsprop",
        "sgd",
    ] = "adamw"  # fmt: skip
    """One of torch.optim for everything, or muon for the matrices of the blocks and adamw for the rest."""
    optimizer_args: dict[str, float] = {}
    """Further arguments of the optimizer, e.g. momentum=0.9 for sgd; not for muon."""
    learning_rate: float = Field(default=5e-5, ge=0)
    """Peak learning rate of AdamW."""
    muon_learning_rate: float = Field(default=0.02, ge=0)
    """Peak learning rate of Muon; only with optimizer: muon."""
    learning_rates: dict[str, float] = {}
    """Peak learning rates of single groups: a selector and its rate."""
    layer_lr_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the peak rate from each block to the one below it, starting under the head; 1 does not."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of matrices and embeddings; biases and norms are never decayed."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "cosine"
    """Shape of the learning rate after the warm-up; linear and cosine end at min_lr_rate."""
    warmup_steps: float = Field(default=0, ge=0)
    """Steps of linear warm-up; below 1: as a share of max_steps."""
    min_lr_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak rate that linear and cosine end at."""
    lr_cycles: float = Field(default=0.5, gt=0)
    """Waves of the cosine: 0.5 falls once from the peak to the floor, 2 falls, rises, falls and rises."""
    schedule_steps: int = Field(default=0, ge=0)
    """Steps that linear and cosine are laid out for, warm-up included; 0: max_steps."""
    max_grad_norm: float = Field(default=0.0, ge=0)
    """Global norm to which gradients are clipped; 0 does not clip."""
    max_grad_value: float = Field(default=0.0, ge=0)
    """Size to which each element of a gradient is cut, before max_grad_norm; 0 does not cut."""
    max_group_norms: dict[str, float] = {}
    """Norms to which the gradients of single groups are clipped, before max_grad_norm: a selector and its norm."""
    clip_after: int = Field(default=0, ge=0)
    """Steps without clipping at the beginning."""
    watch_gradients: list[str] = []
    """Selectors whose gradient norms are logged beside those of the groups, e.g. mlp.out@7."""
    bf16: bool = False
    """Compute in bfloat16 with float32 weights (autocast)."""
    fp16: bool = False
    """Compute in float16 with float32 weights and loss scaling; needs an accelerator."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    use_cpu: bool = False
    """Stay on the CPU even where there is an accelerator."""

    eval_steps: int = Field(default=50, ge=1)
    """Steps between evaluations on the fixed held-out sample."""
    eval_windows: int = Field(default=64, ge=1)
    """Held-out windows of that sample."""
    load_best_model_at_end: bool = False
    """Save the model of the evaluation with the lowest held-out loss, not that of the last step."""
    early_stopping_patience: int = Field(default=0, ge=0)
    """Stop after so many evaluations in a row that are not better than the best before them; 0 trains all steps."""
    early_stopping_threshold: float = Field(default=0.0, ge=0)
    """How much lower than the best a held-out loss must be to count as better for early_stopping_patience."""
    probes: list[str] = []
    """What is measured during the training, e.g. update_ratio or weight_change:attention.k@1 (see docs/probes.md)."""
    probe_steps: int = Field(default=50, ge=1)
    """Steps between the measurements of probes, which measure at the start and at the end too."""
    save_steps: int = Field(default=100, ge=0)
    """Steps between checkpoints; 0 keeps none, and the run cannot be resumed inside a phase."""
    save_total_limit: int = Field(default=2, ge=1)
    """Checkpoints kept for each phase; an old one goes only after the new one is sealed."""

    @property
    def untrained(self) -> bool | None:
        """Whether all weights are random before the first update; ``None`` where some are and some are copied."""
        return self.model.startswith("new:")

    @property
    def known_steps(self) -> float:
        """Updates of the run; infinite where they follow from a text that has not been read."""
        return self.max_steps

    @property
    def extra_positions(self) -> int:
        """Positions before the first token of a window, which an adapter's virtual tokens take."""
        return 0

    def without_effect(self) -> list[Problem]:
        """The settings that differ from their defaults and change nothing, by the table of ``config.no_effect``."""
        fields = type(self).model_fields
        return [
            (name, f"has no effect {line.reason.format(self, default=fields[name].default)}")
            for line in NO_EFFECT
            for name in line.settings
            if name in fields and self.is_overridden(name) and line.condition(self)
        ]

    def problems(self) -> list[Problem]:
        """Contradictions, settings without effect and values that are too large or too small."""
        found = super().problems() + self.without_effect()
        if self.bf16 and self.fp16:
            found.append(("fp16", "bf16 and fp16 exclude each other; keep one of them"))
        for name in ("load_best_model_at_end", "early_stopping_patience"):
            if self.is_overridden(name) and self.eval_steps >= self.known_steps:
                text = f"chooses among evaluations, and eval_steps: {self.eval_steps} makes one in {self.known_steps:,}"
                found.append((name, f"{text} steps; set eval_steps lower"))
        if 0 < self.schedule_steps <= self.warmup_steps:
            text = f"is {self.schedule_steps:,}, and the warm-up takes {self.warmup_steps:g} of it; give more"
            found.append(("schedule_steps", text))
        for selector, norm in self.max_group_norms.items():
            if norm <= 0:
                found.append(("max_group_norms", f"{selector!r} has the norm {norm:g}; it must be above 0"))
        found += [("probes", text) for text in probe_problems(self.probes)]
        if self.warmup_steps >= 1 and self.warmup_steps > self.known_steps:
            found.append(
                ("warmup_steps", f"is {self.warmup_steps:g}, longer than the run (max_steps: {self.max_steps})")
            )
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            found.append(("warmup_steps", f"is {self.warmup_steps:g}; give whole steps, or a share of the run below 1"))
        for name in self.BY_STEP:
            for selector, step in getattr(self, name).items():
                if not 1 <= step < self.known_steps:
                    text = f"{selector!r} has step {step}; it must lie from 1 to {self.max_steps - 1}, before max_steps"
                    found.append((name, text))
        for selector, rate in self.learning_rates.items():
            if rate < 0:
                found.append(("learning_rates", f"{selector!r} has the rate {rate:g}; it must be at least 0"))
        if not self.model.startswith("new:") and (self.tokenizer or "").startswith("train:"):
            text = f"{self.tokenizer} would give {self.model!r} other ids than it has learned; leave tokenizer out"
            found.append(("tokenizer", text))
        for name, value in self.model_dump(exclude_defaults=True).items():
            if any(
                _SECRET.search(text)
                for text in (value.values() if isinstance(value, dict) else [value])
                if isinstance(text, str)
            ):
                found.append(
                    (name, "holds a password or a token; settings are written to disk, so log in or download by hand")
                )
        if self.model.startswith("new:") and self.tokenizer is None:
            text = f"is missing: {self.model!r} has random weights and no tokenizer of its own; e.g. train:2048 or byte"
            found.append(("tokenizer", text))
        return found

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """The recipe's ``FAST`` values and a tiny model of the same family; a model by flag keeps its tokenizer."""
        fast = super().fast_values(values, flags)
        if not str(flags.get("model", "new:")).startswith("new:"):
            fast["tokenizer"] = None
        fast.setdefault("model", tiny_of(str(values.get("model", cls.model_fields["model"].default))))
        if str(fast["model"]).startswith("new:"):  # what the file says of the real model's files would have no effect
            own = ("revision", "trust_remote_code", "allow_pickle")
            fast |= {name: cls.model_fields[name].default for name in own if name not in flags}
        tiny = "model" not in flags
        fast = {name: cls.fast_value(name, values[name], tiny) for name in cls.SELECTING if name in values} | fast
        if fast.get("optimizer", "muon") != "muon":  # what the file says of Muon would have no effect
            fast["muon_learning_rate"] = cls.model_fields["muon_learning_rate"].default
        return fast


class EpochSettings(TrainingSettings):
    """What recipes can be told that train for a number of epochs or of steps."""

    num_train_epochs: float = Field(default=0.0, ge=0)
    """Epochs (passes over the text) instead of max_steps, so that long and short texts are read equally often; 0:
    max_steps."""

    @property
    def known_steps(self) -> float:
        """Updates of the run; infinite beside ``num_train_epochs``, until the text is read."""
        return math.inf if self.num_train_epochs else self.max_steps

    @classmethod
    def fast_values(cls, values: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
        """A few steps; or the epochs that a flag or an arm asks for."""
        fast = super().fast_values(values, flags)
        if flags.get("num_train_epochs"):
            return {name: value for name, value in fast.items() if name != "max_steps"}
        return fast | {"num_train_epochs": 0.0}


class AdapterSettings(EpochSettings):
    """What recipes can be told that train a model from elsewhere, whole or through an adapter."""

    peft: Literal["none", "lora", "dora", "rslora", "ia3", "prefix", "prompt", "bias", "tokens"] = "none"
    """Adapter to train instead of the model's own weights (see docs/adapters.md); none trains those."""
    lora_r: int = Field(default=8, ge=1)
    """Rank of lora, dora and rslora."""
    lora_alpha: float = Field(default=16, gt=0)
    """Scale of lora and dora is lora_alpha / lora_r, of rslora lora_alpha / sqrt(lora_r)."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters of lora, dora and rslora."""
    lora_target_modules: str | list[str] = "all-linear"
    """Linear maps to adapt: all-linear, selectors (attention.q,mlp), or names of modules (c_attn)."""
    virtual_tokens: int = Field(default=20, ge=1)
    """Positions that prefix and prompt learn; they take as many from the model's context."""
    trainable_tokens: list[int] = []
    """Ids of the tokens whose embeddings the method tokens trains."""

    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout at every place that the model has for it while it is tuned. Without it: what its configuration says."""

    @property
    def extra_positions(self) -> int:
        """Positions before the first token of a window, which an adapter's virtual tokens take."""
        return self.virtual_tokens if self.peft in ("prefix", "prompt") else 0

    def problems(self) -> list[Problem]:
        """Settings without effect, and optimizers and tokens that an adapter cannot use."""
        found = super().problems()
        if self.peft == "none":
            return found
        if self.optimizer == "muon":
            text = f"muon is for whole matrices and does not go with peft: {self.peft}; set optimizer: adamw"
            found.append(("optimizer", text))
        elif self.optimizer not in ("adam", "adamw", "nadam", "radam"):
            text = (
                f"{self.optimizer} keeps no second moment, by which an adapter is seen to learn; set optimizer: adamw"
            )
            found.append(("optimizer", text))
        ids = self.trainable_tokens
        if self.peft == "tokens" and not 0 < len(set(ids)) == len(ids):
            found.append(("trainable_tokens", f"are {ids}; peft: tokens needs one id or more, each once"))
        return found
