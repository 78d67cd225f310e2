"""What a verdict is asked about: models, texts and options, and the texts that are read before any model is."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from ftkit.data import (
    Corpus,
    ExampleSplit,
    LabelledTexts,
    corpus_of,
    load_corpus,
    load_labelled,
    read_examples,
    split_corpus,
    split_examples,
)
from ftkit.data.encoded_examples import LossOn
from ftkit.data.local_documents import read_lines
from ftkit.errors import ConfigError, DataError, nearest_name
from ftkit.evidence import Thresholds
from ftkit.evidence.judges import BASE, CORRUPTED
from ftkit.generation import PRESETS
from ftkit.training import JUDGED_WINDOWS

__all__ = [
    "TARGET",
    "ClassVerdictRequest",
    "ExampleVerdictRequest",
    "Request",
    "TextSource",
    "VerdictRequest",
    "VerdictTexts",
    "check_inputs",
    "check_options",
    "read_classes",
    "read_split",
    "read_texts",
    "request_of",
]

TARGET = "text"
"""Class of the target in the judges."""
_OTHER = "other"
"""Class of the general text."""
READINGS = ("auto", "text", "tokens")
"""How special tokens in the texts are read."""
DTYPES = ("float32", "bfloat16", "float16", "auto")
"""In which numbers models are judged."""


TextSource = str | os.PathLike[str] | Sequence[str]
"""A source of text as ``load_corpus`` takes it, or texts."""


@dataclass(frozen=True)
class VerdictRequest:
    """What to judge, and against what."""

    base: str
    """Model that the tuned one started from: a folder or a Hub id."""
    tuned: str
    """Model to judge; an adapter's folder too."""
    text: TextSource
    """What it was trained on."""
    heldout: TextSource | None = None
    """Text of the same kind that it never saw; ``None`` takes the last tenth of ``text``."""
    general: TextSource | None = None
    """Other real text, for forgetting and for the judges."""
    against: dict[str, str] = field(default_factory=dict)
    """Further sources of text by other hands, for the judges."""
    judge: str | None = None
    """Folder of an encoder that becomes the second judge: one that knows the classes, or any to fine-tune."""
    revision: str | None = None
    """Of the base, where it is a Hub id."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    encoding: str = "utf-8"
    special_tokens: str = "auto"
    """How special tokens in the texts are read: ``text``, ``tokens`` or ``auto`` (see ``fix_special_tokens``)."""
    window_tokens: int = 256
    """Tokens in a window of evaluation, at most the models' positions."""
    eval_windows: int = JUDGED_WINDOWS
    """Windows of each text that are evaluated at most."""
    passage_chars: int = 400
    num_passages: int | None = None
    """``None``: 96, then 192 and 384 where the verdict is not decided."""
    sampling: str = "plain"
    seed: int = 42
    judge_max_steps: int = 150
    judge_learning_rate: float = 5e-5
    judge_batch_size: int = 16
    judge_tokens: int = 128
    """Tokens of a passage that the encoder reads, at most its positions."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Numbers of ``Thresholds`` that are set otherwise."""
    passages_seed: int | None = None
    """Draws the passages that are measured; ``None`` takes ``seed``, which also trains the judges."""
    reference: str | None = None
    """Language model that reads the passages, to say whether they are language; ``None`` takes the base, where it reads
    well enough."""
    dtype: str = "float32"
    """Of the models: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the one that the base is stored in."""
    train_windows: int | None = None
    """Windows of the training text that are evaluated; ``None`` takes as many as of the held-out text."""
    canaries: TextSource | None = None
    """Short texts, one on each line of a file, of which is asked whether the tuned model knows them."""
    prompts: TextSource | None = None
    """Prompts, one on each line of a file, that base and tuned model continue, to be read side by side."""


@dataclass(frozen=True)
class VerdictTexts:
    """What is read before any model is."""

    train: list[str]
    heldout: list[str]
    general: list[str]
    others: dict[str, list[str]]
    """Text for the judges by class, without the target's and the base's."""
    assumptions: tuple[str, ...]
    canaries: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    @property
    def known(self) -> list[str]:
        """All real text."""
        return [
            *self.train,
            *self.heldout,
            *self.general,
            *(piece for group in self.others.values() for piece in group),
        ]


def _pieces(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents]


