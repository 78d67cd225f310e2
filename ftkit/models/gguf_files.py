"""GGUF files, as llama.cpp and Ollama take them: reading what they hold, and writing one of a model that is loaded.

transformers reads them and computes with numbers that are dequantized; so a quantized file can be judged. The package
``gguf`` is imported when a file is opened.
"""

import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ftkit.errors import DeviceError, ModelError

__all__ = [
    "GGUF_FILE",
    "GGUF_TYPES",
    "complete_config",
    "gguf_as_folder",
    "gguf_contents",
    "gguf_pieces",
    "is_gguf",
    "write_gguf",
]

GGUF_FILE = "model.gguf"
"""Name of the file in the folder of ``gguf_as_folder``."""
GGUF_TYPES = {"f32": "F32", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
"""What matrices can be written as: the four types that the package ``gguf`` quantizes without llama.cpp."""
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}
"""Numbers of llama.cpp for a file in which most matrices are of this type."""
_MAGIC = b"GGUF"
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
"""Kinds of tokens, as ``tokenizer.ggml.token_type`` numbers them."""
_PIECES = "tokenizer.ggml.tokens"


def is_gguf(spec: str) -> bool:
    """Whether a spec names a GGUF file.

    Args:
        spec: A model as the user names it.
    """
    return spec.lower().endswith(".gguf") and not Path(spec).expanduser().is_dir()


