"""Adapters: a few new parameters, or a few old ones, instead of all of them. peft is imported when one is attached.

What is trained, with r = lora_r, k = virtual_tokens, L blocks, a linear map of m inputs and n outputs (the counts are
those of ``predicted_trainable``; for classification head and pooler are always trained and saved on top):

    lora, rslora   W + s B A for every target, B A of rank r: r (m + n). Hu et al. 2021, https://arxiv.org/abs/2106.09685;
                   s = alpha / r, for rslora alpha / sqrt(r): Kalajdzievski 2023, https://arxiv.org/abs/2312.03732
    dora           lora and the magnitude of each output: r (m + n) + n. Liu et al. 2024, https://arxiv.org/abs/2402.09353
    ia3            factors on keys and values, n, and on what enters mlp.out, m. Liu et al. 2022,
                   https://arxiv.org/abs/2205.05638; a fused matrix is scaled whole, as peft's own defaults do
    prefix         keys and values of k positions in every block: 2 L k d. Li and Liang 2021, https://arxiv.org/abs/2101.00190
    prompt         k embeddings before the text: k d. Lester et al. 2021, https://arxiv.org/abs/2104.08691
    bias           the biases that are there. Ben Zaken et al. 2021, https://arxiv.org/abs/2106.10199
    tokens         rows of the embedding: rows times d

The bias method has no peft type: it is a LoRA configuration without targets and with ``bias="all"``, which trains the
biases in place and saves nothing but them, in a file that peft loads.
"""

import copy
import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ftkit.config import AdapterSettings
from ftkit.errors import ConfigError, ModelError, nearest_name
from ftkit.models import FAMILIES, is_adapter, usable_positions, virtual_tokens
from ftkit.models.adapter_files import adapter_tensors, copy_into_adapter, wrap
from ftkit.models.outputs import ROUNDING, relative_difference
from ftkit.tuning.groups import ParameterGroups, Selection, select, split_selectors

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

__all__ = [
    "adapter_targets",
    "attach_adapter",
    "check_adapter",
    "check_adapter_gradients",
    "effective_model",
    "idle_matrices",
    "merge_adapter",
    "predicted_trainable",
    "stands_on_tied_end",
]

_logger = logging.getLogger("ftkit.tuning")
_TASK_TYPES = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}
_LORA = ("lora", "dora", "rslora")
_HEADS = {"head", "classifier", "pooler"}
_NOWHERE = "dummy-target-modules"  # peft's name for: no linear map, only what the other fields say
_PROBE_TOKENS = 64  # tokens on which a merged model is compared with its adapter; more show nothing else
_METHODS = (*_LORA, "ia3", "prefix", "prompt", "bias", "tokens")


