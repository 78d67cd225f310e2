"""Can it write like each of my texts?

k texts make k models from one base. Judges that passed their gate read each model every few steps; at the end every
model gets a verdict against its floor (the base) and its ceiling (real text that nobody trained on).
Needs: two texts. Minutes: 5.

    ftkit run imitate
    ftkit run imitate --corpora alice=gutenberg:11 --corpora poe=gutenberg:2148
    accelerate launch -m ftkit.recipes.imitate --config style_evolution
"""

import re
import time
from typing import Any

from pydantic import Field

from ftkit.recipe import (
    TRAINING_LENGTHS,
    AdapterSettings,
    FrequentTokenSettings,
    JudgeSettings,
    Problem,
    RunFolder,
    TextSettings,
    launch,
    recipe,
)


class ImitateSettings(TextSettings, FrequentTokenSettings, JudgeSettings, AdapterSettings):
    """Style transfer: the shared settings, the texts to imitate, and when the judges score."""

    FAST = {
        **TextSettings.FAST, "corpora": {"keeper": "voices:keeper:12000", "almanac": "voices:almanac:12000"},
        "general": {}, "warmup_steps": 0, "judge_steps": 10, "judged_passages": 8, "judge_model": "new:bert",
        "judge_max_steps": 30, "judge_learning_rate": 1e-3, "judge_batch_size": 16, "judge_tokens": 64,
    }  # fmt: skip
    LENGTHS = (*TextSettings.LENGTHS, *TRAINING_LENGTHS)

    corpora: dict[str, str] = {"keeper": "voices:keeper", "almanac": "voices:almanac"}
    """Texts to imitate, each with a name: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name: it shows forgetting and gives the judges a further class.
    Without it: the base's own text where it is base:CONFIG, else the other corpora."""
    top_tokens: int = Field(default=100, ge=1)
    """Tokens of each text's lists, the most frequent and the most distinctive, whose use by every model is counted."""
    min_token_chars: int = Field(default=3, ge=1)
    """Tokens with fewer characters, white space aside, are left out of the lists before they are ranked."""
    num_passages: int | None = Field(default=None, ge=30)
    """Passages of each model that are measured; half of them follow words of the training text."""
    judged_passages: int = Field(default=16, ge=4)
    """Passages that are judged at a step while a model learns: a multiple of 16, because 32 are written at once, half
    of them after training text."""
    judge_steps: int = Field(default=0, ge=0)
    """Steps between judgements; 0: after 1, 2, 4, 8, ... steps, which a logarithmic axis shows evenly spaced."""

    def problems(self) -> list[Problem]:
        """At least two texts, with names that can be folders and classes."""
        from ftkit.evidence.judges import BASE, CORRUPTED

        problems = super().problems()
        for name in {**self.corpora, **self.general}:
            if not re.fullmatch(r"\w[\w .-]*", name):
                text = f"{name!r} cannot be the name of a folder; use letters, digits, space, . - and _"
                problems.append(("corpora", text))
        if both := sorted(set(self.corpora) & set(self.general)):
            problems.append(("general", f"{both[0]!r} names a text to imitate already; choose another name"))
        classes = {BASE, *CORRUPTED}
        reserved = {"other", "judge", "judge_twin", "base", *classes} & set(self.corpora) | classes & set(self.general)
        if len(self.corpora) < 2:
            problems.append(("corpora", f"needs two texts or more, found {len(self.corpora)}: a judge compares them"))
        if reserved:
            key = "corpora" if reserved & set(self.corpora) else "general"
            problems.append((key, f"{sorted(reserved)[0]!r} is a name that ftkit uses itself; choose another"))
        return problems


@recipe
def main(settings: ImitateSettings, run: RunFolder) -> None:
    """Texts, base, judges, one model for each text, evidence, verdicts, report."""
    from ftkit.evidence import (
        CopyIndex,
        as_evidence,
        build_judges,
        cross_comparison,
        decide,
        judging_times,
        style_courses,
        window_losses,
    )
    from ftkit.jobs import finish, fit_judge, judge_texts, load_saved, prepare_targets, prepare_tuning, train_model

    # The base, the texts to imitate, and other text.
    start, targets, general = prepare_targets(fit_judge(settings, run), settings.corpora, run)
    settings = start.settings
    trainable, new_model = prepare_tuning(start, run, settings)

    # Two judges of different kinds, each behind its gate. No passage of the base serves twice: some train the
    # judges, some test them, and the floor is neither.
    panel = build_judges(judge_texts(targets, general), list(targets), settings.seed, settings, run)

    # One model for each text, judged while it learns.
    for name, target in targets.items():
        index = CopyIndex(target.all_train_texts)

        def judge(model: Any, step: int, name: str = name, index: CopyIndex = index) -> None:
            started = time.perf_counter()
            passages = targets[name].writer.write(model, 2 * settings.judged_passages, settings.seed).heldout
            scores = panel.score_step(name, passages)
            scores["seconds"] = time.perf_counter() - started
            run.log("metrics.jsonl", {"model": name, "step": step, "split": "judge", **scores})
            sampling = targets[name].writer.sampling.as_dict()
            sample = {"model": name, "step": step, "seed": settings.seed, "sampling": sampling}
            shown = zip(passages[:4], index.spans(passages[:4]), strict=True)
            run.log("samples.jsonl", *({**sample, "text": text, "copied": spans} for text, spans in shown))

        train_model(run, name, new_model, target.training_text, settings, watch=(settings.judge_steps, judge))

    # Evidence for each model, from the folder it was saved to.
    if not run.is_main:
        return
    models, verdicts, losses = {}, {}, {}
    passages: dict[str, Any] = {}
    unseen = {name: target.heldout for name, target in targets.items()}
    for name, target in targets.items():
        tuned = load_saved(settings, run.model(name))
        losses[name] = window_losses(tuned, unseen, settings.window_tokens, settings.eval_windows)
        evidence, passages[name] = target.measure(run, name, tuned, trainable, panel, name)
        passages[f"base model, {name}"] = target.floor(evidence.passages)
        models[name], verdicts[name] = evidence.as_dict(), decide(evidence).as_dict()
    real = {name: target.real for name, target in targets.items()}
    before = window_losses(start.base, unseen, settings.window_tokens, settings.eval_windows)
    together = cross_comparison(
        before, losses, train={name: target.train for name, target in targets.items()},
        floors={name: passages[f"base model, {name}"].heldout for name in targets},
        passages={name: passages[name].heldout for name in targets}, real=real,
        top=settings.top_tokens, min_chars=settings.min_token_chars,
    )  # fmt: skip
    measured = {"models": models, "judges": panel.as_dict(), "real": real, **as_evidence(passages)}
    records = run.records("metrics.jsonl")
    measured["courses"], measured["judging"] = style_courses(records), judging_times(records)
    finish(run, measured | together, verdicts)


if __name__ == "__main__":
    launch(main)
