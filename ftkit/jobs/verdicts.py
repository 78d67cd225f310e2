"""A verdict on models that ftkit did not train: base and tuned model from anywhere, text, and the same rules.

text (train) ---------- copying, judge ----------.
text kept out --------- gain, ceiling -----------+-> evidence -> verdict -> report
general text ---------- forgetting, other class -'
base, tuned ----------- passages, movement -----'
"""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftkit.config import TrainingSettings
from ftkit.data import (
    Corpus,
    Masking,
    TokenStore,
    corpus_of,
    fix_special_tokens,
    load_corpus,
    load_tokenizer,
    split_corpus,
    tokenize_texts,
    tokenizer_fingerprint,
)
from ftkit.errors import ConfigError, DataError, FtkitError, ModelError, nearest_name
from ftkit.evidence import (
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    JudgeTexts,
    Panel,
    PassageWriter,
    Reference,
    Thresholds,
    Verdict,
    Written,
    as_evidence,
    build_judges,
    check_heldout,
    cut_passages,
    decide,
    gather_evidence,
    keep_blocks,
    looks_up_to,
    spread_evenly,
)
from ftkit.evidence.judges import CORRUPTED
from ftkit.generation import PRESETS
from ftkit.jobs.cache import cached_passages, cached_run
from ftkit.jobs.targets import MOST_JUDGED
from ftkit.models import (
    base_or_beneath,
    check_vocabulary,
    contains_base,
    is_adapter,
    load_model,
    task_of,
    usable_positions,
)
from ftkit.models.families import architecture_of, differing
from ftkit.models.meta_models import known_positions
from ftkit.models.trust import is_adapter_folder
from ftkit.report import verdict_lines, write_report, write_verdicts
from ftkit.runs import RunFolder, write_evidence
from ftkit.runs.files import write_atomically
from ftkit.tuning import MIN_CORRELATION, median_correlation

__all__ = ["Judged", "TemporaryFolder", "TextSource", "VerdictRequest", "check_inputs", "judge_models", "verdict"]

_TARGET = "text"
READINGS = ("auto", "text", "tokens")
"""How special tokens in the texts are read."""
DTYPES = ("float32", "bfloat16", "float16", "auto")
"""In which numbers models are judged."""
_MAY_CHANGE = ("vocab_size", "tie_word_embeddings")
"""What tuning may change of an architecture: tokens are added, and a merged model is often saved with two matrices."""
_MOST_PASSAGES = 2000
"""Passages of a class that a judge learns at most; more teach it nothing new."""


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
    eval_windows: int = 256
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