def attach_adapter(
    model: PreTrainedModel, settings: AdapterSettings, task: str = "causal-lm", base: str | None = None
) -> "PeftModel":
    """Put the adapter that the settings describe around a model.

    Args:
        model: The base; its parameters are frozen, its modules replaced in place.
        settings: ``peft`` and what belongs to it, ``seed`` and ``revision`` are read.
        task: ``causal-lm`` or ``sequence-classification``.
        base: Where the base will be found again; ``None`` takes the folder or Hub id that it was loaded from.

    Returns:
        peft's model, which the engine, evaluation and generation take as they take any model.

    Raises:
        ConfigError: A method that this architecture cannot do, with those that it can; targets that match nothing.
        ModelError: An adapter that peft could not load again.
    """
    config, expected = _config(model, settings, task), predicted_trainable(model, settings, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        wrapped = wrap(model, config, base, settings.revision)
    experts = sum(p.numel() for p in wrapped.parameters() if p.ndim == 3 and not p.requires_grad)
    if experts and settings.peft in _LORA:
        _logger.info(
            "peft: %s adapts linear maps; %s parameters of experts stay as they are", settings.peft, f"{experts:,}"
        )
    if expected != (found := _trainable(wrapped)):
        raise ModelError(f"peft: {settings.peft} should train {expected:,} parameters here, but trains {found:,}")
    copy_into_adapter(wrapped, adapter_tensors(wrapped))  # what cannot be loaded again is not trained
    return wrapped


def _trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def idle_matrices(model: nn.Module) -> tuple[str, ...]:
    """LoRA's second matrices (B in B A) where all are zero, as before the first step, so that it does nothing."""
    second = {
        name: each for name, each in model.named_parameters() if ".lora_B." in name or ".lora_embedding_B." in name
    }
    return () if any(bool(each.any()) for each in second.values()) else tuple(second)


# ------------------------------------------------------------------------------------------------- what is adapted


def _linear_maps(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Linear maps that an adapter can stand beside, by name: not the head, the classifier or the pooler."""
    names = {
        name.rpartition(".")[0]
        for piece in ParameterGroups(model).pieces
        if _HEADS & {piece.group, *piece.also_groups}
        for name in (piece.name, *piece.also)
    }
    head, aside = model.get_output_embeddings(), {"classifier", "score"} | _ends_for_peft(model.config.model_type)
    found: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and name not in names and module is not head and name.rpartition(".")[2] not in aside
    }  # fmt: skip
    idle = frozenset() if model.config.model_type in FAMILIES else _without_gradient(model, found)
    return {name: module for name, module in found.items() if name not in idle}


def _ends_for_peft(model_type: str) -> set[str]:
    """Ends of modules' names that peft (0.21) refuses, or takes for the experts of an older transformers.

    Mamba's kernels read the weight of ``out_proj`` without calling the module. For Mixtral, Qwen MoE and their like
    peft turns ``gate_proj`` of a shared expert or a dense layer into a target inside the tensor of all experts.
    """
    from peft.utils import transformers_weight_conversion as conversion

    if model_type in ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"):
        return {"out_proj"}
    pattern = getattr(conversion, "_MODEL_TO_CONVERSION_PATTERN", {}).get(model_type)
    return {*getattr(conversion, "_MOE_TARGET_MODULE_MAPPING", {}).get(pattern, ())}


def _is_linear(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
    """Whether a call was that of a linear map: routers give tuples, DeepSeek's grouped maps take a part at a time."""
    shapes = [value.shape[-1] if isinstance(value, torch.Tensor) else None for value in (*inputs[:1], output)]
    return shapes == [*_inputs_and_outputs(module)]


_IDLE: "WeakKeyDictionary[nn.Module, frozenset[str]]" = WeakKeyDictionary()


def _without_gradient(model: PreTrainedModel, maps: dict[str, nn.Module]) -> frozenset[str]:
    """Names of linear maps whose outputs no gradient reaches, found by one short row.

    State-space models read some weights without calling the module; indexers only choose what is attended to. An
    adapter there would learn nothing. Experts that got no token of the row count as their like in other places do.
    """
    if model in _IDLE:
        return _IDLE[model]
    marks = {name: torch.zeros((), device=next(model.parameters()).device, requires_grad=True) for name in maps}
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, mark=marks[name]: (
                output + mark if _is_linear(module, inputs, output) else None
            )
        )
        for name, module in maps.items()
    ]
    training, rows = model.training, int(model.config.get_text_config().vocab_size)
    model.train()  # as it will be: Gemma 3n reads some weights without their module then
    try:
        ids = torch.arange(7, device=next(model.parameters()).device)[None] % rows
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            slopes = torch.autograd.grad(logits.float().square().mean(), [*marks.values()], allow_unused=True)
    except Exception:  # then the check after two steps says it
        slopes = (torch.ones(()),) * len(marks)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    kinds = {name: re.sub(r"\d+", "*", name) for name in maps}
    learning = {kinds[name] for name, slope in zip(marks, slopes, strict=True) if slope is not None and bool(slope)}
    idle = frozenset(name for name in maps if kinds[name] not in learning)
    if idle:
        _logger.info("adapters leave alone what no gradient reaches: %s", ", ".join(sorted({kinds[n] for n in idle})))
    _IDLE[model] = idle
    return idle


def adapter_targets(model: PreTrainedModel, wanted: str | Sequence[str]) -> list[str]:
    """The linear maps that lora, dora and rslora adapt.

    Args:
        model: The base.
        wanted: ``all-linear``; or selectors and names of modules (``attention.q,mlp``, ``c_attn``), joined by commas or
            in a list; ``^`` takes away.

    Returns:
        Full names of modules, in the model's order.

    Raises:
        ConfigError: An item that matches no linear map, even if others match, or a part of a fused matrix.
    """
    maps = _linear_maps(model)
    items = split_selectors(wanted)
    groups = ParameterGroups(model)
    chosen: set[str] = set() if any(not item.startswith("^") for item in items) else set(maps)
    for item in items:
        if not item.startswith("^"):
            chosen |= set(maps) if item == "all-linear" else _named(groups, maps, item)
    for item in items:
        if item.startswith("^"):
            chosen -= _named(groups, maps, item[1:].strip())
    if not chosen:
        raise ConfigError(f"lora_target_modules: {wanted!r} leaves no linear map to adapt")
    return [name for name in maps if name in chosen]


