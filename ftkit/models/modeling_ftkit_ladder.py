# mypy: allow-subclassing-any, allow-untyped-calls, allow-untyped-decorators
# (transformers is typed in part only, and reads plain class attributes.)
# This file travels to the Hub beside saved weights: of ftkit it may import the files that travel too, relatively.
"""The ladder: four small models, each with one part more, that lead to ftkit's own GPT-2.

    1  embedding                    -> GELU -> head
    2  embedding + positions -> norm -> GELU -> tied head
    3  embedding + positions -> one attention head, added -> norm -> GELU -> tied head
    4  embedding + positions -> blocks of one head and an MLP -> norm -> tied head

Shapes: B rows, T tokens, C ``hidden_size``, V ``vocab_size``.
"""

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .cache_ftkit_gpt2 import cache_argument
from .configuration_ftkit_ladder import FtkitLadderConfig
from .modeling_ftkit_gpt2 import (
    FtkitGPT2Attention,
    FtkitGPT2Block,
    FtkitGPT2ForCausalLM,
    FtkitGPT2PreTrainedModel,
)

__all__ = ["FtkitLadderForCausalLM", "FtkitLadderHead", "FtkitLadderModel"]


class FtkitLadderHead(GradientCheckpointingLayer):
    """Rung 3's layer: a norm and one attention head, added to the residual stream.

    Args:
        config: Shape and settings.
        layer_idx: 0, its place among the layers.
    """

    def __init__(self, config: FtkitLadderConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)
        self.self_attn = FtkitGPT2Attention(config, layer_idx)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Update the residual stream, (B, T, C) to (B, T, C); a mask of ``None`` is plain causal."""
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), attention_mask=attention_mask, **kwargs)
        output: Tensor = hidden_states + attended
        return output


class FtkitLadderModel(FtkitGPT2PreTrainedModel):
    """The rung without its head.

    Args:
        config: Rung, shape and settings.
    """

    config: FtkitLadderConfig
    _auto_class = "AutoModel"
    _no_split_modules = ["FtkitGPT2Block", "FtkitLadderHead"]
    _can_record_outputs = {"hidden_states": GradientCheckpointingLayer, "attentions": FtkitGPT2Attention}

    def __init__(self, config: FtkitLadderConfig) -> None:
        super().__init__(config)
        layer = {3: FtkitLadderHead, 4: FtkitGPT2Block}.get(config.rung)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = self.norm = self.act = None
        if config.max_position_embeddings is not None:  # not on rung 1
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)
        num_layers = config.num_hidden_layers or 0
        self.layers = nn.ModuleList(layer(config, index) for index in range(num_layers) if layer)
        if config.rung <= 3:
            self.act = nn.GELU()  # rung 4 has it inside its blocks
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(  # type: ignore[misc]  # the type of kwargs names position_ids too
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Turn tokens into what the head reads.

        Args:
            input_ids: Token ids, (B, T).
            attention_mask: 1 for tokens, 0 for padding, (B, T); ``None`` for no padding.
            position_ids: Positions, (B, T); ``None`` counts the tokens of each row that are not padding.
            cache: Left alone, like ``use_cache`` and ``past_key_values``: no rung keeps keys and values.
            inputs_embeds: Token embeddings in place of ``input_ids``, (B, T, C).
            use_cache: Left alone.
            past_key_values: Left alone.
            **kwargs: ``output_hidden_states``, ``output_attentions`` and what attention implementations take.

        Returns:
            The last hidden states, (B, T, C), and on demand all hidden states and the attention weights.

        Raises:
            ValueError: Both or none of ``input_ids`` and ``inputs_embeds``, or more positions than the rung has.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        tokens: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        hidden_states = tokens
        if self.embed_positions is not None:
            hidden_states = tokens + self.embed_positions(self._positions(tokens, attention_mask, position_ids))
        causal_mask = None
        if len(self.layers):
            causal_mask = create_causal_mask(
                config=self.config,
                inputs_embeds=tokens,
                attention_mask=attention_mask,
                position_ids=position_ids,
                **cache_argument(None),
            )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask=causal_mask, **kwargs)
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        if self.act is not None:
            hidden_states = self.act(hidden_states)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states)

    def _positions(self, tokens: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Positions from 0, (1 or B, T), where none are given; padding counts as 0."""
        limit = self.config.max_position_embeddings
        if position_ids is None and limit is not None and tokens.shape[1] > limit:
            raise ValueError(
                f"The input has {tokens.shape[1]} tokens, but the model has max_position_embeddings={limit}."
                " Shorten the input."
            )
        if position_ids is not None:
            return position_ids
        if attention_mask is None:
            return torch.arange(tokens.shape[1], device=tokens.device)[None]
        return (attention_mask.cumsum(-1) - 1).clamp(min=0)


class FtkitLadderForCausalLM(FtkitGPT2ForCausalLM):
    """A rung with its head: next-token logits, (B, T, V), loss and ``generate``, called like ``FtkitGPT2ForCausalLM``.

    Args:
        config: Rung, shape and settings.
    """

    config: FtkitLadderConfig
    _tp_plan: dict[str, str] = {}
    _pp_plan: dict[str, Any] = {}
    _fsdp_plan: dict[str, str] = {}

    def __init__(self, config: FtkitLadderConfig) -> None:
        super(FtkitGPT2ForCausalLM, self).__init__(config)  # the GPT-2's own would build its body
        self.model = FtkitLadderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def prepare_inputs_for_generation(  # type: ignore[override]  # what only a cache needs is in kwargs
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The last tokens that the rung has positions for, as in lesson 04/010: it reads them anew for each token.

        Args:
            input_ids: All tokens so far, (B, S).
            attention_mask: 1 for tokens, 0 for padding, (B, S).
            **kwargs: ``logits_to_keep`` is passed on; nothing else is needed without a cache.

        Returns:
            The arguments of ``forward``.
        """
        kept = slice(-(self.config.max_position_embeddings or 0), None)  # rung 1 has no limit: slice(0, None)
        return {
            "input_ids": input_ids[:, kept],
            "attention_mask": attention_mask[:, kept] if attention_mask is not None else None,
            "logits_to_keep": kwargs.get("logits_to_keep", 0),
        }