class TemporaryFolder:
    """A folder that is removed when nothing refers to this object any more.

    Args:
        prefix: Beginning of its name.
    """

    def __init__(self, prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class Judged:
    """What came out."""

    verdict: Verdict
    evidence: Evidence
    judges: dict[str, Any]
    """The judges' gates."""
    next: list[str]
    """What to do next."""
    folder: Path
    """Where ``evidence.json``, ``verdict.json`` and what the report needs are."""
    kept: TemporaryFolder | None = field(default=None, repr=False, compare=False)
    """Keeps a temporary ``folder``."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        evidence = {**self.evidence.as_dict(), "judges": self.judges}
        return {**self.verdict.as_dict(), "next": self.next, "evidence": evidence}

    def __str__(self) -> str:
        """What ``ftkit verdict`` prints."""
        return "\n".join(verdict_lines(self.verdict.as_dict()))

    def print(self) -> None:
        """Print the verdict, its reasons and the numbers that decided."""
        print(self)

    def _repr_html_(self) -> str:
        """In a notebook: verdict and measurements."""
        return self.verdict._repr_html_() + self.evidence._repr_html_()

    def save_report(self, path: str | Path) -> Path:
        """Write the report, one file that needs nothing else.

        Args:
            path: Where, such as ``verdict.html``.
        """
        manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        page = write_report(RunFolder(self.folder, "verdict", manifest, is_main=True))
        write_atomically(Path(path), page.read_text(encoding="utf-8"))
        return Path(path)


@dataclass(frozen=True)
class _Texts:
    """What is read before any model is."""

    train: list[str]
    heldout: list[str]
    general: list[str]
    others: dict[str, list[str]]
    """Text for the judges by class, without the target's and the base's."""
    assumptions: tuple[str, ...]

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


def _read_texts(request: VerdictRequest) -> _Texts:
    def load(source: TextSource, name: str) -> Corpus:
        if isinstance(source, str | os.PathLike):
            return load_corpus(os.fspath(source), name=name, encoding=request.encoding)
        return corpus_of(source, name)

    text = load(request.text, _TARGET)
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
    others = {"other": general} if general else {}
    others |= {name: _pieces(load(source, name)) for name, source in request.against.items()}
    return _Texts(train, heldout, general, others, tuple(assumptions))


@dataclass(frozen=True)
class _Side:
    """One of the two models, with its own tokenizer."""

    tokenizer: PreTrainedTokenizerFast
    tuned: PreTrainedModel | None = None
    """Of the base: the tuned model that contains it; ``None`` where the base was loaded by itself."""
    own: PreTrainedModel | None = None
    """A model of its own."""

    @contextmanager
    def model(self) -> Iterator[PreTrainedModel]:
        """The model, as long as the context lasts."""
        if self.own is not None:
            yield self.own
            return
        assert self.tuned is not None
        with base_or_beneath(None, self.tuned) as base:
            yield base

    def tokens(self, texts: Sequence[str]) -> TokenStore:
        """Texts in this model's tokens."""
        return tokenize_texts(texts, self.tokenizer)

    @property
    def positions(self) -> int | None:
        """Longest context, without what an adapter takes."""
        with self.model() as model:
            return usable_positions(model)


def _load_sides(request: VerdictRequest, task: str) -> tuple[_Side, _Side, list[str]]:
    """Base and tuned model with their tokenizers, and what had to be assumed; one model where an adapter allows it."""
    options: dict[str, Any] = {
        "task": task, "trust_remote_code": request.trust_remote_code, "allow_pickle": request.allow_pickle,
        "dtype": request.dtype,
    }  # fmt: skip
    of_base = request.revision if is_adapter_folder(request.tuned) else None
    tuned: Any = load_model(request.tuned, adapter_base=request.base, revision=of_base, **options)
    assumed = []
    if tuned.dtype != torch.float32:
        assumed.append(f"the models were judged in {str(tuned.dtype).removeprefix('torch.')}")
    code: Any = {"trust_remote_code": request.trust_remote_code}
    tokenizer = load_tokenizer(request.base, revision=request.revision, **code)
    if contains_base(tuned):
        base = _Side(tokenizer, tuned)
    else:
        loaded = load_model(request.base, revision=request.revision, **options)
        _check_same_start(request, loaded, tuned)
        base = _Side(tokenizer, own=loaded)
    try:
        tokenizer = load_tokenizer(request.tuned, adapter_base=request.base, revision=of_base, **code)
    except FtkitError as error:
        assumed.append(f"the tuned model has no tokenizer that can be read, so the base's was used ({error})")
    sides = base, _Side(tokenizer, own=tuned)
    for side, name in zip(sides, (request.base, request.tuned), strict=True):
        try:
            with side.model() as model:
                check_vocabulary(model, side.tokenizer)
        except FtkitError as error:
            raise ModelError(f"{name}: {error}") from None
    return *sides, assumed


def _check_same_start(request: VerdictRequest, base: PreTrainedModel, tuned: Any) -> None:
    """Refuse a base of another shape, and one of the same shape whose weights are others."""
    inner = tuned.get_base_model() if is_adapter(tuned) else tuned
    architectures = [architecture_of(model.config) for model in (base, inner)]
    if other := differing(*({k: v for k, v in a.items() if k not in _MAY_CHANGE} for a in architectures)):
        raise ModelError(f"{request.tuned} did not start from {request.base}: they differ in {other}; name its base")
    if not is_adapter(tuned) and (found := median_correlation(base, tuned)) is not None and found < MIN_CORRELATION:
        raise ModelError(
            f"{request.tuned} did not start from {request.base}: their weights have one shape and size and are not "
            f"correlated (median over the matrices {found:.3f}, below {MIN_CORRELATION}); name its base"
        )


def _writers(request: VerdictRequest, texts: _Texts, base: _Side, tuned: _Side) -> dict[str, PassageWriter]:
    """Who lets each model write, after the same words."""
    sampling = PRESETS[request.sampling]
    writers = {}
    for name, side in (("base", base), ("tuned", tuned)):
        store = side.tokens(texts.heldout)
        writer = PassageWriter.after(store, texts.heldout, texts.train, request.passage_chars, sampling)
        with side.model() as model:
            writers[name] = writer.fitted(model)
    words = min(writer.prompt_words for writer in writers.values())
    return {name: replace(writer, prompt_words=words) for name, writer in writers.items()}


def _reference(request: VerdictRequest) -> Reference | None:
    """The language model that reads the passages, where one was given."""
    if request.reference is None:
        return None
    model = load_model(
        request.reference, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle
    )
    tokenizer = load_tokenizer(request.reference, trust_remote_code=request.trust_remote_code)
    return Reference(request.reference, model, tokenizer)


def _check_options(request: VerdictRequest) -> Thresholds:
    """Refuse names that do not exist; returns the thresholds."""
    if request.sampling not in PRESETS:
        raise ConfigError(f"unknown sampling {request.sampling!r}{nearest_name(request.sampling, PRESETS)}")
    if request.special_tokens not in READINGS:
        raise ConfigError(
            f"unknown special_tokens {request.special_tokens!r}{nearest_name(request.special_tokens, READINGS)}"
        )
    if request.dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {request.dtype!r}{nearest_name(request.dtype, DTYPES)}")
    return Thresholds.set(request.thresholds)


def check_inputs(text: TextSource, **options: Any) -> None:
    """Read the texts and check the options of a verdict that will be asked for later.

    Args:
        text: As in ``verdict``.
        **options: As in ``verdict``, without models and tokenizer.

    Raises:
        DataError: Text that cannot be read.
        ConfigError: An option or a threshold that does not exist.
    """
    known = [each.name for each in fields(VerdictRequest)]
    for name in options:
        if name not in known:
            raise ConfigError(f"unknown option {name!r} of a verdict{nearest_name(name, known)}")
    given = {name: value for name, value in options.items() if value is not None}
    request = VerdictRequest("base", "tuned", text, **given)
    _check_options(request)
    _read_texts(request)


def judge_models(request: VerdictRequest, folder: Path) -> Judged:
    """Measure a tuned model beside its base and decide.

    Args:
        request: What to judge.
        folder: Where ``evidence.json``, ``verdict.json`` and what the report needs are written.

    Raises:
        DataError: Text that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, or that did not start from the base.
    """
    limits = _check_options(request)
    if request.reference is not None:  # what is missing is said before anything is written
        task_of(request.reference, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle)
    texts = _read_texts(request)
    task = task_of(
        request.base, request.revision, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle
    )
    base, tuned, assumed = _load_sides(request, task)
    fix_special_tokens(request.special_tokens, [*texts.train, *texts.heldout], base.tokenizer, tuned.tokenizer)
    masking = Masking(base.tokenizer) if task == "masked-lm" else None
    window = min([request.window_tokens, *(n for n in (base.positions, tuned.positions) if n)])
    heldout = base.tokens(texts.heldout)
    same_tokens = tokenizer_fingerprint(base.tokenizer) == tokenizer_fingerprint(tuned.tokenizer)
    writers = {} if masking else _writers(request, texts, base, tuned)
    real = writers["base"].real_passages(texts.heldout) if writers else []
    check_heldout("the held-out text", heldout, window, real if writers else None)
    panel, kept = Panel([], {}), keep_blocks()
    if writers:
        count = 3 * min(request.num_passages or MOST_JUDGED, MOST_JUDGED)
        with base.model() as model:
            further = cached_passages(writers["base"], model, count, request.seed + 1)
        panel = _seat(request, _judge_texts(request, texts, real, [*further.heldout, *further.training]))

    def written_by_both(count: int) -> tuple[Written, Written]:
        if not writers:
            return Written(), Written()
        seed = request.seed if request.passages_seed is None else request.passages_seed
        with base.model() as model:
            before = cached_passages(writers["base"], model, count, seed)
        with tuned.model() as model:
            return before, writers["tuned"].write(model, count, seed, kept)

    def write(count: int, level: float) -> dict[str, Any]:
        before, after = written_by_both(count)
        written = ComparedPassages(before.heldout, after.heldout, real, before.training, after.training)
        styles = panel.score(_TARGET, written.base, written.tuned, real, level) if writers else ()
        return {"passages": written, "styles": styles}

    compared = ComparedTexts(
        heldout=heldout,
        train_texts=texts.train,
        known_texts=texts.known,
        general=base.tokens(texts.general) if texts.general else None,
        general_name="general text",
        train=base.tokens(texts.train) if same_tokens else None,
        tuned_heldout=None if same_tokens else tuned.tokens(texts.heldout),
        tuned_general=None if same_tokens or not texts.general else tuned.tokens(texts.general),
        heldout_texts=frozenset(texts.heldout),
    )
    assert tuned.own is not None
    evidence = gather_evidence(
        Comparison(
            base.own, tuned.own, compared, ComparedPassages(), window, masking=masking,
            max_windows=request.eval_windows, assumptions=(*texts.assumptions, *assumed),
            reference=_reference(request), write=write,
        ),
        limits,
        looks_up_to(request.num_passages),
    )  # fmt: skip
    before, after = written_by_both(evidence.passages)
    verdict, judges = decide(evidence, limits), panel.as_dict()
    passages = as_evidence({"base model": before, "tuned": after})
    measured = {"models": {"tuned": evidence.as_dict()}, "judges": judges, "real": {"tuned": real}, **passages}
    steps = _write(folder, request, measured, verdict)
    return Judged(verdict, evidence, judges, steps, folder)


def verdict(
    base: str | os.PathLike[str] | PreTrainedModel,
    tuned: str | os.PathLike[str] | PreTrainedModel,
    text: TextSource,
    *,
    heldout: TextSource | None = None,
    general: TextSource | None = None,
    against: dict[str, str] | None = None,
    judge: str | None = None,
    reference: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_passages: int | None = None,
    passage_chars: int = 400,
    window_tokens: int = 256,
    eval_windows: int = 256,
    sampling: str = "plain",
    seed: int = 42,
    thresholds: dict[str, float] | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    encoding: str = "utf-8",
    special_tokens: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Judged:
    """Judge a model that was fine-tuned with any tool, as ``ftkit verdict`` does.

    Args:
        base: Model that the tuned one started from: folder, Hub id or loaded model.
        tuned: Model to judge, an adapter too: folder, Hub id or loaded model.
        text: What it was trained on: a source as ``load_corpus`` takes it, or a list of texts.
        heldout: Text of the same kind that it never saw; ``None`` takes the last tenth of ``text``.
        general: Other real text, for forgetting and for the judges.
        against: Further sources of text by other authors, by name, for the judges.
        judge: Encoder that becomes a second judge.
        reference: Language model that says whether the passages are language; ``None`` takes the base, where it reads
            well enough.
        tokenizer: Tokenizer of loaded models; ``None`` takes that of ``model.name_or_path``.
        num_passages: Passages of each model that are measured, half of them after words of ``text``; ``None``: 96, then
            192 and 384 where the verdict is not decided.
        passage_chars: Characters in a passage.
        window_tokens: Tokens in a window of evaluation.
        eval_windows: Windows of each text that are evaluated at most.
        sampling: ``plain``, ``focused``, ``creative``, ``top50`` or ``judged``.
        seed: Draws passages and trains judges.
        thresholds: Numbers that decide, by name.
        dtype: Of the models: ``float32``, ``bfloat16``, ``float16`` or ``auto``, the one that the base is stored in.
        revision: Of the base, where it is a Hub id.
        encoding: Encoding of text files.
        special_tokens: How special tokens in the texts are read: ``auto``, ``text`` or ``tokens``.
        trust_remote_code: Whether to run code that a model brings.
        allow_pickle: Whether to read pickled weights (tensors only).

    Returns:
        Verdict and evidence; ``print()``, ``save_report(path)``, and a table in a notebook.

    Raises:
        DataError: Text that cannot be read, or that is too short.
        ModelError: A model that cannot be loaded, or that did not start from the base.
    """
    kept = TemporaryFolder("ftkit-verdict-")
    folder = kept.path
    sides = [
        os.fspath(side) if isinstance(side, str | os.PathLike) else _saved(side, folder / name, tokenizer)
        for name, side in (("base", base), ("tuned", tuned))
    ]
    request = VerdictRequest(
        sides[0], sides[1], text, heldout, general, against or {}, judge, revision, trust_remote_code, allow_pickle,
        encoding, special_tokens, window_tokens, eval_windows, passage_chars, num_passages, sampling, seed,
        thresholds=thresholds or {}, reference=reference, dtype=dtype,
    )  # fmt: skip
    return replace(judge_models(request, folder), kept=kept)


def _saved(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """The folder of a loaded model: what is judged is what others would load."""
    if not is_adapter(model) and any(".base_layer." in name for name, _ in model.named_parameters()):
        raise ModelError(f"{folder.name}: an adapter was put into this model object; give the model's folder or Hub id")
    if tokenizer is None:
        if not model.name_or_path:
            raise ModelError(f"{folder.name}: the loaded model names no tokenizer; give tokenizer=")
        tokenizer = load_tokenizer(model.name_or_path)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _judge_texts(request: VerdictRequest, texts: _Texts, real: list[str], taught: list[str]) -> JudgeTexts:
    """Passages of every class, no passage on both sides."""
    n = len(taught) // 3
    target = spread_evenly(cut_passages(texts.train, request.passage_chars), _MOST_PASSAGES)
    train = {_TARGET: target, "base model": taught[n:]}
    heldout = {_TARGET: real, "base model": taught[:n]}
    for name, pieces in texts.others.items():
        cut = spread_evenly(cut_passages(pieces, request.passage_chars), _MOST_PASSAGES)
        if len(cut) < 2:
            raise DataError(f"{name}: has {len(cut)} passages of {request.passage_chars} characters; give more text")
        train[name], heldout[name] = cut[: len(cut) // 2], cut[len(cut) // 2 :]
    return JudgeTexts(train, heldout)


@dataclass(frozen=True)
class _JudgeSettings:
    """Settings of the encoder."""

    judge_model: str
    judge_tokens: int
    seed: int
    training: TrainingSettings
    judge_seeds: int = 1
    save_total_limit: int = 1

    def judge_settings(self) -> TrainingSettings:
        """What the judge is trained with."""
        return self.training


def _seat(request: VerdictRequest, texts: JudgeTexts) -> Panel:
    """The simple judge, and beside it the encoder where one was given; a fine-tuned one is kept in the cache."""
    if request.judge is None:
        return build_judges(texts, [_TARGET], request.seed)
    training = TrainingSettings(
        model=request.judge, max_steps=request.judge_max_steps, learning_rate=request.judge_learning_rate,
        warmup_steps=0.1, per_device_train_batch_size=request.judge_batch_size, max_grad_norm=1.0,
        lr_scheduler_type="linear", seed=request.seed, save_steps=0,
    )  # fmt: skip
    tokens = min(request.judge_tokens, known_positions(request.judge) or request.judge_tokens)
    settings = _JudgeSettings(request.judge, tokens, request.seed, training)
    with cached_run("judges", [CORRUPTED, training.model_dump(mode="json"), tokens, asdict(texts)]) as run:
        return build_judges(texts, [_TARGET], request.seed, settings, run)


def _write(folder: Path, request: VerdictRequest, measured: dict[str, Any], verdict: Verdict) -> list[str]:
    """Write the files that a report is made from; returns what to do next."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, "verdict", {"phases": {}, "data": {}, "status": "done"}, is_main=True)
    write_evidence(run, measured)
    described = asdict(request)
    for name in ("text", "heldout", "general"):
        given = getattr(request, name)
        if isinstance(given, os.PathLike):
            described[name] = os.fspath(given)
        elif not isinstance(given, str | None):
            described[name] = f"{len(given):,} texts in memory"
    run.update_manifest(request=described)
    steps: list[str] = write_verdicts(run, {"tuned": verdict.as_dict()})["tuned"]["next"]
    return steps
