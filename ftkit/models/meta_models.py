# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Models without weights: what a configuration describes, built on the meta device in a moment and in no memory.

Enough to count, to show shapes and to try selectors, for models of any size and for folders that hold only a
``config.json``.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from ftkit.errors import ModelError, NetworkError, nearest_name
from ftkit.models.adapter_embeddings import resize_for
from ftkit.models.adapter_files import read_adapter, tensor_shapes
from ftkit.models.families import new_config
from ftkit.models.loader_errors import call_loader, load_from_hub, quiet
from ftkit.models.tasks import TASKS, reads_both_ways, usable_positions
from ftkit.models.trust import check_full_precision, drop_foreign_settings, is_adapter_folder, is_local

__all__ = ["Outline", "known_positions", "outline"]

GROWS = 10**6
"""Positions of a new model whose spec does not name them: it gets as many as its rows have tokens."""

_CLASSES: dict[str, Any] = {**TASKS, "none": AutoModel}


@dataclass(frozen=True)
class Outline:
    """A model on the meta device."""

    model: nn.Module
    """Without values; peft's wrapper where the folder holds an adapter."""
    config: PreTrainedConfig
    task: str
    """``causal-lm``, ``masked-lm``, ``sequence-classification``, or ``none`` for a body without a head."""
    has_adapter: bool = False

    @property
    def name(self) -> str:
        """The class of the model, without its adapter."""
        inner: Any = self.model
        return type(inner.get_base_model() if self.has_adapter else inner).__name__


def known_positions(spec: str, revision: str | None = None, *, trust_remote_code: bool = False) -> int | None:
    """Return the longest text in tokens that a model can read, before it is loaded.

    Args:
        spec: As for ``outline``.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Whether the model may bring code along; its positions are then known when it is loaded.

    Returns:
        ``None`` where nothing limits it or nobody knows yet; ``GROWS`` for a new model whose spec does not say.

    Raises:
        ModelError: A spec, folder or configuration that cannot be used.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    if spec.startswith("new:"):
        limit = getattr(new_config(spec, max_positions=GROWS).get_text_config(), "max_position_embeddings", None)
        return int(limit) if limit else None
    try:
        return usable_positions(outline(spec, revision=revision).model)
    except ModelError:
        if trust_remote_code:
            return None
        raise


def outline(spec: str, *, task: str | None = None, revision: str | None = None) -> Outline:
    """Build a model from its configuration alone.

    Args:
        spec: ``new:FAMILY[,key=value,...]``; a folder with ``config.json`` or ``adapter_config.json``; or a Hub id,
            looked up in the local cache first.
        task: One of ``Outline.task``; ``None`` takes the class that the configuration names, else the language task
            of the family.
        revision: Branch, tag or commit of a Hub id.

    Returns:
        The model in eval mode.

    Raises:
        ModelError: A spec, folder or configuration that cannot be used.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    if task is not None and task not in _CLASSES:
        raise ModelError(f"task is {task!r}{nearest_name(task, _CLASSES)}")
    if not spec.startswith("new:") and is_adapter_folder(spec):
        return _with_adapter(Path(spec).expanduser(), task)
    with quiet():
        config = _configuration(spec, revision)
        chosen = task or _task_named(config) or _task_of_family(config)
        with torch.device("meta"):
            model: nn.Module = call_loader(
                lambda: _CLASSES[chosen].from_config(config, attn_implementation="eager", trust_remote_code=False),
                f"model {spec!r}",
                chosen,
            )
    return Outline(model.eval(), config, chosen)


def _configuration(spec: str, revision: str | None) -> PreTrainedConfig:
    if spec.startswith("new:"):
        return new_config(spec)

    def read(where: str, options: dict[str, Any], name: str = spec) -> PreTrainedConfig:
        config: PreTrainedConfig = call_loader(lambda: AutoConfig.from_pretrained(name, **options), where)
        check_full_precision(config, where)
        drop_foreign_settings(config)
        return config

    options = {"trust_remote_code": False}
    if is_local(spec):
        return read(f"folder {spec}", options, str(_described_folder(spec)))
    config: PreTrainedConfig = load_from_hub(spec, read, {**options, "revision": revision})
    return config


def _described_folder(spec: str) -> Path:
    folder = Path(spec).expanduser()
    if folder.is_file():
        raise ModelError(f"The model {spec} is a file. Give the folder that holds config.json.")
    if not folder.is_dir():
        raise ModelError(f"The model folder {spec} does not exist. Check the path (it counts from {Path.cwd()}).")
    if not (folder / "config.json").is_file():
        names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"The folder {spec} has no config.json, so it describes no model; it holds: {names}")
    return folder


def _task_named(config: PreTrainedConfig) -> str | None:
    """The task whose class the configuration names."""
    for name in config.architectures or ():
        for task, automatic in _CLASSES.items():
            found = automatic._model_mapping.get(type(config), None)
            classes = found if isinstance(found, tuple) else (found,)
            if name in (known.__name__ for known in classes if known is not None):
                return task
    return None


def _task_of_family(config: PreTrainedConfig) -> str:
    """The language task of a family, where it has one."""
    task = "masked-lm" if reads_both_ways(config) else "causal-lm"
    return task if type(config) in TASKS[task]._model_mapping else "none"


def _with_adapter(folder: Path, task: str | None) -> Outline:
    """The base that an adapter names, with the adapter around it."""
    from peft import get_peft_model

    settings, trained_for, asked, revision = read_adapter(folder)
    settings.inference_mode = False  # as every saved adapter says; then nothing in it would be trainable
    if is_adapter_folder(asked):
        raise ModelError(f"The adapter {folder} names {asked!r} as its base, which is an adapter itself")
    try:
        base = outline(asked, task=task or trained_for, revision=revision)
    except (ModelError, NetworkError) as error:
        raise type(error)(f"The adapter {folder} stands on {asked!r}: {error}") from error
    inner: Any = base.model
    if base.task != "none":
        resize_for(inner, settings, tensor_shapes(folder), str(folder))
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks for names that transformers is about to change
        model = call_loader(
            lambda: get_peft_model(base.model, settings, low_cpu_mem_usage=True), f"adapter {folder}", base.task
        )
    return Outline(model.eval(), base.config, base.task, has_adapter=True)
