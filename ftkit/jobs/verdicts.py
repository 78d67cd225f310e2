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
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import TrainingSettings
from ftkit.data import Masking, fix_special_tokens, load_tokenizer, tokenizer_fingerprint
from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.evidence import (
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    JudgeTexts,
    Panel,
    PassageWriter,
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
from ftkit.jobs.judged_models import ModelSide, load_reference, load_sides
from ftkit.jobs.targets import MOST_JUDGED
from ftkit.jobs.verdict_requests import (
    TARGET,
    ExampleVerdictRequest,
    TextSource,
    VerdictRequest,
    VerdictTexts,
    check_inputs,
    check_names,
    check_one_source,
    check_options,
    read_texts,
)
from ftkit.models import is_adapter, task_of
from ftkit.models.meta_models import known_positions
from ftkit.report import verdict_lines, write_report, write_verdicts
from ftkit.report.gate import Gate
from ftkit.runs import RunFolder, write_evidence
from ftkit.runs.files import write_atomically

__all__ = [
    "Judged",
    "TemporaryFolder",
    "TextSource",
    "VerdictRequest",
    "check_inputs",
    "judge_models",
    "verdict",
    "write_judged",
]

_MOST_PASSAGES = 2000
"""Passages of a class that a judge learns at most; more teach it nothing new."""


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
    limits = check_options(request)
    if request.reference is not None:  # what is missing is said before anything is written
        task_of(request.reference, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle)
    texts = read_texts(request)
    task = task_of(
        request.base, request.revision, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle
    )
    base, tuned, assumed = load_sides(request, task)
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
        styles = panel.score(TARGET, written.base, written.tuned, real, level) if writers else ()
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
            reference=load_reference(request), write=write,
        ),
        limits,
        looks_up_to(request.num_passages),
    )  # fmt: skip
    before, after = written_by_both(evidence.passages)
    verdict, judges = decide(evidence, limits), panel.as_dict()
    passages = as_evidence({"base model": before, "tuned": after})
    measured = {"models": {"tuned": evidence.as_dict()}, "judges": judges, "real": {"tuned": real}, **passages}
    steps = write_judged(folder, _described(request), measured, verdict)
    return Judged(verdict, evidence, judges, steps, folder)


def verdict(
    base: str | os.PathLike[str] | PreTrainedModel,
    tuned: str | os.PathLike[str] | PreTrainedModel,
    text: TextSource | None = None,
    *,
    examples: str | Sequence[Mapping[str, Any]] | None = None,
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
    **of_examples: Any,
) -> Judged:
    """Judge a model that was fine-tuned with any tool, as ``ftkit verdict`` does.

    Args:
        base: Model that the tuned one started from: folder, Hub id or loaded model.
        tuned: Model to judge, an adapter too: folder, Hub id or loaded model.
        text: What it was trained on: a source as ``load_corpus`` takes it, or a list of texts.
        examples: Instead of ``text``, prompts with completions that it was trained on: a source as ``load_examples``
            takes it, or a list of rows.
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
        **of_examples: With ``examples``: ``heldout_examples``, ``columns``, ``template``, ``chat_template``,
            ``loss_on``, ``also``, ``answer_pattern``, ``num_answers``, ``few_shot`` (see ``ExampleVerdictRequest``).

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
    of_text = check_one_source(text, examples)
    if examples is not None:
        from ftkit.jobs.example_verdicts import judge_examples

        check_names(ExampleVerdictRequest, of_examples)
        asked = ExampleVerdictRequest(
            sides[0], sides[1], examples, general=_one_place(general), revision=revision,
            trust_remote_code=trust_remote_code, allow_pickle=allow_pickle, seed=seed, thresholds=thresholds or {},
            dtype=dtype, **of_examples,
        )  # fmt: skip
        return replace(judge_examples(asked, folder), kept=kept)
    check_names(VerdictRequest, of_examples)
    request = VerdictRequest(
        sides[0], sides[1], of_text, heldout, general, against or {}, judge, revision, trust_remote_code, allow_pickle,
        encoding, special_tokens, window_tokens, eval_windows, passage_chars, num_passages, sampling, seed,
        thresholds=thresholds or {}, reference=reference, dtype=dtype,
    )  # fmt: skip
    return replace(judge_models(request, folder), kept=kept)


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
    target = spread_evenly(cut_passages(texts.train, request.passage_chars), _MOST_PASSAGES)
    train = {TARGET: target, "base model": taught[n:]}
    heldout = {TARGET: real, "base model": taught[:n]}
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


def write_judged(folder: Path, described: dict[str, Any], measured: dict[str, Any], verdict: Verdict) -> list[str]:
    """Write the files that a report is made from.

    Args:
        folder: Where.
        described: The request, for the manifest.
        measured: For ``evidence.json``.
        verdict: The verdict.

    Returns:
        What to do next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, "verdict", {"phases": {}, "data": {}, "status": "done"}, is_main=True)
    write_evidence(run, measured)
    run.update_manifest(request=described)
    steps: list[str] = write_verdicts(run, {"tuned": verdict.as_dict()})["tuned"]["next"]
    return steps
