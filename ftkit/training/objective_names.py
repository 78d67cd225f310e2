"""Objectives as settings write them: ``last_tokens:8``, ``next_token + 0.1*kl_to_base``, ``my_package.losses:FOCAL``.

Reading is apart from building, so that a name that is wrong is told before a model is loaded.
"""

import importlib
import importlib.util
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import token_set
from ftkit.errors import ConfigError, nearest_name
from ftkit.training.objectives import (
    CLASSIFICATION,
    MASKED_TOKENS,
    NEXT_TOKEN,
    NLL,
    Batch,
    Objective,
    WeightedSum,
    kl_to_base,
    last_tokens,
    smoothed,
    token_set_kl,
)

__all__ = [
    "OBJECTIVES",
    "ObjectiveContext",
    "Term",
    "build_objective",
    "check_objective",
    "random_batch",
    "read_objective",
]


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective may be made from."""

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    """V, rows of the model's vocabulary; of a classifier C."""
    task: str = "causal-lm"
    """What the model does, as ``task_of`` says."""
    base: Callable[[], PreTrainedModel] | None = None
    """Makes the model as it was before training; ``None`` where there is none."""

    @property
    def causal(self) -> bool:
        """Whether the model is a decoder."""
        return self.task == "causal-lm"


@dataclass(frozen=True)
class _Kind:
    """One name."""

    form: str
    """How it is written."""
    read: Callable[[str], tuple[Any, ...]]
    """What stands after the colon, as arguments; ``ValueError`` where it cannot be read."""
    build: Callable[..., Objective]
    """From ingredients and arguments."""
    task: str | None = None
    """The one task that it is for."""


@dataclass(frozen=True)
class Term:
    """One summand, read and not yet built."""

    weight: float
    text: str
    """As it is written, without its weight."""
    kind: str
    """A name of ``OBJECTIVES``; empty for an import path."""
    arguments: tuple[Any, ...]


def _nothing(text: str) -> tuple[Any, ...]:
    if text:
        raise ValueError("nothing stands after its name")
    return ()


def _token_set(text: str) -> tuple[Any, ...]:
    """``PATTERN[:MASS][:last]``; read from the end, since a pattern may have colons."""
    *parts, where = text.split(":") if text.endswith((":last", ":all")) else [text, "all"]
    pattern, colon, mass = ":".join(parts).rpartition(":")
    if not colon or not re.fullmatch(r"[0-9.]+", mass):
        pattern, mass = ":".join(parts), "1"
    if not pattern:
        raise ValueError("it needs a pattern")
    if not 0 <= float(mass) <= 1:
        raise ValueError(f"its mass {mass} is a share, from 0 to 1")
    re.compile(pattern)
    return pattern, float(mass), where


def _build_token_set(ingredients: ObjectiveContext, pattern: str, mass: float, where: Any) -> Objective:
    tokens = token_set(ingredients.tokenizer, pattern, ingredients.vocab_size)
    return token_set_kl(tokens, mass, where, causal=ingredients.causal)


def _build_kl_to_base(ingredients: ObjectiveContext) -> Objective:
    if ingredients.base is None:
        raise ConfigError("objective kl_to_base: there is no base here to stay near to")
    return kl_to_base(ingredients.base(), causal=ingredients.causal)


def _fixed(name: str, objective: Objective, task: str) -> _Kind:
    return _Kind(name, _nothing, lambda ingredients: objective, task)


OBJECTIVES: dict[str, _Kind] = {
    "next_token": _fixed("next_token", NEXT_TOKEN, "causal-lm"),
    "nll": _fixed("nll", NLL, "causal-lm"),
    "last_token": _Kind("last_token", _nothing, lambda ingredients: last_tokens(1), "causal-lm"),
    "last_tokens": _Kind(
        "last_tokens:COUNT", lambda text: (last_tokens(int(text)),), lambda _, made: made, "causal-lm"
    ),
    "smoothed": _Kind("smoothed:SHARE", lambda text: (smoothed(float(text)),), lambda _, made: made, "causal-lm"),
    "masked_tokens": _fixed("masked_tokens", MASKED_TOKENS, "masked-lm"),
    "classification": _fixed("classification", CLASSIFICATION, "sequence-classification"),
    "token_set": _Kind("token_set:PATTERN[:MASS][:last]", _token_set, _build_token_set),
    "kl_to_base": _Kind("kl_to_base", _nothing, _build_kl_to_base),
}
"""What settings may name."""


