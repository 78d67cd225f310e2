# mypy: allow-subclassing-any, allow-untyped-calls
# (transformers is typed in part only, and reads plain class attributes.)
# This file travels to the Hub beside saved weights: of ftkit it may import the GPT-2's configuration, relatively.
"""Configuration of the ladder: four small models, each with one part more, that lead to ftkit's own GPT-2."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_ftkit_gpt2 import FtkitGPT2Config

__all__ = ["FtkitLadderConfig"]

# Written whole into every config.json; see configuration_ftkit_gpt2.py.
AUTO_MAP = {
    "AutoConfig": "configuration_ftkit_ladder.FtkitLadderConfig",
    "AutoModel": "modeling_ftkit_ladder.FtkitLadderModel",
    "AutoModelForCausalLM": "modeling_ftkit_ladder.FtkitLadderForCausalLM",
}


@strict
class FtkitLadderConfig(FtkitGPT2Config):
    """Shape and settings of a rung; what is not listed here is as in ``FtkitGPT2Config``.

    Attributes:
        rung: 1 is embedding, GELU and head; 2 adds positions, a norm and the tied head; 3 adds one attention head; 4
            has whole blocks with one head each. The fifth rung is ``FtkitGPT2`` itself.
        hidden_size: Width.
        num_hidden_layers: Blocks of rung 4, two by default; rung 3 has one head and no rung below has a layer, so
            there it is 1.
        num_attention_heads: 1.
        max_position_embeddings: Longest context in tokens; ``None`` on rung 1, which has no positions.
        logit_scale: Factor on the logits; the course takes ``hidden_size ** -0.5`` from rung 2 on.
        tie_word_embeddings: Whether the head is the token embedding; by default on every rung but the first.

    Raises:
        ValueError: A rung that does not exist, more heads or layers than it has, or what ``FtkitGPT2Config`` refuses.

    Source: lessons 04/02, 04/010, 04/015, 04/018.
    """

    model_type = "ftkit_ladder"
    base_model_tp_plan = {}  # too small to be divided
    base_model_pp_plan = {}
    base_model_fsdp_plan = {}

    rung: int = 4
    hidden_size: int = 64
    num_hidden_layers: int | None = None  # type: ignore[assignment]  # derived below
    num_attention_heads: int = 1
    max_position_embeddings: int | None = 128  # type: ignore[assignment]  # rung 1 has none
    embedding_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    attention_output_dropout: float | int = 0.0
    mlp_dropout: float | int = 0.0
    use_cache: bool = False
    tie_word_embeddings: bool | None = None  # type: ignore[assignment]  # derived below

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive what depends on the rung."""
        super().__post_init__(**kwargs)
        if self.num_hidden_layers is None:
            self.num_hidden_layers = 2 if self.rung == 4 else 1
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = self.rung > 1
        if self.rung == 1:
            self.max_position_embeddings = None
        self.auto_map = dict(AUTO_MAP)

    def validate_architecture(self) -> None:
        """Check what no single field can say."""
        if not 1 <= self.rung <= 4:
            raise ValueError(f"rung is {self.rung}; there is 1, 2, 3 and 4, and the fifth is the model ftkit_gpt2.")
        if self.num_attention_heads != 1:
            raise ValueError(f"num_attention_heads is {self.num_attention_heads}; a rung has 1, ftkit_gpt2 has more.")
        if self.rung < 4 and self.num_hidden_layers != 1:
            raise ValueError(f"num_hidden_layers is {self.num_hidden_layers}; only rung 4 has more than 1.")
        super().validate_architecture()
