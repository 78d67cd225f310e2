# mypy: allow-subclassing-any, allow-untyped-calls
# (transformers is typed in part only, and reads plain class attributes.)
# This file travels to the Hub beside saved weights: it may import nothing of ftkit.
"""Configuration of ftkit's own GPT-2."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

__all__ = ["FtkitGPT2Config"]

# Written whole into every config.json, because transformers adds only the entry of the one class that is saved, and
# then AutoModel cannot open a folder that AutoModelForCausalLM wrote (transformers 5.23).
AUTO_MAP = {
    "AutoConfig": "configuration_ftkit_gpt2.FtkitGPT2Config",
    "AutoModel": "modeling_ftkit_gpt2.FtkitGPT2Model",
    "AutoModelForCausalLM": "modeling_ftkit_gpt2.FtkitGPT2ForCausalLM",
    "AutoModelForSequenceClassification": "modeling_ftkit_gpt2.FtkitGPT2ForSequenceClassification",
}


@strict
class FtkitGPT2Config(PreTrainedConfig):
    """Shape and settings of an ``FtkitGPT2`` model; the defaults are those of GPT-2 small.

    GPT-2's own spellings (``n_embd``, ``n_layer``, ``n_head``, ``n_inner``, ``n_positions``, ``activation_function``,
    ``layer_norm_epsilon``, ``embd_pdrop``, ``attn_pdrop``) are other names of the same fields. ``resid_pdrop`` is
    accepted when a configuration is built and sets ``attention_output_dropout`` and ``mlp_dropout``.

    Attributes:
        vocab_size: Rows of the token embedding.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Blocks.
        num_attention_heads: Heads of each block; they divide ``hidden_size``.
        intermediate_size: Width inside the MLP; ``None`` means four times ``hidden_size``.
        max_position_embeddings: Rows of the position embedding, which is the longest context in tokens.
        hidden_act: Activation of the MLP by its name in transformers; ``gelu_new`` is GPT-2's tanh form.
        embedding_dropout: Share of the summed embeddings that is dropped, in [0, 1).
        attention_dropout: Share of the attention weights that is dropped, in [0, 1).
        attention_output_dropout: Share of the attention output that is dropped, in [0, 1).
        mlp_dropout: Share of the MLP output that is dropped, in [0, 1).
        bias: Whether linear layers and layer norms have a bias.
        layer_norm_eps: Added to the variance under the root.
        initializer_range: Standard deviation of new weights; projections into the residual stream use
            ``initializer_range / sqrt(2 * num_hidden_layers)``.
        logit_scale: Factor on the logits, for instance ``hidden_size ** -0.5``.
        use_cache: Whether a forward pass in eval mode returns keys and values.
        bos_token_id: Begin of text; ``None`` leaves it to the tokenizer.
        eos_token_id: End of text, where generation stops; ``None`` never stops early.
        pad_token_id: Padding, which sequence classification needs for batches.
        tie_word_embeddings: Whether the head is the token embedding.

    Raises:
        ValueError: A field has the wrong type, the heads do not divide the width, or a dropout is outside [0, 1).

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; lesson 04/021.
    """

    model_type = "ftkit_gpt2"
    _auto_class = "AutoConfig"  # save_pretrained then copies this file beside the weights
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # two names: see cache_ftkit_gpt2.py
    attribute_map = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
        "embd_pdrop": "embedding_dropout",
        "attn_pdrop": "attention_dropout",
    }
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.fc_in": "colwise",
        "layers.*.mlp.fc_out": "rowwise",
    }
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "embed_positions": (["position_ids"], ["position_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }
    base_model_fsdp_plan = {
        "embed_tokens": "free_full_weight",
        "embed_positions": "free_full_weight",
        "layers.*": "free_full_weight",
        "norm": "keep_full_weight",
    }

    vocab_size: int = 50257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int | None = None
    max_position_embeddings: int = 1024
    hidden_act: str = "gelu_new"
    embedding_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    attention_output_dropout: float | int = 0.1
    mlp_dropout: float | int = 0.1
    bias: bool = True
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02
    logit_scale: float | int = 1.0
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Apply other spellings, then derive what was left open."""
        if (residual := kwargs.pop("resid_pdrop", None)) is not None:
            self.attention_output_dropout = self.mlp_dropout = residual
        super().__post_init__(**kwargs)  # may set hidden_size through n_embd, so what follows comes after it
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        self.auto_map = dict(AUTO_MAP)

    def validate_architecture(self) -> None:
        """Check what no single field can say; ``strict`` calls it after construction and before saving."""
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        for name in (*sizes, "max_position_embeddings"):
            if (value := getattr(self, name)) is not None and value < 1:  # None: a model without positions
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.hidden_size % self.num_attention_heads != 0:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        for name in ("embedding_dropout", "attention_dropout", "attention_output_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1.")
