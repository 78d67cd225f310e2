# mypy: allow-subclassing-any, allow-untyped-calls, allow-untyped-decorators
# (transformers is typed in part only, and reads plain class attributes.)
# This file travels to the Hub beside saved weights: of ftkit it may import the files that travel too, relatively.
"""ftkit's own GPT-2: pre-norm blocks, learned positions, raw logits, in the layout that the ecosystem's tools know.

Shapes: B rows, T tokens, H heads, D = C / H, C ``hidden_size``, V ``vocab_size``, L ``num_labels``.
"""

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .cache_ftkit_gpt2 import cache_argument, cache_of, given_cache
from .configuration_ftkit_gpt2 import FtkitGPT2Config

__all__ = [
    "FtkitGPT2Attention",
    "FtkitGPT2Block",
    "FtkitGPT2ForCausalLM",
    "FtkitGPT2ForSequenceClassification",
    "FtkitGPT2MLP",
    "FtkitGPT2Model",
    "FtkitGPT2PreTrainedModel",
]


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention written out, which is the one form that can return its weights.

    Args:
        module: The attention layer; its ``training`` and ``is_causal`` are read.
        query: Queries, (B, H, T, D).
        key: Keys, (B, H, S, D), where S counts cached tokens too.
        value: Values, (B, H, S, D).
        attention_mask: Added to the scores, 0 or a large negative number, (B, 1, T, S); ``None`` is plain causal, as
            for the other attention functions.
        scaling: Factor on the scores, ``D ** -0.5``.
        dropout: Share of the weights that is dropped in training.
        **kwargs: What other attention functions need.

    Returns:
        The mixed values, (B, T, H, D), and the weights, (B, H, T, S).

    Source: Vaswani et al. 2017, equation 1; lesson 04/014.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    elif module.is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(future.triu(1 + scores.shape[-1] - scores.shape[-2]), -math.inf)
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class FtkitGPT2Attention(nn.Module):
    """Causal self-attention with separate query, key, value and output projections.

    Args:
        config: Shape, biases, dropouts and attention implementation.
        layer_idx: Which block this is, from 0: the slot in the key-value cache.
    """

    def __init__(self, config: FtkitGPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.o_proj.is_residual_output = True  # type: ignore[assignment]  # read by _init_weights
        self.output_dropout = nn.Dropout(config.attention_output_dropout)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Mix each token with the tokens before it.

        Args:
            hidden_states: Normalised residual stream, (B, T, C).
            attention_mask: In the form that the attention implementation wants; ``None`` is plain causal.
            cache: Keys and values of earlier tokens, which are read and extended.
            past_key_values: The name of ``cache`` before transformers 5.24.
            **kwargs: Passed to the attention implementation.

        Returns:
            The update of the residual stream, (B, T, C), and the attention weights where they exist.
        """
        heads_shape = (*hidden_states.shape[:-1], -1, self.head_dim)  # -1: fewer heads on each device of a TP group
        query = self.q_proj(hidden_states).view(heads_shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(heads_shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(heads_shape).transpose(1, 2)
        if (cache := given_cache(cache, past_key_values)) is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        mixed = mixed.reshape(*hidden_states.shape[:-1], -1)
        return self.output_dropout(self.o_proj(mixed)), weights


class FtkitGPT2MLP(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        config: Shape, biases, activation and dropout.
    """

    def __init__(self, config: FtkitGPT2Config) -> None:
        super().__init__()
        assert config.intermediate_size is not None  # the configuration derives it
        self.fc_in = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.bias)
        self.fc_out = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)
        self.fc_out.is_residual_output = True  # type: ignore[assignment]  # read by _init_weights
        # The same function as "gelu_new", which transformers writes out in eight operations, each with its own tensor.
        fused = nn.GELU(approximate="tanh") if config.hidden_act == "gelu_new" else None
        self.act = fused or ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.mlp_dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform each token by itself.

        Args:
            hidden_states: Normalised residual stream, (B, T, C).

        Returns:
            The update of the residual stream, (B, T, C).
        """
        output: Tensor = self.dropout(self.fc_out(self.act(self.fc_in(hidden_states))))
        return output


class FtkitGPT2Block(GradientCheckpointingLayer):
    """One pre-norm block: attention, then the MLP, each added to the residual stream.

    Args:
        config: Shape and settings.
        layer_idx: Which block this is, from 0.
    """

    def __init__(self, config: FtkitGPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)
        self.self_attn = FtkitGPT2Attention(config, layer_idx)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)
        self.mlp = FtkitGPT2MLP(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Update the residual stream.

        Args:
            hidden_states: Residual stream, (B, T, C); positional, because reentrant checkpointing needs it so.
            attention_mask: See ``FtkitGPT2Attention``.
            **kwargs: Passed to ``FtkitGPT2Attention``, the cache included.

        Returns:
            The residual stream after this block, (B, T, C).
        """
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), attention_mask=attention_mask, **kwargs)
        hidden_states = attended + hidden_states
        transformed: Tensor = self.mlp(self.post_attention_layernorm(hidden_states))
        return transformed + hidden_states