def read_texts(request: VerdictRequest) -> VerdictTexts:
    """Read the texts of a request.

    Args:
        request: The request.

    Raises:
        DataError: Text that cannot be read.
    """

    def load(source: TextSource, name: str) -> Corpus:
        if isinstance(source, str | os.PathLike):
            learned = name == TARGET  # of the others nothing is learned, so they may be short
            return load_corpus(os.fspath(source), name=name, encoding=request.encoding, warn_short=learned)
        return corpus_of(source, name)

    text = load(request.text, TARGET)
    assumptions = []
    if request.heldout is not None:
        train, heldout = _pieces(text), _pieces(load(request.heldout, "heldout"))
    else:
        split = split_corpus(text, policy="tail", heldout_share=0.1)
        train, heldout = list(split.train_documents), list(split.heldout_documents)
        assumptions.append(
            "no held-out text was given, so the last tenth of the text is used; this is valid only if the model was "
            "not trained on that part"
        )
    general = _pieces(load(request.general, "general")) if request.general is not None else []
    others = {_OTHER: general} if general else {}
    others |= {name: _pieces(load(source, name)) for name, source in request.against.items()}
    canaries, prompts = (_lines(request, name) for name in ("canaries", "prompts"))
    return VerdictTexts(train, heldout, general, others, tuple(assumptions), canaries, prompts)


def _lines(request: VerdictRequest, name: str) -> tuple[str, ...]:
    """Texts, or the lines of a file that are not blank."""
    source: TextSource | None = getattr(request, name)
    if source is None:
        return ()
    lines = source if not isinstance(source, str | os.PathLike) else [
        text for _, text in read_lines(os.fspath(source), request.encoding)
    ]  # fmt: skip
    if not (found := tuple(line.strip() for line in lines if line.strip())):
        raise DataError(f"{name}: there is no text; give at least one, each on a line of its own")
    return found


def check_options(request: VerdictRequest) -> Thresholds:
    """Refuse names that do not exist; returns the thresholds."""
    if request.sampling not in PRESETS:
        raise ConfigError(f"unknown sampling {request.sampling!r}{nearest_name(request.sampling, PRESETS)}")
    if request.special_tokens not in READINGS:
        raise ConfigError(
            f"unknown special_tokens {request.special_tokens!r}{nearest_name(request.special_tokens, READINGS)}"
        )
    if request.dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {request.dtype!r}{nearest_name(request.dtype, DTYPES)}")
    if taken := {TARGET, _OTHER, BASE, *CORRUPTED} & set(request.against):
        raise ConfigError(f"against: {sorted(taken)[0]!r} is a name that ftkit uses itself; choose another")
    return Thresholds.set(request.thresholds)


ExampleSourceLike = str | Sequence[Mapping[str, Any]]
"""A source of examples as ``load_examples`` takes it, or rows."""


@dataclass(frozen=True)
class ExampleVerdictRequest:
    """What to judge, and against what."""

    base: str
    """Model that the tuned one started from: a folder or a Hub id."""
    tuned: str
    """Model to judge; an adapter's folder too."""
    examples: ExampleSourceLike
    """What it was trained on."""
    heldout_examples: ExampleSourceLike | None = None
    """Examples that it never saw; ``None`` takes a tenth of ``examples``, which is valid only if it never saw these."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of the examples; none: recognized."""
    template: str | None = None
    """Name of a template; ``None`` takes the one that was saved with the tuned model, else ``plain``."""
    chat_template: str | None = None
    """File with a template, instead of a name."""
    loss_on: LossOn = "completions"
    also: Mapping[str, str] = field(default_factory=dict)
    """Other examples by name, for forgetting."""
    general: str | None = None
    """Other real text, for forgetting."""
    answer_pattern: str | None = None
    """Regular expression whose first group is the answer in a completion."""
    num_answers: int | None = None
    """Held-out prompts that are answered; ``None``: 50, then 100 and 200 where the verdict is not decided."""
    few_shot: int = 4
    """Training examples in the base's prompt; 0 leaves this out."""
    judge_style: bool = False
    """Judge the style of the answers too: for rewrites, whose completions all have one style."""
    window_tokens: int = 1024
    """Longest example in tokens, at most the models' positions."""
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    seed: int = 42
    thresholds: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def of_models(self) -> VerdictRequest:
        """The part that says which models are loaded, and how."""
        return VerdictRequest(
            self.base, self.tuned, "", revision=self.revision, trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle, dtype=self.dtype,
        )  # fmt: skip


@dataclass(frozen=True)
class ClassVerdictRequest:
    """What to judge."""

    base: str
    """Model that the classifiers started from: a folder or a Hub id."""
    labelled: str
    """Texts with classes that they were trained on, as ``load_labelled`` takes them."""
    labelled_test: str | None = None
    """Texts with classes that they never saw; there is no verdict without them."""
    window_tokens: int = 256
    """Longer texts are cut here; at most the models' positions."""
    revision: str | None = None
    """Of the base, where it is a Hub id."""
    trust_remote_code: bool = False
    allow_pickle: bool = False
    encoding: str = "utf-8"
    seed: int = 42

    @property
    def reading(self) -> dict[str, Any]:
        """How models are read."""
        return {"trust_remote_code": self.trust_remote_code, "allow_pickle": self.allow_pickle}


