"""The base of a run, how it is loaded, and ``base:NAME``, a base of which ftkit knows the text.

``base:tales`` ships with ftkit. ``base:CONFIG`` runs that configuration the first time it is needed, in the cache, and
finds it there afterwards. Its text is general text for whoever starts from it: the held-out part is new to the base.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings, find_config, resolve
from ftkit.config.catalogue import load_recipe, recipe_of
from ftkit.config.launch import main_settings
from ftkit.config.resolve import Flags
from ftkit.config.settings import SETTINGS_VERSION
from ftkit.data import cache_dir, load_tokenizer
from ftkit.errors import CheckpointError, ConfigError, ModelError
from ftkit.jobs.lengths import BaseOutline, fit_language, outline_of
from ftkit.jobs.texts import Text, load_texts
from ftkit.models import load_model, save_model
from ftkit.models.meta_models import GROWS
from ftkit.runs import RunFolder
from ftkit.runs.files import cache_key
from ftkit.runs.integrity import record_problem
from ftkit.runs.models import SHIPPED_BASES, shipped_base
from ftkit.runs.planner import planner
from ftkit.runs.processes import num_processes

__all__ = [
    "Base",
    "base_of_adapters",
    "base_on_disk",
    "foresee_base",
    "load_saved",
    "load_start",
    "load_start_tokenizer",
    "prepare_base",
]

_logger = logging.getLogger("ftkit.jobs")


@dataclass(frozen=True)
class Base:
    """Where a run starts."""

    model: str
    """A folder, a Hub id or ``new:...``, as ``load_model`` takes it."""
    texts: dict[str, Text]
    """Text as it was made from, whose held-out part is new to it; empty for a model from elsewhere."""


@dataclass(frozen=True)
class _MadeBase:
    """A base that a configuration describes, made or not."""

    name: str
    main: Callable[[Any], None]
    settings: Any
    texts: dict[str, Text]
    folder: Path
    """Where it is in the cache, or will be."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What its run has written down; nothing before it is started."""
        file = self.folder / "manifest.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return found

    @property
    def done(self) -> bool:
        """Whether it was made."""
        return bool(self.manifest.get("status") == "done")

    @property
    def model(self) -> str:
        """The folder of the model."""
        return str(self.folder / "models" / "model")

    def make(self, **values: Any) -> None:
        """Run its recipe."""
        self.main(self.settings.model_copy(update=values))


def _text_of_shipped(folder: Path) -> dict[str, Text]:
    """Other texts of the authors that a shipped base has read."""
    sources: dict[str, str] = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return load_texts(sources, TrainingSettings())


def _described_base(model: str) -> _MadeBase:
    """Read the configuration and the texts of ``base:CONFIG``."""
    try:
        path = find_config(model.removeprefix("base:"))
    except ConfigError as error:
        shipped = ", ".join(f"base:{folder.name}" for folder in sorted(SHIPPED_BASES.iterdir()) if folder.is_dir())
        raise ConfigError(f"{model}: {error}; bases that ship with ftkit: {shipped}") from None
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
    key = cache_key([SETTINGS_VERSION, described, hashes], 12)
    return _MadeBase(path.stem, module.main, settings, texts, cache_dir() / "bases" / f"{path.stem}-{key}")


def foresee_base(
    settings: TrainingSettings, train_texts: Sequence[str], with_mask: bool = False, donor: str | None = None
) -> tuple[BaseOutline, dict[str, Text]]:
    """Describe the base of a run without making or loading it.

    Args:
        settings: ``model``, ``tokenizer`` and what ``load_model`` needs are read.
        train_texts: What a tokenizer ``train:SIZE`` learns from.
        with_mask: Whether that tokenizer needs a mask token.
        donor: Model whose tokenizer is used instead of that of ``settings``.

    Returns:
        The base, and its own texts where it is ``base:CONFIG``.
    """
    if donor:
        of_donor = settings.model_copy(update={"model": donor, "tokenizer": None})
        donated, _ = foresee_base(of_donor, train_texts, with_mask)
        return outline_of(settings, settings.model, donated.load_tokenizer), {}

    def tokenizer_of(model: str) -> Callable[[], Any]:
        return lambda: load_start_tokenizer(settings, model, train_texts, with_mask)

    if not settings.model.startswith("base:"):
        return outline_of(settings, settings.model, tokenizer_of(settings.model)), {}
    if shipped := shipped_base(settings.model):
        found = outline_of(settings, str(shipped), tokenizer_of(str(shipped)))
        return replace(found, name=settings.model), _text_of_shipped(shipped)
    made = _described_base(settings.model)
    if made.done:
        return replace(outline_of(settings, made.model, tokenizer_of(made.model)), name=settings.model), made.texts
    own_texts = [piece for text in made.texts.values() for piece in text.train]
    inner, _ = foresee_base(made.settings, own_texts, with_mask, made.settings.donor)
    positions = inner.positions
    if positions == GROWS:
        positions = fit_language(made.settings, None, inner, made.texts).window_tokens
    load = tokenizer_of(settings.model) if settings.tokenizer else inner.load_tokenizer
    return BaseOutline(settings.model, positions, load), made.texts


