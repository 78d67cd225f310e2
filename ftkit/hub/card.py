"""The model card: what a model was made from, what was measured on it and what it cannot do, in Markdown.

Everything that a run or a model wrote is foreign text here: it is escaped or fenced, so that it can be neither markup
nor metadata.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from ftkit.data.sources import text_sources
from ftkit.display.tables import Row
from ftkit.display.wording import interval, number, percent_interval
from ftkit.errors import CheckpointError, DataError
from ftkit.evidence.document import parse_evidence, summary_rows
from ftkit.hub.card_tasks import CardTask, card_task, classifier_measurements, described, limits, usage_section
from ftkit.hub.markdown import fenced, inline, public, table
from ftkit.hub.shareable import OWN_CODE
from ftkit.runs.files import write_atomically

__all__ = ["model_card", "signed", "unedited_card", "write_card"]

_SAMPLES, _SAMPLE_CHARS = 3, 600  # what a reader of a card looks at; the report has more
_SIGNATURE = "\n<!-- ftkit card, sha256 "
_HUB_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class _Facts:
    """What a folder, and the run around it, know of a model."""

    name: str
    config: dict[str, Any]
    adapter: dict[str, Any]
    own_code: bool
    task: CardTask
    base_type: Any = None
    """``model_type`` of an adapter's base, where ftkit wrote it down."""
    settings: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    predictive: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    """Of its text's distinctive tokens: ``before`` and ``after`` training, and in ``real`` text."""
    verdict: dict[str, Any] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    classifiers: dict[str, Any] = field(default_factory=dict)
    """What was measured on the run's classifiers, where this model is one of them."""
    finding: Any = None
    """What the run says of its classifiers."""


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
        f"---\n{_metadata(facts, license)}\n---\n\n# {inline(repo or facts.name)}",
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


def signed(card: str) -> str:
    """A card with a last line that tells whether it was edited."""
    return f"{card}{_SIGNATURE}{hashlib.sha256(card.encode()).hexdigest()} -->\n"


def unedited_card(readme: Path) -> str | None:
    """A card that ftkit wrote, without its signature; ``None`` where somebody else wrote or edited the file."""
    there = readme.read_text(encoding="utf-8", errors="replace")
    card = there.rpartition(_SIGNATURE)[0]
    return card if card and signed(card) == there else None


def write_card(folder: Path) -> None:
    """Write the model card of a run's model as its ``README.md``; a file that somebody else wrote or edited stays.

    Args:
        folder: The model's folder, ``RUN/models/NAME``.
    """
    readme = folder / "README.md"
    if folder.is_dir() and (not readme.exists() or unedited_card(readme) is not None):
        write_atomically(readme, signed(model_card(folder)))


# ----------------------------------------------------------------------------------------------------------- reading


