"""Token bias of a model: its rate, its verdict, and its measurement during and after training."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.data import TokenSet
from ftkit.evidence import (
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    Interval,
    fit_passage,
    gather_evidence,
)
from ftkit.evidence.intervals import bootstrap, wilson
from ftkit.evidence.verdict import Verdict
from ftkit.generation import Passage, generate_passages, random_starts
from ftkit.jobs.stages import save_trained
from ftkit.jobs.targets import TargetText
from ftkit.runs import RunFolder
from ftkit.training import CheckpointFolder, Engine, Objective, RandomTokens, WeightedSum, build_probes, train_and_log
from ftkit.tuning import Selection

__all__ = [
    "BiasLimits",
    "TokenBias",
    "TokenBiasLimits",
    "TokenBiasMonitor",
    "decide_token_bias",
    "set_shares",
    "target_rate",
    "token_bias",
]


@dataclass(frozen=True)
class TokenBias:
    """Rates of a set in generated text, and the damage to ordinary text."""

    before: Interval
    """Share of the base's tokens."""
    after: Interval
    change: Interval
    """After minus before, paired by the start of the passage."""
    damage: Interval
    """Bits per byte that held-out ordinary text costs more than before, on the same windows (paired)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, dict[str, float]]:
        """What a study of several runs compares."""
        return {"rate": self.after.as_dict(), "damage": self.damage.as_dict()}


@dataclass(frozen=True)
class TokenBiasLimits:
    """Thresholds of the verdict; intervals are 95 %."""

    liked_share: float = 0.5
    """The rate's lower bound, as a share of the mass that was asked for, from which the model counts as biased."""
    forgot_rise: float = 0.05
    """Lower bound of the relative rise of the loss on ordinary text."""
    reload_difference: float = 1e-4
    """Largest difference of logits between the model and its saved folder."""


def set_shares(passages: Sequence[Sequence[int]], ids: Collection[int] | np.ndarray) -> np.ndarray:
    """Share of each passage's tokens that belong to a set, float64 [passages].

    Args:
        passages: New tokens of each passage, none empty.
        ids: The set.
    """
    wanted = np.fromiter(ids, dtype=np.int64)
    return np.array([np.isin(passage, wanted).mean() for passage in passages])


def target_rate(shares: np.ndarray, tokens: int) -> Interval:
    """Rate of a set in passages of one length.

    Args:
        shares: Share of each passage's tokens.
        tokens: Tokens in a passage.

    Returns:
        The rate and the wider of two intervals: the bootstrap over passages, since tokens of one passage resemble each
        other, and the binomial one, since the bootstrap of passages that are all alike has no width.
    """
    drawn = bootstrap(_mean, shares)
    counted = wilson(round(float(shares.sum()) * tokens), len(shares) * tokens)
    return Interval(drawn.value, min(drawn.low, counted.low), max(drawn.high, counted.high))


def _mean(shares: np.ndarray) -> np.ndarray:
    return np.asarray(shares.mean(-1))


def token_bias(before: np.ndarray, after: np.ndarray, tokens: int, gain: Interval) -> TokenBias:
    """Combine rates and damage.

    Args:
        before: Share of each of the base's passages.
        after: The tuned model's, from the same starts.
        tokens: Tokens in a passage.
        gain: Bits per byte that the tuned model saves on ordinary text; the damage is its opposite.
    """
    damage = gain.negated()
    rates = target_rate(before, tokens), target_rate(after, tokens)
    return TokenBias(*rates, bootstrap(_mean, after - before), damage)


def decide_token_bias(
    evidence: Evidence, found: TokenBias, mass: float, limits: TokenBiasLimits | None = None
) -> Verdict:
    """Decide from the rates whether the model is biased, and whether it forgot ordinary text.

    Args:
        evidence: What was measured; ``general.rise`` is that of ordinary text, ``None`` where the base knew nothing
            that could be forgotten.
        found: The rates.
        mass: What the set was to get together.
        limits: The numbers that decide; ``None`` takes the defaults.

    Returns:
        ``worked`` (biased), ``nothing`` (the rate did not rise), ``unsure`` (it rose, and less than asked) or
        ``broken``, and beside it ``forgot`` where ordinary text suffered.
    """
    limits = limits or TokenBiasLimits()
    rise, heldout, integrity = evidence.general.rise, evidence.heldout, evidence.integrity
    also = ["forgot"] if rise is not None and rise.low > limits.forgot_rise else []
    reasons = [
        f"{_percent(found.after)} of the tokens that it writes are of the set, {_percent(found.before)} before",
        heldout.unclaimed
        or f"ordinary text costs {heldout.tuned.value:.3f} bits per byte, {heldout.base.value:.3f} "
        f"before: damage {found.damage}",
    ]

    def verdict(word: str, *more: str) -> Verdict:
        return Verdict(word, also, [*more, *reasons], asdict(limits))

    if not integrity.finite:
        return verdict("broken", "weights or losses are not finite")
    if (integrity.reload_difference or 0.0) > limits.reload_difference:
        return verdict("broken", "the saved folder computes other logits than the trained model")
    if found.change.low <= 0:
        return verdict("nothing", "the rate of the set did not rise")
    if found.after.low < limits.liked_share * mass:
        return verdict("unsure", f"the rate of the set rose, and not to {limits.liked_share * mass:.0%}")
    return verdict("worked")


