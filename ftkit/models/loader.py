# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Loading, checking and saving models: a new one from a short description, a folder, or a Hub id.

``load_model`` either returns a model whose every weight is accounted for, or raises one error that says what is there
and what to do.
"""

import functools
import io
import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ftkit.errors import CheckpointError, ModelError, nearest_name
from ftkit.memory import memory_phase
from ftkit.models.adapter_files import (
    is_adapter,
    load_adapter,
    read_adapter,
    save_adapter,
    task_of_adapter,
    virtual_tokens,
)
from ftkit.models.class_heads import HeadPlan, class_names, head_keys, name_classes, order_classes, plan_head, renew
from ftkit.models.families import FAMILIES, new_config
from ftkit.models.gguf_files import GGUF_FILE, complete_config, gguf_as_folder, is_gguf
from ftkit.models.loader_errors import build_with_attention, call_loader, load_from_hub, quiet, seeded
from ftkit.models.outputs import relative_difference
from ftkit.models.tasks import TASKS, check_direction, check_next_token, reads_both_ways, usable_positions
from ftkit.models.trust import (
    check_full_precision,
    checked_folder,
    drop_foreign_settings,
    is_adapter_folder,
    is_local,
)
from ftkit.models.weight_report import check_values, check_weights, weight_problems
from ftkit.runs.files import atomic_folder, disk_full, disk_is_full

__all__ = [
    "check_positions",
    "check_vocabulary",
    "load_model",
    "read_configuration",
    "reload_difference",
    "save_model",
    "task_of",
]

_logger = logging.getLogger("ftkit.models")


@memory_phase("load")
def load_model(
    spec: str,
    *,
    task: str = "causal-lm",
    seed: int = 0,
    vocab_size: int | None = None,
    max_positions: int | None = None,
    labels: Sequence[str] | None = None,
    attn_implementation: str = "sdpa",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    adapter_base: str | None = None,
    dtype: str = "float32",
) -> PreTrainedModel:
    """Build or load a model in eval mode, in float32 unless told otherwise, with every weight accounted for.

    Args:
        spec: ``new:FAMILY[,key=value,...]`` for random weights, where FAMILY is a key of ``FAMILIES`` and each key a
            field of its configuration; or a folder, also one that holds an adapter; or a GGUF file, whose numbers are
            dequantized; or a Hub id, looked up in the local cache first.
        task: ``causal-lm``, ``masked-lm`` or ``sequence-classification``.
        seed: Draws all new weights; the caller's random state is left as it was.
        vocab_size: Rows of the embedding of a ``new:`` model, at least the tokenizer's ids; ``None`` means 256. A
            spec that says it wins. Loaded models keep theirs.
        max_positions: Longest context of a ``new:`` model in tokens; ``None`` means 128. A spec that says it wins.
            Loaded models keep theirs.
        labels: Names of the classes, in the order of their ids, for ``sequence-classification``; ``None`` keeps what
            the folder says, or two unnamed classes. A saved head is put into this order by the names of its classes; a
            head for other classes, for several labels at once, or for values is replaced by a new one. The log says so.
        attn_implementation: ``eager``, ``sdpa``, ``flash_attention_2`` or ``flex_attention``. ``sdpa`` becomes
            ``eager`` for architectures without it (GPT-Neo, CodeGen); the configuration says which is in use.
        revision: Branch, tag or commit of a Hub id; with ``adapter_base`` of that one.
        trust_remote_code: Whether Python files of the folder or Hub repository may run. A Hub id then needs a
            ``revision``. What config.json says of attention and kernels is never followed.
        allow_pickle: Whether ``pytorch_model.bin`` is read where there are no safetensors; tensors only, so that
            code in it does not run.
        adapter_base: For a folder with an adapter, where its base is, instead of where the folder says.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the one that the base is stored in. A half
            precision is for measuring large models, not for training.

    Returns:
        The model on the CPU; for a folder with an adapter peft's model around the base that the folder names.

    Raises:
        ModelError: A spec, folder or architecture that cannot be used, or weights that are missing, left over or of
            the wrong shape.
        DeviceError: An attention implementation that is not installed.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    if task not in TASKS:
        raise ModelError(f"task is {task!r}{nearest_name(task, TASKS)}")
    if labels is not None:
        _check_labels(labels, task)
    if is_adapter_folder(spec):
        load_base = partial(
            load_model, task=task, seed=seed, attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, dtype=dtype,
        )  # fmt: skip
        adapted: Any = load_adapter(spec, task, load_base, adapter_base, revision)
        _check_adapter_labels(spec, adapted, labels)
        return adapted  # type: ignore[no-any-return]
    options = {
        "attn_implementation": attn_implementation,
        "trust_remote_code": trust_remote_code,  # never None, which would ask on the terminal
        "use_safetensors": None if allow_pickle else True,  # None prefers them
        "dtype": dtype,
    }
    with quiet(), seeded(seed):
        if spec.startswith("new:"):
            if revision is not None:
                raise ModelError(f"revision={revision!r} was given with {spec!r}, which has no revisions; leave it out")
            config = new_config(spec, vocab_size, max_positions, labels)
            return _new_model(spec, config, task, attn_implementation)
        if is_gguf(spec):
            return _of_gguf(spec, task, labels, options)
        if is_local(spec):
            folder = checked_folder(spec, allow_pickle)
            return _loaded(str(folder), f"folder {spec}", task, labels, options)
        return _of_hub(spec, task, labels, {**options, "revision": revision})


