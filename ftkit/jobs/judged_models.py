"""Base and tuned model of a verdict, each with its own tokenizer; one model in memory where an adapter allows it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ftkit.data import TokenStore, load_tokenizer, tokenize_texts
from ftkit.errors import FtkitError, ModelError
from ftkit.evidence import Reference
from ftkit.jobs.verdict_requests import VerdictRequest
from ftkit.models import base_or_beneath, check_vocabulary, contains_base, is_adapter, load_model, usable_positions
from ftkit.models.families import architecture_of, differing
from ftkit.models.gguf_files import gguf_contents, gguf_pieces, is_gguf
from ftkit.models.trust import is_adapter_folder
from ftkit.tuning import MIN_CORRELATION, median_correlation

__all__ = ["ModelSide", "check_same_start", "load_reference", "load_sides"]

_MAY_CHANGE = ("vocab_size", "tie_word_embeddings")
"""What tuning may change of an architecture: tokens are added, and a merged model is often saved with two matrices."""


@dataclass(frozen=True)
class ModelSide:
    """One of the two models, with its own tokenizer."""

    tokenizer: PreTrainedTokenizerFast
    tuned: PreTrainedModel | None = None
    """Of the base: the tuned model that contains it; ``None`` where the base was loaded by itself."""
    own: PreTrainedModel | None = None
    """A model of its own."""

    @contextmanager
    def model(self) -> Iterator[PreTrainedModel]:
        """The model, as long as the context lasts."""
        if self.own is not None:
            yield self.own
            return
        assert self.tuned is not None
        with base_or_beneath(None, self.tuned) as base:
            yield base

    def tokens(self, texts: Sequence[str]) -> TokenStore:
        """Texts in this model's tokens."""
        return tokenize_texts(texts, self.tokenizer)

    @property
    def positions(self) -> int | None:
        """Longest context, without what an adapter takes."""
        with self.model() as model:
            return usable_positions(model)


def load_sides(
    request: VerdictRequest, task: str, known_base: PreTrainedModel | None = None
) -> tuple[ModelSide, ModelSide, list[str]]:
    """Load base and tuned model with their tokenizers, in one model where an adapter allows it.

    Args:
        request: Which models.
        task: What they are for (see ``task_of``).
        known_base: The base where it was loaded before; ``None`` loads it, if an adapter does not contain it.

    Returns:
        Base, tuned model, and what had to be assumed.

    Raises:
        ModelError: A model that cannot be loaded, or that did not start from the base.
    """
    options: dict[str, Any] = {
        "task": task, "trust_remote_code": request.trust_remote_code, "allow_pickle": request.allow_pickle,
        "dtype": request.dtype,
    }  # fmt: skip
    of_base = request.revision if is_adapter_folder(request.tuned) else None
    tuned: Any = load_model(request.tuned, adapter_base=request.base, revision=of_base, **options)
    assumed = []
    if tuned.dtype != torch.float32:
        assumed.append(f"the models were judged in {str(tuned.dtype).removeprefix('torch.')}")
    code: Any = {"trust_remote_code": request.trust_remote_code}
    tokenizer = load_tokenizer(request.base, revision=request.revision, **code)
    if contains_base(tuned):
        base = ModelSide(tokenizer, tuned)
    else:
        loaded = known_base or load_model(request.base, revision=request.revision, **options)
        check_same_start(request.base, request.tuned, loaded, tuned)
        base = ModelSide(tokenizer, own=loaded)
    assumed += [
        f"the {name} model is a GGUF file whose numbers were dequantized: {gguf_contents(spec)}"
        for name, spec in (("base", request.base), ("tuned", request.tuned))
        if is_gguf(spec)
    ]
    try:
        if not (is_gguf(request.tuned) and _has_tokens_of(request.tuned, tokenizer)):
            tokenizer = load_tokenizer(request.tuned, adapter_base=request.base, revision=of_base, **code)
    except FtkitError as error:
        assumed.append(f"the tuned model has no tokenizer that can be read, so the base's was used ({error})")
    sides = base, ModelSide(tokenizer, own=tuned)
    for side, name in zip(sides, (request.base, request.tuned), strict=True):
        try:
            with side.model() as model:
                check_vocabulary(model, side.tokenizer)
        except FtkitError as error:
            raise ModelError(f"{name}: {error}") from None
    return *sides, assumed


def _has_tokens_of(file: str, tokenizer: Any) -> bool:
    """Whether a GGUF file has the tokens of a tokenizer at its ids.

    Then the tokenizer itself is taken: what transformers rebuilds from a file cuts some texts in another way.

    Raises:
        ModelError: The file holds no tokenizer.
    """
    if (pieces := gguf_pieces(file)) is None:
        raise ModelError(f"{file} holds no tokenizer")
    vocabulary = tokenizer.get_vocab().items()
    return all(token_id < len(pieces) and pieces[token_id] == piece for piece, token_id in vocabulary)


def check_same_start(base_name: str, tuned_name: str, base: PreTrainedModel, tuned: Any) -> None:
    """Refuse a base of another shape, and one of the same shape whose weights are others.

    Args:
        base_name: As the user names it.
        tuned_name: Likewise.
        base: The base.
        tuned: The model, or an adapter around its own base.

    Raises:
        ModelError: The tuned model did not start from the base.
    """
    inner = tuned.get_base_model() if is_adapter(tuned) else tuned
    architectures = [architecture_of(model.config) for model in (base, inner)]
    if other := differing(*({k: v for k, v in a.items() if k not in _MAY_CHANGE} for a in architectures)):
        raise ModelError(f"{tuned_name} did not start from {base_name}: they differ in {other}; name its base")
    if not is_adapter(tuned) and (found := median_correlation(base, tuned)) is not None and found < MIN_CORRELATION:
        raise ModelError(
            f"{tuned_name} did not start from {base_name}: their weights have one shape and size and are not "
            f"correlated (median over the matrices {found:.3f}, below {MIN_CORRELATION}); name its base"
        )


def load_reference(request: VerdictRequest) -> Reference | None:
    """The language model that reads the passages, where one was given."""
    if request.reference is None:
        return None
    model = load_model(
        request.reference, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle
    )
    tokenizer = load_tokenizer(request.reference, trust_remote_code=request.trust_remote_code)
    return Reference(request.reference, model, tokenizer)
