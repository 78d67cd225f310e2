# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Loading, checking and saving models: a new one from a short description, a folder, or a Hub id.

``load_model`` either returns a model whose every weight is accounted for, or raises one error that says what is there
and what to do.
"""

import math
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ftkit.errors import CheckpointError, DeviceError, ModelError, NetworkError, nearest_name
from ftkit.models.adapter_files import (
    is_adapter,
    is_adapter_folder,
    load_adapter,
    save_adapter,
    task_of_adapter,
    virtual_tokens,
)
from ftkit.models.families import new_config
from ftkit.models.tasks import TASKS, check_direction, reads_both_ways
from ftkit.models.trust import checked_folder, drop_foreign_settings, is_local
from ftkit.runs.files import disk_full, disk_is_full, folder_written_whole

__all__ = ["check_positions", "check_vocabulary", "load_model", "reload_difference", "save_model", "task_of"]

# Buffers that older versions of transformers saved and newer ones compute; nothing is lost with them.
_COMPUTED_BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|causal_mask|inv_freq|masked_bias|attn\.bias|attention\.bias)$"
)


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
) -> PreTrainedModel:
    """Build or load a model in float32 and eval mode, with every weight accounted for.

    Args:
        spec: ``new:FAMILY[,key=value,...]`` for random weights, where FAMILY is a key of ``FAMILIES`` and each key a
            field of its configuration; or a folder, also one that holds an adapter; or a Hub id, looked up in the local
            cache first.
        task: ``causal-lm``, ``masked-lm`` or ``sequence-classification``.
        seed: Draws all new weights; the caller's random state is left as it was.
        vocab_size: Rows of the embedding of a ``new:`` model, at least the tokenizer's ids; ``None`` means 256. A
            spec that says it wins. Loaded models keep theirs.
        max_positions: Longest context of a ``new:`` model in tokens; ``None`` means 128. A spec that says it wins.
            Loaded models keep theirs.
        labels: Names of the classes, in the order of their ids, for ``sequence-classification``; ``None`` keeps what
            the folder says, or two unnamed classes.
        attn_implementation: ``eager``, ``sdpa``, ``flash_attention_2`` or ``flex_attention``. ``sdpa`` becomes
            ``eager`` for architectures without it (GPT-Neo, CodeGen); the configuration says which is in use.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Whether Python files of the folder or Hub repository may run. A Hub id then needs a
            ``revision``. What config.json says of attention and kernels is never followed.
        allow_pickle: Whether ``pytorch_model.bin`` is read where there are no safetensors; tensors only, so that
            code in it does not run.

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

        def load_base(base: str, **found: Any) -> PreTrainedModel:
            return load_model(
                base, task=task, seed=seed, attn_implementation=attn_implementation,
                trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, **found,
            )  # fmt: skip

        adapted: Any = load_adapter(spec, task, load_base)
        return adapted  # type: ignore[no-any-return]
    options = {
        "attn_implementation": attn_implementation,
        "trust_remote_code": trust_remote_code,  # never None, which would ask on the terminal
        "use_safetensors": None if allow_pickle else True,  # None prefers them
    }
    with _quiet(), _seeded(seed):
        if spec.startswith("new:"):
            if revision is not None:
                raise ModelError(f"revision={revision!r} was given with {spec!r}, which has no revisions; leave it out")
            config = new_config(spec, vocab_size, max_positions, labels)
            return _new_model(spec, config, task, attn_implementation)
        if is_local(spec):
            folder = checked_folder(spec, allow_pickle)
            return _loaded(str(folder), f"folder {spec}", task, labels, options)

        def load(where: str, options: dict[str, Any]) -> PreTrainedModel:
            return _loaded(spec, where, task, labels, options)

        model: PreTrainedModel = _from_hub(spec, load, {**options, "revision": revision})
        return model


