"""The table of settings without effect: which setting, under which condition, for which reason.

A setting that differs from its default and changes nothing is an error, because somebody expects something of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["NO_EFFECT", "NoEffect"]


class NoEffect(NamedTuple):
    """A line of the table."""

    settings: tuple[str, ...]
    condition: Callable[[Any], bool]
    """Whether they have no effect among these settings."""
    reason: str
    """What follows "has no effect" in the message; ``{0}`` is the settings, ``{default}`` the default of this one."""


def _made_here(settings: Any) -> bool:
    return bool(settings.model.startswith(("new:", "base:")))


NO_EFFECT = (
    NoEffect(
        ("muon_learning_rate",),
        lambda s: s.optimizer != "muon",
        "with optimizer: {0.optimizer}; set optimizer to muon, or leave it out",
    ),
    NoEffect(("optimizer_args",), lambda s: s.optimizer == "muon", "with optimizer: muon; leave it out"),
    NoEffect(
        ("min_lr_rate", "schedule_steps"),
        lambda s: s.lr_scheduler_type == "constant",
        "with lr_scheduler_type: constant; set lr_scheduler_type to linear or cosine, or leave it out",
    ),
    NoEffect(
        ("lr_cycles",),
        lambda s: s.lr_scheduler_type != "cosine",
        "with lr_scheduler_type: {0.lr_scheduler_type}; set lr_scheduler_type to cosine, or leave it out",
    ),
    NoEffect(
        ("clip_after",),
        lambda s: not (s.max_grad_norm or s.max_grad_value or s.max_group_norms),
        "without max_grad_norm, max_grad_value or max_group_norms; set one of them, or leave it out",
    ),
    NoEffect(
        ("max_steps",),
        lambda s: bool(getattr(s, "num_train_epochs", 0)),
        "beside num_train_epochs; leave one of them out (over a file: --max_steps {default}, the default)",
    ),
    NoEffect(
        ("probe_steps",),
        lambda s: not s.probes,
        "without probes; name some, e.g. probes: [update_ratio], or leave it out",
    ),
    NoEffect(
        ("load_best_model_at_end", "early_stopping_patience"),
        lambda s: not s.SAVES_BY_LOSS,
        "in this recipe, which has its own rule for the step that is saved; leave it out",
    ),
    NoEffect(
        ("early_stopping_threshold",),
        lambda s: not s.early_stopping_patience,
        "without early_stopping_patience; set it, or leave this out",
    ),
    NoEffect(
        ("revision",),
        lambda s: s.model.startswith("new:") or Path(s.model).exists(),
        "on {0.model!r}, which is not on the Hub; leave it out",
    ),
    NoEffect(
        ("trust_remote_code",),
        lambda s: _made_here(s) and not getattr(s, "metrics", None),  # metrics are Python files that need it too
        "on {0.model!r}, which is made here; leave it out",
    ),
    NoEffect(("allow_pickle",), _made_here, "on {0.model!r}, which is made here; leave it out"),
    NoEffect(
        ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
        lambda s: s.peft not in ("lora", "dora", "rslora"),
        "with peft: {0.peft}; set peft to lora, dora or rslora, or leave it out",
    ),
    NoEffect(
        ("virtual_tokens",),
        lambda s: s.peft not in ("prefix", "prompt"),
        "with peft: {0.peft}; set peft to prefix or prompt, or leave it out",
    ),
    NoEffect(
        ("trainable_tokens",),
        lambda s: s.peft != "tokens",
        "with peft: {0.peft}; set peft to tokens, or leave it out",
    ),
    NoEffect(
        ("train", "freeze", "freeze_until", "freeze_from", "unfreeze_every"),
        lambda s: getattr(s, "peft", "none") != "none",
        "with peft: {0.peft}, which trains the adapter only; set peft to none, or leave it out",
    ),
    NoEffect(
        ("temperature",), lambda s: s.sampling == "greedy", "with sampling: greedy; choose another, or leave it out"
    ),
    NoEffect(
        ("tokenizer",),
        lambda s: bool(getattr(s, "donor", None)) and bool(s.tokenizer),
        "beside donor: {0.donor}, whose tokenizer is used; leave it out",
    ),
    NoEffect(
        ("transplant",), lambda s: bool(s.transplant) and not s.donor, "without a donor; name one, or leave it out"
    ),
    NoEffect(("learning_rate",), lambda s: bool(getattr(s, "rates", None)), "beside rates; leave one of them out"),
    NoEffect(
        ("split", "special_tokens"),
        lambda s: hasattr(s, "classes") or hasattr(s, "examples"),
        "on rows, which are no running text; leave it out",
    ),
    NoEffect(("eval_windows",), lambda s: hasattr(s, "classes"), "on texts with classes; leave it out"),
    NoEffect(("encoding",), lambda s: hasattr(s, "examples"), "on examples, which are read as UTF-8; leave it out"),
    NoEffect(
        ("passage_chars",),
        lambda s: hasattr(s, "classes") and not s.classes,
        "on labelled texts; give classes, or leave it out",
    ),
    NoEffect(
        ("labelled_test",),
        lambda s: bool(s.passage_chars),
        "beside passage_chars, which holds out the end of each text; leave one of them out",
    ),
    NoEffect(
        ("heldout_share",),
        lambda s: any(getattr(s, name, None) is not None for name in ("labelled_test", "heldout_examples")),
        "beside what is held out by name (labelled_test, heldout_examples); leave one of them out",
    ),
)