def _named(groups: ParameterGroups, maps: dict[str, nn.Module], item: str) -> set[str]:
    """Linear maps that one item means: a module's name or the end of it, else a selector."""
    if raw := {name for name in maps if name == item or name.endswith(f".{item}")}:
        return raw
    selection = _selected(groups, maps, item)
    found = {name for name in maps if f"{name}.weight" in selection.masks}
    partial = sorted(name for name in found if not selection.masks[f"{name}.weight"].all())
    if partial:
        parts = [piece.group for piece in groups.pieces if piece.name == f"{partial[0]}.weight"]
        raise ConfigError(
            f"lora_target_modules: {item!r} is a part of {partial[0]}, which holds {', '.join(parts)} in one matrix; an"
            f" adapter takes all of it: give {partial[0].rpartition('.')[2]}, or the own GPT-2, where they are separate"
        )
    if not found:
        raise ConfigError(
            f"lora_target_modules: {item!r} holds no linear map that can be adapted; there is: {', '.join(_ends(maps))}"
        )
    return found


def _selected(groups: ParameterGroups, maps: dict[str, nn.Module], item: str) -> Selection:
    try:
        return select(groups, item)
    except ConfigError as error:
        if "matches nothing" not in str(error) or "@" in item or item.startswith("name:"):
            raise ConfigError(f"lora_target_modules: {error}") from None
        known = {"all-linear", *_ends(maps), *groups.names, *(name.partition(".")[0] for name in groups.names)}
        raise ConfigError(f"lora_target_modules: {item!r} matches nothing{nearest_name(item, known)}") from None


def _ends(maps: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in maps})


def _in_groups(model: PreTrainedModel, *wanted: str) -> list[str]:
    """Modules with a weight or bias in one of these groups, in the model's order."""
    found = [piece.name.rpartition(".")[0] for piece in ParameterGroups(model).pieces if piece.group in wanted]
    return list(dict.fromkeys(found))


