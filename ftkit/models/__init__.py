"""Models: ftkit's own GPT-2 and the ladder that leads to it, conversion from and to Hugging Face's, and loading of any.

Importing this package registers the own models with the Auto classes of transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from ftkit.models.adapter_files import BaseRecord, is_adapter, virtual_tokens
from ftkit.models.base_beneath import base_or_beneath, contains_base, plain_state, tensors_beneath
from ftkit.models.class_heads import check_classifier, class_names, has_head_for, problem_type
from ftkit.models.configuration_ftkit_gpt2 import FtkitGPT2Config
from ftkit.models.configuration_ftkit_ladder import FtkitLadderConfig
from ftkit.models.conversion import from_hf_gpt2, to_hf_gpt2
from ftkit.models.families import FAMILIES, GROUPS, Family, Fused, set_dropout
from ftkit.models.loader import (
    check_positions,
    check_vocabulary,
    load_model,
    read_configuration,
    reload_difference,
    save_model,
    task_of,
)
from ftkit.models.modeling_ftkit_gpt2 import (
    FtkitGPT2Attention,
    FtkitGPT2Block,
    FtkitGPT2ForCausalLM,
    FtkitGPT2ForSequenceClassification,
    FtkitGPT2MLP,
    FtkitGPT2Model,
    FtkitGPT2PreTrainedModel,
)
from ftkit.models.modeling_ftkit_ladder import FtkitLadderForCausalLM, FtkitLadderHead, FtkitLadderModel
from ftkit.models.outputs import log_probability_model
from ftkit.models.state_dicts import load_state_dict, save_state_dict
from ftkit.models.tasks import no_stored_generation_settings, reads_both_ways, usable_positions

__all__ = [
    "FAMILIES",
    "GROUPS",
    "BaseRecord",
    "Family",
    "FtkitGPT2Attention",
    "FtkitGPT2Block",
    "FtkitGPT2Config",
    "FtkitGPT2ForCausalLM",
    "FtkitGPT2ForSequenceClassification",
    "FtkitGPT2MLP",
    "FtkitGPT2Model",
    "FtkitGPT2PreTrainedModel",
    "FtkitLadderConfig",
    "FtkitLadderForCausalLM",
    "FtkitLadderHead",
    "FtkitLadderModel",
    "Fused",
    "base_or_beneath",
    "check_classifier",
    "check_positions",
    "check_vocabulary",
    "class_names",
    "contains_base",
    "from_hf_gpt2",
    "has_head_for",
    "is_adapter",
    "load_model",
    "load_state_dict",
    "log_probability_model",
    "no_stored_generation_settings",
    "plain_state",
    "problem_type",
    "read_configuration",
    "reads_both_ways",
    "reload_difference",
    "save_model",
    "save_state_dict",
    "set_dropout",
    "task_of",
    "tensors_beneath",
    "to_hf_gpt2",
    "usable_positions",
    "virtual_tokens",
]

AutoConfig.register(FtkitGPT2Config.model_type, FtkitGPT2Config, exist_ok=True)
AutoModel.register(FtkitGPT2Config, FtkitGPT2Model, exist_ok=True)
AutoModelForCausalLM.register(FtkitGPT2Config, FtkitGPT2ForCausalLM, exist_ok=True)
AutoConfig.register(FtkitLadderConfig.model_type, FtkitLadderConfig, exist_ok=True)
AutoModel.register(FtkitLadderConfig, FtkitLadderModel, exist_ok=True)
AutoModelForCausalLM.register(FtkitLadderConfig, FtkitLadderForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(FtkitGPT2Config, FtkitGPT2ForSequenceClassification, exist_ok=True)