def read_classes(request: ClassVerdictRequest) -> tuple[LabelledTexts, LabelledTexts]:
    """Texts that a classifier was trained on, and those that it never saw.

    Raises:
        ConfigError: No texts to test on.
        DataError: Texts that cannot be read, or other classes among those of the test.
    """
    if request.labelled_test is None:
        raise ConfigError(
            f"labelled_test: texts with classes that the classifier never saw are missing beside {request.labelled}; "
            "nothing in the folder of a model says which texts were held out, so name them"
        )
    train = load_labelled(request.labelled, encoding=request.encoding)
    return train, load_labelled(request.labelled_test, encoding=request.encoding, classes=train.classes)


def read_split(request: ExampleVerdictRequest) -> tuple[ExampleSplit, list[str]]:
    """Examples on both sides, and what had to be assumed. Examples that are on both sides stay: they are counted.

    Raises:
        DataError: Examples that cannot be read.
    """
    columns = dict(request.columns) or None
    examples = read_examples(request.examples, columns).examples
    if request.heldout_examples is not None:
        return ExampleSplit(examples, read_examples(request.heldout_examples, columns).examples), []
    assumed = (
        "no held-out examples were given, so a tenth of the examples is used; this is valid only if the model was not "
        "trained on these"
    )
    return split_examples(examples, seed=request.seed), [assumed]


Request = VerdictRequest | ExampleVerdictRequest | ClassVerdictRequest
_KINDS: Mapping[str, type[Request]] = {
    "text": VerdictRequest, "examples": ExampleVerdictRequest, "labelled": ClassVerdictRequest,
}  # fmt: skip
"""What a verdict can be asked about, by the option that names the data."""


def _defaults(request: type[Request]) -> dict[str, Any]:
    """What each option of a request is where nobody sets it."""
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(request)
    }


def request_of(base: str, tuned: str, sources: Mapping[str, Any], options: Mapping[str, Any]) -> Request:
    """The request for one kind of data.

    Args:
        base: Model that the tuned one started from.
        tuned: Model to judge, the first of several.
        sources: Data by kind: ``text``, ``examples`` or ``labelled``; all but one are ``None``.
        options: By name; those that are as in ``VerdictRequest`` by default count as not given.

    Raises:
        ConfigError: No data, data of several kinds, an option that does not exist, or one of another kind.
    """
    given = {kind: source for kind, source in sources.items() if source is not None}
    if len(given) != 1:
        raise ConfigError(
            "a verdict takes one of text, examples (prompts with completions) and labelled (texts with classes), and "
            f"{' and '.join(given) or 'none'} {'were' if given else 'was'} given; give what the model was trained on"
        )
    ((kind, source),) = given.items()
    known = {each: _defaults(request) for each, request in _KINDS.items()}
    usual = known["labelled"] | known["examples"] | known["text"]
    chosen = {name: value for name, value in options.items() if name not in usual or value != usual[name]}
    for name in chosen:
        owners = [each for each, names in known.items() if name in names]
        if not owners:
            raise ConfigError(f"unknown option {name!r} of a verdict{nearest_name(name, usual)}")
        if kind not in owners:
            raise ConfigError(f"{name}: has no effect with {kind}, it goes with {' and '.join(owners)}; leave it out")
    values: dict[str, Any] = {"base": base, "tuned": tuned, kind: source, **chosen}
    return _KINDS[kind](**{name: value for name, value in values.items() if name in known[kind]})


def check_inputs(
    text: TextSource | None = None, *, examples: Any = None, labelled: str | None = None, **options: Any
) -> None:
    """Read the data and check the options of a verdict before the training whose model it will judge.

    Args:
        text: As in ``verdict``.
        examples: As in ``verdict``.
        labelled: As in ``verdict``.
        **options: As in ``verdict``, without models and tokenizer.

    Raises:
        DataError: Data that cannot be read.
        ConfigError: An option or a threshold that does not exist, or that goes with other data.
    """
    given = {name: value for name, value in options.items() if value is not None}
    request = request_of("base", "tuned", {"text": text, "examples": examples, "labelled": labelled}, given)
    if isinstance(request, VerdictRequest):
        check_options(request)
        read_texts(request)
    elif isinstance(request, ExampleVerdictRequest):
        read_split(request)
    else:
        read_classes(request)