class FtkitGPT2PreTrainedModel(PreTrainedModel):
    """What all models of this family share: abilities, and how new weights are drawn."""

    config: FtkitGPT2Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["FtkitGPT2Block"]
    _skip_keys_device_placement = ["cache", "past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": FtkitGPT2Block, "attentions": FtkitGPT2Attention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw one module: normal weights, zero biases, unit norms, narrower projections into the residual stream."""
        super()._init_weights(module)
        # The flag sits on the Linear itself because transformers (5.23) does not call this method, for classes that
        # live outside it, on modules without parameters of their own: GPT-2's loop over a block would never run.
        # Source: Radford et al. 2019, section 2.3.
        if getattr(module, "is_residual_output", False):
            std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            assert isinstance(module, nn.Linear)
            init.normal_(module.weight, mean=0.0, std=std)


class FtkitGPT2Model(FtkitGPT2PreTrainedModel):
    """Embeddings, blocks and the final norm.

    Args:
        config: Shape and settings.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: FtkitGPT2Config) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(FtkitGPT2Block(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=config.bias)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(  # type: ignore[misc]  # the type of kwargs names position_ids too
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPast:
        """Turn tokens into their last hidden states.

        Args:
            input_ids: Token ids, (B, T).
            attention_mask: 1 for tokens, 0 for padding, (B, S), S counting cached tokens; or prepared, (B, 1, T, S).
            position_ids: Positions, (B, T), below ``max_position_embeddings``. Without a mask and a cache a position
                that does not follow the one before it starts a new text, which cannot see the texts packed before it.
            cache: Keys and values of the tokens before these.
            inputs_embeds: Token embeddings in place of ``input_ids``, (B, T, C).
            use_cache: Whether to return a cache; in training none is started, since it would only hold memory.
            past_key_values: The name of ``cache`` before transformers 5.24, which stays valid here.
            **kwargs: ``output_hidden_states``, ``output_attentions`` and what attention implementations take.

        Returns:
            The last hidden states, (B, T, C), and on demand the cache, all hidden states and the attention weights.

        Raises:
            ValueError: Both or none of ``input_ids`` and ``inputs_embeds``, or more positions than the model has.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        cache = given_cache(cache, past_key_values)
        # The mask is made before a cache is started: with a cache transformers no longer looks for packed texts.
        # Positions counted here are never packed, so the search, which waits for the device, is spared.
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **cache_argument(cache),
        )
        position_ids = self._checked_positions(inputs_embeds, position_ids, cache)
        if use_cache and cache is None and not self.training:
            cache = DynamicCache(config=self.config)

        hidden_states = self.dropout(inputs_embeds + self.embed_positions(position_ids))
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=causal_mask,
                position_ids=position_ids,  # flash attention finds packed texts by them
                **cache_argument(cache),  # by the name that checkpointing of layers looks for
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), **cache_argument(cache))

    def _checked_positions(self, inputs_embeds: Tensor, position_ids: Tensor | None, cache: Cache | None) -> Tensor:
        """Count positions on from the cache, or take the given ones; refuse what the position table does not hold."""
        device = inputs_embeds.device
        num_needed: int | None = None  # None: only the device knows
        if position_ids is None:
            num_past: Any = cache.get_seq_length() if cache is not None else 0
            position_ids = torch.arange(inputs_embeds.shape[1], device=device).unsqueeze(0) + num_past
            if not isinstance(num_past, Tensor):  # a static cache counts in a tensor
                num_needed = num_past + inputs_embeds.shape[1]
        # Reading values costs nothing on a CPU, and generation waits for the device at each token anyway.
        looks = device.type == "cpu" or (cache is not None and device.type != "meta")
        if num_needed is None and looks and not torch.compiler.is_compiling():
            num_needed = int(position_ids.max()) + 1
        if num_needed is not None and num_needed > self.config.max_position_embeddings:
            raise ValueError(
                f"The input needs {num_needed} positions, but the model has max_position_embeddings="
                f"{self.config.max_position_embeddings}. Shorten the input, or generate fewer tokens."
            )
        return position_ids


class FtkitGPT2ForCausalLM(FtkitGPT2PreTrainedModel, GenerationMixin):
    """The language model: next-token logits, loss and ``generate``.

    Args:
        config: Shape and settings.
    """

    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # target: source
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}  # type: ignore[dict-item]
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: FtkitGPT2Config) -> None:
        super().__init__(config)
        self.model = FtkitGPT2Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(  # type: ignore[misc]  # the type of kwargs names position_ids too
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each position; what is not listed is as in ``FtkitGPT2Model.forward``.

        Args:
            input_ids: Token ids, (B, T).
            labels: The same ids as ``input_ids``, (B, T), -100 where no loss counts; they are shifted here.
            logits_to_keep: How many positions from the end get logits, 0 for all; or the positions themselves, (K,).
            **kwargs: ``num_items_in_batch``, the number of targets to divide the summed loss by in place of this
                batch's own; ``shift_labels``, labels that are shifted already; and what ``FtkitGPT2Model`` takes.

        Returns:
            Logits, (B, T, V), with ``labels`` the loss in nats per target, and what ``FtkitGPT2Model`` returns.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=given_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden_states[:, kept, :])
        if self.config.logit_scale != 1.0:
            logits = logits * self.config.logit_scale
        loss = None
        if labels is not None or kwargs.get("shift_labels") is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **cache_argument(cache_of(outputs)),
        )


class FtkitGPT2ForSequenceClassification(FtkitGPT2PreTrainedModel):
    """A linear classifier on the hidden state of each row's last token that is not padding.

    Args:
        config: Shape and settings; ``num_labels`` classes, or one for regression.
    """

    _auto_class = "AutoModelForSequenceClassification"
    # The regression and multi-label losses ignore num_items_in_batch, so Trainer must divide by itself.
    accepts_loss_kwargs = False

    def __init__(self, config: FtkitGPT2Config) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # the base configuration derives it
        self.num_labels: int = config.num_labels
        self.model = FtkitGPT2Model(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(  # type: ignore[misc]  # the type of kwargs names position_ids too
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutputWithPast:
        """Score each row; what is not listed is as in ``FtkitGPT2Model.forward``.

        Args:
            input_ids: Token ids, (B, T), padded on either side.
            labels: Class ids, (B,); or targets, (B,) or (B, L), for regression; or 0 and 1, (B, L), for many labels.
            **kwargs: ``num_items_in_batch`` (class ids only), and what ``FtkitGPT2Model`` takes.

        Returns:
            Logits, (B, L), with ``labels`` the loss, and what ``FtkitGPT2Model`` returns.

        Raises:
            ValueError: Rows whose padding cannot be told: no ``pad_token_id``, no mask, more than one row.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=given_cache(cache, past_key_values),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
        # Every token is scored before one is picked, as in GPT-2: the same sums in the same order, bit for bit.
        logits = self.score(hidden_states)[rows, self._last_token(hidden_states, input_ids, attention_mask)]
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **cache_argument(cache_of(outputs)),
        )

    def _last_token(
        self, hidden_states: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None
    ) -> Tensor | int:
        """Index of each row's last real token, (B,): by the padding id as GPT-2 does, else by the mask."""
        num_rows, num_tokens = hidden_states.shape[:2]
        if input_ids is not None and self.config.pad_token_id is not None:
            is_text = input_ids != self.config.pad_token_id
        elif attention_mask is not None and attention_mask.ndim == 2:
            is_text = attention_mask[:, -num_tokens:] != 0
        elif num_rows == 1:
            return -1
        else:
            raise ValueError(
                f"{num_rows} rows were given, but neither config.pad_token_id nor a 2D attention_mask says where each"
                " ends. Set config.pad_token_id to the tokenizer's, or pass attention_mask."
            )
        return (torch.arange(num_tokens, device=hidden_states.device) * is_text.to(hidden_states.device)).argmax(-1)