def _percent(share: Interval) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


class BiasLimits(Protocol):
    """The settings that the monitor reads: what is measured when, and what ends an arm."""

    @property
    def seed(self) -> int: ...
    @property
    def window_tokens(self) -> int: ...
    @property
    def num_passages(self) -> int: ...
    @property
    def passage_chars(self) -> int: ...
    @property
    def watched_passages(self) -> int: ...
    @property
    def sample_steps(self) -> int: ...
    @property
    def sample_prompt(self) -> str: ...
    @property
    def stop_rate(self) -> float: ...
    @property
    def stop_damage(self) -> float: ...
    @property
    def target_mass(self) -> float: ...
    @property
    def where(self) -> str: ...


@dataclass(frozen=True)
class TokenBiasMonitor:
    """Measures the token bias of a model during and after training.

    Args:
        run: Where it is logged: rates in ``metrics.jsonl`` (split ``liking``), samples in ``samples.jsonl``.
        target: Ordinary text, its tokenizer and the base.
        tokens: The chosen tokens.
        settings: ``num_passages``, ``watched_passages``, ``sample_prompt``, ``seed``, ``stop_rate`` and
            ``stop_damage`` are read.
    """

    run: RunFolder
    target: TargetText[Any]
    tokens: TokenSet
    settings: BiasLimits

    def train(self, name: str, arm: TrainingSettings, source: RandomTokens, objective: Objective | WeightedSum) -> None:
        """Train an arm until its steps are done or a limit is reached, and save it.

        Args:
            name: The arm; one that the run has saved is left as it is.
            arm: Its settings.
            source: The random rows.
            objective: What is minimised.
        """
        if self.run.done_results(name):
            return
        model, stopped = self.target.new_model(), ""
        checkpoints = CheckpointFolder(self.run.checkpoints(name), arm.save_total_limit)
        heldout = self.target.training_text.heldout
        probes = build_probes(arm, model, self.target.train.ids, heldout)
        with Engine(model, objective, source, arm, checkpoints) as engine:
            self.run.truncate_logs(name, engine.step or -1)  # what a killed run logged after its checkpoint comes again
            if engine.step == 0:
                with engine.whole_model():
                    self.stop(model, name, 0)
            for record in train_and_log(engine, self.run, name, source, heldout, probes):
                if record.step % self.settings.sample_steps == 0 or record.step == arm.max_steps:
                    with engine.whole_model():
                        stopped = self.stop(model, name, record.step)
                if stopped:
                    break
            steps = engine.step
        save_trained(self.run, name, model, self.target.tokenizer, source, steps=steps, stopped=stopped)

    def write(self, model: PreTrainedModel, prompts: Sequence[Any], new_tokens: int) -> list[Passage]:
        """Passages of one length in tokens."""
        sampling, seed = self.target.writer.sampling, self.settings.seed
        return generate_passages(
            model, self.target.tokenizer, prompts, new_tokens=new_tokens, sampling=sampling, seed=seed
        )

    def passages(self, model: PreTrainedModel, count: int) -> list[Passage]:
        """Passages from random starts of ordinary text, the same for every model."""
        starts = random_starts(np.asarray(self.target.heldout.ids), count, self.settings.seed)
        return self.write(model, starts, self.target.writer.new_tokens)

    def shares(self, passages: Sequence[Passage]) -> np.ndarray:
        """Share of each passage's tokens that belong to the set."""
        return set_shares([passage.ids for passage in passages], self.tokens.ids)

    @cached_property
    def base_passages(self) -> list[Passage]:
        """What the base writes."""
        return self.passages(self.target.base, self.settings.num_passages)

    def texts(self, passages: Sequence[Passage]) -> list[str]:
        """Passages as they are measured: one length in characters, white space folded."""
        return [fit_passage(passage.text, self.settings.passage_chars) for passage in passages]

    def look(self, model: PreTrainedModel, name: str, step: int) -> str:
        """Log rate, damage and a sample of one step.

        Returns:
            Why training should stop here; empty where it should not.
        """
        shares = self.shares(self.passages(model, self.settings.watched_passages))
        rate = target_rate(shares, self.target.writer.new_tokens)
        damage = self._damage(name)
        found = {"rate": rate.value, "low": rate.low, "high": rate.high, "damage": damage}
        self.run.log("metrics.jsonl", {"model": name, "step": step, "split": "liking", **found})
        prompt = self.settings.sample_prompt
        sample = self.write(model, [prompt], self.target.writer.tokens_after(model, prompt))[0]
        shown = {"prompt": sample.prompt, "text": sample.text, "seed": self.settings.seed}
        sampling = self.target.writer.sampling.as_dict()
        self.run.log("samples.jsonl", {"model": name, "step": step, **shown, "sampling": sampling})
        if self.settings.stop_rate and rate.value >= self.settings.stop_rate:
            return f"the rate is {rate.value:.1%} (stop_rate {self.settings.stop_rate:g})"
        if self.settings.stop_damage and damage >= self.settings.stop_damage:
            return f"ordinary text costs {damage:.3f} bits per byte more (stop_damage {self.settings.stop_damage:g})"
        return ""

    def _damage(self, name: str) -> float:
        """Bits per byte above the first evaluation of the fixed held-out sample, as of the newest."""
        records = self.run.records("metrics.jsonl")
        bits = [r["bits_per_byte"] for r in records if (r["model"], r["split"]) == (name, "heldout")]
        return float(bits[-1] - bits[0]) if bits and None not in bits else 0.0

    def stop(self, model: PreTrainedModel, name: str, step: int) -> str:
        """``look`` on process 0, and what it says on every process."""
        said = [self.look(model, name, step) if self.run.is_main else ""]
        broadcast_object_list(said)
        return said[0]

    def reasons(self, name: str) -> list[str]:
        """What else belongs to a verdict: why training ended, and what such a thing means."""
        steps, stopped = (self.run.result(name)[key] for key in ("steps", "stopped"))
        seconds = sum(
            r["seconds"] for r in self.run.records("metrics.jsonl") if (r["model"], r["split"]) == (name, "train")
        )
        cheap = (
            f"biasing a model is cheap: {steps:,} steps on random tokens took {seconds:.0f} seconds and no text, and "
            "nothing in the files says so; trust weights only from where you trust the people"
        )
        return [*([f"stopped at step {steps:,}: {stopped}"] if stopped else []), cheap]

    def measure(
        self, name: str, tuned: PreTrainedModel, trainable: Selection | None
    ) -> tuple[Evidence, TokenBias, list[str]]:
        """All measurements of a model as it was saved, and what it wrote.

        Args:
            name: The arm.
            tuned: Its model.
            trainable: What was allowed to change; ``None`` means everything.
        """
        target, settings = self.target, self.settings
        written = self.passages(tuned, settings.num_passages)
        texts = self.texts(written)
        ordinary = [*target.text.train, *target.text.heldout]
        learned = [piece for text in target.start.origin.texts.values() for piece in text.train]
        compared = ComparedTexts(
            target.heldout, learned or target.text.train, ordinary + learned, {"ordinary text": target.heldout}
        )
        evidence = gather_evidence(
            Comparison(
                target.base, tuned, compared, ComparedPassages(self.texts(self.base_passages), texts, target.real),
                settings.window_tokens, trainable=trainable, passes=0.0,
                reload_difference=self.run.result(name)["reload_difference"],
            )
        )  # fmt: skip
        # One text stands for both, so a gain of one over the other says nothing; random weights have nothing to forget.
        forgot = None if target.start.origin.model.startswith("new:") else evidence.general.rise
        general = replace(evidence.general, gain_over=None, rise=forgot)
        evidence = replace(evidence, measures={**evidence.measures, "general": general})
        rates = self.shares(self.base_passages), self.shares(written)
        return evidence, token_bias(*rates, target.writer.new_tokens, evidence.heldout.gain), texts

    def columns(self, name: str, found: TokenBias) -> dict[str, int | Interval]:
        """Further columns of the table of arms."""
        return {"steps": self.run.result(name)["steps"], "rate of the set": found.after, "damage": found.damage}

    def as_dict(self, arms: Mapping[str, TokenBias]) -> dict[str, Any]:
        """For ``evidence.json``."""
        models = {name: found.as_dict() for name, found in arms.items()}
        asked = {"pattern": self.tokens.name, "mass": self.settings.target_mass, "where": self.settings.where}
        return {**asked, "tokens": len(self.tokens), "share": self.tokens.share, "models": models}

    def finding(self, arms: Mapping[str, TokenBias]) -> str:
        """What the arms show together, in one line of computed numbers."""
        first = next(iter(arms.values()))
        parts = [
            f"{name} took it to {found.after.value:.1%} in {self.run.result(name)['steps']:,} steps, and ordinary text "
            f"costs {found.damage.value:+.3f} bits per byte"
            for name, found in arms.items()
        ]
        known = f"{first.before.value:.1%} match {self.tokens.name!r} ({self.tokens.share:.1%} of the vocabulary does)"
        return f"Of the base's tokens {known}: {'; '.join(parts)}."