def _ia3_targets(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Keys and values, and what enters the output of each MLP."""
    maps = _linear_maps(model)
    inside = [name for name in _in_groups(model, "attention.k", "attention.v") if name in maps]
    return inside, [name for name in _in_groups(model, "mlp.out") if name in maps]


def _biases(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if name.endswith("bias")}


def _heads(model: PreTrainedModel, task: str) -> list[str]:
    """What is trained and saved whole for classification: its weights are drawn anew wherever a base has none."""
    return _in_groups(model, "classifier", "pooler") if task == "sequence-classification" else []


# ------------------------------------------------------------------------------------------------- what is possible

# Of all methods, architectures and tasks these do not work, with peft 0.21 and transformers 5.23; tests try them all.
_REFUSED = {
    "prefix": {
        ("distilbert", "sequence-classification"): "it takes no keys and values from outside",
    },
    "prompt": {
        (family, "sequence-classification"): "its classifier cannot find a padded row's last token behind a prompt"
        for family in ("gpt2", "gpt_neo", "llama", "qwen3")
    },
}


def check_adapter(model: PreTrainedModel, settings: AdapterSettings, task: str = "causal-lm") -> None:
    """Refuse an adapter that cannot be, before anything is trained.

    Args:
        model: The base, on any device, also the meta device.
        settings: ``peft`` and what belongs to it.
        task: ``causal-lm`` or ``sequence-classification``.

    Raises:
        ConfigError: A method that this architecture cannot do, with those that it can; targets that match nothing.
    """
    if is_adapter(model):
        raise ConfigError(f"peft: {settings.peft} was asked for a model that has an adapter already; merge that first")
    if task not in _TASK_TYPES:
        raise ConfigError(f"peft: {settings.peft} was asked for task {task!r}{nearest_name(task, _TASK_TYPES)}")
    if reason := _reason_against(model, settings.peft, task):
        works = ", ".join(method for method in _METHODS if not _reason_against(model, method, task))
        raise ConfigError(
            f"peft: {settings.peft} does not work with {model.config.model_type} for {task}: {reason}; there is:"
            f" {works}"
        )
    if settings.peft in _LORA:
        adapter_targets(model, settings.lora_target_modules)
    if settings.peft == "tokens":
        rows = _embedding(model).shape[0]
        if wrong := [number for number in settings.trainable_tokens if not 0 <= number < rows]:
            raise ConfigError(f"trainable_tokens: there is no token {wrong[0]}; the model has ids 0 to {rows - 1}")


def _reason_against(model: PreTrainedModel, method: str, task: str) -> str:
    """Why a model cannot do a method; empty where it can."""
    if method not in _METHODS:
        return f"{method} is no adapter"
    if method == "bias" and not any(not name.startswith(tuple(_heads(model, task))) for name in _biases(model)):
        return "it has no biases"
    if method == "ia3" and not all(_ia3_targets(model)):
        return "no declaration says where its keys, values and MLP outputs are"
    return _REFUSED.get(method, {}).get((model.config.model_type, task), "")


def _embedding(model: PreTrainedModel) -> torch.Tensor:
    embedding: Any = model.get_input_embeddings()
    weight: torch.Tensor = embedding.weight
    return weight


def _config(model: PreTrainedModel, settings: AdapterSettings, task: str) -> "PeftConfig":
    """peft's configuration, with every target by its full name."""
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    check_adapter(model, settings, task)
    common: dict[str, Any] = {"task_type": _TASK_TYPES[task], "modules_to_save": _heads(model, task) or None}
    method = settings.peft
    if method in ("prefix", "prompt"):
        text: Any = model.config.get_text_config()
        shape = {
            "num_virtual_tokens": settings.virtual_tokens, "num_transformer_submodules": 1,
            "token_dim": _embedding(model).shape[1], "num_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
        }  # fmt: skip
        prompt_class = PrefixTuningConfig if method == "prefix" else PromptTuningConfig
        return prompt_class(**shape, **common)
    if method == "bias":
        return LoraConfig(target_modules=_NOWHERE, bias="all", **common)
    if method == "tokens":
        return LoraConfig(target_modules=_NOWHERE, trainable_token_indices=settings.trainable_tokens, **common)
    targets = [*_ia3_targets(model)[0], *_ia3_targets(model)[1]]
    if method in _LORA:
        targets = adapter_targets(model, settings.lora_target_modules)
    # peft finds out by itself that GPT-2 stores its matrices transposed, with a warning for every one of them.
    common["fan_in_fan_out"] = isinstance(model.get_submodule(targets[0]), Conv1D)
    if method == "ia3":
        return IA3Config(target_modules=targets, feedforward_modules=_ia3_targets(model)[1], **common)
    scale: Any = settings.lora_alpha  # peft says int and divides it by the rank
    return LoraConfig(
        r=settings.lora_r, lora_alpha=scale, lora_dropout=settings.lora_dropout, target_modules=targets,
        use_dora=method == "dora", use_rslora=method == "rslora", **common,
    )  # fmt: skip


def _inputs_and_outputs(module: nn.Module) -> tuple[int, int]:
    outputs, inputs = module.weight.shape  # type: ignore[misc]
    return (outputs, inputs) if isinstance(module, Conv1D) else (inputs, outputs)


def predicted_trainable(model: PreTrainedModel, settings: AdapterSettings, task: str = "causal-lm") -> int:
    """How many parameters an adapter will train, by the formulas above.

    Args:
        model: The base, on any device, also the meta device.
        settings: ``peft`` and what belongs to it.
        task: ``causal-lm`` or ``sequence-classification``.

    Raises:
        ConfigError: As ``check_adapter`` does.
    """
    check_adapter(model, settings, task)
    heads = {name: p for name, p in model.named_parameters() if name.rpartition(".")[0] in _heads(model, task)}
    method, count = settings.peft, sum(parameter.numel() for parameter in heads.values())
    text: Any = model.config.get_text_config()
    width = _embedding(model).shape[1]
    if method in _LORA:
        for name in adapter_targets(model, settings.lora_target_modules):
            inputs, outputs = _inputs_and_outputs(model.get_submodule(name))
            count += settings.lora_r * (inputs + outputs) + (outputs if method == "dora" else 0)
    elif method == "ia3":
        attention, feedforward = _ia3_targets(model)
        count += sum(_inputs_and_outputs(model.get_submodule(name))[1] for name in attention)
        count += sum(_inputs_and_outputs(model.get_submodule(name))[0] for name in feedforward)
    elif method == "prefix":
        heads_kv = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        head_dim = getattr(text, "head_dim", None) or width // text.num_attention_heads
        count += 2 * text.num_hidden_layers * settings.virtual_tokens * heads_kv * head_dim
    elif method == "prompt":
        count += settings.virtual_tokens * width
    elif method == "bias":
        count += sum(parameter.numel() for name, parameter in _biases(model).items() if name not in heads)
    else:
        count += len(settings.trainable_tokens) * width
    return count


# ------------------------------------------------------------------------------------------------- afterwards


def merge_adapter(model: "PeftModel") -> PreTrainedModel:
    """The plain model that computes what the adapted one does; logits of both are compared.

    Args:
        model: The adapted model; it is left as it is.

    Returns:
        A copy without adapter, every parameter trainable, tied where the base is.

    Raises:
        ModelError: Prefix or prompt tuning: virtual tokens are no weights. Weights that are not finite. Or a merge that
            would compute something else, such as one onto an embedding that is the head too.
    """
    merged = _merged(copy.deepcopy(model))
    difference = _merge_difference(model, merged)
    # Adding B A to a weight rounds once more in every matrix: 16 units of the dtype cover bfloat16's.
    if difference > max(10 * ROUNDING, 16 * torch.finfo(merged.dtype).eps):
        reason = "it rounds differently or peft merges it wrongly"
        if stands_on_tied_end(model):
            reason = (
                "it stands on the embedding or the head, which are one tensor here, so merging it into one changes the"
                " other"
            )
        raise ModelError(
            f"the adapter cannot be merged: the merged model would compute something else (logits differ by"
            f" {difference:.3g} of the largest), since {reason}. Keep the adapter apart."
        )
    return merged


def effective_model(model: "PeftModel") -> PreTrainedModel:
    """The plain model whose weights are those that the adapted one computes with, untied where these differ.

    Args:
        model: The adapted model; it is left as it is.

    Raises:
        ModelError: Prefix or prompt tuning, or weights that are not finite.
    """
    wrapped = copy.deepcopy(model)
    if stands_on_tied_end(wrapped):
        base: Any = wrapped.get_base_model()
        head = base.get_output_embeddings()
        inner = getattr(head, "base_layer", head)
        inner.weight = nn.Parameter(inner.weight.detach().clone())
        base.config.tie_word_embeddings = False
    return _merged(wrapped)


def _merged(model: "PeftModel") -> PreTrainedModel:
    """What peft makes of an adapted model, which is used up."""
    if not is_adapter(model):
        raise ModelError(f"{type(model).__name__} has no adapter to merge")
    if virtual_tokens(model):
        kind = type(model.peft_config["default"]).__name__.removesuffix("TuningConfig").lower()
        raise ModelError(
            f"{kind} tuning cannot be merged: its virtual tokens are no weights of the model; keep it apart"
        )
    try:
        merged: Any = model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise ModelError(f"the adapter cannot be merged: {error}") from error
    merged.name_or_path = ""  # it is not what was loaded from there
    plain: PreTrainedModel = merged.requires_grad_(True)
    return plain


def stands_on_tied_end(model: "PeftModel") -> bool:
    """Whether low-rank matrices stand beside an embedding that is the head too."""
    base: Any = model.get_base_model()
    ends = [end for end in (base.get_input_embeddings(), base.get_output_embeddings()) if end is not None]
    inner = [getattr(end, "base_layer", end) for end in ends]
    tied = len(inner) == 2 and getattr(inner[0], "weight", None) is getattr(inner[1], "weight", 0)
    return tied and any(hasattr(end, "lora_A") for end in ends)


@torch.no_grad()
def _merge_difference(model: "PeftModel", merged: PreTrainedModel) -> float:
    """Relative difference of the logits on one row of tokens, those that were trained alone among them."""
    tokens = min(_PROBE_TOKENS, usable_positions(merged) or _PROBE_TOKENS)
    rows = _embedding(merged).shape[0]
    ids = torch.randint(rows, (1, tokens), generator=torch.Generator().manual_seed(0))
    alone = getattr(model.peft_config["default"], "trainable_token_indices", None) or []
    for place, number in enumerate(list(alone)[:tokens] if isinstance(alone, list) else []):
        ids[0, place] = number
    modes = model.training, merged.training
    logits = []
    for each in (model, merged):
        each.eval()
        batch = {"input_ids": ids.to(each.device), "attention_mask": torch.ones_like(ids).to(each.device)}
        logits.append(each(**batch).logits.float().cpu())
    model.train(modes[0])
    merged.train(modes[1])
    return relative_difference(logits[1], logits[0])


def check_adapter_gradients(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Refuse an adapter that stands beside the model and learns nothing.

    Needs two updates: B of LoRA starts at zero, so A has no gradient in the first.

    Args:
        model: The adapted model.
        optimizers: AdamW over its parameters; the second moment says whether there ever was a gradient.

    Raises:
        ModelError: Tensors that never had a gradient, by name.
    """
    moments = {id(p): state["exp_avg_sq"] for o in optimizers for p, state in o.state.items() if "exp_avg_sq" in state}
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not (id(parameter) in moments and bool(moments[id(parameter)].any()))
    ]
    if still:
        raise ModelError(
            f"{len(still)} tensors of the adapter have had no gradient, so they learn nothing: {', '.join(still[:4])};"
            " trainable tokens must occur in the text, and other targets must take part in the computation"
        )
