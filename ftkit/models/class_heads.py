# mypy: allow-untyped-calls
# (transformers is typed in part only.)
"""Heads of classifiers: what their outputs mean, and what becomes of one whose classes are not those of the texts."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ftkit.errors import ModelError

__all__ = [
    "HeadPlan",
    "check_classifier",
    "class_names",
    "class_tensors",
    "head_keys",
    "is_classifier",
    "name_classes",
    "order_classes",
    "plan_head",
    "problem_type",
    "renew",
]

_MOST_LISTED = 6
"""Classes that a message has room for."""

_OTHER_HEADS = {
    "ForTokenClassification": "labels single tokens",
    "ForQuestionAnswering": "marks answers in a text",
    "ForMultipleChoice": "chooses among several texts",
    "ForNextSentencePrediction": "compares two texts",
    "ForMaskedLM": "fills in masked tokens",
    "ForCausalLM": "continues text",
    "LMHeadModel": "continues text",
    "ForConditionalGeneration": "writes a text about another",
    "ForImageClassification": "labels images",
    "ForAudioClassification": "labels sound",
}
"""What a head does, by the end of its class's name."""


def is_classifier(config: Any) -> bool:
    """Return whether a configuration names a head that classifies whole texts.

    Args:
        config: Of a model. A class of the model's own counts where ``auto_map`` names it for this task; a language
            model's ``auto_map`` may name one beside it.
    """
    own = str((getattr(config, "auto_map", None) or {}).get("AutoModelForSequenceClassification", "")).rpartition(".")[
        2
    ]
    return any("SequenceClassification" in str(name) or str(name) == own for name in config.architectures or [])


def problem_type(config: Any) -> str:
    """Return what the outputs of a classifier mean, as transformers takes them.

    Args:
        config: Of a classifier. One output without a ``problem_type`` is a value: transformers trains it as one.

    Returns:
        ``single_label_classification``, ``multi_label_classification`` or ``regression``.
    """
    stored = getattr(config, "problem_type", None)
    return str(stored or ("regression" if config.num_labels == 1 else "single_label_classification"))


def class_names(config: Any) -> list[str]:
    """Return the names of a classifier's outputs in their order.

    Args:
        config: Of a classifier.
    """
    labels = config.id2label or {}
    return [str(labels[number]) for number in sorted(labels)]


def check_classifier(config: Any, where: str) -> None:
    """Refuse a head that gives no classes, probabilities or values of whole texts.

    Args:
        config: Of the model, before its weights are read: other heads have tensors of the same names.
        where: What to call the model.

    Raises:
        ModelError: It names what the head is and does.
    """
    if not is_classifier(config):
        heads = [str(name) for name in config.architectures or []]
        does = next((text for end, text in _OTHER_HEADS.items() for name in heads if name.endswith(end)), "")
        found = f"its head is {', '.join(heads)}{f', which {does}' if does else ''}" if heads else "it names no head"
        raise ModelError(
            f"{where}: holds no classifier of whole texts ({found}). Give one whose config.json names a"
            f" ...ForSequenceClassification, or train one with 'ftkit run classify --model {where} --labelled FILE'"
        )
    names, kind = class_names(config), problem_type(config)
    if not names or (len(names) == 1 and kind == "single_label_classification"):
        raise ModelError(
            f"{where}: its head has {len(names)} classes (id2label in config.json), so it chooses nothing. Give a"
            " classifier with two or more classes, or set problem_type to regression where its output is a value"
        )


@dataclass(frozen=True)
class HeadPlan:
    """What becomes of a saved head; without arguments it stays as it is."""

    tensors: Mapping[str, int] = field(default_factory=dict)
    """What ``class_tensors`` finds, where the classes change."""
    rows: tuple[int, ...] = ()
    """Old place of each class; empty where their order stays or the head is new."""
    whole: bool = False
    """Whether nothing of the head that the files hold is taken: it is for another task."""
    message: str = ""
    """What to tell the user; empty where there is nothing to tell."""

    def replaced(self, model: PreTrainedModel) -> frozenset[str]:
        """Return the tensors that are drawn anew, whatever the files hold.

        Args:
            model: The classifier.
        """
        if self.whole:
            head = head_keys(model, model.state_dict().keys())
            return frozenset(key for key in head if ".pooler." not in f".{key}")
        return frozenset() if self.rows else frozenset(self.tensors)