def _package() -> ModuleType:
    """The package ``gguf``.

    Raises:
        DeviceError: It is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise DeviceError("A GGUF file needs the package gguf, which is not installed: pip install 'ftkit[gguf]'")
    return importlib.import_module("gguf")


def _opened(spec: str) -> Any:
    """A reader of the file."""
    path = Path(spec).expanduser()
    if not path.is_file():
        raise ModelError(f"The GGUF file {spec} does not exist. Check the path (it counts from {Path.cwd()}).")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"The file {spec} is no GGUF file: it does not begin with GGUF. Copy or make it again.")
    package = _package()
    try:
        return package.GGUFReader(path)
    except Exception as error:  # a damaged file raises what numpy and struct raise
        raise ModelError(
            f"The GGUF file {spec} is damaged ({type(error).__name__}: {str(error)[:120]}). Copy or make it again."
        ) from None


@contextmanager
def gguf_as_folder(spec: str) -> Iterator[str]:
    """A temporary folder that holds nothing but this file: what lies beside it must not be read as a part of it.

    Args:
        spec: The file.

    Raises:
        ModelError: No file, or one that is damaged.
        DeviceError: The package ``gguf`` is not installed.
    """
    _opened(spec)
    with TemporaryDirectory(prefix="ftkit-gguf-") as folder:
        source, target = Path(spec).expanduser().resolve(), Path(folder) / GGUF_FILE
        try:
            target.symlink_to(source)
        except OSError:  # Windows without the right to make links
            shutil.copyfile(source, target)
        yield folder


def gguf_contents(spec: str) -> str:
    """The types of a file's numbers in one line: their shares of all parameters, and tensors of each.

    Args:
        spec: The file.
    """
    numbers, tensors = Counter[str](), Counter[str]()
    for tensor in _opened(spec).tensors:
        numbers[tensor.tensor_type.name] += int(tensor.n_elements)
        tensors[tensor.tensor_type.name] += 1
    total = max(numbers.total(), 1)
    return ", ".join(
        f"{kind} {count / total:.1%} of {total:,} parameters ({tensors[kind]} tensor{'s' * (tensors[kind] > 1)})"
        if place == 0 else f"{kind} {count / total:.1%} ({tensors[kind]} tensor{'s' * (tensors[kind] > 1)})"
        for place, (kind, count) in enumerate(numbers.most_common())
    )  # fmt: skip


def gguf_pieces(spec: str) -> list[str] | None:
    """The tokens of a file's tokenizer by id; ``None`` where it holds none.

    Args:
        spec: The file.
    """
    field = _opened(spec).fields.get(_PIECES)
    return None if field is None else [str(bytes(field.parts[place]), "utf-8", "replace") for place in field.data]


def complete_config(config: Any) -> None:
    """Mend what transformers 5.23 leaves out of a configuration that it has read from a file.

    Numbers are stored with 32 bits, so that 1e-05 comes back as 9.99999975e-06; and of a GPT-2 positions and width of
    the MLP are put where its model does not look.

    Args:
        config: Changed in place.
    """
    for name, value in vars(config).items():
        if isinstance(value, float):
            setattr(config, name, float(str(np.float32(value))))
    if config.model_type == "gpt2":
        config.n_positions = int(getattr(config, "n_ctx", config.n_positions))
        config.n_inner = getattr(config, "feed_forward_length", config.n_inner)


# Writing


def write_gguf(model: PreTrainedModel, tokenizer: Any, path: Path, kind: str = "q8_0") -> None:
    """Write a GGUF file that llama.cpp, Ollama and transformers read.

    Matrices are of the type that was asked for where their rows divide by its block, else F16; all else is F32.

    Args:
        model: A Llama or a GPT-2 of transformers.
        tokenizer: Its tokenizer, byte-level or with byte fallback.
        path: The file, which must not exist.
        kind: A key of ``GGUF_TYPES``.

    Raises:
        ModelError: Another architecture, or one that the file could not describe.
        DeviceError: The package ``gguf`` is not installed.
    """
    package, config = _package(), model.config
    known = {"llama": package.MODEL_ARCH.LLAMA, "gpt2": package.MODEL_ARCH.GPT2}
    if config.model_type not in known:
        raise ModelError(
            f"Only {' and '.join(known)} are written as GGUF here, and this is {config.model_type}. llama.cpp's "
            "convert_hf_to_gguf.py knows more architectures; ftkit's own GPT-2 becomes gpt2 with ftkit convert"
        )
    if path.exists():
        raise ModelError(f"{path} exists already; choose another name, or remove it")
    writer = package.GGUFWriter(path, config.model_type)
    (_describe_llama if config.model_type == "llama" else _describe_gpt2)(writer, config)
    asked = GGUF_TYPES[kind]
    writer.add_file_type(_FILE_TYPES[asked])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, config.vocab_size)
    names = package.get_tensor_name_map(known[config.model_type], config.num_hidden_layers)
    for name, tensor in model.named_parameters():  # a shared one once
        stem, _, suffix = name.rpartition(".")
        found = names.get_name(stem)
        if found is None:
            raise ModelError(f"GGUF has no name for {name} of a {config.model_type}")
        values = _arranged(config, name, tensor.detach().float().cpu().numpy())
        chosen = package.GGMLQuantizationType[_type_of(package, values, asked)]
        packed = package.quants.quantize(np.ascontiguousarray(values), chosen)
        writer.add_tensor(f"{found}.{suffix}", packed, raw_dtype=chosen)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _type_of(package: ModuleType, values: np.ndarray, asked: str) -> str:
    """The type of one tensor."""
    if values.ndim < 2:
        return "F32"
    block, _ = package.GGML_QUANT_SIZES[package.GGMLQuantizationType[asked]]
    return asked if values.shape[-1] % block == 0 else "F16"


def _arranged(config: Any, name: str, values: np.ndarray) -> np.ndarray:
    """Values as the file has them: of a Llama, the two halves that rotate together side by side; of a GPT-2, rows are
    outputs."""
    if config.model_type == "gpt2":
        fused = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
        return values.T if name.endswith(fused) else values
    heads = {"q_proj.weight": config.num_attention_heads, "k_proj.weight": config.num_key_value_heads}
    for end, count in heads.items():
        if name.endswith(end):
            halves = values.reshape(count, 2, values.shape[0] // count // 2, values.shape[1])
            return halves.swapaxes(1, 2).reshape(values.shape)
    return values


def _describe_llama(writer: Any, config: Any) -> None:
    rope = dict(getattr(config, "rope_parameters", None) or {})
    beyond = [name for name in ("attention_bias", "mlp_bias") if getattr(config, name, False)]
    beyond += ["hidden_act"] * (config.hidden_act != "silu")
    beyond += [f"rope_type {rope['rope_type']}"] * (rope.get("rope_type", "default") != "default")
    if beyond:
        raise ModelError(f"A GGUF file of a Llama cannot describe {', '.join(beyond)} here; use llama.cpp's converter")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))  # the paper's, and transformers' default


def _describe_gpt2(writer: Any, config: Any) -> None:
    if config.activation_function != "gelu_new":
        raise ModelError(f"A GGUF file of a GPT-2 means gelu_new, and this model has {config.activation_function}")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _add_tokenizer(writer: Any, tokenizer: Any, rows: int) -> None:
    """The tokens with their kinds, and merges or scores."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model["type"] != "BPE":
        raise ModelError(f"Only byte pairs are written as GGUF here, and the tokenizer is of the type {model['type']}")
    pieces = {token_id: piece for piece, token_id in tokenizer.get_vocab().items()}
    special = {int(i) for i, token in tokenizer.backend_tokenizer.get_added_tokens_decoder().items() if token.special}
    falls_back = bool(model.get("byte_fallback"))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens = [pieces.get(token_id, f"[PAD{token_id}]") for token_id in range(rows)]
    kinds = [_kind(token_id, token, special, model.get("unk_token")) for token_id, token in enumerate(tokens)]
    writer.add_tokenizer_model("llama" if falls_back else "gpt2")
    writer.add_token_list(tokens)
    if falls_back:  # the piece that is merged first has the highest score
        ranks = {merge.replace(" ", ""): -float(rank) for rank, merge in reversed(list(enumerate(merges)))}
        first = backend["normalizer"] or {}
        prepended = "Prepend" in [step["type"] for step in first.get("normalizers", [first]) if step]
        writer.add_add_space_prefix(prepended)
        writer.add_token_scores([ranks.get(token, -float(rows)) for token in tokens])
    else:
        writer.add_tokenizer_pre(_pre_tokenizer(backend))
        writer.add_token_merges(merges)
    writer.add_token_types(kinds)
    for name in ("bos", "eos", "pad", "unk"):
        if (token_id := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(token_id)
    added = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(added) and added[0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _kind(token_id: int, token: str, special: Sequence[int] | set[int], unknown: str | None) -> int:
    if token == unknown:
        return _UNKNOWN
    if token_id in special or token.startswith("[PAD"):
        return _CONTROL
    return _BYTE if token.startswith("<0x") and token.endswith(">") else _NORMAL


def _pre_tokenizer(backend: dict[str, Any]) -> str:
    """llama.cpp's name for how a text is cut before pairs are merged: GPT-2's way, or digits one by one as SmolLM.

    Raises:
        ModelError: Another way, so that other tools would give other tokens.
    """
    cut = backend["pre_tokenizer"] or {}
    steps = [{**step, "trim_offsets": None} for step in cut.get("pretokenizers", [cut])]
    bytes_of_words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": None, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True, "trim_offsets": None}
    known = {"gpt-2": [bytes_of_words], "smollm": [digits, bytes_of_words]}
    whole_words = backend["model"].get("ignore_merges", False)
    for name, expected in known.items():
        if steps == expected and not backend["normalizer"] and not whole_words:
            return name
    how = "looks up whole words before it merges pairs" if whole_words else "cuts text in a way of its own"
    raise ModelError(
        f"The tokenizer {how}, which a GGUF file cannot say here, so other tools would give other tokens. Known are "
        "GPT-2's way, also with single digits, and that of a Llama with byte fallback"
    )
