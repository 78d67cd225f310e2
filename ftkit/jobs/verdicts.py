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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, overload

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import TrainingSettings
from ftkit.data import Masking, TokenStore, fix_special_tokens, load_tokenizer, tokenize_each, tokenizer_fingerprint
from ftkit.display.tables import plain_table
from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.evidence import (
    ClassifierScores,
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    JudgeTexts,
    Panel,
    PassageWriter,
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
from ftkit.evidence.judges import CORRUPTED, MOST_TRAINING
from ftkit.generation import PRESETS
from ftkit.jobs.cache import cached_passages, cached_run
from ftkit.jobs.judged_models import ModelSide, load_reference, load_sides
from ftkit.jobs.lengths import judged_window
from ftkit.jobs.targets import MOST_JUDGED
from ftkit.jobs.verdict_requests import (
    TARGET,
    ExampleVerdictRequest,
    Request,
    TextSource,
    VerdictRequest,
    VerdictTexts,
    check_inputs,
    check_options,
    read_texts,
    request_of,
)
from ftkit.models import is_adapter, task_of
from ftkit.models.meta_models import known_positions
from ftkit.report import verdict_lines, verdict_row, write_report, write_verdicts
from ftkit.report.gate import Gate
from ftkit.report.several import short_name
from ftkit.runs import RunFolder, write_evidence
from ftkit.runs.files import write_atomically
from ftkit.runs.models import model_of_run
from ftkit.training import JUDGED_WINDOWS, HeldOutTexts

__all__ = [
    "Judged",
    "SeveralJudged",
    "TemporaryFolder",
    "TextSource",
    "VerdictRequest",
    "check_inputs",
    "judge_models",
    "judge_request",
    "judge_several",
    "verdict",
    "write_judged",
]

_GENERAL = "general text"
"""What verdicts call the general text."""


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
    evidence: Evidence | ClassifierScores
    """Of a classifier its scores on the test texts."""
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

    def holds(self, require: str | None = None, fail_on: str | None = None) -> bool:
        """Whether ``ftkit verdict`` with these options would leave with 0.

        Args:
            require: Main words, separated by commas, one of which must come: ``worked``.
            fail_on: Words that must not come, as main word or beside it: ``broken,copied,forgot``.
        """
        return all(Gate.of(require, fail_on).conditions(self.verdict.as_dict()).values())

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
class SeveralJudged:
    """What came out of several models that were tuned from one base."""

    models: dict[str, Judged]
    rows: Mapping[str, Mapping[str, Any]]
    """Row of each model in the table that compares them."""
    folder: Path
    """Where ``evidence.json``, ``verdict.json`` and what the report needs are."""

    def given(self, several: bool, kept: TemporaryFolder) -> "Judged | SeveralJudged":
        """What a caller gets who gave one model or several: each result keeps a temporary ``folder`` while it lives.

        Args:
            several: Whether several models were asked for.
            kept: The folder.
        """
        models = {name: replace(each, kept=kept) for name, each in self.models.items()}
        return replace(self, models=models) if several else next(iter(models.values()))

    def print(self) -> None:
        """Print each verdict, then one table."""
        print(self)

    def _repr_html_(self) -> str:
        """In a notebook: verdict and measurements of each model."""
        return "".join(f"<h3>{escape(name)}</h3>{each._repr_html_()}" for name, each in self.models.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"models": {name: judged.as_dict() for name, judged in self.models.items()}}

    def __str__(self) -> str:
        """What ``ftkit verdict`` prints: each verdict, then one table."""
        heads = ["model", *next(iter(self.rows.values()))]
        cells = [[name, *(cell["text"] for cell in row.values())] for name, row in self.rows.items()]
        verdicts = [f"{name}: {each}" for name, each in self.models.items()]
        return "\n\n".join([*verdicts, "\n".join(plain_table(heads, cells))])

    def save_report(self, path: str | Path) -> Path:
        """Write one report of all models, one file that needs nothing else.

        Args:
            path: Where, such as ``verdict.html``.
        """
        return next(iter(self.models.values())).save_report(path)


@dataclass(frozen=True)
class _Shared:
    """What texts and base give once, for every model that is judged against this base."""

    heldout: TokenStore
    general: TokenStore | None
    train: TokenStore
    special_tokens: str
    """How they were read."""
    window: int
    writer: PassageWriter | None
    """The base's; ``None`` for an encoder."""
    real: list[str]
    panel: Panel
    base_losses: dict[Any, Any] = field(default_factory=dict)

    def check_same(self, tuned: str, special_tokens: str, window: int, writer: PassageWriter | None) -> None:
        """Refuse a model that would be measured on other tokens, windows or prompts than the ones before it.

        Raises:
            ModelError: Such a model.
        """
        words = [each and each.prompt_words for each in (self.writer, writer)]
        for what, setting, before, now in (
            ("special tokens as", "special_tokens", self.special_tokens, special_tokens),
            ("windows of tokens:", "window_tokens", self.window, window),
            ("prompts of words:", "passage_chars", *words),
        ):
            if before != now:
                raise ModelError(
                    f"{tuned}: would be measured on {what} {now}, the models before it on {before}, so their numbers "
                    f"would not compare; set {setting} to a value that all take, or judge it by itself"
                )


@dataclass(frozen=True)
class _Measured:
    """What was measured of one model."""

    evidence: Evidence
    base: Written
    tuned: Written


class _Bench:
    """Measures models that were tuned from one base; the base is measured once.

    Args:
        request: The base, the texts and the options.
    """

    def __init__(self, request: VerdictRequest) -> None:
        self.request, self.limits = request, check_options(request)
        options: Any = {"trust_remote_code": request.trust_remote_code, "allow_pickle": request.allow_pickle}
        if request.reference is not None:  # what is missing is said before anything is written
            task_of(request.reference, **options)
        self.texts = read_texts(request)
        self.task = task_of(request.base, request.revision, **options)
        self._base: PreTrainedModel | None = None
        self._shared: _Shared | None = None

    @property
    def shared(self) -> _Shared:
        """What was measured of the base; there after the first model."""
        assert self._shared is not None
        return self._shared

    def measure(self, tuned: str) -> _Measured:
        """Measure a model beside the base."""
        request, texts = replace(self.request, tuned=tuned), self.texts
        base, side, assumed = load_sides(request, self.task, self._base)
        self._base = base.own or self._base
        choice = fix_special_tokens(
            request.special_tokens, [*texts.train, *texts.heldout], base.tokenizer, side.tokenizer
        )
        masking = Masking(base.tokenizer) if self.task == "masked-lm" else None
        longest = min([request.window_tokens, *(n for n in (base.positions, side.positions) if n)])
        heldout = base.tokens(texts.heldout).num_tokens
        if (window := judged_window(longest, heldout)) < longest:
            assumed.append(f"held-out text has {heldout:,} tokens, so windows of {window} were taken: 20 are needed")
        writers = {} if masking else _writers(request, texts, base, side)
        if self._shared is None:
            self._shared = _share(request, texts, base, choice.reading, window, writers.get("base"))
        self.shared.check_same(tuned, choice.reading, window, writers.get("base"))
        return self._compared(request, base, side, masking, writers, (*texts.assumptions, *assumed))

    def _compared(
        self, request: VerdictRequest, base: ModelSide, tuned: ModelSide, masking: Masking | None,
        writers: Mapping[str, PassageWriter], assumptions: Sequence[str],
    ) -> _Measured:  # fmt: skip
        shared, texts, kept = self.shared, self.texts, keep_blocks()

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
            written = ComparedPassages(before.heldout, after.heldout, shared.real, before.training, after.training)
            styles = shared.panel.score(TARGET, written.base, written.tuned, shared.real, level) if writers else ()
            return {"passages": written, "styles": styles}

        same_tokens = tokenizer_fingerprint(base.tokenizer) == tokenizer_fingerprint(tuned.tokenizer)
        compared = ComparedTexts(
            heldout=shared.heldout,
            train_texts=texts.train,
            known_texts=texts.known,
            general={} if shared.general is None else {_GENERAL: shared.general},
            train=shared.train if same_tokens else None,
            tuned_heldout=None if same_tokens else tuned.tokens(texts.heldout),
            tuned_general={} if same_tokens or not texts.general else {_GENERAL: tuned.tokens(texts.general)},
            heldout_texts=frozenset(texts.heldout),
            canaries=HeldOutTexts(tokenize_each(texts.canaries, base.tokenizer)) if texts.canaries else None,
            prompts=texts.prompts,
        )
        assert tuned.own is not None
        evidence = gather_evidence(
            Comparison(
                base.own, tuned.own, compared, ComparedPassages(), shared.window, masking=masking,
                max_windows=request.eval_windows, train_windows=request.train_windows, assumptions=assumptions,
                reference=load_reference(request), write=write, base_losses=shared.base_losses,
            ),
            self.limits,
            looks_up_to(request.num_passages),
        )  # fmt: skip
        return _Measured(evidence, *written_by_both(evidence.passages))


def _share(
    request: VerdictRequest, texts: VerdictTexts, base: ModelSide, special_tokens: str, window: int,
    writer: PassageWriter | None,
) -> _Shared:  # fmt: skip
    """Tokens of the texts, real passages, and the judges."""
    heldout = base.tokens(texts.heldout)
    real = writer.real_passages(texts.heldout) if writer else []
    check_heldout("the held-out text", heldout, window, real if writer else None)
    panel = Panel([], {})
    if writer:
        count = 3 * min(request.num_passages or MOST_JUDGED, MOST_JUDGED)
        with base.model() as model:
            further = cached_passages(writer, model, count, request.seed + 1)
        panel = _seat(request, _judge_texts(request, texts, real, [*further.heldout, *further.training]))
    general = base.tokens(texts.general) if texts.general else None
    return _Shared(heldout, general, base.tokens(texts.train), special_tokens, window, writer, real, panel)


def _writers(
    request: VerdictRequest, texts: VerdictTexts, base: ModelSide, tuned: ModelSide
) -> dict[str, PassageWriter]:
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


def judge_models(request: VerdictRequest, folder: Path) -> Judged:
    """Measure a tuned model beside its base and decide.

    Args:
        request: What to judge.
        folder: Where ``evidence.json``, ``verdict.json`` and what the report needs are written.

    Raises:
        DataError: Text that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, or that did not start from the base.
    """
    return judge_several(request, {"tuned": request.tuned}, folder).models["tuned"]


def judge_several(request: VerdictRequest, tuned: Mapping[str, str], folder: Path) -> SeveralJudged:
    """Measure models that were tuned from one base beside it, and decide; the base is measured once.

    Args:
        request: The base, the texts and the options.
        tuned: The models by name: folders or Hub ids.
        folder: As in ``judge_models``.

    Raises:
        DataError: Text that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, that did not start from the base, or that would be measured on other
            tokens, windows or prompts than the ones before it.
    """
    bench = _Bench(request)
    found = {name: bench.measure(model) for name, model in tuned.items()}
    evidence = {name: each.evidence for name, each in found.items()}
    most = max(found.values(), key=lambda each: each.evidence.passages)
    measured = {
        "judges": bench.shared.panel.as_dict(), "real": dict.fromkeys(found, bench.shared.real),
        **as_evidence({"base model": most.base, **{name: each.tuned for name, each in found.items()}}),
    }  # fmt: skip
    described = _described(request) | ({} if len(tuned) == 1 else {"tuned": dict(tuned)})
    return write_judged(folder, described, evidence, measured, bench.limits)


Model = str | os.PathLike[str] | PreTrainedModel
"""A folder, a Hub id or a loaded model."""


@overload
def verdict(base: Model, tuned: Model, text: TextSource | None = None, **options: Any) -> Judged: ...


@overload
def verdict(
    base: Model,
    tuned: list[Any] | tuple[Model, ...] | Mapping[str, Model],
    text: TextSource | None = None,
    **options: Any,
) -> SeveralJudged: ...


def verdict(
    base: Model,
    tuned: Model | list[Any] | tuple[Model, ...] | Mapping[str, Model],
    text: TextSource | None = None,
    *,
    examples: str | Sequence[Mapping[str, Any]] | None = None,
    labelled: str | None = None,
    labelled_test: str | None = None,
    heldout: TextSource | None = None,
    general: TextSource | None = None,
    against: dict[str, str] | None = None,
    judge: str | None = None,
    reference: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_passages: int | None = None,
    passage_chars: int = 400,
    window_tokens: int = 256,
    eval_windows: int = JUDGED_WINDOWS,
    train_windows: int | None = None,
    canaries: TextSource | None = None,
    prompts: TextSource | None = None,
    sampling: str = "plain",
    seed: int = 42,
    thresholds: dict[str, float] | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    encoding: str = "utf-8",
    special_tokens: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    **of_examples: Any,
) -> Judged | SeveralJudged:
    """Judge a model that was fine-tuned with any tool, as ``ftkit verdict`` does.

    Args:
        base: Model that the tuned one started from: folder (that of a run with one model, too), ``base:tales``, Hub id
            or loaded model.
        tuned: Model to judge, an adapter too: folder, GGUF file, Hub id or loaded model. A list or a mapping by name
            judges several, and measures the base once.
        text: What it was trained on: a source as ``load_corpus`` takes it, or a list of texts.
        examples: Instead of ``text``, prompts with completions that it was trained on: a source as ``load_examples``
            takes it, or a list of rows.
        labelled: Instead of ``text``, of a classifier: texts with classes that it was trained on, as ``load_labelled``
            takes them.
        labelled_test: Texts with classes that it never saw.
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
        window_tokens: Tokens in a window of evaluation at most; fewer where the held-out text has less than 20 of them.
        eval_windows: Windows of each text that are evaluated at most.
        train_windows: Windows of the training text that are evaluated; ``None`` takes as many as of held-out text.
        canaries: Short texts, or a file with one on each line, of which is asked whether the tuned model knows them.
        prompts: Prompts, or a file with one on each line, that base and tuned model continue, to be read side by side.
        sampling: ``plain``, ``focused``, ``creative``, ``top50`` or ``judged``.
        seed: Draws passages and trains judges.
        thresholds: Numbers that decide, by name.
        dtype: Of the models: ``float32``, ``bfloat16``, ``float16`` or ``auto``, the one that the base is stored in.
        revision: Of the base, where it is a Hub id.
        encoding: Encoding of text files.
        special_tokens: How special tokens in the texts are read: ``auto``, ``text`` or ``tokens``.
        trust_remote_code: Whether to run code that a model brings.
        allow_pickle: Whether to read pickled weights (tensors only).
        **of_examples: With ``examples``: ``heldout_examples``, ``columns``, ``template``, ``chat_template``,
            ``loss_on``, ``also``, ``answer_pattern``, ``num_answers``, ``few_shot``, ``judge_style``
            (see ``ExampleVerdictRequest``).

    Returns:
        Verdict and evidence; ``print()``, ``save_report(path)``, and a table in a notebook. Of several models an object
        with ``models``, each of which is what it is alone.

    Raises:
        DataError: Text that cannot be read, or that is too short.
        ModelError: A model that cannot be loaded, or that did not start from the base.
    """
    kept = TemporaryFolder("ftkit-verdict-")
    folder = kept.path
    several, asked_for = _named(tuned)
    classifies = labelled is not None  # an encoder without a head may be the base of a classifier
    start, *rest = [
        model_of_run(os.fspath(side), classifier=None if classifies and not number else classifies)
        if isinstance(side, str | os.PathLike)
        else _saved(side, folder / f"side-{number}", tokenizer)
        for number, side in enumerate([base, *asked_for.values()])
    ]
    models = dict(zip(asked_for, rest, strict=True))
    options = {
        "labelled_test": labelled_test, "heldout": heldout, "against": against or {}, "judge": judge,
        "general": general if examples is None else _one_place(general), "reference": reference,
        "num_passages": num_passages, "passage_chars": passage_chars, "window_tokens": window_tokens,
        "eval_windows": eval_windows, "train_windows": train_windows, "canaries": canaries, "prompts": prompts,
        "sampling": sampling, "seed": seed, "thresholds": thresholds or {}, "dtype": dtype, "revision": revision,
        "encoding": encoding, "special_tokens": special_tokens, "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
    }  # fmt: skip
    request = request_of(
        start, rest[0], {"text": text, "examples": examples, "labelled": labelled}, options | of_examples
    )
    return judge_request(request, models, folder).given(several, kept)


def judge_request(request: Request, tuned: Mapping[str, str], folder: Path) -> SeveralJudged:
    """Judge models that were tuned from one base, on whatever the request names.

    Args:
        request: The base, the data and the options.
        tuned: The models by name.
        folder: As in ``judge_models``.
    """
    if isinstance(request, VerdictRequest):
        return judge_several(request, tuned, folder)
    if isinstance(request, ExampleVerdictRequest):
        from ftkit.jobs.example_verdicts import judge_several_examples

        return judge_several_examples(request, tuned, folder)
    from ftkit.jobs.class_verdicts import judge_classifiers

    return judge_classifiers(request, tuned, folder)


def _named(tuned: Any) -> tuple[bool, dict[str, Model]]:
    """Whether several models were given, and all by name: that of a mapping, else the end of a path."""
    if not isinstance(tuned, list | tuple | Mapping):
        return False, {"tuned": tuned}
    if isinstance(tuned, Mapping):
        named = {str(name): model for name, model in tuned.items()}
    else:
        paths = [Path(model) for model in tuned if isinstance(model, str | os.PathLike)]
        if len(set(paths)) < len(paths):
            raise ConfigError(f"tuned: takes different models, found {', '.join(map(str, paths))}")
        named = {
            short_name(Path(model), paths) if isinstance(model, str | os.PathLike) else f"model {number}": model
            for number, model in enumerate(tuned, start=1)
        }
    if not named:
        raise ConfigError("tuned: is empty; give one model or several")
    return True, named


def _one_place(general: TextSource | None) -> str | None:
    """General text of examples, which is a source."""
    if general is None or isinstance(general, str | os.PathLike):
        return None if general is None else os.fspath(general)
    raise ConfigError("general: with examples it is a source of text, such as a file; give also for other examples")


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


def _judge_texts(request: VerdictRequest, texts: VerdictTexts, real: list[str], taught: list[str]) -> JudgeTexts:
    """Passages of every class, no passage on both sides."""
    n = len(taught) // 3
    target = spread_evenly(cut_passages(texts.train, request.passage_chars), MOST_TRAINING)
    train = {TARGET: target, "base model": taught[n:]}
    heldout = {TARGET: real, "base model": taught[:n]}
    for name, pieces in texts.others.items():
        cut = spread_evenly(cut_passages(pieces, request.passage_chars), MOST_TRAINING)
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
        return build_judges(texts, [TARGET], request.seed)
    training = TrainingSettings(
        model=request.judge, max_steps=request.judge_max_steps, learning_rate=request.judge_learning_rate,
        warmup_steps=0.1, per_device_train_batch_size=request.judge_batch_size, max_grad_norm=1.0,
        lr_scheduler_type="linear", seed=request.seed, save_steps=0,
    )  # fmt: skip
    tokens = min(request.judge_tokens, known_positions(request.judge) or request.judge_tokens)
    settings = _JudgeSettings(request.judge, tokens, request.seed, training)
    with cached_run("judges", [CORRUPTED, training.model_dump(mode="json"), tokens, asdict(texts)]) as run:
        return build_judges(texts, [TARGET], request.seed, settings, run)


def _described(request: VerdictRequest) -> dict[str, Any]:
    """The request for the manifest; texts in memory are counted."""
    described = asdict(request)
    for name in ("text", "heldout", "general"):
        given = getattr(request, name)
        if isinstance(given, os.PathLike):
            described[name] = os.fspath(given)
        elif not isinstance(given, str | None):
            described[name] = f"{len(given):,} texts in memory"
    return described


def write_judged(
    folder: Path,
    described: dict[str, Any],
    evidence: Mapping[str, Evidence],
    measured: Mapping[str, Any],
    limits: Thresholds,
) -> SeveralJudged:
    """Decide, and write the files that a report is made from.

    Args:
        folder: Where.
        described: The request, for the manifest.
        evidence: By model.
        measured: What else ``evidence.json`` has.
        limits: The numbers that decide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, "verdict", {"phases": {}, "data": {}, "status": "done"}, is_main=True)
    verdicts = {name: decide(each, limits) for name, each in evidence.items()}
    arms = {name: verdict_row(verdicts[name].as_dict(), each) for name, each in evidence.items()}
    models = {name: each.as_dict() for name, each in evidence.items()}
    write_evidence(run, {"models": models, **measured, **({"arms": arms} if len(arms) > 1 else {})})
    run.update_manifest(request=described)
    written = write_verdicts(run, {name: each.as_dict() for name, each in verdicts.items()})
    judges = measured.get("judges", {})
    judged = {
        name: Judged(each, evidence[name], judges, written[name]["next"], folder) for name, each in verdicts.items()
    }
    return SeveralJudged(judged, arms, folder)
