"""Adapters on disk: a small folder that names its base, proves that it is that base, and holds only what was trained.

``adapter_config.json`` and ``adapter_model.safetensors`` are peft's own, so peft loads them too; ``base.json`` adds
what peft leaves out: where the base is (a folder beside the adapter counts from the adapter, so a run may be moved),
and the SHA-256 of every base tensor that the adapter does not replace. peft is imported when an adapter is in play.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from ftkit.errors import ModelError, NetworkError
from ftkit.models.adapter_embeddings import read_embeddings, resize_for, translate_cache_name
from ftkit.models.class_heads import class_tensors
from ftkit.models.families import architecture_of, differing
from ftkit.models.trust import is_adapter_folder
from ftkit.runs.models import base_of_adapter

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

__all__ = [
    "BaseRecord",
    "adapter_tensors",
    "copy_into_adapter",
    "is_adapter",
    "known_fields",
    "load_adapter",
    "read_adapter",
    "save_adapter",
    "task_of_adapter",
    "tensor_shapes",
    "virtual_tokens",
    "wrap",
]

_logger = logging.getLogger("ftkit.models")
_CONFIG, _WEIGHTS, _BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
_TASKS = {"CAUSAL_LM": "causal-lm", "SEQ_CLS": "sequence-classification"}
_TASK_OF_CLASS = {"ForMaskedLM": "masked-lm", "ForSequenceClassification": "sequence-classification"}


@dataclass(frozen=True)
class BaseRecord:
    """What an adapter was trained on; ``base.json``."""

    base: str
    """A folder or a Hub id; empty for random weights that were never saved."""
    revision: str | None
    sha256: str
    """Of the base's tensors, without those that the adapter replaces."""
    parameters: int
    """How many elements that hash is over."""
    labels: tuple[str, ...] = ()
    """Names of a classifier's classes."""
    pad_token_id: int | None = None
    """Of a classifier, which finds a row's last token with it."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """What the base's configuration says of its computation; parameters alone do not tell heads or windows."""


def is_adapter(model: nn.Module) -> bool:
    """Whether a model is peft's wrapper around another."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def virtual_tokens(model: nn.Module) -> int:
    """Positions that prefix or prompt tuning takes before the first token; 0 for every other model."""
    configs = getattr(model, "peft_config", {}).values() if is_adapter(model) else ()
    return max((getattr(config, "num_virtual_tokens", 0) for config in configs), default=0)


def task_of_adapter(model: Any) -> str:
    """What an adapter was made for, as ``load_model`` names it; where peft was not told, what its base does."""
    if named := _TASKS.get(str(model.peft_config["default"].task_type)):
        return named
    kind = type(model.get_base_model()).__name__
    return next((task for ending, task in _TASK_OF_CLASS.items() if kind.endswith(ending)), "causal-lm")


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Without the warning that peft 0.21 causes by asking transformers 5.23 for a name that goes in version 6."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def wrap(model: PreTrainedModel, config: "PeftConfig", base: str | None, revision: str | None) -> "PeftModel":
    """Put an adapter around a model and note what the model is.

    Args:
        model: The base; its parameters are frozen and its modules replaced in place.
        config: peft's configuration.
        base: Where the base can be found again; ``None`` takes the folder or Hub id that it was loaded from.
        revision: Of a Hub id.

    Returns:
        peft's model, in the mode the base was in, with the record as ``base_record``.
    """
    from peft import get_peft_model

    found, parameters = _fingerprint(model, config)
    classes: Any = model.config.id2label if config.task_type == "SEQ_CLS" else {}
    record = BaseRecord(
        str(model.name_or_path if base is None else base), revision, found, parameters,
        tuple(classes[number] for number in sorted(classes)), getattr(model.config, "pad_token_id", None),
        architecture_of(model.config),
    )  # fmt: skip
    training = model.training
    config.inference_mode = False  # else peft freezes what it loads
    with _quiet_peft():
        wrapped: Any = get_peft_model(model, config)
    if config.is_prompt_learning:
        translate_cache_name(wrapped)
    for name, parameter in wrapped.named_parameters():
        if ".original_module." in name:  # peft thaws their biases with bias="all", though nothing reads them
            parameter.requires_grad_(False)
    wrapped.train(training)
    wrapped.base_record = record
    return wrapped  # type: ignore[no-any-return]


def _fingerprint(model: PreTrainedModel, config: Any) -> tuple[str, int]:
    """SHA-256 and number of elements of what the adapter leaves as it is."""
    heads = tuple(f".{name}." for name in config.modules_to_save or ())
    biases = getattr(config, "bias", "none") == "all"
    digest, count = hashlib.sha256(), 0
    for name, parameter in sorted(model.named_parameters()):
        if any(head in f".{name}" for head in heads) or (biases and name.endswith(".bias")):
            continue
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        count += parameter.numel()
    return digest.hexdigest(), count


def adapter_tensors(model: "PeftModel") -> dict[str, Tensor]:
    """What belongs to an adapter, under the names that peft gives it in a file."""
    from peft.utils.save_and_load import get_peft_model_state_dict

    # "auto" would look for the base's config.json, on the Hub if it must.
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    inner = (".original_module.", ".modules_to_save.")  # bias="all" takes the biases of replaced heads with it
    return {name: tensor for name, tensor in found.items() if not any(part in name for part in inner)}


def _stored_embeddings(model: "PeftModel") -> dict[str, Tensor]:
    """Whole embeddings that the adapter's file held when it was loaded: without them it would not be this model."""
    found: dict[str, Tensor] = getattr(model, "stored_embeddings", {})
    return found