def _of_hub(spec: str, task: str, labels: Sequence[str] | None, options: dict[str, Any]) -> PreTrainedModel:
    def load(where: str, options: dict[str, Any]) -> PreTrainedModel:
        return _loaded(spec, where, task, labels, options)

    model: PreTrainedModel = load_from_hub(spec, load, options)
    return model


def _of_gguf(spec: str, task: str, labels: Sequence[str] | None, options: dict[str, Any]) -> PreTrainedModel:
    with gguf_as_folder(spec) as folder, redirect_stderr(io.StringIO()):  # transformers shows a bar in any case
        model = _loaded(folder, f"GGUF file {spec}", task, labels, {**options, "gguf_file": GGUF_FILE})
    model.name_or_path = model.config._name_or_path = spec
    return model


def _check_adapter_labels(spec: str, adapted: PreTrainedModel, labels: Sequence[str] | None) -> None:
    if labels is not None and (known := class_names(adapted.config)) != list(labels):
        raise ModelError(
            f"The adapter {spec} is for the classes {known}, but {list(labels)} were asked for. Merge it into its"
            " base (ftkit.tuning.merge_adapter), save the result and start from that folder: it gets a new head"
        )


def task_of(
    spec: str,
    revision: str | None = None,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    adapter_base: str | None = None,
) -> str:
    """Which language task a model is for, from its configuration alone.

    Args:
        spec: What ``load_model`` takes.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: As for ``load_model``.
        allow_pickle: As for ``load_model``.
        adapter_base: As for ``load_model``.

    Returns:
        ``masked-lm`` for an encoder, else ``causal-lm``; of an adapter what it was trained for, else its base's.

    Raises:
        ModelError: A spec, folder or architecture that cannot be used.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    if not spec.startswith("new:") and is_adapter_folder(spec):
        _, task, base, base_revision = read_adapter(Path(spec).expanduser())
        if task is None:
            where = (adapter_base, revision) if adapter_base else (base, base_revision)
            return task_of(*where, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        return task
    config = read_configuration(spec, revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    check_full_precision(config, f"The model {spec}")
    return "masked-lm" if reads_both_ways(config) else "causal-lm"


def read_configuration(
    spec: str, revision: str | None = None, *, trust_remote_code: bool = False, allow_pickle: bool = False
) -> PreTrainedConfig:
    """Return the configuration of a model, without reading its weights.

    Args:
        spec: ``new:FAMILY,...``, a folder that holds no adapter, or a Hub id.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: As for ``load_model``.
        allow_pickle: As for ``load_model``.

    Raises:
        ModelError: A spec, folder or architecture that cannot be used.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    options = {"trust_remote_code": trust_remote_code}

    def read(where: str, options: dict[str, Any], name: str = spec) -> PreTrainedConfig:
        config: PreTrainedConfig = call_loader(lambda: AutoConfig.from_pretrained(name, **options), where)
        return config

    with quiet():
        if spec.startswith("new:"):
            return new_config(spec)
        if is_gguf(spec):
            with gguf_as_folder(spec) as folder:
                return read(f"GGUF file {spec}", {**options, "gguf_file": GGUF_FILE}, folder)
        if is_local(spec):
            return read(f"folder {spec}", options, str(checked_folder(spec, allow_pickle)))
        config: PreTrainedConfig = load_from_hub(spec, read, {**options, "revision": revision})
        return config


def check_positions(model: PreTrainedModel, tokens: int, setting: str) -> None:
    """Refuse rows that are longer than a model's positions.

    Args:
        model: The model.
        tokens: Longest row.
        setting: The setting that says so.

    Raises:
        ModelError: With both numbers.
    """
    limit = usable_positions(model)
    if limit is not None and tokens > limit:
        text: Any = model.config.get_text_config()
        kept = int(getattr(text, "max_position_embeddings", limit)) - limit
        before = virtual_tokens(model)
        needed = [f"{before} for virtual tokens"] if before else []
        needed += [f"{kept - before} before the first token"] if kept > before else []
        taken = f" ({limit + kept} without those that it needs itself: {', '.join(needed)})" if needed else ""
        raise ModelError(
            f"{setting} is {tokens}, but the model has {limit} usable positions{taken}; set {setting} to {limit} or"
            " less"
        )


