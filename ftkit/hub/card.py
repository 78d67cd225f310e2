"""The model card: what a model was made from, what was measured on it and what it cannot do, in Markdown.

Everything that a run or a model wrote is foreign text here: it is escaped or fenced, so that it can be neither markup
nor metadata.
"""

import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from ftkit.errors import DataError
from ftkit.hub.shareable import OWN_CODE, redacted
from ftkit.report.reading import visible
from ftkit.report.wording import MISSING, interval, number, percent, percent_interval

__all__ = ["model_card"]

_SAMPLES, _SAMPLE_CHARS = 3, 600
_HUB_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$@:])")
_HEADS = {"ForCausalLM": "text-generation", "LMHeadModel": "text-generation"}
_HEADS["ForSequenceClassification"] = "text-classification"


@dataclass(frozen=True)
class _Facts:
    """What a folder, and the run around it, know of a model."""

    name: str
    config: dict[str, Any]
    adapter: dict[str, Any]
    own_code: bool
    settings: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    predictive: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    """Of its text's distinctive tokens: ``before`` and ``after`` training, and in ``real`` text."""
    verdict: dict[str, Any] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def model_card(folder: str | os.PathLike[str], *, repo: str | None = None, license: str | None = None) -> str:
    """Write the model card of a folder.

    Args:
        folder: A model's folder. Where it is ``RUN/models/NAME``, the card shows what RUN found out about NAME.
        repo: The Hub id it will have, for the example; ``None`` says FOLDER.
        license: The Hub's name of a license; ``None`` names none.

    Returns:
        Markdown with YAML metadata.

    Raises:
        DataError: A file of the run that cannot be read.
    """
    facts = _facts(Path(folder).expanduser().resolve())
    parts = [
        f"---\n{_metadata(facts, license)}\n---\n\n# {_inline(repo or facts.name)}",
        _introduction(facts),
        _verdict(facts),
        _measurements(facts),
        _samples(facts),
        _data(facts),
        _usage(facts, repo or "FOLDER"),
        _limits(facts),
        _reproduction(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ----------------------------------------------------------------------------------------------------------- reading


def _facts(folder: Path) -> _Facts:
    config, adapter = _json(folder / "config.json"), _json(folder / "adapter_config.json")
    own_code = config.get("model_type") in OWN_CODE
    name, run = folder.name, folder.parent.parent
    if folder.parent.name != "models" or not (run / "manifest.json").is_file():
        return _Facts(name, config, adapter, own_code)
    evidence = _json(run / "evidence.json")
    passages = _mapping(evidence.get("passages")).get(name, [])
    return _Facts(
        name, config, adapter, own_code,
        settings=_settings(run / "config.yaml"),
        manifest=_json(run / "manifest.json"),
        measured=_mapping(_mapping(evidence.get("models")).get(name)),
        predictive=_mapping(evidence.get("predictive")),
        usage=_own_usage(evidence, name),
        verdict=_mapping(_json(run / "verdict.json").get(name)),
        samples=[text for text in passages if isinstance(text, str)][:_SAMPLES] if isinstance(passages, list) else [],
    )  # fmt: skip


def _own_usage(evidence: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the usage matrix says of a model and its own text."""
    matrix = _mapping(_mapping(_mapping(evidence.get("usage_matrix")).get("lists")).get("distinctive"))
    before, after, real = (_mapping(matrix.get(key)) for key in ("before", "after", "real"))
    return {
        "before": before.get(name), "after": _mapping(after.get(name)).get(name),
        "real": _mapping(real.get(name)).get(name),
    }  # fmt: skip


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}), so no model card can be written from it") from None


def _settings(path: Path) -> dict[str, Any]:
    try:
        return _mapping(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is not valid YAML ({reason}), so no model card can be written from it") from None


# ---------------------------------------------------------------------------------------------------------- escaping


def _inline(value: Any) -> str:
    """A text inside a line or a table: one line, no markup, no markdown, no secrets."""
    text = " ".join(visible(redacted(str(value))).split())
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False))


def _fenced(text: str, language: str = "text") -> str:
    """A text as a block of code that it cannot leave: the fence is longer than any in the text."""
    text = visible(redacted(text))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _public(value: Any) -> Any:
    """A setting without the folders of this machine."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, str) and (value.startswith(("/", "~", ".", "\\")) or PureWindowsPath(value).drive):
        return PureWindowsPath(value).name or "FOLDER"
    return value


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    lines.insert(1, "|" + " --- |" * len(list(heads)))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------- sections


def _base_model(facts: _Facts) -> str | None:
    """The Hub id of the base, where it has one."""
    named = facts.adapter.get("base_model_name_or_path") or facts.settings.get("model")
    known = isinstance(named, str) and _HUB_ID.fullmatch(named) and not Path(named).exists()
    return named if known and not str(named).startswith(("new:", "base:")) else None


def _datasets(facts: _Facts) -> list[str]:
    """Data sets of the Hub among the sources; books of Project Gutenberg are none, and stand under Data."""
    sources = [str(_mapping(entry).get("source", "")) for entry in _mapping(facts.manifest.get("data")).values()]
    names = [re.split(r"[:#]", source.removeprefix("hub:"))[0] for source in sources if source.startswith("hub:")]
    return sorted({name for name in names if _HUB_ID.fullmatch(name) and not Path(name).exists()})


def _metadata(facts: _Facts, license: str | None) -> str:
    architecture = str((facts.config.get("architectures") or [""])[0])
    pipeline = next((task for ending, task in _HEADS.items() if architecture.endswith(ending)), None)
    if facts.adapter:
        pipeline = {"CAUSAL_LM": "text-generation", "SEQ_CLS": "text-classification"}.get(
            str(facts.adapter.get("task_type")), pipeline
        )
    sources = [str(_mapping(entry).get("source", "")) for entry in _mapping(facts.manifest.get("data")).values()]
    tags = ["ftkit", *(["custom_code"] if facts.own_code else [])]
    tags += ["project-gutenberg"] if any(source.startswith("gutenberg:") for source in sources) else []
    data = ModelCardData(
        base_model=_base_model(facts),
        datasets=_datasets(facts) or None,
        library_name="peft" if facts.adapter else "transformers",
        license=license,
        pipeline_tag=pipeline,
        tags=tags,
    )
    return str(data.to_yaml())


def _introduction(facts: _Facts) -> str:
    kind = str(facts.config.get("model_type") or facts.adapter.get("peft_type") or "model")
    recipe = facts.manifest.get("recipe")
    made = f" It was made by ftkit's recipe {_inline(recipe)}" if recipe else " It was saved with ftkit"
    base = _public(facts.adapter.get("base_model_name_or_path") or facts.settings.get("model"))
    start = f", starting from {_inline(base)}" if base else ""
    return f"A model of type {_inline(kind)}.{made}{start}."


def _verdict(facts: _Facts) -> str:
    if not facts.verdict:
        return "No evidence is attached to this model: nothing here says whether it learnt anything."
    beside = [str(word) for word in facts.verdict.get("also") or []]
    also = f" (also: {_inline(', '.join(beside))})" if beside else ""
    reasons = "\n".join(f"- {_inline(reason)}" for reason in facts.verdict.get("reasons") or [])
    by = "; ".join(str(number) for number in facts.verdict.get("decided_by") or [])
    decided = f"\n\nDecided by {_inline(by)}." if by else ""
    return f"## Verdict: {_inline(facts.verdict.get('verdict'))}{also}\n\n{reasons}{decided}".rstrip()


def _measurements(facts: _Facts) -> str:
    found = facts.measured
    if not found:
        return ""
    copied = _mapping(found.get("copying"))
    unknown = [_mapping(found.get(f"fluency_{which}")).get("unknown_words") for which in ("base", "tuned", "real")]
    rows = [
        ("bits per byte on held-out text", _interval(found, "heldout_base"), _interval(found, "heldout_tuned"), ""),
        ("gain on held-out text, paired", "", _interval(found, "gain"), ""),
        ("gain beyond that on other text", "", _interval(found, "gain_over_general"), ""),
        ("rise of the loss on other text (forgetting)", "", _interval(found, "general_rise", percent_interval), ""),
        (
            f"word {_inline(number(copied.get('ngram')))}-grams copied from the training text", "",
            _interval(copied, "rate", percent_interval), _interval(copied, "heldout_rate", percent_interval),
        ),
        ("longest copied run, words", "", number(copied.get("longest_run")), number(copied.get("heldout_longest_run"))),
        *_further(found, facts.predictive),
        *_style_rows(found, facts.usage),
        ("words in no corpus", *(MISSING if value is None else f"{100 * value:.1f} %" for value in unknown)),
        *_language_rows(found),
    ]  # fmt: skip
    table = _table(("", "base", "this model", "real held-out text"), rows)
    other = f" Other text: {_inline(found['general_name'])}." if found.get("general_name") else ""
    return (
        "## Measured\n\nIntervals are 95 %, from blocks of held-out text and from whole passages, for one training"
        f" seed.{other}\n\n{table}"
    )


def _further(found: Mapping[str, Any], predictive: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What only some runs measure: the distance from the base, what did not carry over, whose text it predicts."""
    rows = []
    if (forgetting := _mapping(found.get("forgetting"))).get("kl_general"):
        rows.append(("KL to the base on other text, bits per token", "0", _interval(forgetting, "kl_general"), ""))
    if found.get("train_gap"):
        rows.append(("gain on its training text beyond that on held-out text", "", _interval(found, "train_gap"), ""))
    if predictive.get("margin"):
        chance = predictive.get("chance")
        floor = f"{100 * chance:.1f} % (chance)" if isinstance(chance, int | float) else ""
        accuracy = _interval(predictive, "accuracy", percent_interval)
        rows.append(("unseen passages that the right model of the run predicts best", floor, accuracy, ""))
    return rows


def _style_rows(found: Mapping[str, Any], usage: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What judges say between floor and ceiling, and how much of its text's own tokens it uses."""
    styles = found.get("styles")
    rows = [
        (
            f"style, judge {_inline(style.get('judge'))}{'' if style.get('speaks') else ' (does not speak)'}",
            _interval(style, "floor"), _interval(style, "score"), _interval(style, "ceiling"),
        )
        for style in (map(_mapping, styles) if isinstance(styles, list) else ())
    ]  # fmt: skip
    if usage.get("after"):
        before, after, real = (_interval(usage, key, percent_interval) for key in ("before", "after", "real"))
        rows.append(("tokens that are distinctive of its text", before, after, real))
    return rows


def _language_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Repetition, the worth of word order, whether it can be told from real text, and how far the weights moved."""
    base, tuned, real = (
        percent(_mapping(found.get(f"fluency_{which}")).get("repetition")) for which in ("base", "tuned", "real")
    )
    rows = [("word 3-grams that a passage has used before", base, tuned, real)]
    if order := _mapping(found.get("order")):
        rows.append(
            ("bits per byte that the order of words saves", number(order.get("base")), number(order.get("tuned")), "")
        )
    if told := _mapping(found.get("discriminator")):
        rows.append(("AUC of real against generated passages", _interval(told, "base"), _interval(told, "tuned"), ""))
    moved = _mapping(found.get("movement"))
    rows.append(("relative change of the weights", "", number(moved.get("relative")), ""))
    return rows


def _interval(found: Mapping[str, Any], key: str, write: Any = interval) -> str:
    value = found.get(key)
    known = isinstance(value, dict) and {"value", "low", "high"} <= value.keys()
    return str(write(value if known else None))


def _samples(facts: _Facts) -> str:
    blocks = [_fenced(text if len(text) <= _SAMPLE_CHARS else text[:_SAMPLE_CHARS] + " ...") for text in facts.samples]
    return "## Samples\n\nThe first of the measured passages, not chosen.\n\n" + "\n\n".join(blocks) if blocks else ""


def _data(facts: _Facts) -> str:
    rows = [
        (_inline(name), _inline(_public(_mapping(entry).get("source", ""))), number(_mapping(entry).get("words")),
         f"`{re.sub('[^0-9a-f]', '', str(_mapping(entry).get('sha256')))}`")
        for name, entry in _mapping(facts.manifest.get("data")).items()
    ]  # fmt: skip
    return "## Data\n\n" + _table(("text", "source", "words", "SHA-256"), rows) if rows else ""


def _usage(facts: _Facts, repo: str) -> str:
    trust = ", trust_remote_code=True" if facts.own_code else ""
    if facts.adapter:
        code = f'from peft import AutoPeftModel\n\nmodel = AutoPeftModel.from_pretrained("{repo}")'
    else:
        code = f'from transformers import pipeline\n\ngenerate = pipeline(model="{repo}"{trust})'
    note = (
        "\n\nThe Python files beside the weights hold the architecture; they need torch and transformers only. With"
        " `import ftkit.models` they are not run, and `trust_remote_code` is not needed."
        if facts.own_code
        else ""
    )
    return f"## Use\n\n{_fenced(code, 'python')}{note}"


def _limits(facts: _Facts) -> str:
    lines = [
        "It continues text in the manner of what it was trained on; what it says is not true because it says it.",
        "It was not tested for bias, safety or use in decisions about people.",
        "It may repeat what stands in its training text, names and private data included.",
    ]
    if facts.measured:
        lines.append(
            "Measurements hold for the held-out part of the texts above, for one training seed and one set of samples."
        )
    if not facts.verdict or facts.verdict.get("verdict") != "worked":
        lines.append("The evidence does not show that it learnt what it should have learnt.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _reproduction(facts: _Facts) -> str:
    if not facts.settings:
        return ""
    kept = {key: _public(value) for key, value in facts.settings.items() if key != "output_dir"}
    versions = ", ".join(
        f"{name} {version}" for name, version in _mapping(facts.manifest.get("versions")).items() if version
    )
    made_with = f"\n\nMade with {_inline(versions)}." if versions else ""
    return (
        "## Reproduce\n\nPut this into `config.yaml`, the texts of the table above beside it, then"
        f" `ftkit run ./config.yaml`.{made_with}\n\n"
        + _fenced(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), "yaml")
    )
