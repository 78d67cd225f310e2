"""Can one model learn to write like each of your texts, and how do we know?

k texts make k models from one base. Judges that passed their gate read each model every few steps; at the end every
model gets a verdict against its floor (the base) and its ceiling (real text that nobody trained on).

    ftkit run imitate --config demo
    ftkit run imitate --model FOLDER --corpora alice=gutenberg:11 --corpora poe=gutenberg:2148
    accelerate launch recipes/imitate.py --config style_evolution
"""

import re
from typing import Any, Literal

from pydantic import Field

from ftkit.config import AdapterSettings, TrainingSettings, launch
from ftkit.config.settings import Problem


class ImitateSettings(AdapterSettings):
    """Style transfer: the shared settings, the texts to imitate, and the judge."""

    FAST = {
        "corpora": {"keeper": "voices:keeper:12000", "almanac": "voices:almanac:12000"}, "general": {},
        "tokenizer": "train:512", "max_steps": 20, "window_tokens": 96, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1, "learning_rate": 3e-3, "optimizer": "adamw", "warmup_steps": 0,
        "eval_steps": 10, "judge_steps": 10, "save_steps": 10, "eval_windows": 16, "passage_chars": 120,
        "num_passages": 32, "judged_passages": 8, "judge_model": "new:bert", "judge_max_steps": 30,
        "judge_learning_rate": 1e-3, "judge_batch_size": 16, "judge_tokens": 64, "sampling": "plain",
    }  # fmt: skip

    model: str = "base:demo_base"
    """Base of every model: a folder, a Hub id, new:FAMILY,..., or base:CONFIG, a base that is made once and reused."""
    corpora: dict[str, str] = {"keeper": "voices:keeper", "almanac": "voices:almanac"}
    """Texts to imitate, each with a name: {sources}."""
    general: dict[str, str] = {}
    """Other real text, each with a name: it shows forgetting and gives the judges a further class.
    Without it: the base's own text where it is base:CONFIG, else the other corpora."""
    heldout_share: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of each text that is never trained on: ceiling, gate and held-out loss need it."""
    sampling: Literal["plain", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens of passages are drawn; plain is the model's own distribution, judged adds repetition penalty 1.3."""

    top_tokens: int = Field(default=100, ge=1)
    """Tokens of each text's lists, the most frequent and the most distinctive, whose use by every model is counted."""
    min_token_chars: int = Field(default=3, ge=1)
    """Tokens with fewer characters, white space aside, are left out of the lists before they are ranked."""
    passage_chars: int = Field(default=400, ge=20)
    """Characters in a judged passage, real or generated."""
    num_passages: int = Field(default=96, ge=30)
    """Passages of each model that the verdict rests on; the judges learn from as many passages of the base, twice."""
    judged_passages: int = Field(default=24, ge=4)
    """Passages that are judged at a step while a model learns."""
    judge_steps: int = Field(default=50, ge=1)
    """Steps between judgements."""
    judge_model: str = "new:bert"
    """Judge: a BERT-like folder or Hub id that is fine-tuned, or new:bert for a tiny one from scratch."""
    judge_max_steps: int = Field(default=150, ge=1)
    """Updates of the judge."""
    judge_learning_rate: float = Field(default=5e-5, ge=0)
    """Peak learning rate of the judge."""
    judge_batch_size: int = Field(default=16, ge=2)
    """Passages in an update of the judge."""
    judge_tokens: int = Field(default=128, ge=8)
    """Longest passage in the judge's tokens, in training and in use alike."""
    judge_seeds: Literal[1, 2] = 1
    """2 trains the judge twice: agreement over two seeds is then that of two encoders, not of two heads on one."""

    def problems(self) -> list[Problem]:
        """At least two texts, with names that can be folders and classes."""
        found = super().problems()
        for name in {**self.corpora, **self.general}:
            if not re.fullmatch(r"\w[\w .-]*", name):
                found.append(
                    ("corpora", f"{name!r} cannot be the name of a folder; use letters, digits, space, . - and _")
                )
        if both := sorted(set(self.corpora) & set(self.general)):
            found.append(("general", f"{both[0]!r} names a text to imitate already; choose another name"))
        reserved = {"base model", "other", "judge", "judge_twin", "base"} & set(self.corpora)
        if len(self.corpora) < 2:
            found.append(("corpora", f"needs two texts or more, found {len(self.corpora)}: a judge compares them"))
        if reserved:
            found.append(("corpora", f"{sorted(reserved)[0]!r} is a name that ftkit uses itself; choose another"))
        return found

    def judge_settings(self) -> TrainingSettings:
        """What the judge is trained with."""
        fields = type(self).model_fields
        unused = {name: fields[name].get_default(call_default_factory=True) for name in self.WHAT_MAY_CHANGE}
        changes: dict[str, Any] = unused | {
            "max_steps": self.judge_max_steps, "learning_rate": self.judge_learning_rate, "optimizer": "adamw",
            "warmup_steps": 0.1, "per_device_train_batch_size": self.judge_batch_size,
            "gradient_accumulation_steps": 1, "max_grad_norm": 1.0, "lr_scheduler_type": "linear", "min_lr_rate": 0.0,
        }  # fmt: skip
        return self.model_copy(update=changes)