def check_vocabulary(model: PreTrainedModel, tokenizer: Any) -> None:
    """Check that the model has an embedding row for every id the tokenizer can produce.

    Args:
        model: Any model with token embeddings.
        tokenizer: A tokenizer with ``get_vocab``, or one that has at least a length.

    Raises:
        ModelError: An id at or beyond the number of rows.
    """
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Module)
    num_rows = int(embeddings.weight.shape[0])  # type: ignore[index]
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
    highest = max(vocabulary.values()) if vocabulary else len(tokenizer) - 1
    if highest >= num_rows:
        beyond = [token for token, place in vocabulary.items() if place >= num_rows] if vocabulary else []
        shown = ", ".join(map(repr, beyond[:4]))
        added = set(beyond) <= set(tokenizer.get_added_vocab()) if hasattr(tokenizer, "get_added_vocab") else False
        if beyond and added:
            raise ModelError(
                f"The tokenizer was given {shown}{' ...' if len(beyond) > 4 else ''} (ids up to {highest}), and the "
                f"model was never resized: it has {num_rows} embedding rows. Take the tokenizer as it was before (a "
                f"padding token can be the end-of-text token), or grow the model once with "
                f"model.resize_token_embeddings({highest + 1}) and save both."
            )
        raise ModelError(
            f"The tokenizer produces ids up to {highest}, but the model has {num_rows} embedding rows (ids 0 to"
            f" {num_rows - 1}). Use the tokenizer that belongs to the model, or grow it with"
            f" model.resize_token_embeddings({highest + 1})."
        )


@memory_phase("load")
def reload_difference(model: PreTrainedModel, folder: str | os.PathLike[str], input_ids: Tensor) -> float:
    """Compare a model with its saved folder, which is read again.

    Args:
        model: The model in memory; its mode is left as it was.
        folder: Where ``save_model`` put it.
        input_ids: Token ids, (B, T), to compare on.

    Returns:
        The largest difference of the logits of a row, relative to its largest logit where that is above 1; infinity
        where either is not finite. Rounding alone stays below ``ftkit.models.outputs.ROUNDING``.

    Raises:
        ModelError: A folder that cannot be loaded whole.
    """
    options = {"attn_implementation": model.config._attn_implementation}
    if is_adapter(model):
        # A base with code of its own needs that code again; it runs in this process already.
        foreign = type(model.get_base_model()).__module__.startswith("transformers_modules")  # type: ignore[operator]
        adapted = load_model(os.fspath(folder), task=task_of_adapter(model), trust_remote_code=foreign, **options)
        return _logit_difference(model, adapted, input_ids)
    path = checked_folder(os.fspath(folder))
    with quiet(), seeded(0):
        again = call_loader(
            lambda: type(model).from_pretrained(
                str(path),
                dtype=model.dtype,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            ),
            f"folder {folder}",
        )
    reloaded, info = again
    if problems := weight_problems(info, set(info["missing_keys"]), set(info["unexpected_keys"])):
        raise ModelError(f"The folder {folder} does not hold this model: {problems}.")
    return _logit_difference(model, reloaded, input_ids)


def _logit_difference(model: PreTrainedModel, reloaded: Any, input_ids: Tensor) -> float:
    """Return the largest ``relative_difference`` of the logits of two models, a row at a time to save memory."""
    was_training = model.training
    model.eval()
    reloaded.to(model.device)
    try:
        with torch.no_grad():
            return max(_row_difference(model, reloaded, row_1T.to(model.device)) for row_1T in input_ids.split(1))
    finally:
        model.train(was_training)


def _row_difference(model: PreTrainedModel, reloaded: Any, row_1T: Tensor) -> float:
    inputs = {"input_ids": row_1T}
    if is_adapter(model):  # a classifier behind a prompt sees no ids, so it asks the mask where a row ends
        inputs["attention_mask"] = torch.ones_like(row_1T)
    return relative_difference(reloaded(**inputs).logits, model(**inputs).logits)


