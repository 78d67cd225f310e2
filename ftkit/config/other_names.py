"""Names of settings that people know from other tools and from ftkit 0.1: what they mean here.

A name that means exactly the same is taken. For a name that means something like it, a sentence names ftkit's way.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ftkit.config.catalogue import entry_paths, load_recipe
from ftkit.config.yaml_files import Located, read_yaml
from ftkit.errors import ConfigError, nearest_name

__all__ = ["RENAMED", "SAME", "TEXTS", "own_name", "read_config", "unknown_setting"]

RENAMED = {"passes": "num_train_epochs", "lr_floor": "min_lr_rate", "thaw_every": "unfreeze_every"}
"""Settings of ftkit 0.1 that have another name now."""

TEXTS = ("corpus", "examples", "labelled")
"""The settings that take what a recipe learns, where it is one source."""
_DATASETS = ("dataset", "dataset_name", "dataset_path", "datasets")
_HELD_OUT = ("heldout_examples", "labelled_test")

_SAME: dict[tuple[str, ...], str] = {
    ("activation_checkpointing",): "gradient_checkpointing use_gradient_checkpointing",
    ("early_stopping_patience",): "early_stopping patience",
    ("eval_steps",): "eval_every eval_interval",
    ("gradient_accumulation_steps",): "accumulation_steps accumulate_grad_batches grad_accum grad_accumulation_steps",
    ("heldout_share",): "test_size val_set_size val_size validation_split",
    ("learning_rate",): "lr peak_lr",
    ("lora_alpha",): "alpha",
    ("lora_r",): "lora_rank r rank",
    ("lora_target_modules",): "target_modules",
    ("lr_scheduler_type",): "lr_scheduler scheduler",
    ("max_grad_norm",): "clip_grad_norm grad_clip gradient_clip_val gradient_clipping max_norm",
    ("max_steps",): "iters max_iters max_train_steps num_steps steps",
    ("model",): "base base_model model_id model_name model_name_or_path pretrained_model_name_or_path",
    ("num_train_epochs",): "epochs max_epochs n_epochs num_epochs",
    ("optimizer",): "optim",
    ("output_dir",): "out out_dir output output_path save_dir",
    ("per_device_train_batch_size",): "batch_size micro_batch_size per_device_batch_size train_batch_size",
    ("save_steps",): "checkpoint_every save_every save_interval",
    ("seed",): "random_seed",
    ("tokenizer",): "tokenizer_name tokenizer_name_or_path",
    ("use_cpu",): "cpu no_cuda",
    ("warmup_steps",): "num_warmup_steps warmup warmup_iters warmup_ratio",
    ("weight_decay",): "wd",
    ("window_tokens",): "block_size context_length max_length max_seq_len max_seq_length seq_len seq_length "
    "sequence_len sequence_length",
    TEXTS: "data data_file data_path file input input_file text text_file train_data train_file training_file",
    _HELD_OUT: "eval_file test_file val_file validation_file",
}
"""Settings of ftkit, each with names that mean the same; of several the first that the recipe has is meant."""

SAME = {name: targets for targets, names in _SAME.items() for name in names.split()} | {
    old: (new,) for old, new in RENAMED.items()
}
"""The settings that another name may stand for."""

_SIMILAR = {
    "float32 is the default: leave bf16 and fp16 out": "float32 fp32 no_fp16",
    "set bf16 or fp16; without them training computes in float32": "amp dtype half mixed_precision precision "
    "torch_dtype",
    "every update is logged in metrics.jsonl; eval_steps sets the steps between evaluations": "log_every log_interval "
    "logging_steps logging_strategy",
    "eval_steps sets the steps between evaluations": "do_eval eval_strategy evaluation_strategy",
    "save_steps sets the steps between checkpoints": "save_strategy",
    "evaluation computes as many rows at once as training: per_device_train_batch_size": "eval_batch_size "
    "per_device_eval_batch_size",
    "every run trains and then measures; leave it out": "do_train",
    "ftkit overwrites no run; choose another output_dir": "force overwrite overwrite_output_dir",
    "'ftkit resume FOLDER' continues a run": "resume_from resume_from_checkpoint",
    "set heldout_share, a share such as 0.1": "validation_split_percentage",
    "set peft, e.g. --peft lora": "adapter finetuning_type lora use_lora use_peft",
    "ftkit trains no quantized weights; --peft lora --bf16 takes less memory than full training": "load_in_4bit "
    "load_in_8bit qlora quantization quantize",
    "'ftkit push RUN OWNER/NAME' uploads a finished model": "hub_model_id push_to_hub",
    "the first accelerator is used; use_cpu stays on the CPU": "cuda device device_map gpu",
    "start the recipe with accelerate launch (docs/processes.md)": "deepspeed fsdp gpus nproc_per_node num_gpus "
    "num_processes",
    "set optimizer_args, e.g. --optimizer_args eps=1e-6": "adam_beta1 adam_beta2 adam_epsilon momentum",
    "set report_to: tensorboard, wandb, trackio or mlflow": "logger tracker use_wandb wandb wandb_project",
}
_SENTENCES = {name: sentence for sentence, names in _SIMILAR.items() for name in names.split()}
"""What to do instead, for names that mean something similar."""


def own_name(name: str, known: Collection[str]) -> str:
    """Return the setting that another tool's name means; a name that means none is returned as it is.

    Args:
        name: What was asked, with underscores.
        known: The settings that there are.
    """
    if name in known:
        return name
    return next((target for target in SAME.get(name, ()) if target in known), name)


def read_config(path: Path, known: Collection[str]) -> Located:
    """Read a configuration whose keys may have other tools' names, also in its sweep and in its arms.

    Args:
        path: The file.
        known: The settings that there are.

    Returns:
        The values and lines under ftkit's names.

    Raises:
        ConfigError: As ``read_yaml``, or one setting under two names.
    """
    located = read_yaml(path)
    problems: list[str] = []
    values = _renamed(located, located.values, "", known, problems)
    arms = values.get("arms")
    if isinstance(arms, dict):
        values["arms"] = {
            arm: _renamed(located, changes, f"arms.{arm}.", known, problems) if isinstance(changes, dict) else changes
            for arm, changes in arms.items()
        }
    if isinstance(values.get("sweep"), dict):
        values["sweep"] = _renamed(located, values["sweep"], "sweep.", known, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Located(path, values, located.lines)


def _renamed(
    located: Located, values: dict[str, Any], prefix: str, known: Collection[str], problems: list[str]
) -> dict[str, Any]:
    """A mapping under ftkit's names; the lines of its keys are found under these names too."""
    found: dict[str, Any] = {}
    lines = located.lines
    for key, value in values.items():
        name = own_name(key, known)
        if name != key and (name in found or name in values):
            place = f"{located.path}:{lines[prefix + key]}"
            problems.append(f"{place}: {prefix}{key} and {prefix}{name} are one setting; keep one of them")
        if name != key:
            inner = {full: line for full, line in lines.items() if full.startswith(f"{prefix}{key}.")}
            lines |= {f"{prefix}{name}{full.removeprefix(prefix + key)}": line for full, line in inner.items()}
            lines[prefix + name] = lines[prefix + key]
        found[name] = value
    return found