def read_objective(text: str) -> tuple[Term, ...]:
    """Read an objective without building it; nothing is imported.

    Args:
        text: Terms joined by " + " (with blanks: a pattern may have a + of its own), each a name, a name with what
            follows its colon, or an import path ``package.module:NAME`` or ``folder/file.py:NAME``, with ``WEIGHT*``
            before it or not.

    Raises:
        ConfigError: A term that cannot be read.
    """
    terms = tuple(_term(text, part.strip()) for part in re.split(r"\s\+\s", text))
    twice = [term.text for number, term in enumerate(terms) if term.text in {other.text for other in terms[:number]}]
    if twice:
        raise ConfigError(f"objective {text!r}: {twice[0]} stands there twice; add up its weights")
    return terms


def _term(whole: str, part: str) -> Term:
    """One summand."""
    found = re.fullmatch(r"(?:([-+.\deE]+)\s*\*\s*)?(.*)", part, re.DOTALL)
    assert found is not None  # both parts may be missing
    number, text = found[1], found[2]
    try:
        weight = 1.0 if number is None else float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight == 0:
        raise ConfigError(f"objective {whole!r}: the weight {number} is no number, or has no effect")
    name, _, rest = text.partition(":")
    if (kind := OBJECTIVES.get(name)) is None:
        if re.fullmatch(r"[\w.]+:[A-Za-z_]\w*|.+\.py:[A-Za-z_]\w*", text):
            return Term(weight, text, "", ())
        hint = "; blanks stand around a +" if "+" in text else ""
        raise ConfigError(
            f"objective {whole!r}: unknown objective {text!r}{nearest_name(name, OBJECTIVES)}{hint} (one of your own "
            "is written package.module:NAME)"
        )
    try:
        return Term(weight, text, name, kind.read(rest))
    except (ValueError, re.error) as error:
        raise ConfigError(f"objective {whole!r}: {text!r} is no {kind.form} ({error})") from None


def build_objective(text: str, ingredients: ObjectiveContext) -> Objective | WeightedSum:
    """Make an objective from a setting.

    An import path is imported, which runs that module; nothing else of the user's is run. What it names must be an
    ``Objective``, or a function that makes one from ``ObjectiveContext``; it is tried on random rows first (see
    ``check_objective``).

    Args:
        text: As ``read_objective`` takes it.
        ingredients: What it may be made from.

    Raises:
        ConfigError: A term that cannot be read or imported, that is for another task, or that is no objective.
    """
    terms = read_objective(text)
    built = tuple((term.weight, _build(term, ingredients)) for term in terms)
    return built[0][1] if len(built) == 1 and built[0][0] == 1 else WeightedSum(built)


def _build(term: Term, ingredients: ObjectiveContext) -> Objective:
    if not term.kind:
        return replace(_own(term.text, ingredients), name=term.text)
    kind = OBJECTIVES[term.kind]
    if kind.task not in (None, ingredients.task):
        fitting = [name for name, other in OBJECTIVES.items() if other.task in (None, ingredients.task)]
        raise ConfigError(
            f"objective {term.text}: is for {kind.task}, and this model is for {ingredients.task}; "
            f"choose one of {', '.join(fitting)}"
        )
    return replace(kind.build(ingredients, *term.arguments), name=term.text)