def save_adapter(model: "PeftModel", folder: Path, target: Path) -> None:
    """Write an adapter.

    Args:
        model: The adapted model.
        folder: An empty folder.
        target: Where that folder will be in the end.

    Raises:
        ModelError: A base that could not be found again, or tensors that would be lost.
    """
    record: BaseRecord | None = getattr(model, "base_record", None)
    if record is None or not record.base:
        raise ModelError(
            f"The adapter cannot be saved to {target}: its base has random weights and no folder. Save the base first,"
            " load it from there, and attach the adapter to that."
        )
    tensors = adapter_tensors(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if (kept := sum(tensor.numel() for tensor in tensors.values())) < trained:
        raise ModelError(f"The adapter for {target} has {trained:,} trained elements, but peft saves {kept:,} of them")
    record = replace(record, base=_as_seen_from(target, record.base))
    config = model.peft_config["default"].to_dict()
    names = ("target_modules", "feedforward_modules", "modules_to_save")  # sets have an order of their own every time
    config |= {key: sorted(set(config[key])) for key in names if isinstance(config.get(key), set | list)}
    # peft (0.21) leaves an empty set where it looked for the experts of an older transformers.
    config = {key: (sorted(value) or None) if isinstance(value, set) else value for key, value in config.items()}
    _write(folder / _CONFIG, {**config, "base_model_name_or_path": record.base, "revision": record.revision})
    _write(folder / _BASE, asdict(record))
    tensors |= _stored_embeddings(model)
    contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / _WEIGHTS, metadata={"format": "pt"})
    stored = getattr(model.get_base_model(), "generation_config", None)
    if (ends := getattr(stored, "eos_token_id", None)) is not None:
        GenerationConfig(eos_token_id=ends).save_pretrained(folder)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _as_seen_from(target: Path, base: str) -> str:
    """A base that lies beside the adapter, from the adapter; any other folder from the root; a Hub id as it is."""
    path = Path(base).expanduser()
    if not path.exists():
        return base
    path = path.resolve()
    return f"../{path.name}" if path.parent == target.resolve().parent else str(path)