def save_model(model: PreTrainedModel, tokenizer: Any, folder: str | os.PathLike[str]) -> None:
    """Save model and tokenizer so that the folder is whole or absent, never half written.

    Both are written beside the target first; a model folder that is there is replaced with one rename.

    Args:
        model: Any model with ``save_pretrained``; weights are written as safetensors, of a model with an adapter only
            the adapter, with the name and hash of its base.
        tokenizer: Its tokenizer, or ``None``.
        folder: The target; its parents are created.

    Raises:
        ModelError: The target exists and is not a model folder, so that replacing it could destroy other work.
        CheckpointError: The disk refuses.
    """
    target = Path(folder).expanduser().resolve()  # a link keeps its name, the folder behind it is replaced
    if target.exists() and not _is_replaceable(target):
        raise ModelError(
            f"The model should be saved to {folder}, which exists and is not a model folder (no config.json or"
            " adapter_config.json in it). Choose another folder, or empty this one."
        )
    try:
        with atomic_folder(target) as fresh, quiet():
            if is_adapter(model):
                save_adapter(model, fresh, target)  # type: ignore[arg-type]
            else:
                model.save_pretrained(fresh)
            if tokenizer is not None:
                tokenizer.save_pretrained(fresh)
    except (OSError, SafetensorError) as error:
        if disk_is_full(error):
            needed = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
            raise disk_full(target, error, needed) from error
        raise CheckpointError(f"The model could not be saved to {folder}: {error}") from error


def _is_replaceable(target: Path) -> bool:
    if not target.is_dir():
        return False
    names = {entry.name for entry in target.iterdir()}
    return not names or bool(names & {"config.json", "adapter_config.json"})


def _check_labels(labels: Sequence[str], task: str) -> None:
    if task != "sequence-classification":
        raise ModelError(f"labels={list(labels)} were given for task {task!r}; only sequence-classification has labels")
    alone = list(labels) == ["LABEL_0"]  # transformers' name for the one output of a regression
    if isinstance(labels, str) or len(set(labels)) != len(labels) or (len(labels) < 2 and not alone):
        raise ModelError(f"labels are {labels!r}; give at least two different names")


def _new_model(spec: str, config: PreTrainedConfig, task: str, attn_implementation: str) -> PreTrainedModel:
    """A model with random weights."""
    check_direction(config, task, f"spec {spec!r}")

    def build(attention: str) -> PreTrainedModel:
        model: PreTrainedModel = TASKS[task].from_config(
            config, attn_implementation=attention, dtype=torch.float32, trust_remote_code=False
        )
        return model

    model: PreTrainedModel = call_loader(
        lambda: build_with_attention(build, attn_implementation), f"spec {spec!r}", task
    )
    model.eval()
    return model


# ------------------------------------------------------------------------------------------------- saved models


def _loaded(name: str, where: str, task: str, labels: Sequence[str] | None, options: dict[str, Any]) -> PreTrainedModel:
    """Load configuration and weights and account for every tensor."""
    attention, use_safetensors, dtype = (
        options.pop(key) for key in ("attn_implementation", "use_safetensors", "dtype")
    )
    config: Any = call_loader(lambda: AutoConfig.from_pretrained(name, **options), where)
    if of_file := "gguf_file" in options:
        complete_config(config)
    check_full_precision(config, where)
    drop_foreign_settings(config)
    check_direction(config, task, where)
    code = bool(options.get("trust_remote_code"))
    plan = HeadPlan()
    if task == "sequence-classification":
        plan = call_loader(lambda: plan_head(config, labels, where, code), where, task)
    if labels is not None:
        name_classes(config, labels)

    def load(attention: str) -> tuple[PreTrainedModel, dict[str, Any]]:
        pair: tuple[PreTrainedModel, dict[str, Any]] = TASKS[task].from_pretrained(
            name,
            config=config,
            dtype=dtype,  # float32 else: transformers trains a half-precision folder in half precision
            use_safetensors=use_safetensors,
            weights_only=True,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, with both shapes
            adapter_kwargs={"local_files_only": options.get("local_files_only", False)},  # not passed on by 5.23
            **options,
        )
        return pair

    pair = call_loader(lambda: build_with_attention(load, attention), where, task)
    model: PreTrainedModel = pair[0]
    info: dict[str, Any] = pair[1]
    replaced = plan.replaced(model)
    check_weights(model, info, task, where, replaced)
    renew(model, replaced - {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if plan.rows:
        order_classes(model, plan)
    if plan.message and not head_keys(model, info["missing_keys"]):
        _say_once(plan.message)
    head, rows = model.get_output_embeddings(), model.get_input_embeddings()
    if getattr(config, "tie_word_embeddings", False) and head is not None and head.weight is not rows.weight:
        # The file holds two different matrices, as a wrongly tied training leaves them. They stay as they are, and the
        # configuration says so: else a later resize or reload would tie them and change the model.
        model.config.tie_word_embeddings = False
    model.eval()
    if task == "causal-lm" and config.model_type not in FAMILIES:  # tests hold the declared ones to it
        if Path(name).is_dir() and not of_file:
            check_values(model, Path(name), where)
        check_next_token(model, where)
    return model


@functools.cache
def _say_once(text: str) -> None:
    """Log a line the first time: a run loads its start several times."""
    _logger.info("%s", text)