def _facts(folder: Path) -> _Facts:
    config, adapter = _json(folder / "config.json"), _json(folder / "adapter_config.json")
    own_code = config.get("model_type") in OWN_CODE
    record = _json(folder / "base.json")
    task, base_type = card_task(config, adapter, record), _mapping(record.get("architecture")).get("model_type")
    name, run = folder.name, folder.parent.parent
    if folder.parent.name != "models" or not (run / "manifest.json").is_file():
        return _Facts(name, config, adapter, own_code, task, base_type)
    evidence = _json(run / "evidence.json")
    classifiers = _mapping(evidence.get("classifiers"))
    passages = _mapping(evidence.get("passages")).get(name, [])
    return _Facts(
        name, config, adapter, own_code, task, base_type,
        settings=_settings(run / "config.yaml"),
        manifest=_json(run / "manifest.json"),
        measured=_mapping(_mapping(evidence.get("models")).get(name)),
        predictive=_mapping(evidence.get("predictive")),
        usage=_own_usage(evidence, name),
        verdict=_mapping(_json(run / "verdict.json").get(name)),
        samples=[text for text in passages if isinstance(text, str)][:_SAMPLES] if isinstance(passages, list) else [],
        classifiers=classifiers if isinstance(classifiers.get(name), dict) else {},
        finding=evidence.get("finding"),
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
    sources = [str(_mapping(entry).get("source", "")) for entry in _mapping(facts.manifest.get("data")).values()]
    tags = ["ftkit", *(["custom_code"] if facts.own_code else [])]
    given = {source.partition(":")[0] for source in sources}
    tags += [tag for kind in text_sources().values() if given & {*kind.prefixes} for tag in kind.tags]
    data = ModelCardData(
        base_model=_base_model(facts),
        datasets=_datasets(facts) or None,
        library_name="peft" if facts.adapter else "transformers",
        license=license,
        pipeline_tag=facts.task.pipeline,
        tags=tags,
    )
    return str(data.to_yaml())


def _introduction(facts: _Facts) -> str:
    recipe = facts.manifest.get("recipe")
    made = f"It was made by ftkit's recipe {inline(recipe)}" if recipe else "It was saved with ftkit"
    base = public(facts.adapter.get("base_model_name_or_path") or facts.settings.get("model"))
    if facts.adapter:
        kind = inline(facts.adapter.get("peft_type") or "peft")
        return f"{described(facts.task)}: an adapter of type {kind} for {inline(base or 'an unnamed base')}. {made}."
    kind = inline(facts.config.get("model_type") or "model")
    start = f", starting from {inline(base)}" if base else ""
    return f"{described(facts.task)}, of type {kind}. {made}{start}."


def _verdict(facts: _Facts) -> str:
    if facts.classifiers and not facts.verdict:
        return ""  # its section says what was found
    if not facts.verdict:
        return "No evidence is attached to this model: nothing here says whether it learned anything."
    beside = [str(word) for word in facts.verdict.get("also") or []]
    also = f" (also: {inline(', '.join(beside))})" if beside else ""
    reasons = "\n".join(f"- {inline(reason)}" for reason in facts.verdict.get("reasons") or [])
    by = "; ".join(str(number) for number in facts.verdict.get("decided_by") or [])
    decided = f"\n\nDecided by {inline(by)}." if by else ""
    return f"## Verdict: {inline(facts.verdict.get('verdict'))}{also}\n\n{reasons}{decided}".rstrip()


def _measurements(facts: _Facts) -> str:
    found = facts.measured
    if facts.classifiers:
        return classifier_measurements(facts.classifiers, facts.name, facts.finding)
    if not found:
        return ""
    try:
        evidence = parse_evidence(found)
    except CheckpointError:
        return ""  # of another shape, so nothing is known
    rows = [_row(row) for row in summary_rows(evidence)]
    rows += _further(facts.predictive, facts.usage)
    shown = table(("", "base", "this model", "real held-out text"), rows)
    general = evidence.measures.get("general")
    other = f" Other text: {inline(general.name)}." if general and general.name else ""
    return (
        "## Measured\n\nIntervals are 95 %, from blocks of held-out text and from whole passages, for one training"
        f" seed.{other}\n\n{shown}"
    )


def _row(row: Row) -> tuple[str, ...]:
    """A row in Markdown; what is text is escaped."""
    written = zip((row.base, row.tuned, row.real), row.cells(), strict=True)
    return (inline(row.label), *(inline(text) if isinstance(value, str) else text for value, text in written))


def _further(predictive: Mapping[str, Any], usage: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What only runs of several models measure: whose text it predicts, and how much of its text's tokens it uses."""
    rows = []
    if predictive.get("margin"):
        chance = predictive.get("chance")
        floor = f"{100 * chance:.1f} % (chance)" if isinstance(chance, int | float) else ""
        accuracy = _interval(predictive, "accuracy", percent_interval)
        rows.append(("unseen passages that the right model of the run predicts best", floor, accuracy, ""))
    if usage.get("after"):
        before, after, real = (_interval(usage, key, percent_interval) for key in ("before", "after", "real"))
        rows.append(("tokens that are distinctive of its text", before, after, real))
    return rows


def _interval(found: Mapping[str, Any], key: str, write: Any = interval) -> str:
    value = found.get(key)
    known = isinstance(value, dict) and {"value", "low", "high"} <= value.keys()
    return str(write(value if known else None))


def _samples(facts: _Facts) -> str:
    blocks = [fenced(text if len(text) <= _SAMPLE_CHARS else text[:_SAMPLE_CHARS] + " ...") for text in facts.samples]
    return "## Samples\n\nThe first of the measured passages, not chosen.\n\n" + "\n\n".join(blocks) if blocks else ""


def _data(facts: _Facts) -> str:
    rows = [
        (inline(name), inline(public(_mapping(entry).get("source", ""))), number(_mapping(entry).get("words")),
         f"`{re.sub('[^0-9a-f]', '', str(_mapping(entry).get('sha256')))}`")
        for name, entry in _mapping(facts.manifest.get("data")).items()
    ]  # fmt: skip
    return "## Data\n\n" + table(("text", "source", "words", "SHA-256"), rows) if rows else ""


def _usage(facts: _Facts, repo: str) -> str:
    named = str(facts.adapter.get("base_model_name_or_path", ""))
    base = named if re.fullmatch(r"\.[\w./-]*", named, re.ASCII) else None
    own_code = facts.own_code or (base is not None and facts.base_type in OWN_CODE)
    return usage_section(facts.task, repo, adapter=bool(facts.adapter), own_code=own_code, base=base)


def _limits(facts: _Facts) -> str:
    lines = limits(facts.task)
    if facts.measured:
        lines.append(
            "Measurements hold for the held-out part of the texts above, for one training seed and one set of samples."
        )
    if facts.classifiers:
        lines.append("Measurements hold for texts like the test texts above, and for one training seed.")
        if not facts.classifiers[facts.name].get("above_chance"):
            lines.append("It is no better than chance on these texts.")
    elif not facts.verdict or facts.verdict.get("verdict") != "worked":
        lines.append("The evidence does not show that it learned what it should have learned.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _reproduction(facts: _Facts) -> str:
    if not facts.settings:
        return ""
    kept = {key: public(value) for key, value in facts.settings.items() if key != "output_dir"}
    versions = ", ".join(
        f"{name} {version}" for name, version in _mapping(facts.manifest.get("versions")).items() if version
    )
    made_with = f"\n\nMade with {inline(versions)}." if versions else ""
    return (
        "## Reproduce\n\nPut this into `config.yaml`, the texts of the table above beside it, then"
        f" `ftkit run ./config.yaml`.{made_with}\n\n"
        + fenced(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), "yaml")
    )
