"""A tiny model of any architecture of transformers' causal list, taken through everything that a run does with it."""

import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from ftkit.config import AdapterSettings
from ftkit.data import TokenStore, load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import FtkitError, ModelError
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import check_positions, check_vocabulary, load_model, reload_difference, save_model
from ftkit.models.loader_errors import quiet, seeded
from ftkit.models.tasks import check_direction
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.tuning import attach_adapter

__all__ = ["METHODS", "NAMES", "TrialError", "new_base", "outcome_of", "text_store", "tiny_configuration", "try_method"]

NAMES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""Every architecture that transformers calls causal."""
METHODS = ("full", "lora")

WINDOW, STEPS, NEW_TOKENS = 32, 2, 6
_RELOADED = 1e-4
"""Largest difference of logits of two loads, relative to them: the order of a sum depends on where tensors lie."""


def _each(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


_SIZES: dict[str, Any] = {
    **_each(300, "vocab_size unpadded_vocab_size vocab_size_per_layer_input decoder_vocab_size"),  # bytes need 257
    **_each(300, "encoder_hash_byte_group_vocab shape_vocab_size pronunciation_vocab_size ngram_vocab_size_base"),
    **_each(32, """hidden_size n_embd d_model dim emb_dim word_embed_proj_dim embedding_size dim_model lru_width
        hidden_size_per_layer_input input_embedding_size output_embedding_size dim_model_base backbone_hidden_size
        pronunciation_embed_dim shape_embed_dim router_hidden_size embed_dim"""),
    **_each(2, """num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers
        num_decoder_layers num_blocks num_layers_per_stack"""),
    **_each(4, """num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads
        num_encoder_attention_heads num_decoder_attention_heads attention_heads swa_num_attention_heads index_n_heads
        linear_num_value_heads linear_num_heads"""),
    **_each(2, "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads"),
    **_each(64, """intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim dim_ff n_inner ffn_hidden_size dff d_inner
        shared_expert_intermediate_size moe_intermediate_size expert_ffn_hidden_size intermediate_size_mlp
        shared_experts_intermediate_size dense_intermediate_size moe_shared_expert_intermediate_size
        shared_intermediate_size prefix_dense_intermediate_size feed_forward_size"""),
    **_each(4, "num_experts n_routed_experts num_local_experts moe_num_experts zero_expert_num hc_lowrank"),
    **_each(2, "num_experts_per_tok num_experts_per_token moe_topk top_k_experts moe_k index_topk index_topk_blocks"),
    **_each(128, "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions"),
    **_each(8, """head_dim dim_head v_head_dim qk_nope_head_dim qk_rope_head_dim global_head_dim linear_key_head_dim
        linear_value_head_dim linear_head_dim index_head_dim swa_head_dim attention_head_size kv_channels rotary_dim
        d_head state_size ssm_state_size mamba_d_state mamba_chunk_size chunk_size indexer_head_dim d_rel"""),
    **_each(16, "q_lora_rank kv_lora_rank o_lora_rank index_block_size rel_extent laurel_rank moe_latent_size"),
    **_each(16, "sliding_window attention_window_size window_size attention_chunk_size sliding_window_size"),
    **_each(1, "n_group topk_group n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace"),
    **_each(0, "pad_token_id cls_token_id sep_token_id decoder_start_token_id forced_eos_token_id bos_token_id"),
    "eos_token_id": 1,
}  # fmt: skip
"""Small values of the fields in which configurations keep sizes."""

_FOUR = {"num_hidden_layers": 4}  # so that one of the layers has attention
_SHARED = {"num_kv_shared_layers": 0, "num_hidden_layers": 4}
_FURTHER: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "dots3_note_text": {"num_key_value_heads": 4},
    "dots3_note": {"text_config": {"num_key_value_heads": 4}},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "gemma3n_text": _SHARED,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": _FOUR, "kolibri1": _FOUR, "lfm2": _FOUR, "lfm3": _FOUR, "olmo_hybrid": _FOUR,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "attention_head_dim": 16},
    **_each({"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_budget": 8, "indexer_compress_ratio": 2, **_FOUR},
            "qwen4_exp_text"),
    "qwen4_exp": {"text_config": {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_budget": 8,
                                  "indexer_compress_ratio": 2, **_FOUR}},
    "qwen3_5": {"text_config": _FOUR}, "qwen3_5_moe": {"text_config": _FOUR}, "qwen3_5_moe_text": _FOUR,
    "qwen3_5_text": _FOUR, "qwen3_next": _FOUR,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "zamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "layers_block_type": None},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What an architecture needs beside them."""


def tiny_configuration(name: str) -> PreTrainedConfig:
    """Return the default configuration of an architecture with small sizes.

    Args:
        name: Its ``model_type``.

    Raises:
        Exception: What its class raises where the sizes do not fit together.
    """
    return _shrunk(CONFIG_MAPPING[name], dict(_FURTHER.get(name, {})), name in MODEL_FOR_MASKED_LM_MAPPING_NAMES)


def _shrunk(kind: Any, further: dict[str, Any], says_decoder: bool = False) -> PreTrainedConfig:
    specials = {"bos_token_id", "eos_token_id", "pad_token_id"}
    own = {field.name for field in fields(kind)} - ({field.name for field in fields(PreTrainedConfig)} - specials)
    sizes = {name: value for name, value in _SIZES.items() if name in own and name not in kind.attribute_map}
    if "qk_rope_head_dim" in own:  # latent attention has as many keys as queries
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    if says_decoder and "is_decoder" in own:
        sizes["is_decoder"] = True
    parts = {}
    for name in kind.sub_configs:
        part = type(getattr(kind(), name, None)) if name in own else None
        if part is not None and issubclass(part, PreTrainedConfig):
            parts[name] = {**_shrunk(part, further.pop(name, {})).to_dict(), "model_type": part.model_type}
    config: PreTrainedConfig = kind(**{**sizes, **parts, **further})
    return config


