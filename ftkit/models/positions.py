"""How many tokens of text a model can read at once."""

from typing import Any

from torch import nn

from ftkit.models.adapter_files import virtual_tokens

__all__ = ["usable_positions"]


def usable_positions(model: nn.Module) -> int | None:
    """Return the longest text in tokens that a model can read.

    It is less than ``max_position_embeddings`` where the model needs positions for itself: RoBERTa and its relatives
    (XLM-RoBERTa, CamemBERT, Longformer, MPNet, ...) number their tokens from ``padding_idx + 1``, so that 128 of 130
    rows can be used. OPT and BART shift theirs too, but their tables are longer by that shift. An adapter's virtual
    tokens take positions as well.

    Args:
        model: Any Hugging Face model, on any device, also the meta device; or peft's wrapper around one.

    Returns:
        Tokens, or ``None`` where the architecture has no limit.
    """
    wrapped: Any = model
    config: Any = getattr(wrapped, "config", None)
    if config is None:
        return None
    # A limit of MPT has another name: its ALiBi slopes are built for so many tokens.
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    if not limit:
        return None
    return int(limit) - _first_position(model, int(limit)) - virtual_tokens(model)


def _first_position(model: nn.Module, limit: int) -> int:
    """The number of the first token's position, where the table of positions has no row to spare for it."""
    offsets = [
        int(module.padding_idx) + 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
        and getattr(module, "padding_idx", None) is not None
        and getattr(module, "num_embeddings", limit) <= limit
    ]
    return max(offsets, default=0)
