"""A verdict on models that were trained on examples by any tool: prompts with completions, and the same rules.

examples (train) ------ copying, examples in the base's prompt --.
examples kept out ----- losses, answers -------------------------+-> evidence -> verdict -> report
other examples, text -- forgetting ------------------------------'
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftkit.data import (
    encode_examples,
    load_corpus,
    tokenizer_fingerprint,
    with_template,
)
from ftkit.errors import ModelError
from ftkit.evidence import Thresholds, compare_examples, decide
from ftkit.jobs.examples import compared_examples, other_examples
from ftkit.jobs.judged_models import load_sides
from ftkit.jobs.verdict_requests import ExampleVerdictRequest, read_split
from ftkit.jobs.verdicts import Judged, write_judged
from ftkit.models import task_of

__all__ = ["ExampleVerdictRequest", "judge_examples"]


def judge_examples(request: ExampleVerdictRequest, folder: Path) -> Judged:
    """Measure a model that was trained on examples beside its base, and decide.

    Args:
        request: What to judge.
        folder: Where ``evidence.json``, ``verdict.json`` and what the report needs are written.

    Raises:
        DataError: Examples that cannot be read, or from which no evidence can come.
        ModelError: A model that cannot be loaded, that did not start from the base, or that has other tokens.
    """
    limits, (split, assumed) = Thresholds.set(request.thresholds), read_split(request)
    models = request.of_models
    task = task_of(
        request.base, request.revision, trust_remote_code=request.trust_remote_code, allow_pickle=request.allow_pickle
    )
    if task != "causal-lm":
        raise ModelError(f"{request.base}: a {task} model answers no prompts; give a causal language model")
    base, tuned, of_loading = load_sides(models, task)
    assumed += of_loading
    tokenizer: Any = tuned.tokenizer
    if tokenizer_fingerprint(base.tokenizer) != tokenizer_fingerprint(tokenizer):
        raise ModelError(
            f"{request.tuned}: its tokenizer gives other ids than that of {request.base}, so completions cannot be "
            "compared token by token; save the model with the base's tokenizer"
        )
    used = with_template(tokenizer, request.template, request.chat_template)
    assumed.append(f"chat template: {used}")
    positions = min((n for n in (base.positions, tuned.positions) if n), default=None)
    longest = min(n for n in (request.window_tokens, positions) if n)
    train, heldout = (
        encode_examples(side, tokenizer, request.loss_on, longest) for side in (split.train, split.heldout)
    )
    assumed += [
        f"{name}: {found.summary}"
        for name, found in (("training examples", train), ("held-out examples", heldout))
        if found.summary
    ]
    examples = compare_examples(
        train.rows, heldout.rows, tokenizer, positions=positions, few_shot=request.few_shot,
        answer_pattern=request.answer_pattern, seed=request.seed,
    )  # fmt: skip
    general = load_corpus(request.general, name="general").documents if request.general is not None else ()
    texts = {"general text": [document.text for document in general]} if general else {}
    other, other_name = other_examples(request.also, texts, tokenizer, longest)
    assert tuned.own is not None
    evidence, answers = compared_examples(
        base.own, tuned.own, examples, other=other, other_name=other_name, asked=request.num_answers, limits=limits,
        window_tokens=longest, assumptions=tuple(assumed),
    )  # fmt: skip
    verdict = decide(evidence, limits)
    measured = {
        "models": {"tuned": evidence.as_dict()},
        "passages": {"base model": list(answers.base.texts), "tuned": list(answers.tuned.texts)},
        "real": {"tuned": [example.completion for example in answers.examples]},
    }
    steps = write_judged(folder, _described(request), measured, verdict)
    return Judged(verdict, evidence, {}, steps, folder)


def _described(request: ExampleVerdictRequest) -> dict[str, Any]:
    """The request for the manifest; rows in memory are counted."""
    described = asdict(request)
    for name in ("examples", "heldout_examples"):
        if not isinstance(given := getattr(request, name), str | None):
            described[name] = f"{len(given):,} examples in memory"
    return described