class TrialError(Exception):
    """A model that began to train and did not come to its end: what must not be."""


def text_store(cache: Path) -> TokenStore:
    """Return a text in bytes, to train on."""
    return tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=cache)


def new_base(name: str, folder: Path) -> str:
    """Write a tiny model of an architecture with random weights.

    Args:
        name: Its ``model_type``.
        folder: Where to.

    Returns:
        The folder, as text.

    Raises:
        FtkitError: An architecture that ftkit refuses by its configuration.
        Exception: What transformers raises where no such model can be built.
    """
    with quiet(), seeded(0):
        config = tiny_configuration(name)
        check_direction(config, "causal-lm", name)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # as after a training: no row is zero, none is what loading would draw
            parameter.data.add_(1e-3)
        model.save_pretrained(folder)
    return str(folder)


def try_method(base: str, method: str, store: TokenStore, folder: Path) -> dict[str, Any]:
    """Train a model for two steps, let it write, save it and load it again.

    Args:
        base: Its folder.
        method: ``full`` or ``lora``.
        store: The text.
        folder: An empty one, where the trained model is saved.

    Returns:
        ``parameters`` that were trained, and ``losses``.

    Raises:
        FtkitError: A refusal before the first step.
        TrialError: Anything that goes wrong after it.
    """
    adapter: dict[str, Any] = {"peft": "lora", "lora_r": 2} if method == "lora" else {}
    settings = AdapterSettings(
        model=base, tokenizer="byte", max_steps=STEPS, window_tokens=WINDOW, per_device_train_batch_size=2,
        learning_rate=1e-3, save_steps=0, use_cpu=True, **adapter,
    )  # fmt: skip
    model = load_model(base)
    tokenizer = load_tokenizer("byte")
    check_vocabulary(model, tokenizer)
    check_positions(model, WINDOW, "window_tokens")
    if method == "lora":
        model = attach_adapter(model, settings)  # type: ignore[assignment]
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    losses: list[float] = []
    with Engine(model, NEXT_TOKEN, TokenWindows(store, WINDOW, 0), settings) as engine:
        try:
            for record in engine:
                losses.append(record.loss)
            _finish(model, tokenizer, folder, before)
        except ModelError as error:
            if 0 < len(losses) < STEPS and "have had no gradient" in str(error):
                raise  # the guard on adapters, which needs two updates
            raise TrialError(f"{type(error).__name__} after {len(losses)} steps: {error}") from error
        except Exception as error:
            raise TrialError(f"{type(error).__name__} after {len(losses)} steps: {error}") from error
    return {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad), "losses": losses}


def _finish(model: PreTrainedModel, tokenizer: Any, folder: Path, before: dict[str, torch.Tensor]) -> None:
    """What a run does with a trained model."""
    moved = [name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])]
    if not moved:
        raise AssertionError("no parameter has changed")
    model.eval()
    passages = generate_passages(model, tokenizer, ["the sea", "a"], new_tokens=NEW_TOKENS, sampling=PRESETS["plain"])
    if [len(passage.ids) for passage in passages] != [NEW_TOKENS] * 2:
        raise AssertionError(f"passages have {[len(passage.ids) for passage in passages]} tokens")
    save_model(model, tokenizer, folder / "saved")
    again = load_model(str(folder / "saved"))
    stored, loaded = model.state_dict(), again.state_dict()
    if unequal := [name for name in stored if name not in loaded or not torch.equal(stored[name], loaded[name])]:
        raise AssertionError(f"{len(unequal)} tensors are not what was saved: {', '.join(unequal[:3])}")
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        largest = float(model(input_ids=ids).logits.abs().max())
    if (difference := reload_difference(model, folder / "saved", ids)) > _RELOADED * max(largest, 1.0):
        raise AssertionError(f"logits differ by {difference:.3g} after loading again")


def outcome_of(name: str, store: TokenStore) -> dict[str, Any]:
    """Try an architecture whole and with LoRA.

    Args:
        name: Its ``model_type``.
        store: The text.

    Returns:
        For ``full`` and ``lora`` the outcome with its reason: ``works``, ``refused``, ``stopped``, ``not built`` or
        ``FAILED``.
    """
    found: dict[str, Any] = {"name": name, "class": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name]}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            base = new_base(name, folder / "base")
        except FtkitError as error:
            return found | {method: {"outcome": "refused", "reason": _short(error, name)} for method in METHODS}
        except Exception as error:
            reason = f"{type(error).__name__}: {_short(error)}"
            return found | {method: {"outcome": "not built", "reason": reason} for method in METHODS}
        for method in METHODS:
            (folder / method).mkdir()
            found[method] = _tried(partial(try_method, base, method, store, folder / method), base, name)
    return found


def _tried(run: Callable[[], dict[str, Any]], base: str, name: str) -> dict[str, Any]:
    try:
        return {"outcome": "works", "reason": "", **run()}
    except FtkitError as error:
        outcome = "stopped" if "have had no gradient" in str(error) else "refused"
        return {"outcome": outcome, "reason": _short(error, name, base)}
    except TrialError as error:
        return {"outcome": "FAILED", "reason": _short(error, name, base)}
    except Exception as error:
        return {"outcome": "FAILED", "reason": f"{type(error).__name__} before training: {_short(error, name, base)}"}


def _short(error: Exception, name: str = "", base: str = "") -> str:
    """A message on one line, without the folder that it names."""
    text = " ".join(str(error).split())
    text = text.replace(f"folder {base}: ", "").replace(base or "\0", "FOLDER").removeprefix(f"{name}: ")
    return text.replace("|", "\\|")[:300]