def plan_head(config: Any, labels: Sequence[str] | None, where: str, trust_remote_code: bool = False) -> HeadPlan:
    """Decide what becomes of the head that a folder holds.

    Classes are found by their names, capitals and white space at the ends aside, so that a head whose classes stand in
    another order computes the same. No class is ever given another's row: a head for other classes, for several labels
    at once, or for values is replaced.

    Args:
        config: As it was saved.
        labels: Names of the classes that are wanted, in the order of their ids; ``None`` wants those of the folder.
        where: What to call the model.
        trust_remote_code: As for ``load_model``.
    """
    if config.architectures and not is_classifier(config):
        return HeadPlan(whole=True)
    if labels is None:
        return HeadPlan()
    stored, kind, wanted = class_names(config), problem_type(config), [_plain(name) for name in labels]
    places = {_plain(name): place for place, name in enumerate(stored)}
    known = len(places) == len(stored) == len(labels) and set(places) == set(wanted)
    if kind != "single_label_classification":
        gives = "values" if kind == "regression" else f"several labels at once ({_listed(stored)})"
        message = f"{where}: its head gives {gives}; it gets a new one for {_listed(labels)}"
    elif stored == list(labels):
        return HeadPlan()
    elif known:
        message = f"{where}: the classes of its head ({_listed(stored)}) are taken by their names as {_listed(labels)}"
        rows = tuple(places[name] for name in wanted)
        return HeadPlan(class_tensors(config, trust_remote_code), rows, message=message)
    elif stored == [f"LABEL_{number}" for number in range(len(labels))]:
        message = f"{where}: the classes of its head have no names; {_listed(stored)} are taken as {_listed(labels)}"
        return HeadPlan(message=message)
    else:
        message = f"{where}: its head knows other classes ({_listed(stored)}); it gets a new one for {_listed(labels)}"
    return HeadPlan(class_tensors(config, trust_remote_code), message=message)


def has_head_for(config: Any, labels: Sequence[str]) -> bool:
    """Return whether a saved model is a classifier of these classes, so that its head is kept.

    Args:
        config: As it was saved.
        labels: Names of the classes, in any order.
    """
    plan = plan_head(config, labels, "")
    return is_classifier(config) and not plan.whole and (bool(plan.rows) or not plan.tensors)


def name_classes(config: Any, labels: Sequence[str]) -> None:
    """Write classes into a configuration, of which a text has one.

    Args:
        config: Changed in place.
        labels: Their names, in the order of their ids.
    """
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if config.problem_type is not None and len(labels) > 1:
        config.problem_type = "single_label_classification"


def head_keys(model: PreTrainedModel, keys: Any) -> set[str]:
    """Those keys that lie outside the encoder or decoder body, or in its pooler, which serves the head.

    Args:
        model: The model, which knows its body.
        keys: Names of tensors.
    """
    body = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    return {key for key in keys if key.removeprefix(prefix).split(".", 1)[0] not in body}


def _plain(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_LISTED])
    return f"{shown}, ... ({len(names)} classes)" if len(names) > _MOST_LISTED else shown


def class_tensors(config: Any, trust_remote_code: bool = False) -> dict[str, int]:
    """Return the tensors of a classifier that have an entry for each class, with the dimension of these entries.

    They are found by building the architecture twice without weights, for different numbers of classes.

    Args:
        config: Of a classifier, or of a body that is to become one.
        trust_remote_code: As for ``load_model``.
    """
    shapes = []
    for more in (1, 2):
        counted = copy.deepcopy(config)
        counted.num_labels = config.num_labels + more
        counted.problem_type = None
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(counted, trust_remote_code=trust_remote_code)
        shapes.append({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    first, second = shapes
    return {
        name: next(dim for dim, sizes in enumerate(zip(shape, second[name], strict=True)) if sizes[0] != sizes[1])
        for name, shape in first.items()
        if shape != second[name]
    }


@torch.no_grad()
def order_classes(model: PreTrainedModel, plan: HeadPlan) -> None:
    """Put the classes of a head into another order, in place.

    Args:
        model: A classifier.
        plan: Its ``rows`` say the order.
    """
    state = model.state_dict()
    for name, dim in plan.tensors.items():
        state[name].copy_(state[name].index_select(dim, torch.tensor(plan.rows, device=state[name].device)))


def renew(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Draw parameters anew, as the architecture does where a file lacks them.

    Args:
        model: A model whose weights are loaded.
        names: Parameters; others of the same modules keep their values.
    """
    by_module: dict[str, list[str]] = {}
    for name in names:
        owner, _, parameter = name.rpartition(".")
        by_module.setdefault(owner, []).append(parameter)
    for path, parameters in by_module.items():
        module = model.get_submodule(path)
        for parameter in parameters:  # transformers draws no parameter that it has marked as loaded
            setattr(module, parameter, nn.Parameter(torch.empty_like(getattr(module, parameter))))
        model._init_weights(module)