def main(settings: ImitateSettings) -> None:
    """Texts, base, judges, one model for each text, evidence, verdicts, report."""
    from ftkit.evidence import CopyIndex, cross_comparison, decide, seat_panel, style_courses, window_losses
    from ftkit.report import announce
    from ftkit.runs import open_run
    from ftkit.studies import finish, judge_texts, load_saved, prepare_subjects, prepare_tuning, train_model
    from ftkit.training import TokenWindows

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return

        # The base, the texts to imitate, and other text.
        start, subjects, general = prepare_subjects(settings, run)
        settings = start.settings
        trainable, new_model = prepare_tuning(start, run)

        # Two judges of different kinds, each behind its gate. No passage of the base serves twice: some teach the
        # judges, some test them, and the floor is neither.
        panel = seat_panel(judge_texts(subjects, general), list(subjects), settings, run)

        # One model for each text, judged while it learns.
        for name, subject in subjects.items():
            index = CopyIndex(subject.learnt)

            def judge(model: Any, step: int, name: str = name, index: CopyIndex = index) -> None:
                passages = start.writer.write(model, settings.judged_passages, settings.seed)
                scores = panel.glance(name, passages)
                run.log("metrics.jsonl", {"model": name, "step": step, "split": "judge", **scores})
                sampling = start.writer.sampling.as_dict()
                sample = {"model": name, "step": step, "seed": settings.seed, "sampling": sampling}
                shown = zip(passages[:4], index.spans(passages[:4]), strict=True)
                run.log("samples.jsonl", *({**sample, "text": text, "copied": spans} for text, spans in shown))

            source = TokenWindows(subject.train, settings.window_tokens, settings.seed)
            watch = (settings.judge_steps, judge)
            train_model(run, name, new_model, source, subject.heldout, settings, watch=watch)

        # Evidence for each model, from the folder it was saved to.
        if not run.is_main:
            return
        found, passages, verdicts, losses = {}, {"base model": start.floor}, {}, {}
        unseen = {name: subject.heldout for name, subject in subjects.items()}
        for name, subject in subjects.items():
            tuned = load_saved(settings, run.model(name))
            passages[name] = start.write(tuned)
            losses[name] = window_losses(tuned, unseen, settings.window_tokens, settings.eval_windows)
            styles = panel.score(name, start.floor, passages[name], subject.real)
            evidence = subject.measure(run, name, tuned, passages[name], trainable, styles)
            found[name], verdicts[name] = evidence.as_dict(), decide(evidence).as_dict()
        real = {name: subject.real for name, subject in subjects.items()}
        before = window_losses(start.base, unseen, settings.window_tokens, settings.eval_windows)
        learnt = {name: subject.train for name, subject in subjects.items()}
        together = cross_comparison(
            before, losses, train=learnt, passages=passages, real=real, top=settings.top_tokens,
            min_chars=settings.min_token_chars,
        )  # fmt: skip
        measured = {"models": found, "judges": panel.as_dict(), "passages": passages, "real": real}
        measured["courses"] = style_courses(run.records("metrics.jsonl"))
        finish(run, measured | together, verdicts)


if __name__ == "__main__":
    launch(main)
