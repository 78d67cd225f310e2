"""What a model card says by the model's task: what it does, how it is used, what was measured on a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftkit.display.wording import interval, number, percent, percent_interval
from ftkit.hub.markdown import fenced, inline, table

__all__ = ["CardTask", "card_task", "classifier_measurements", "described", "limits", "usage_section"]

_PIPELINES = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForMaskedLM": "fill-mask",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
"""The Hub's name of what a head does, by the end of its class's name."""
_ADAPTED = {"CAUSAL_LM": "text-generation", "SEQ_CLS": "text-classification", "TOKEN_CLS": "token-classification"}
"""The same by the ``task_type`` of an adapter."""
_ADAPTED_CLASSES = {
    "text-generation": "AutoPeftModelForCausalLM",
    "text-classification": "AutoPeftModelForSequenceClassification",
    "token-classification": "AutoPeftModelForTokenClassification",
}
_COMMANDS = {
    "text-generation": 'ftkit generate {} --prompt "Once upon a time"',
    "text-classification": 'ftkit predict {} "A text."',
}
"""What uses a model of a task on the command line."""
_MOST_CLASSES = 20
"""Names of classes that a card has room for."""
_MEASURES = (
    ("accuracy", "accuracy", percent_interval),
    ("macro F1", "macro_f1", interval),
    ("log-loss, nats", "log_loss", interval),
    ("area under the ROC curve", "auc", interval),
    ("calibration error", "calibration_error", interval),
    ("confidence minus accuracy", "overconfidence", interval),
)
_BESIDE = ("untrained", "counted words", "frozen features")
"""What a run tests beside its classifiers, by its name in ``evidence.json``."""


@dataclass(frozen=True)
class CardTask:
    """What a model is for."""

    pipeline: str | None
    """The Hub's name of the task; ``None`` where the files do not say it."""
    classes: tuple[str, ...] = ()
    """Names of a classifier's outputs, where they have names."""
    problem_type: str = "single_label_classification"
    """Of a classifier."""


def card_task(config: Mapping[str, Any], adapter: Mapping[str, Any], record: Mapping[str, Any]) -> CardTask:
    """Return what a model is for, from its files.

    Args:
        config: What ``config.json`` holds.
        adapter: What ``adapter_config.json`` holds.
        record: What ``base.json`` holds, which names the classes of an adapter.
    """
    heads = [str(name) for name in config.get("architectures") or [] if isinstance(name, str)]
    found = next((task for end, task in _PIPELINES.items() for name in heads if name.endswith(end)), None)
    if adapter:
        found = _ADAPTED.get(str(adapter.get("task_type")), found)
    labels = config.get("id2label")
    stored = [str(labels[key]) for key in sorted(labels, key=_place)] if isinstance(labels, dict) else []
    named = record.get("labels")
    names = tuple(map(str, named)) if isinstance(named, list) and named else tuple(stored)
    unnamed = names == tuple(f"LABEL_{number}" for number in range(len(names)))
    kind = config.get("problem_type") or ("regression" if len(names) == 1 else "single_label_classification")
    return CardTask(found, () if unnamed else names, str(kind))


def _place(key: Any) -> tuple[int, str]:
    return (int(key), "") if str(key).isdigit() else (10**9, str(key))


def _usage_code(task: CardTask, repo: str, *, adapter: bool, own_code: bool, base: str | None) -> str:
    """Return the lines of Python that use a model."""
    trust = ", trust_remote_code=True" if own_code else ""
    if adapter and base is not None:  # peft would look for a relative path in the working directory
        classes = task.pipeline == "text-classification" and task.classes
        name = "AutoModelForSequenceClassification" if classes else "AutoModelForCausalLM"
        count = f", num_labels={len(task.classes)}" if classes else ""
        return (
            f"from peft import PeftModel\nfrom transformers import {name}, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}")\n'
            f'base = {name}.from_pretrained("{repo}/{base}"{count}{trust})\n'
            f'model = PeftModel.from_pretrained(base, "{repo}")'
        )
    if adapter:
        name = _ADAPTED_CLASSES.get(str(task.pipeline), "AutoPeftModel")
        count = f", num_labels={len(task.classes)}" if task.pipeline == "text-classification" and task.classes else ""
        return (
            f"from peft import {name}\nfrom transformers import AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}")\nmodel = {name}.from_pretrained("{repo}"{count})'
        )
    if task.pipeline == "text-classification":
        options = {"multi_label_classification": ", top_k=None", "regression": ', function_to_apply="none"'}
        return (
            f'from transformers import pipeline\n\nclassify = pipeline("text-classification", model="{repo}"{trust})\n'
            f'classify("A text."{options.get(task.problem_type, "")})'
        )
    if task.pipeline == "fill-mask":
        return (
            f'from transformers import pipeline\n\nfill = pipeline("fill-mask", model="{repo}"{trust})\n'
            'fill(f"A text with a {fill.tokenizer.mask_token} in it.")'
        )
    if task.pipeline == "text-generation":
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}"{trust})\n'
            f'model = AutoModelForCausalLM.from_pretrained("{repo}"{trust})'
        )
    if task.pipeline:
        return f'from transformers import pipeline\n\nmodel = pipeline("{task.pipeline}", model="{repo}"{trust})'
    return f'from transformers import AutoModel\n\nmodel = AutoModel.from_pretrained("{repo}"{trust})'