def unknown_setting(name: str, known: Collection[str]) -> str:
    """Message for a setting that a recipe does not have: ftkit's way, the recipe that has it, or the nearest names."""
    if sentence := _SENTENCES.get(name):
        return f"unknown setting; {sentence}"
    meant = TEXTS if name in _DATASETS else SAME.get(name, (name,))
    here = _way_here(name, meant, known)
    parts = [part for part in (here, "" if here and name not in meant else _way_elsewhere(meant)) if part]
    otherwise = "" if parts else "; --help-all shows all settings"
    near = "" if {*meant} & {*TEXTS} else nearest_name(name, known, most=3, otherwise=otherwise)
    return "; ".join([f"unknown setting{near}", *parts])


def _way_here(name: str, meant: Collection[str], known: Collection[str]) -> str:
    """How a recipe is given its texts or its length, where another setting does that."""
    if "num_train_epochs" in meant and "max_steps" in known:
        return "this recipe counts updates: --max_steps; 'ftkit plan' shows the epochs"
    given = next((setting for setting in (*TEXTS, "corpora", "classes") if setting in known), None)
    if given is None or not {*meant} & {*TEXTS}:
        return ""
    kind = "hub:NAME or FILE" if name in _DATASETS else "FILE"
    return f"this recipe takes --{given} {'NAME=' if given in ('corpora', 'classes') else ''}{kind}"


def _way_elsewhere(meant: Collection[str]) -> str:
    """Which of the main recipes have a setting."""
    from ftkit.config.launch import main_settings  # which imports this file

    recipes = {name: path for name, path in entry_paths().items() if path.suffix == ".py" and path.parent.name != "lab"}
    fields = {name: main_settings(load_recipe(path).main).model_fields for name, path in recipes.items()}
    for setting in meant:
        having = [name for name in recipes if setting in fields[name]]
        if len(having) == 1:
            return f"for --{setting}: ftkit run {having[0]} --{setting} ..."
        if having:
            return f"the recipes {', '.join(having[:-1])} and {having[-1]} have --{setting}"
    return ""
