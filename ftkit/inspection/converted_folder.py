"""A model folder converted between ftkit's own GPT-2 and Hugging Face's, or to GGUF, compared before it appears."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ftkit.data import load_tokenizer
from ftkit.errors import ModelError
from ftkit.models import from_hf_gpt2, is_adapter, load_model, save_model, to_hf_gpt2
from ftkit.models.conversion import CONVERTIBLE
from ftkit.models.gguf_files import gguf_contents, write_gguf
from ftkit.models.meta_models import outline
from ftkit.models.outputs import ROUNDING, relative_difference
from ftkit.runs.files import atomic_folder
from ftkit.tuning import merge_adapter

__all__ = ["Conversion", "GgufFile", "convert_folder", "convert_to_gguf", "stored_dtype"]

_PROBE_ROWS, _PROBE_TOKENS = 2, 32  # two rows, so that one cannot be right by chance; 32 tokens use the positions
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")


@dataclass(frozen=True)
class Conversion:
    """What was converted, and how near the result is."""

    path: Path
    source: str
    """The class that was read."""
    target: str
    """The class that was written."""
    parameters: int
    dtype: str
    difference: float
    """Largest difference of the logits on the probe, relative to the largest logit where that is above 1."""
    has_tokenizer: bool


def convert_folder(
    model: str,
    folder: str | os.PathLike[str],
    to: str,
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    seed: int = 0,
) -> Conversion:
    """Write a model in the other architecture, with its tokenizer.

    The folder appears when its weights have been read again and their logits are those of the original.

    Args:
        model: A folder or Hub id of a GPT-2, own or Hugging Face's: a language model, or a classifier of texts.
        folder: The folder to make; it must not exist, or be empty.
        to: ``gpt2`` or ``ftkit_gpt2``.
        revision: Branch, tag or commit of a Hub id.
        allow_pickle: Whether ``pytorch_model.bin`` is read where there are no safetensors.
        seed: Draws the token ids of the probe.

    Returns:
        What was written.

    Raises:
        ModelError: Another architecture, an adapter, a setting that the target does not have, a folder in use, or
            logits that differ by more than rounding.
        CheckpointError: The disk refuses.
    """
    target = Path(folder).expanduser().resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ModelError(f"{folder} exists and is not an empty folder. Name a new folder for the converted model.")
    described = outline(model, revision=revision)
    if described.has_adapter:
        raise ModelError(f"{model} is an adapter, which cannot be converted. Convert its base, or merge it first.")
    if described.name not in CONVERTIBLE[to]:
        raise ModelError(
            f"{model} is a {described.name} (model_type {described.config.model_type}), which cannot be converted to"
            f" {to}; there is: {', '.join(CONVERTIBLE[to])}."
        )
    donor = load_model(model, task=described.task, revision=revision, allow_pickle=allow_pickle)
    converted: Any = to_hf_gpt2(donor) if to == "gpt2" else from_hf_gpt2(donor)
    dtype = stored_dtype(donor, described.config.dtype)
    tokenizer = load_tokenizer(model, revision=revision) if _has_tokenizer(model) else None
    with atomic_folder(target) as fresh:
        save_model(converted.to(dtype), tokenizer, fresh)
        difference = _logits_difference(donor, load_model(str(fresh), task=described.task), seed)
        if difference > ROUNDING:
            raise ModelError(
                f"The logits of {model} and of the converted model differ by {difference:.3g}, where rounding leaves at"
                f" most {ROUNDING:g}. Nothing was written to {folder}."
            )
    return Conversion(
        path=target, source=described.name, target=type(converted).__name__, parameters=converted.num_parameters(),
        dtype=str(dtype).removeprefix("torch."), difference=difference, has_tokenizer=tokenizer is not None,
    )  # fmt: skip


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file that was written, and how near it is to the model."""

    path: Path
    num_bytes: int
    contents: str
    """Types of its numbers and their shares."""
    difference: float
    """Largest difference of the logits on the probe, relative to the largest logit where that is above 1."""


def convert_to_gguf(
    model: str,
    file: str | os.PathLike[str],
    kind: str = "q8_0",
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    seed: int = 0,
) -> GgufFile:
    """Write a language model as a GGUF file with its tokenizer, and read it again.

    Args:
        model: A folder or Hub id of a Llama or a GPT-2, or a folder with an adapter of one, which is merged.
        file: The file to make; it must not exist.
        kind: How matrices are stored: ``f32``, ``f16``, ``q8_0`` or ``q4_0``.
        revision: Branch, tag or commit of a Hub id.
        allow_pickle: Whether ``pytorch_model.bin`` is read where there are no safetensors.
        seed: Draws the token ids of the probe.

    Raises:
        ModelError: Another architecture, or a file that exists.
        DeviceError: The package ``gguf`` is not installed.
    """
    target = Path(file).expanduser().resolve()
    if target.suffix != ".gguf" or target.exists():
        raise ModelError(f"{file} exists already or does not end with .gguf. Name a new file, such as model.gguf.")
    donor: Any = load_model(model, revision=revision, allow_pickle=allow_pickle)
    donor = merge_adapter(donor) if is_adapter(donor) else donor
    written = to_hf_gpt2(donor) if donor.config.model_type == "ftkit_gpt2" else donor
    fresh = target.with_name(f".{target.stem}.part.gguf")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_gguf(written, load_tokenizer(model, revision=revision), fresh, kind)
        difference = _logits_difference(donor, load_model(str(fresh)), seed)
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)
    return GgufFile(target, target.stat().st_size, gguf_contents(str(target)), difference)


def stored_dtype(model: PreTrainedModel, named: Any) -> torch.dtype:
    """Return the dtype that the configuration names, where it holds every weight exactly; else float32.

    Args:
        model: A model that was loaded in float32.
        named: What its configuration says.
    """
    dtype = named if isinstance(named, torch.dtype) else torch.float32
    exact = all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in model.state_dict().values())
    return dtype if exact else torch.float32


def _has_tokenizer(model: str) -> bool:
    folder = Path(model).expanduser()
    return not folder.is_dir() or any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _logits_difference(donor: PreTrainedModel, converted: PreTrainedModel, seed: int) -> float:
    config: Any = donor.config
    tokens = min(_PROBE_TOKENS, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(seed)
    # One row at a time: a classifier without a padding token reads no batches.
    rows = torch.randint(0, config.vocab_size, (_PROBE_ROWS, 1, tokens), generator=generator)
    with torch.no_grad():
        return max(relative_difference(converted(input_ids=row).logits, donor(input_ids=row).logits) for row in rows)