def _own(path: str, ingredients: ObjectiveContext) -> Objective:
    """An objective of the user's, from an import path."""
    where, _, name = path.rpartition(":")
    try:
        module = _module(where)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(
            f"objective {path!r}: {where} cannot be imported ({error}){nearest_name(where, OBJECTIVES)}"
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"objective {path!r}: {where} has no {name}{nearest_name(name, vars(module))}")
    found = getattr(module, name)
    made = found(ingredients) if callable(found) else found
    if not isinstance(made, Objective):
        raise ConfigError(
            f"objective {path!r}: is {type(made).__name__}; it must be an Objective of ftkit.training, or a function "
            "that makes one from ObjectiveContext"
        )
    if ingredients.task != "sequence-classification":
        check_objective(made, ingredients.vocab_size)
    return made


def _module(where: str) -> Any:
    """A module by its name or by its file."""
    if not where.endswith(".py"):
        return importlib.import_module(where)
    path = Path(where).expanduser()
    spec = importlib.util.spec_from_file_location(f"ftkit_objective_{path.stem}", path)
    assert spec is not None  # it ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What every objective must keep to, tried on random rows: a sum over targets, and a gradient that is its slope.
#
# An objective that returns a mean instead of a sum trains without complaint, at a loss and a rate that depend on how
# the
# batch is split. That cannot be seen in a curve, and is seen here at once.


_SLOPE = 1e-2
"""Step of the difference quotient along the gradient's direction, in units of the logits."""


def random_batch(vocab_size: int, rows: int = 3, tokens: int = 6) -> Batch:
    """Random rows as a language model's source gives them: ``input_ids`` and ``labels``, [B, T]."""
    ids = torch.randint(vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone()}


def check_objective(objective: Objective, vocab_size: int, batch: Batch | None = None) -> None:
    """Refuse an objective that is no sum over rows, or whose gradient is not the slope of its value.

    Args:
        objective: What to try.
        vocab_size: V (or C) of the logits it gets.
        batch: Rows to try it on; ``None`` takes those of ``random_batch``.

    Raises:
        ConfigError: What was found, and what is expected.
    """
    batch = random_batch(vocab_size) if batch is None else batch
    shape = (*batch["labels"].shape, vocab_size)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    value = objective.loss_sum(logits, batch)
    if value.shape != () or value.dtype is not torch.float32 or not bool(value.isfinite()):
        raise ConfigError(
            f"objective {objective.name}: loss_sum gave {value.dtype} of shape {list(value.shape)}; it must give one "
            "finite float32, the sum over targets in nats"
        )
    parts = [{name: tensor[row : row + 1] for name, tensor in batch.items()} for row in range(shape[0])]
    _check_sum(objective, logits.detach(), batch, parts)
    (slope,) = torch.autograd.grad(value, logits)
    norm = float(slope.norm())
    if not norm > 0:
        raise ConfigError(f"objective {objective.name}: its gradient is {norm:g}, so nothing would be learned")
    ahead, behind = (
        float(objective.loss_sum(logits.detach() + sign * _SLOPE * slope / norm, batch)) for sign in (1, -1)
    )
    measured = (ahead - behind) / (2 * _SLOPE)
    if abs(measured - norm) > 0.02 * norm + 1e-4 * abs(float(value.detach())):
        raise ConfigError(
            f"objective {objective.name}: its gradient says that it rises by {norm:.4g}, and it rises by {measured:.4g}"
        )


def _check_sum(objective: Objective, logits: torch.Tensor, batch: Batch, parts: list[Batch]) -> None:
    """Rows one by one must add up to all of them, in value and in targets."""
    whole = float(objective.loss_sum(logits, batch))
    added = sum(float(objective.loss_sum(logits[row : row + 1], part)) for row, part in enumerate(parts))
    if abs(whole - added) > 1e-4 * max(abs(whole), abs(added)):
        raise ConfigError(
            f"objective {objective.name}: {len(parts)} rows together give {whole:.6g}, one by one {added:.6g}; "
            "loss_sum must return the sum over targets, not their mean: the engine divides by num_targets"
        )
    counts = objective.num_targets(batch), sum(objective.num_targets(part) for part in parts)
    if counts[0] != counts[1] or counts[0] < 1:
        raise ConfigError(
            f"objective {objective.name}: num_targets gives {counts[0]} for {len(parts)} rows together, and "
            f"{counts[1]} one by one; it must count the targets that loss_sum adds up"
        )