def prepare_base(model: str) -> Base:
    """Return the model that a run starts from; a ``base:CONFIG`` that is not in the cache is trained first.

    Args:
        model: The ``model`` setting: a folder, a Hub id, ``new:...`` or ``base:CONFIG``.
    """
    if not model.startswith("base:"):
        return Base(model, {})
    if shipped := shipped_base(model):
        _logger.info("base model: %s, which ships with ftkit", model)
        return Base(str(shipped), _text_of_shipped(shipped))
    made = _described_base(model)
    folder, texts, manifest = made.folder, made.texts, made.manifest
    if made.done:
        if problem := record_problem(folder / "models" / "model", manifest.get("models", {}).get("model", {})):
            raise CheckpointError(f"{folder}: its model is broken: {problem}; remove the folder to make the base again")
        _logger.info("base model: %s, made before", folder)
    elif planned := planner():
        return Base(
            str(planned.base(model, lambda place: made.make(output_dir=str(place)))),
            texts,
        )
    else:
        _make_once(made)
    return Base(str(folder / "models" / "model"), texts)


def _make_once(made: _MadeBase) -> None:
    """Make a base in the cache, or wait until another run has made it."""
    made.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{made.folder}.lock")
    # The processes of one run make it together; one of them that waited for itself would never end.
    with nullcontext() if num_processes() > 1 else lock:
        if made.done:
            return
        started = bool(made.manifest)
        _logger.info("base model: %s, %s", made.name, "going on with it" if started else "made once, then reused")
        made.make(output_dir=str(made.folder), resume=started)


def base_on_disk(model: str) -> str:
    """Return where the base of a finished run can be loaded from.

    Args:
        model: What the run began with: a folder, a Hub id, ``new:...`` or ``base:CONFIG``.

    Raises:
        ModelError: Random weights, or a ``base:CONFIG`` that is no longer in the cache.
    """
    if model.startswith("new:"):
        raise ModelError(f"the run began with random weights ({model}), which it did not keep; name a base with --base")
    if not model.startswith("base:"):
        return model
    if shipped := shipped_base(model):
        return str(shipped)
    made = _described_base(model)
    if not made.done:
        raise ModelError(f"{model}: is no longer in the cache; name the folder of a base with --base")
    return made.model


def base_of_adapters(base: Any, tokenizer: Any, model: str, settings: TrainingSettings, run: RunFolder) -> str:
    """Where the adapters of a run will find their base.

    Args:
        base: The base in memory.
        tokenizer: Its tokenizer.
        model: A folder, a Hub id or ``new:...``.
        settings: ``allow_pickle`` is read.
        run: Its folder keeps, as ``models/base``, what nobody else keeps as it is needed: random weights, bases from
            the cache or of the installed package, pickled ones. So a run that is moved or packed still loads.
    """
    made_here = any(Path(model).is_relative_to(place) for place in (cache_dir(), SHIPPED_BASES))
    if not (model.startswith("new:") or settings.allow_pickle or made_here):
        return model
    if run.is_main and not run.model("base").exists():
        save_model(base, tokenizer, run.model("base"))
    return str(run.model("base"))


def load_start(settings: TrainingSettings, model: str, **options: Any) -> PreTrainedModel:
    """Load what a run starts from.

    Args:
        settings: ``seed``, ``revision``, ``trust_remote_code`` and ``allow_pickle`` are read.
        model: A folder, a Hub id, or ``new:...``.
        options: What else ``load_model`` takes.
    """
    return load_model(
        model,
        seed=settings.seed,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
        **options,
    )


def load_start_tokenizer(settings: TrainingSettings, model: str, texts: Sequence[str], with_mask: bool = False) -> Any:
    """Load the tokenizer that a run reads its texts with.

    Args:
        settings: ``tokenizer`` is read; without it the model's own is taken, under the settings that load the model.
        model: A folder, a Hub id, or ``new:...``.
        texts: What a tokenizer ``train:SIZE`` learns from.
        with_mask: Whether a new tokenizer needs a mask token.
    """
    if settings.tokenizer:
        return load_tokenizer(settings.tokenizer, texts=texts, with_mask=with_mask)
    return load_tokenizer(
        model,
        texts=texts,
        with_mask=with_mask,
        trust_remote_code=settings.trust_remote_code,
        revision=settings.revision,
    )


def load_saved(settings: TrainingSettings, folder: Any, task: str = "causal-lm") -> PreTrainedModel:
    """Load a model from the folder that a run has saved it to.

    A model that brings code along still needs it, and so does the base of an adapter, which may be pickled too.

    Args:
        settings: ``trust_remote_code`` and ``allow_pickle`` are read.
        folder: The folder.
        task: As for ``load_model``.
    """
    return load_model(
        str(folder), task=task, trust_remote_code=settings.trust_remote_code, allow_pickle=settings.allow_pickle
    )
