# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""A model that writes, with its tokenizer: loaded, checked, and on the device where it is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import load_tokenizer
from ftkit.errors import ModelError
from ftkit.models import check_vocabulary, load_model, read_configuration, task_of
from ftkit.models.trust import is_adapter_folder

__all__ = ["Speaker", "load_speaker"]


@dataclass(frozen=True)
class Speaker:
    """One who writes."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_speaker(
    spec: str,
    *,
    base: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Speaker:
    """Load a causal language model with its tokenizer.

    Args:
        spec: A folder, also one that holds an adapter, or a Hub id.
        base: For an adapter, where its base is, instead of where the folder says.
        dtype: As for ``load_model``.
        revision: Branch, tag or commit of a Hub id; with ``base`` of that one.
        trust_remote_code: As for ``load_model``.
        allow_pickle: As for ``load_model``.

    Raises:
        ModelError: Another kind of model, or a tokenizer that does not belong to it.
    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    loading = {**options, "allow_pickle": allow_pickle, "adapter_base": base}
    if not is_adapter_folder(spec):
        config = read_configuration(spec, **options, allow_pickle=allow_pickle)
        if any("Classification" in str(name) for name in config.architectures or []):
            raise ModelError(f"{spec}: is a classifier, which cannot write; 'ftkit predict' asks it")
    task = task_of(spec, **loading)
    if task != "causal-lm":
        raise ModelError(f"{spec}: a {task} model cannot write on; give a causal language model")
    model = load_model(spec, task=task, dtype=dtype, **loading)
    tokenizer = load_tokenizer(spec, adapter_base=base, **options)
    check_vocabulary(model, tokenizer)
    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[arg-type]
    return Speaker(Path(spec).name or spec, model, tokenizer)