def task_of(
    spec: str, revision: str | None = None, *, trust_remote_code: bool = False, allow_pickle: bool = False
) -> str:
    """Which language task a model is for, from its configuration alone.

    Args:
        spec: What ``load_model`` takes.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: As for ``load_model``.
        allow_pickle: As for ``load_model``.

    Returns:
        ``masked-lm`` for an encoder, else ``causal-lm``.

    Raises:
        ModelError: A spec, folder or architecture that cannot be used.
        NetworkError: A Hub id that is neither cached nor to be downloaded.
    """
    options = {"trust_remote_code": trust_remote_code}

    def read(where: str, options: dict[str, Any], name: str = spec) -> Any:
        return _call_loader(lambda: AutoConfig.from_pretrained(name, **options), where)

    with _quiet():
        if spec.startswith("new:"):
            config: Any = new_config(spec)
        elif is_local(spec):
            config = read(f"folder {spec}", options, str(checked_folder(spec, allow_pickle)))
        else:
            config = _from_hub(spec, read, {**options, "revision": revision})
    return "masked-lm" if reads_both_ways(config) else "causal-lm"


def check_positions(model: PreTrainedModel, tokens: int, setting: str) -> None:
    """Refuse rows that are longer than a model's positions.

    Args:
        model: The model.
        tokens: Longest row.
        setting: The setting that says so.

    Raises:
        ModelError: With both numbers.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    before = virtual_tokens(model)
    if limit and tokens + before > limit:
        taken = f", {before} of them virtual tokens" if before else ""
        raise ModelError(
            f"{setting} is {tokens}, but the model has {limit} positions{taken}; set {setting} to {limit - before} or"
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
        raise ModelError(
            f"The tokenizer produces ids up to {highest}, but the model has {num_rows} embedding rows (ids 0 to"
            f" {num_rows - 1}). Use the tokenizer that belongs to the model, or grow it with"
            f" model.resize_token_embeddings({highest + 1})."
        )


def reload_difference(model: PreTrainedModel, folder: str | os.PathLike[str], input_ids: Tensor) -> float:
    """Compare a model with its saved folder, which is read again.

    Args:
        model: The model in memory; its mode is left as it was.
        folder: Where ``save_model`` put it.
        input_ids: Token ids, (B, T), to compare on.

    Returns:
        The largest absolute difference of the logits, infinity where either is not finite.

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
    with _quiet(), _seeded(0):
        again = _call_loader(
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
    if problems := _weight_problems(info, set(info["missing_keys"]), set(info["unexpected_keys"])):
        raise ModelError(f"The folder {folder} does not hold this model: {problems}.")
    return _logit_difference(model, reloaded, input_ids)


def _logit_difference(model: PreTrainedModel, reloaded: Any, input_ids: Tensor) -> float:
    """The largest absolute difference, infinity where a logit is not finite."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            inputs = {"input_ids": input_ids.to(model.device)}
            if is_adapter(model):  # a classifier behind a prompt sees no ids, so it asks the mask where a row ends
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            logits = model(**inputs).logits
            logits_again = reloaded.to(model.device)(**inputs).logits
    finally:
        model.train(was_training)
    difference = float((logits - logits_again).abs().max())
    return difference if math.isfinite(difference) else math.inf


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
        with folder_written_whole(target) as fresh, _quiet():
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
    if isinstance(labels, str) or len(set(labels)) != len(labels) or len(labels) < 2:
        raise ModelError(f"labels are {labels!r}; give at least two different names")


def _new_model(spec: str, config: PreTrainedConfig, task: str, attn_implementation: str) -> PreTrainedModel:
    """A model with random weights."""
    check_direction(config, task, f"spec {spec!r}")

    def build(attention: str) -> PreTrainedModel:
        model: PreTrainedModel = TASKS[task].from_config(
            config, attn_implementation=attention, dtype=torch.float32, trust_remote_code=False
        )
        return model

    model: PreTrainedModel = _call_loader(lambda: _with_attention(build, attn_implementation), f"spec {spec!r}", task)
    model.eval()
    return model


# ------------------------------------------------------------------------------------------------- saved models


def _from_hub(spec: str, load: Callable[[str, dict[str, Any]], Any], options: dict[str, Any]) -> Any:
    """Load something of a Hub id: the cached copy as it is, else a download."""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec):
        raise ModelError(f"The model {spec!r} is no existing folder and no Hub id (NAME or OWNER/NAME).")
    where = f"Hub model {spec!r}"
    if options["trust_remote_code"] and options["revision"] is None:
        raise ModelError(
            f"{where}: code from the Hub runs only at a fixed revision. Give the commit that you have read as revision,"
            " or leave trust_remote_code off."
        )
    # Without this, transformers 5.23 asks a service on the Hub to convert pickled weights and to open a pull request.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        return load(where, {**options, "local_files_only": True})
    except NetworkError:
        if huggingface_hub.constants.HF_HUB_OFFLINE or not _hub_answers():
            reason = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.HF_HUB_OFFLINE else "the Hub does not answer"
            raise NetworkError(
                f"The model {spec!r} is neither a folder here nor in the local cache"
                f" ({huggingface_hub.constants.HF_HUB_CACHE}), and {reason}. Download it where there is a network"
                f" (hf download {spec} --local-dir FOLDER), copy the folder here and give its path; or start from"
                " random weights with new:FAMILY."
            ) from None
    return load(where, options)


def _hub_answers() -> bool:
    """Whether the Hub can be reached, in seconds: its client would retry for half a minute before it says no."""
    address = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    if urllib.request.getproxies().get(address.scheme):
        return True  # only the proxy knows
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def _loaded(name: str, where: str, task: str, labels: Sequence[str] | None, options: dict[str, Any]) -> PreTrainedModel:
    """Load configuration and weights and account for every tensor."""
    attention, use_safetensors = options.pop("attn_implementation"), options.pop("use_safetensors")
    config: Any = _call_loader(lambda: AutoConfig.from_pretrained(name, **options), where)
    drop_foreign_settings(config)
    check_direction(config, task, where)
    stored_labels = dict(config.id2label or {})
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}

    def load(attention: str) -> tuple[PreTrainedModel, dict[str, Any]]:
        pair: tuple[PreTrainedModel, dict[str, Any]] = TASKS[task].from_pretrained(
            name,
            config=config,
            dtype=torch.float32,  # else transformers trains a half-precision folder in half precision
            use_safetensors=use_safetensors,
            weights_only=True,
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, with both shapes
            adapter_kwargs={"local_files_only": options.get("local_files_only", False)},  # not passed on by 5.23
            **options,
        )
        return pair

    pair = _call_loader(lambda: _with_attention(load, attention), where, task)
    model: PreTrainedModel = pair[0]
    info: dict[str, Any] = pair[1]
    _check_weights(model, info, task, where)
    head, rows = model.get_output_embeddings(), model.get_input_embeddings()
    if config.tie_word_embeddings and head is not None and head.weight is not rows.weight:
        # The file holds two different matrices, as a wrongly tied training leaves them. They stay as they are, and the
        # configuration says so: else a later resize or reload would tie them and change the model.
        model.config.tie_word_embeddings = False
    if labels is not None and not _head_keys(model, info["missing_keys"]):
        _check_label_names(stored_labels, labels, where)
    model.eval()
    return model


def _check_label_names(stored: dict[int, str], labels: Sequence[str], where: str) -> None:
    """Refuse to rename the classes of a trained head, except where it has only placeholder names."""
    names = [stored[index] for index in sorted(stored)]
    placeholders = [f"LABEL_{index}" for index in range(len(names))]
    if names not in (list(labels), placeholders):
        raise ModelError(f"{where}: its head was trained for labels {names}, but {list(labels)} were asked for.")


def _head_keys(model: PreTrainedModel, keys: Any) -> set[str]:
    """Those keys that lie outside the encoder or decoder body, or in its pooler, which serves the head."""
    body = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    return {key for key in keys if key.removeprefix(prefix).split(".", 1)[0] not in body}


def _check_weights(model: PreTrainedModel, info: dict[str, Any], task: str, where: str) -> None:
    """Raise unless each weight of the model was in the files, and each in the files that matters is in the model.

    A classifier may start from a body without a head: then the whole head (and BERT's pooler) is new, and the head of
    the other task, such as a language-model head, is left aside. A head that is there must be there whole. An encoder
    that fills in masks leaves aside what else stood on the same body, such as BERT's pooler and next-sentence head.
    """
    missing = set(info["missing_keys"])
    unexpected = {key for key in info["unexpected_keys"] if not _COMPUTED_BUFFERS.search(key)}
    if task == "sequence-classification":
        head = _head_keys(model, model.state_dict().keys())
        outer_head = {key for key in head if ".pooler." not in f".{key}"}
        was_classifier = any("SequenceClassification" in name for name in model.config.architectures or [])
        if outer_head <= missing and not was_classifier:
            missing -= head
            unexpected -= _head_keys(model, unexpected)
    if task == "masked-lm":
        unexpected -= _head_keys(model, unexpected)
    if problems := _weight_problems(info, missing, unexpected):
        raise ModelError(
            f"{where} does not fit a {type(model).__name__}: {problems}. The files are incomplete, of another"
            " architecture, or for another task."
        )


def _weight_problems(info: dict[str, Any], missing: set[str], unexpected: set[str]) -> str:
    """Missing, left-over and misshapen weights in words; empty when all is well."""
    parts = []
    if missing:
        parts.append(f"missing: {_listed(missing)}")
    if unexpected:
        parts.append(f"not used: {_listed(unexpected)}")
    if mismatched := info.get("mismatched_keys"):
        shapes = {f"{key} (file {tuple(file)}, model {tuple(wanted)})" for key, file, wanted in mismatched}
        parts.append(f"wrong shape: {_listed(shapes)}")
    if errors := info.get("error_msgs"):
        parts.append(f"not read: {_listed({str(error) for error in errors})}")
    return "; ".join(parts)


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


# -------------------------------------------------------------------------------------------- around transformers


def _with_attention(build: Callable[[str], Any], attention: str) -> Any:
    """Build with the attention asked for; sdpa, which is a default and no wish, may become eager."""
    try:
        return build(attention)
    except ValueError as error:
        if attention != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        return build("eager")


def _call_loader(load: Callable[[], Any], where: str, task: str = "") -> Any:
    """Call transformers and turn what it raises into one message of ours."""
    try:
        return load()
    except ImportError as error:
        raise DeviceError(f"{where}: {_cause(error)}") from error
    except Exception as error:  # transformers, safetensors, json and the strict configurations raise all kinds
        causes = list(_chain(error))
        if where.startswith("Hub") and _is_about_network(causes):
            raise NetworkError(f"{where} could not be fetched: {_cause(error)}") from error
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{where} brings its own Python code. Read it, and where you trust it pass trust_remote_code=True."
            ) from error
        if "for this kind of AutoModel" in str(error):
            raise ModelError(
                f"{where} is of an architecture that cannot do task {task!r}. Take another model."
            ) from error
        raise ModelError(f"{where} cannot be loaded: {_cause(error)}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_about_network(causes: list[BaseException]) -> bool:
    """Nothing found in cache or on the Hub, as opposed to a repository that is there and lacks or spoils a file."""
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return True
    if any(isinstance(cause, EntryNotFoundError) for cause in causes):
        return False
    return any(isinstance(cause, OSError) for cause in causes)


def _cause(error: BaseException) -> str:
    """The first lines of a message, without the essays that follow."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw on the CPU from ``seed``, and leave the caller's random state and default device as they were."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing its loading report and progress bars: errors say it, and libraries are silent."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
