"""A verdict on models that were trained on examples by any tool: prompts with completions, and the same rules.

examples (train) ------ copying, examples in the base's prompt --.
examples kept out ----- losses, answers -------------------------+-> evidence -> verdict -> report
other examples, text -- forgetting ------------------------------'
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ftkit.data import (
    ExampleSplit,
    encode_examples,
    load_corpus,
    tokenizer_fingerprint,
    with_template,
)
from ftkit.errors import ModelError
from ftkit.evidence import ComparedAnswers, ComparedExamples, Evidence, Thresholds, compare_examples
from ftkit.jobs.examples import OtherRows, compared_examples, other_rows, with_judges
from ftkit.jobs.judged_models import load_sides
from ftkit.jobs.verdict_requests import ExampleVerdictRequest, read_split
from ftkit.jobs.verdicts import Judged, SeveralJudged, write_judged
from ftkit.models import task_of

__all__ = ["ExampleVerdictRequest", "judge_examples", "judge_several_examples"]


@dataclass(frozen=True)
class _Shared:
    """What examples and base give once, for every model that is judged against this base."""

    reading: tuple[Any, ...]
    """What decides how examples are read: the base's and the tuned model's tokenizer, template, and longest length."""
    examples: ComparedExamples
    other: Mapping[str, OtherRows]
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
        used = with_template(tuned.tokenizer, request.template, request.chat_template)
        of_base, of_tuned, said = self._tokenizers(model, base.tokenizer, tuned.tokenizer)
        positions = min((n for n in (base.positions, tuned.positions) if n), default=None)
        longest = min(n for n in (request.window_tokens, positions) if n)
        reading = (tokenizer_fingerprint(of_base), tokenizer_fingerprint(of_tuned), of_tuned.chat_template, longest)
        if self._shared is None:
            examples, summaries = self._compared(of_base, of_tuned, positions, longest)
            if request.judge_style:
                with base.model() as writer:
                    examples = with_judges(examples, self.split.train, writer, request.seed)
            self._shared = _Shared(reading, examples, self._other(of_base, of_tuned, longest), summaries)
        shared = self._shared
        if reading != shared.reading:
            raise ModelError(
                f"{model}: would be measured with another tokenizer, chat template or longest example ({longest} "
                f"tokens) than the models before it ({shared.reading[-1]} tokens); name one --template, or judge it "
                "by itself"
            )
        assert tuned.own is not None
        evidence, self._answers = compared_examples(
            base.own, tuned.own, shared.examples, other=shared.other, asked=request.num_answers,
            limits=self.limits, known=self._answers, window_tokens=longest,
            assumptions=(*self.assumed, *of_loading, *said, f"chat template: {used}", *shared.summaries),
            base_losses=shared.base_losses,
        )  # fmt: skip
        return evidence, self._answers

    def _tokenizers(self, model: str, of_base: Any, of_tuned: Any) -> tuple[Any, Any, list[str]]:
        """Return the tokenizers that base and tuned model read the examples with, and what is to be said of them.

        Other tools add a padding token, or name the end's: where the examples get the same ids, one tokenizer serves
        both. Or they add the tokens of a chat template, which the base does not know: then each reads the examples with
        its own template.

        Raises:
            ModelError: The base's tokens are not all the tuned model's.
        """
        if tokenizer_fingerprint(of_base) == tokenizer_fingerprint(of_tuned):
            return of_tuned, of_tuned, []
        own, of_base.chat_template = of_base.chat_template, of_tuned.chat_template
        examples, loss_on = [*self.split.train, *self.split.heldout], self.request.loss_on
        rows = [encode_examples(examples, each, loss_on).rows for each in (of_base, of_tuned)]
        differing = abs(len(rows[0]) - len(rows[1])) + sum(
            (mine.input_ids, mine.labels) != (its.input_ids, its.labels) for mine, its in zip(*rows, strict=False)
        )
        if not differing:
            return of_base, of_base, ["its tokenizer is not the base's, but gives the examples the same tokens"]
        its, known = of_tuned.get_vocab(), of_base.get_vocab()
        added = sorted(set(its) - set(known), key=its.__getitem__)
        if not added or not known.items() <= its.items():
            raise ModelError(
                f"{model}: its tokenizer gives {differing:,} of {len(examples):,} examples other ids than that of "
                f"{self.request.base} and does not extend it, so completions cannot be compared. Give the tokenizer "
                "that it was trained with, or the model that it was trained from"
            )
        of_base.chat_template = own
        named = ", ".join(map(repr, added[:4])) + (", ..." if len(added) > 4 else "")
        template = with_template(of_base)
        unknown = f"the tuned model's tokenizer has {len(added)} tokens that the base does not know ({named})"
        return of_base, of_tuned, [f"{unknown}, so the base is measured with another chat template: {template}"]

    def _other(self, of_base: Any, of_tuned: Any, longest: int) -> dict[str, OtherRows]:
        """Other examples and general text, for forgetting."""
        request = self.request
        general = load_corpus(request.general, name="general").documents if request.general is not None else ()
        texts = {"general text": [document.text for document in general]} if general else {}
        return other_rows(request.also, texts, of_base, longest, None if of_tuned is of_base else of_tuned)

    def _compared(
        self, of_base: Any, of_tuned: Any, positions: int | None, longest: int
    ) -> tuple[ComparedExamples, tuple[str, ...]]:
        """What both models are compared on, and what was cut or left out.

        Where each has its own template, only examples that fit whole by both are compared.

        Raises:
            ModelError: After other examples' prompts, the two templates fit different examples.
        """
        if of_base is of_tuned:
            return self._encoded(of_base, self.split, positions, longest)
        split, left_out = self._whole(self.split, (of_base, of_tuned), longest)
        examples, _ = self._encoded(of_base, split, positions, longest)
        tuned, _ = self._encoded(of_tuned, split, positions, longest)
        if [each.example for each in examples.last.encoded] != [each.example for each in tuned.last.encoded]:
            raise ModelError(
                f"with other examples' prompts the two chat templates fit different examples into {positions:,} "
                "positions, so the models cannot be compared; leave out the longest examples"
            )
        return replace(examples, of_tuned=tuned), left_out

    def _whole(
        self, split: ExampleSplit, tokenizers: Sequence[Any], longest: int
    ) -> tuple[ExampleSplit, tuple[str, ...]]:
        """The examples that fit whole by every tokenizer's template, and how many do not."""
        sides = []
        for side in (split.train, split.heldout):
            fitting = [
                {row.example for row in encode_examples(side, each, self.request.loss_on, longest, "drop").rows}
                for each in tokenizers
            ]
            sides.append([example for example in side if all(example in each for each in fitting)])
        left_out = len(split.train) + len(split.heldout) - sum(map(len, sides))
        said = f"{left_out:,} examples were left out, because they do not fit whole into {longest:,} tokens"
        return replace(split, train=sides[0], heldout=sides[1]), (said,) if left_out else ()

    def _encoded(
        self, tokenizer: Any, split: ExampleSplit, positions: int | None, longest: int
    ) -> tuple[ComparedExamples, tuple[str, ...]]:
        """The examples in the tokens of a tokenizer, and what was cut or left out."""
        request = self.request
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
