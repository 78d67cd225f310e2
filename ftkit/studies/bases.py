"""The base of a run: a folder, a Hub id, random weights, or ``base:CONFIG``, a model that another recipe makes once.

``base:demo_base`` runs the configuration ``demo_base`` the first time it is needed, in the cache, and finds it there
afterwards. Its text is general text for whoever starts from it: the base has learnt one part and never seen the other.
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config import find_config, resolve
from ftkit.config.catalogue import load_recipe, recipe_of
from ftkit.config.launch import main_settings
from ftkit.config.resolve import Flags
from ftkit.data import cache_dir
from ftkit.errors import CheckpointError, ConfigError
from ftkit.models import save_model
from ftkit.runs import RunFolder
from ftkit.runs.checking import record_problem
from ftkit.runs.planning import planner
from ftkit.studies.texts import Text, load_texts

__all__ = ["Base", "base_of_adapters", "prepare_base"]

_logger = logging.getLogger("ftkit.studies")


@dataclass(frozen=True)
class Base:
    """Where a run starts."""

    model: str
    """A folder, a Hub id or ``new:...``, as ``load_model`` takes it."""
    texts: dict[str, Text]
    """What the base was made from, divided as it was then; empty for a model from elsewhere."""


def prepare_base(model: str) -> Base:
    """Find the model that a run starts from; make it first where it is ``base:CONFIG`` and not in the cache.

    Args:
        model: The ``model`` setting.
    """
    if not model.startswith("base:"):
        return Base(model, {})
    path = find_config(model.removeprefix("base:"))
    recipe = recipe_of(path)
    module = load_recipe(recipe)
    settings: Any = resolve(main_settings(module.main), recipe.stem, Flags(config=str(path))).settings
    if not hasattr(settings, "sources"):
        raise ConfigError(
            f"{model}: {path.name} runs {recipe.stem}, which makes no base; name a configuration of pretrain"
        )
    texts = load_texts(settings.sources, settings)
    described = settings.model_dump(mode="json", exclude={"output_dir", "resume"}, exclude_defaults=True)
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        described["processes"] = processes  # they share the batch, so the model is another
    hashes = [text.corpus.sha256 for text in texts.values()]
    key = hashlib.sha256(json.dumps([described, hashes], sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_dir() / "bases" / f"{path.stem}-{key}"
    started = (folder / "manifest.json").exists()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8")) if started else {}
    if manifest.get("status") == "done":
        if problem := record_problem(folder / "models" / "model", manifest.get("models", {}).get("model", {})):
            raise CheckpointError(f"{folder}: its model is broken: {problem}; remove the folder to make the base again")
        _logger.info("base model: %s, made before", folder)
    elif planned := planner():
        return Base(
            str(planned.base(model, lambda place: module.main(settings.model_copy(update={"output_dir": str(place)})))),
            texts,
        )
    else:
        _logger.info("base model: %s, %s", path.stem, "going on with it" if started else "made once, then reused")
        module.main(settings.model_copy(update={"output_dir": str(folder), "resume": started}))
    return Base(str(folder / "models" / "model"), texts)


def base_of_adapters(base: Any, tokenizer: Any, model: str, settings: Any, run: RunFolder) -> str:
    """Where the adapters of a run will find their base.

    Args:
        base: The base in memory.
        tokenizer: Its tokenizer.
        model: A folder, a Hub id or ``new:...``.
        settings: ``allow_pickle`` is read.
        run: Its folder keeps, as ``models/base``, what nobody else keeps as it is needed: random weights, bases from
            the cache, pickled ones. So a run that is moved or packed still loads.
    """
    if not (model.startswith("new:") or settings.allow_pickle or Path(model).is_relative_to(cache_dir())):
        return model
    if run.is_main and not run.model("base").exists():
        save_model(base, tokenizer, run.model("base"))
    return str(run.model("base"))