def load_adapter(
    folder: str,
    task: str,
    load_base: Callable[..., PreTrainedModel],
    instead: str | None = None,
    revision: str | None = None,
) -> "PeftModel":
    """Load an adapter and its base.

    Args:
        folder: What ``save_adapter`` or peft wrote; only the former says which base it was, with a hash.
        task: What the model shall do; the adapter must have been trained for it.
        load_base: ``load_model`` for everything else; takes the base and ``revision``, ``labels``.
        instead: Base to take instead of the one that the folder names; it must be the same model.
        revision: Of ``instead``, where that is a Hub id.

    Returns:
        The adapted model in eval mode; its adapter can be trained on.

    Raises:
        ModelError: Files that are missing, unreadable or pickled, another base than the adapter was trained on, another
            task, or tensors that do not fit.
    """
    path = Path(folder).expanduser()
    record, config = _read(path, task)
    place, revision = (instead, revision) if instead else base_of_adapter(path)
    if is_adapter_folder(place):
        raise ModelError(f"The adapter {folder} names {place!r} as its base, which is an adapter itself")
    tensors = _tensors(path / _WEIGHTS)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        base = load_base(place, revision=revision, labels=list(record.labels) or None)
        count = None if record.labels else _stored_classes(base, shapes)
        if count and count != base.config.num_labels:  # peft names no classes, and a body is loaded with two
            base = load_base(place, revision=revision, labels=[f"LABEL_{number}" for number in range(count)])
    except (ModelError, NetworkError) as error:
        other = "" if instead else " Name another place of its base with --base or adapter_base."
        raise type(error)(f"The adapter {folder} stands on {place!r}: {error}{other}") from error
    if record.pad_token_id is not None:
        base.config.pad_token_id = record.pad_token_id
    if (path / GENERATION_CONFIG_NAME).is_file() and base.generation_config is not None:  # peft saves and reads none
        try:
            base.generation_config.eos_token_id = GenerationConfig.from_pretrained(path).eos_token_id
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{path / GENERATION_CONFIG_NAME}: cannot be read ({error}); mend or remove it") from error
    rows = base.get_input_embeddings().weight.shape
    resize_for(base, config, shapes, folder)
    resized = rows != base.get_input_embeddings().weight.shape
    stored = read_embeddings(base, config, tensors, folder)
    try:
        model = wrap(base, config, place, revision)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(f"The adapter {folder} does not fit its base {place}: {error}") from error
    _check_base(folder, record, model)
    _fill(model, path / _WEIGHTS, stored.adapter)
    model.stored_embeddings = stored.base  # type: ignore[assignment]
    model.base_was_resized = resized  # type: ignore[assignment]
    return model.eval()


