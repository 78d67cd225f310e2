"""Accounting for every weight: what the files lack, what the model does not take, and what a new head may lack."""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models.class_heads import head_keys, is_classifier

__all__ = ["COMPUTED_BUFFERS", "check_values", "check_weights", "weight_problems"]

# Buffers that older versions of transformers saved and newer ones compute; nothing is lost with them.
COMPUTED_BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|causal_mask|inv_freq|masked_bias|attn\.bias|attention\.bias)$"
)


def check_weights(
    model: PreTrainedModel, info: dict[str, Any], task: str, where: str, replaced: frozenset[str] = frozenset()
) -> None:
    """Raise unless each weight of the model was in the files, and each in the files that matters is in the model.

    A classifier may start from a body without a head: then the whole head (and BERT's pooler) is new, and the head of
    the other task, such as a language-model head, is left aside. A head that is there must be there whole. An encoder
    that fills in masks leaves aside what else stood on the same body, such as BERT's pooler and next-sentence head.

    Args:
        model: What was loaded.
        info: What transformers says of the loading.
        task: What the model is for.
        where: What was loaded, in words.
        replaced: Tensors of a head that is drawn anew, whatever the files hold.

    Raises:
        ModelError: With the first names of each kind.
    """
    missing = set(info["missing_keys"])
    unexpected = {key for key in info["unexpected_keys"] if not COMPUTED_BUFFERS.search(key)}
    if task == "sequence-classification":
        head = head_keys(model, model.state_dict().keys())
        outer_head = {key for key in head if ".pooler." not in f".{key}"}
        if (outer_head <= missing or outer_head == replaced) and not is_classifier(model.config):
            missing -= head
            unexpected -= head_keys(model, unexpected)
    if task == "masked-lm":
        unexpected -= head_keys(model, unexpected)
    mismatched = [found for found in info.get("mismatched_keys") or () if found[0] not in replaced]
    if problems := weight_problems({**info, "mismatched_keys": mismatched}, missing, unexpected):
        raise ModelError(
            f"{where} does not fit a {type(model).__name__}: {problems}. The files are incomplete, of another"
            " architecture, or for another task."
        )


def check_values(model: PreTrainedModel, folder: Path, where: str) -> None:
    """Raise unless the model holds what its files hold, looked at in two rows of each tensor.

    transformers (5.23) sets the row of Youtu's padding to zero after it has read it. That row belongs to the tied head
    as well, so a trained model would be another one after loading.

    Args:
        model: What was loaded, in float32.
        folder: The files; those that are no safetensors, and tensors that have another name or shape, are left out.
        where: What was loaded, in words.

    Raises:
        ModelError: With the first names.
    """
    tensors = dict(model.named_parameters(remove_duplicate=False))
    single = folder / "model.safetensors"
    files = [single] if single.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    padding, wrong = getattr(model.config, "pad_token_id", None) or 0, set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in tensors.keys() & {*file.keys()}:
                stored, own = file.get_slice(name), tensors[name].detach()
                if tuple(stored.get_shape()) != tuple(own.shape) or not own.ndim:
                    continue
                for place in {padding if padding < own.shape[0] else 0, own.shape[0] // 2}:
                    row = stored[place : place + 1].to(own.dtype)
                    if row.is_floating_point() and row.isfinite().all() and not torch.equal(row[0], own[place]):
                        wrong.add(name)
    if wrong:
        raise ModelError(
            f"{where}: transformers {transformers.__version__} does not load what the files hold: {_listed(wrong)}"
            f" differ. Take another model, or a version of transformers that loads {model.config.model_type} rightly."
        )


def weight_problems(info: dict[str, Any], missing: set[str], unexpected: set[str]) -> str:
    """Missing, left-over and misshapen weights in words; empty when all is well.

    Args:
        info: What transformers says of the loading.
        missing: The names of missing tensors that count.
        unexpected: The names of left-over tensors that count.
    """
    parts = []
    if missing:
        parts.append(f"missing: {_listed(missing)}")
    if unexpected:
        parts.append(f"not used: {_listed(unexpected)}")
    if mismatched := info.get("mismatched_keys"):
        shapes = {f"{key} (file {tuple(file)}, model {tuple(wanted)})" for key, file, wanted in mismatched}
        parts.append(f"wrong shape: {_listed(shapes)}")
    if errors := info.get("error_msgs"):
        parts.append(f"not read: {_listed({str(error) for error in errors})}")
    return "; ".join(parts)


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
