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
    encode_examples,
    load_corpus,
    tokenizer_fingerprint,
    with_template,
)
from ftkit.errors import ModelError
from ftkit.evidence import ComparedAnswers, ComparedExamples, Evidence, Thresholds, compare_examples
from ftkit.jobs.examples import OtherExamples, compared_examples, other_examples, with_judges
from ftkit.jobs.judged_models import load_sides
from ftkit.jobs.verdict_requests import ExampleVerdictRequest, read_split
from ftkit.jobs.verdicts import Judged, SeveralJudged, write_judged
from ftkit.models import task_of

__all__ = ["ExampleVerdictRequest", "judge_examples", "judge_several_examples"]


@dataclass(frozen=True)
class _Shared:
    """What examples and base give once, for every model that is judged against this base."""

    chat_template: Any
    longest: int
    examples: ComparedExamples
    other: OtherExamples
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
        known, said = self._known_tokens(model, base.tokenizer, tokenizer)
        positions = min((n for n in (base.positions, tuned.positions) if n), default=None)
        longest = min(n for n in (request.window_tokens, positions) if n)
        if self._shared is None:
            with base.model() as writer:
                self._shared = self._share(known, tokenizer, writer, positions, longest)
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
            assumptions=(*self.assumed, *of_loading, *said, f"chat template: {used}", *shared.summaries),
            base_losses=shared.base_losses,
        )  # fmt: skip
        return evidence, self._answers

    def _known_tokens(self, model: str, of_base: Any, of_tuned: Any) -> tuple[Any, list[str]]:
        """The tokenizer that the base reads examples with, and what is to be said of it.

        Other tools add a padding token, or name the end's: where the examples get the same tokens, what they cost is
        not changed by that. Or they add the tokens of a chat template: then the base, which has no rows for these,
        reads the examples by its own template.

        Raises:
            ModelError: The base's tokens are not all the tuned model's.
        """
        if tokenizer_fingerprint(of_base) == tokenizer_fingerprint(of_tuned):
            return of_tuned, []
        own, of_base.chat_template = of_base.chat_template, of_tuned.chat_template
        examples, loss_on = [*self.split.train, *self.split.heldout], self.request.loss_on
        rows = [encode_examples(examples, each, loss_on).rows for each in (of_base, of_tuned)]
        differing = abs(len(rows[0]) - len(rows[1])) + sum(
            (mine.input_ids, mine.labels) != (its.input_ids, its.labels) for mine, its in zip(*rows, strict=False)
        )
        if not differing:
            return of_base, ["its tokenizer is not the base's, but gives the examples the same tokens"]
        its, known = of_tuned.get_vocab(), of_base.get_vocab()
        added = sorted(set(its) - set(known), key=its.__getitem__)
        if not added or not known.items() <= its.items():
            raise ModelError(
                f"{model}: its tokenizer gives {differing:,} of {len(examples):,} examples other ids than that of "
                f"{self.request.base}, and is not that with more tokens, so completions cannot be compared. Give the "
                "tokenizer that it was trained with, or its real base"
            )
        of_base.chat_template = own
        named = ", ".join(map(repr, added[:4])) + (", ..." if len(added) > 4 else "")
        return of_base, [
            f"its template has tokens that the base does not know ({named}), so the base reads the examples by "
            f"{with_template(of_base)}"
        ]

    def _share(self, known: Any, tokenizer: Any, base: PreTrainedModel, positions: int | None, longest: int) -> _Shared:
        """What examples and base give once.

        Args:
            known: The tokenizer that the base reads them with.
            tokenizer: The tuned model's.
            base: The base.
            positions: Longest context of the models.
            longest: Tokens of an example at most.
        """
        request = self.request
        general = load_corpus(request.general, name="general").documents if request.general is not None else ()
        texts = {"general text": [document.text for document in general]} if general else {}
        examples, summaries = self._compared(known, positions, longest)
        other = other_examples(request.also, texts, known, longest)
        if known.chat_template != tokenizer.chat_template:
            of_tuned, summaries = self._compared(tokenizer, positions, longest)
            for side in ("heldout", "last", "train"):
                if [each.example for each in getattr(examples, side).encoded] != [
                    each.example for each in getattr(of_tuned, side).encoded
                ]:
                    raise ModelError(
                        f"the examples do not all fit into {longest:,} tokens by both templates, so the models would "
                        "be measured on different ones; allow more with window_tokens, or leave the long ones out"
                    )
            examples = replace(examples, of_tuned=of_tuned)
            other = replace(other, of_tuned=other_examples(request.also, texts, tokenizer, longest).rows)
        if request.judge_style:
            examples = with_judges(examples, self.split.train, base, request.seed)
        return _Shared(tokenizer.chat_template, longest, examples, other, summaries)

    def _compared(
        self, tokenizer: Any, positions: int | None, longest: int
    ) -> tuple[ComparedExamples, tuple[str, ...]]:
        """The examples in the tokens of a tokenizer, and what was cut or left out."""
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
        return examples, summaries


def _described(request: ExampleVerdictRequest) -> dict[str, Any]:
    """The request for the manifest; rows in memory are counted."""
    described = asdict(request)
    for name in ("examples", "heldout_examples"):
        if not isinstance(given := getattr(request, name), str | None):
            described[name] = f"{len(given):,} examples in memory"
    return described