def described(task: CardTask) -> str:
    """Return what a model is, as the beginning of a sentence."""
    if task.pipeline == "text-classification":
        names = ", ".join(map(inline, task.classes[:_MOST_CLASSES]))
        names += f", ... ({len(task.classes)} in all)" if len(task.classes) > _MOST_CLASSES else ""
        if task.problem_type == "regression":
            return f"A model that gives a text a value{f' ({names})' if names else ''}"
        several = "any of the labels" if task.problem_type == "multi_label_classification" else "one of the classes"
        return f"A classifier that gives a text {several} {names}" if names else "A classifier of texts"
    if task.pipeline == "fill-mask":
        return "An encoder that fills in masked tokens"
    return "A model"


def limits(task: CardTask) -> list[str]:
    """Return what a model of this task cannot do, a sentence each."""
    untested = "It was not tested for bias, safety or use in decisions about people."
    if task.pipeline == "text-classification":
        outside = {
            "regression": "It gives every text a value, also a text of another kind than it was trained on.",
            "multi_label_classification": "It knows these labels only, on texts like those that it was trained on.",
        }
        one = "It gives every text one of its classes, also a text that belongs to none of them."
        return [outside.get(task.problem_type, one), untested]
    if task.pipeline == "text-generation":
        return [
            "It continues text in the manner of what it was trained on; what it says is not true because it says it.",
            untested,
            "It may repeat what stands in its training text, names and private data included.",
        ]
    if task.pipeline == "fill-mask":
        return ["It fills in what was likely in the text that it was trained on, true or not.", untested]
    return [untested]


def classifier_measurements(scores: Mapping[str, Any], name: str, finding: Any) -> str:
    """Return the section on the test of a classifier: each measure beside chance and beside simpler methods.

    Args:
        scores: ``classifiers`` of ``evidence.json``.
        name: The classifier.
        finding: The run's sentence.
    """
    found = {who: scores[who] for who in (*_BESIDE, name) if isinstance(scores.get(who), dict)}
    own = found[name]
    rows = []
    for title, key, write in _MEASURES:
        chance = {"accuracy": percent(own.get("chance_accuracy")), "log_loss": number(own.get("chance_log_loss"))}
        cells = [write(_interval(who.get(key))) for who in found.values()]
        rows.append((title, chance.get(key, ""), *cells))
    heads = ("", "chance", *("this model" if who == name else inline(who) for who in found))
    sentence = f"{inline(finding)}\n\n" if finding else ""
    return (
        f"## Measured\n\n{sentence}On {number(own.get('texts'))} test texts that the training never saw, with 95 %"
        " intervals for the choice of these texts. Chance: the most frequent class for every text.\n\n"
        f"{table(heads, rows)}"
    )


def _interval(value: Any) -> Any:
    return value if isinstance(value, dict) and {"value", "low", "high"} <= value.keys() else None


def usage_section(task: CardTask, repo: str, *, adapter: bool, own_code: bool, base: str | None = None) -> str:
    """Return the section that shows how a model is used.

    Args:
        task: What it is for.
        repo: The Hub id it will have.
        adapter: Whether the folder holds an adapter.
        own_code: Whether it, or the base beside it, brings code along.
        base: The folder of an adapter's base, counted from the adapter's; ``None`` where it is named otherwise.
    """
    code = _usage_code(task, repo, adapter=adapter, own_code=own_code, base=base)
    parts = ["## Use", fenced(code, "python")]
    if own_code:
        with_ftkit = "import ftkit\n" + code.replace(", trust_remote_code=True", "")
        parts += [
            "The Python files beside the weights hold the architecture; they need torch and transformers only. With"
            " ftkit they are not run:",
            fenced(with_ftkit, "python"),
        ]
    command = _COMMANDS.get(str(task.pipeline))
    parts += [f"On the command line: `{command.format(repo)}`."] if command else []
    return "\n\n".join(parts)
