"""A verdict on models that were trained on examples by any tool: prompts with completions, and the same rules.

examples (train) ------ copying, examples in the base's prompt --.
examples kept out ----- losses, answers -------------------------+-> evidence -> verdict -> report
other examples, text -- forgetting ------------------------------'
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ftkit.data import (
    TokenStore,
    encode_examples,
    load_corpus,
    tokenizer_fingerprint,
    with_template,
)
from ftkit.errors import ModelError
from ftkit.evidence import ComparedAnswers, ComparedExamples, Evidence, Thresholds, compare_examples
from ftkit.jobs.examples import compared_examples, other_examples, with_judges
from ftkit.jobs.judged_models import load_sides
from ftkit.jobs.verdict_requests import ExampleVerdictRequest, read_split
from ftkit.jobs.verdicts import Judged, SeveralJudged, write_judged
from ftkit.models import task_of
from ftkit.training import HeldOutDataset

__all__ = ["ExampleVerdictRequest", "judge_examples", "judge_several_examples"]


@dataclass(frozen=True)
class _Shared:
    """What examples and base give once, for every model that is judged against this base."""

    chat_template: Any
    longest: int
    examples: ComparedExamples
    other: tuple[HeldOutDataset | TokenStore | None, str]
    summaries: tuple[str, ...]
    """What was cut or left out."""
    base_losses: dict[Any, Any] = field(default_factory=dict)


def judge_examples(request: ExampleVerdictRequest, folder: Path) -> Judged:
    """Measure a model that was trained on examples beside its base, and decide.

    Args:
        request: What to judge.
        folder: Where ``evidence.json``, ``verdict.json`` and what the report needs are written.

    Raises:
        DataError: Examples that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, that did not start from the base, or that has other tokens.
    """
    return judge_several_examples(request, {"tuned": request.tuned}, folder).models["tuned"]


def judge_several_examples(request: ExampleVerdictRequest, tuned: Mapping[str, str], folder: Path) -> SeveralJudged:
    """Measure models that were trained on examples beside their base, and decide; the base is measured once.

    Args:
        request: The base, the examples and the options.
        tuned: The models by name: folders or Hub ids.
        folder: As in ``judge_examples``.

    Raises:
        DataError: Examples that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, that did not start from the base, that has other tokens, or that
            would be measured with another chat template or length than the ones before it.
    """
    bench = _Bench(request)
    found = {name: bench.measure(model) for name, model in tuned.items()}
    most = max((answers for _, answers in found.values()), key=lambda answers: len(answers.base))
    passages = {name: list(answers.tuned.texts) for name, (_, answers) in found.items()}
    measured = {
        "judges": bench.judges,
        "passages": {"base model": list(most.base.texts), **passages},
        "real": {name: [each.completion for each in answers.examples] for name, (_, answers) in found.items()},
    }
    described = _described(request) | ({} if len(tuned) == 1 else {"tuned": dict(tuned)})
    return write_judged(folder, described, {name: each for name, (each, _) in found.items()}, measured, bench.limits)


class _Bench:
    """Measures models that were tuned from one base; the base is measured once.

    Args:
        request: The base, the examples and the options.
    """

    def __init__(self, request: ExampleVerdictRequest) -> None:
        self.request, self.limits = request, Thresholds.set(request.thresholds)
        self.split, self.assumed = read_split(request)
        self.task = task_of(
            request.base, request.revision, trust_remote_code=request.trust_remote_code,
            allow_pickle=request.allow_pickle,
        )  # fmt: skip
        if self.task != "causal-lm":
            raise ModelError(f"{request.base}: a {self.task} model answers no prompts; give a causal language model")
        self._base: PreTrainedModel | None = None
        self._shared: _Shared | None = None
        self._answers: ComparedAnswers | None = None

    @property
    def judges(self) -> dict[str, Any]:
        """Gates of the judges of style; none where they were not asked for."""
        judges = self._shared and self._shared.examples.judges
        return judges.as_dict() if judges else {}

    def measure(self, model: str) -> tuple[Evidence, ComparedAnswers]:
        """Measure a model beside the base."""
        request = self.request
        base, tuned, of_loading = load_sides(replace(request.of_models, tuned=model), self.task, self._base)
        self._base = base.own or self._base
        tokenizer: Any = tuned.tokenizer
        used = with_template(tokenizer, request.template, request.chat_template)
        if tokenizer_fingerprint(base.tokenizer) != tokenizer_fingerprint(tokenizer):
            tokenizer = self._common_tokenizer(model, base.tokenizer, tokenizer)
            of_loading.append("its tokenizer is not the base's, but gives the examples the same tokens")
        positions = min((n for n in (base.positions, tuned.positions) if n), default=None)
        longest = min(n for n in (request.window_tokens, positions) if n)
        if self._shared is None:
            with base.model() as writer:
                self._shared = self._share(tokenizer, writer, positions, longest)
        shared = self._shared
        if (tokenizer.chat_template, longest) != (shared.chat_template, shared.longest):
            raise ModelError(
                f"{model}: would be measured with another chat template or longest example ({longest} tokens) than the "
                f"models before it ({shared.longest} tokens); name one --template, or judge it by itself"
            )
        assert tuned.own is not None
        evidence, self._answers = compared_examples(
            base.own, tuned.own, shared.examples, other=shared.other, asked=request.num_answers,
            limits=self.limits, known=self._answers, window_tokens=longest,
            assumptions=(*self.assumed, *of_loading, f"chat template: {used}", *shared.summaries),
            base_losses=shared.base_losses,
        )  # fmt: skip
        return evidence, self._answers

    def _common_tokenizer(self, model: str, of_base: Any, of_tuned: Any) -> Any:
        """The base's tokenizer with the tuned model's template, where both give the examples the same tokens.

        Other tools add a padding token, or name the end's; what completions cost is not changed by that.

        Raises:
            ModelError: The examples have other tokens, so the base has no rows for them.
        """
        of_base.chat_template = of_tuned.chat_template
        examples, loss_on = [*self.split.train, *self.split.heldout], self.request.loss_on
        rows = [encode_examples(examples, each, loss_on).rows for each in (of_base, of_tuned)]
        differing = abs(len(rows[0]) - len(rows[1])) + sum(
            (mine.input_ids, mine.labels) != (its.input_ids, its.labels) for mine, its in zip(*rows, strict=False)
        )
        if differing:
            added = sorted(set(of_tuned.get_vocab()) - set(of_base.get_vocab()))
            with_tokens = f" It has {len(added)} tokens more: {', '.join(map(repr, added[:4]))}." if added else ""
            raise ModelError(
                f"{model}: its tokenizer gives {differing:,} of {len(examples):,} examples other ids than that of "
                f"{self.request.base}, so completions cannot be compared token by token.{with_tokens} Train with a "
                "template of the base's own tokens, or name one with --template"
            )
        return of_base

    def _share(self, tokenizer: Any, base: PreTrainedModel, positions: int | None, longest: int) -> _Shared:
        request, split = self.request, self.split
        train, heldout = (
            encode_examples(side, tokenizer, request.loss_on, longest) for side in (split.train, split.heldout)
        )
        summaries = tuple(
            f"{name}: {found.summary}"
            for name, found in (("training examples", train), ("held-out examples", heldout))
            if found.summary
        )
        examples = compare_examples(
            train.rows, heldout.rows, tokenizer, positions=positions, few_shot=request.few_shot,
            answer_pattern=request.answer_pattern, seed=request.seed,
        )  # fmt: skip
        if request.judge_style:
            examples = with_judges(examples, split.train, base, request.seed)
        general = load_corpus(request.general, name="general").documents if request.general is not None else ()
        texts = {"general text": [document.text for document in general]} if general else {}
        other = other_examples(request.also, texts, tokenizer, longest)
        return _Shared(tokenizer.chat_template, longest, examples, other, summaries)


def _described(request: ExampleVerdictRequest) -> dict[str, Any]:
    """The request for the manifest; rows in memory are counted."""
    described = asdict(request)
    for name in ("examples", "heldout_examples"):
        if not isinstance(given := getattr(request, name), str | None):
            described[name] = f"{len(given):,} examples in memory"
    return described