def _stored_classes(base: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return how many classes the head in an adapter's file has; ``None`` where it holds no head of a classifier."""
    if not type(base).__name__.endswith("ForSequenceClassification"):
        return None
    stored = ((shapes.get(f"base_model.model.{name}"), dim) for name, dim in class_tensors(base.config).items())
    return next((shape[dim] for shape, dim in stored if shape), None)


def _check_base(folder: str, record: BaseRecord, model: Any) -> None:
    """Refuse another base than the adapter was trained on, as far as its record says."""
    found: BaseRecord = model.base_record
    if other := differing(record.architecture, found.architecture):
        raise ModelError(f"The base {found.base} is configured otherwise than when {folder} was trained: {other}")
    if not record.sha256:
        _logger.info("%s: another tool saved it, so nothing tells whether its base is the right one", folder)
    elif model.get_base_model().dtype != torch.float32:
        _logger.info("%s: its base is not in float32, so its hash is not compared", folder)
    elif found.sha256 != record.sha256:
        raise ModelError(
            f"The adapter {folder} was trained on a base with {record.parameters:,} parameters and SHA-256"
            f" {record.sha256[:12]}..., but {found.base} has {found.parameters:,} and {found.sha256[:12]}...: the base"
            " has changed or is another. Put the right one in its place, or name it in base.json."
        )


def read_adapter(path: Path) -> tuple["PeftConfig", str | None, str, str | None]:
    """What an adapter's configuration says, whoever wrote it.

    Args:
        path: Its folder.

    Returns:
        peft's configuration of the fields that ftkit follows; the task, ``None`` where it is left to the base; the
        base, as a folder where one is there; its revision.

    Raises:
        ModelError: A file that cannot be read, or that asks for more than ftkit supports.
    """
    stored = _configuration(path)
    return known_fields(path, stored), _TASKS.get(str(stored.get("task_type"))), *base_of_adapter(path)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes in an adapter's file, without reading a tensor; empty where there is none that can be read.

    Args:
        path: Its folder.
    """
    try:
        with safe_open(path / _WEIGHTS, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def _record(path: Path) -> BaseRecord:
    try:
        values = json.loads((path / _BASE).read_text(encoding="utf-8"))
        record = BaseRecord(**{**values, "labels": tuple(values["labels"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"The adapter {path} cannot be read: {error!r}") from error
    if not isinstance(record.base, str) or not isinstance(record.architecture, dict):
        raise ModelError(f"The adapter {path}: base.json names the base {record.base!r}; it must be a folder or Hub id")
    return record


def _configuration(path: Path) -> dict[str, Any]:
    """All that an adapter's configuration holds.

    Other fields than ``known_fields`` follows can name tokenizers, files and code to be fetched, so
    ``PeftConfig.from_pretrained`` is not for folders that come from elsewhere.
    """
    try:
        return dict(json.loads((path / _CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The adapter {path} cannot be read: {error!r}") from error


def _read(path: Path, task: str) -> tuple[BaseRecord, "PeftConfig"]:
    """The two JSON files of an adapter."""
    if not (path / _WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {path} has no {_WEIGHTS}; pickled weights (adapter_model.bin) are not read, because they can"
            " run code. It holds: " + ", ".join(sorted(entry.name for entry in path.iterdir()))
        )
    stored = _configuration(path)
    config, trained_for = known_fields(path, stored), stored.get("task_type")
    trained_for = _TASKS.get(str(trained_for), trained_for)
    if trained_for not in (None, task):
        raise ModelError(f"The adapter {path} was trained for {trained_for}, but {task} was asked for")
    if trained_for is None and task == "causal-lm":  # then peft's model is one that generates
        config.task_type = "CAUSAL_LM"
    if (path / _BASE).is_file():
        return _record(path), config
    # Another tool saved it: without a hash to know its base by.
    return BaseRecord(str(stored.get("base_model_name_or_path")), stored.get("revision"), "", parameters=0), config


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The adapter's {file} cannot be read: {error}") from error


def _fill(model: "PeftModel", file: Path, stored: dict[str, Tensor]) -> None:
    """Copy tensors of a file into the adapter, every one accounted for."""
    wanted = {name: tuple(tensor.shape) for name, tensor in adapter_tensors(model).items()}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if wrong := _differences(wanted, found):
        raise ModelError(f"The adapter's {file} does not hold this adapter: {'; '.join(wrong)}")
    copy_into_adapter(model, stored)


def copy_into_adapter(model: "PeftModel", tensors: dict[str, Tensor]) -> None:
    """Copy tensors into an adapter, under the names that they have in a file.

    peft (0.21) renames them by the rules with which transformers reads older weights of the base. Of Laguna's
    ``shared_experts`` it makes a name that no module has, and says nothing.

    Args:
        model: The adapted model.
        tensors: What ``adapter_tensors`` gives.

    Raises:
        ModelError: Tensors that do not arrive.
    """
    from peft.utils.save_and_load import set_peft_model_state_dict

    result: Any = set_peft_model_state_dict(model, tensors)
    if lost := sorted(name for name in result.unexpected_keys if ".lora_" in name or ".ia3_" in name):
        place = lost[0].removeprefix("base_model.model.").partition(".lora_")[0].replace("..", ".")
        inner = next((part for part in reversed(place.split(".")[:-1]) if part and not part.isdigit()), place)
        raise ModelError(
            f"peft cannot load what it saves of {len(lost)} tensors of this {model.config.model_type}, such as {place};"
            f" leave them out: lora_target_modules: all-linear,^name:{inner}"
        )


def _differences(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> list[str]:
    shared = wanted.keys() & found.keys()
    misshapen = [f"{k} (file {found[k]}, model {wanted[k]})" for k in shared if wanted[k] != found[k]]
    parts = {
        "missing": wanted.keys() - found.keys(), "not used": found.keys() - wanted.keys(), "wrong shape": misshapen
    }  # fmt: skip
    return [f"{what}: {', '.join(sorted(names)[:6])}" for what, names in parts.items() if names]


# Fields of ``adapter_config.json``: those that go to peft, those that do nothing, and the others, which are refused.
#
# A field can name tokenizers, files and code to be fetched, so a foreign configuration is never handed over whole. One
# that says how the training began (``init_lora_weights: "gaussian"``), or that is off, stops nobody.


_SHAPE = {"num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads", "num_transformer_submodules"}
_FOLLOWED = {
    "LORA": {
        "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "bias", "lora_bias", "target_modules",
        "exclude_modules", "target_parameters", "layers_to_transform", "layers_pattern", "rank_pattern",
        "alpha_pattern", "fan_in_fan_out", "modules_to_save", "trainable_token_indices", "ensure_weight_tying",
    },
    "IA3": {"target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "modules_to_save"},
    "PREFIX_TUNING": {*_SHAPE, "encoder_hidden_size", "modules_to_save"},
    "PROMPT_TUNING": {*_SHAPE, "modules_to_save"},
}  # fmt: skip
_SAID_ELSEWHERE = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping"
}  # fmt: skip
# How the training began, or parameters of what is switched off: every tensor of the adapter comes from the file.
_IDLE = {
    "LORA": {"megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
             "runtime_config"},
    "IA3": {"init_ia3_weights"},
    "PREFIX_TUNING": {"init_weights"},
    "PROMPT_TUNING": {
        "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"
    },
}  # fmt: skip
# The other ways to begin (pissa, olora, corda, loftq, mica, lora_ga) take something away from the base's weights.
_HARMLESS_STARTS = (True, "gaussian", "eva", "orthogonal")


def known_fields(folder: Path, stored: dict[str, Any]) -> "PeftConfig":
    """peft's configuration, made of the fields that ftkit follows.

    Args:
        folder: The adapter's folder, for messages.
        stored: What its ``adapter_config.json`` holds.

    Raises:
        ModelError: A type or a field that is not followed and would change what the adapter computes, with its value.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind, task_type = str(stored.get("peft_type")), stored.get("task_type")
    if kind not in _FOLLOWED:
        raise ModelError(f"The adapter {folder} is of type {kind[:60]}; there is: {', '.join(_FOLLOWED)}")
    made: Any = PEFT_TYPE_TO_CONFIG_MAPPING
    followed = _FOLLOWED[kind] & {item.name for item in fields(made[kind])}  # an older peft knows fewer
    try:
        config: PeftConfig = made[kind](
            task_type=None if task_type is None else str(task_type),
            **{key: value for key, value in stored.items() if key in followed},
        )
        plain = json.loads(json.dumps(made[kind]().to_dict()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The adapter {folder} cannot be read: {error}") from error
    foreign = {
        key: value
        for key, value in stored.items()
        if key not in followed | _SAID_ELSEWHERE
        and not _does_nothing(kind, key, value)
        and not (key in plain and value == plain[key])
    }
    if foreign:
        shown = ", ".join(f"{key} ({json.dumps(foreign[key])[:60]})" for key in sorted(foreign))
        raise ModelError(
            f"The adapter {folder} sets {shown}, which ftkit does not support and which may change what it computes."
            " Merge it with the tool that made it, and give the merged model."
        )
    return config


def _does_nothing(kind: str, key: str, value: Any) -> bool:
    """Whether a field has no effect on an adapter that is loaded."""
    if value is None or value is False or value in ({}, [], "") or key in _IDLE[kind]:
        return True
    return key == "init_lora_weights" and value in _HARMLESS_STARTS
