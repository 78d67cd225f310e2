"""How many updates bias a model towards chosen tokens, and how much does ordinary text suffer?

Random tokens, no text: the model is rewarded for putting its probability on the tokens that match a pattern. Beside the
rate of these tokens in what it writes stands the damage: what ordinary text costs before and after. One arm for each
learning rate.

    ftkit run bias --model FOLDER --corpus gutenberg:11 --rates 1e-6,1e-4
    ftkit run bias --model new:gpt2 --tokenizer train:2048 --corpus novel.txt --where last
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.config import TrainingSettings, launch
from ftkit.config.settings import Problem


class BiasSettings(TrainingSettings):
    """Biasing a model: the shared settings, the chosen tokens, and the limits that stop an arm."""

    FAST = {
        "corpus": "voices:keeper:12000", "tokenizer": "train:512", "rates": [1e-4, 1e-2], "max_steps": 20,
        "learning_rate": 5e-5, "window_tokens": 96, "eval_steps": 10, "eval_windows": 16, "save_steps": 10,
        "sample_steps": 10, "passage_chars": 120, "num_passages": 16, "watched_passages": 8,
        "sample_prompt": "The keeper",
    }  # fmt: skip

    model: str = "base:demo_base"
    """Model that is biased: a folder, a Hub id, new:FAMILY,..., or base:CONFIG."""
    corpus: str = "voices:keeper"
    """Ordinary text, never trained on: {sources}.
    Its held-out part shows the damage; a tokenizer train:SIZE learns from the rest."""
    heldout_share: float = Field(default=0.5, gt=0, lt=0.9)
    """Share of the ordinary text on which damage is measured."""

    pattern: str = "x"
    """Chosen tokens: a regular expression, searched in the text of each token."""
    target_mass: float = Field(default=1.0, gt=0, le=1)
    """Probability that these tokens are to get together, evenly; the rest is spread evenly over all others."""
    where: Literal["all", "last"] = "all"
    """At every position of a row of random tokens, or at its last alone."""
    kl_to_base: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the base at all positions of the same rows, against forgetting; 0 leaves it out."""
    rates: list[float] = []
    """Learning rates, an arm for each; instead of learning_rate."""

    max_steps: int = Field(default=300, ge=1)
    """Optimizer updates of each arm, if nothing stops it."""
    window_tokens: int = Field(default=64, ge=2)
    """Random tokens in a row, and tokens in a window of ordinary text."""
    per_device_train_batch_size: int = Field(default=4, ge=1)
    """Rows in one backward pass on one process."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the learning rate after the warm-up; linear and cosine end at min_lr_rate."""
    sample_steps: int = Field(default=50, ge=1)
    """Steps between measurements of the rate, each with a sample."""
    watched_passages: int = Field(default=16, ge=2)
    """Passages of such a measurement."""
    stop_rate: float = Field(default=0.0, ge=0, le=1)
    """End an arm at a measurement that finds this rate or more; 0 does not."""
    stop_damage: float = Field(default=0.0, ge=0)
    """End an arm when ordinary text costs so many bits per byte more, as of the newest evaluation; 0 does not."""
    sample_prompt: str = "Why did the chicken cross the road?"
    """Beginning of every sample."""
    sampling: Literal["plain", "focused", "creative", "top50", "judged"] = "plain"
    """How tokens are drawn; plain is the model's own distribution."""
    passage_chars: int = Field(default=200, ge=20)
    """Characters of ordinary text whose tokens a passage has."""
    num_passages: int = Field(default=64, ge=8)
    """Passages of each model that are measured at the end."""

    @property
    def general(self) -> dict[str, str]:
        """No further text."""
        return {}

    def arms(self) -> dict[str, "BiasSettings"]:
        """Settings of each arm by name."""
        rates = self.rates or [self.learning_rate]
        return {f"rate-{rate:g}": self.model_copy(update={"learning_rate": rate, "rates": []}) for rate in rates}

    def problems(self) -> list[Problem]:
        """Rates that are none, or the same twice."""
        found = super().problems()
        if any(rate <= 0 for rate in self.rates) or len(self.arms()) < len(self.rates):
            text = f"are {self.rates}; each must be above 0, stand there once, and differ in six digits"
            found.append(("rates", text))
        if self.rates and self.is_overridden("learning_rate"):
            found.append(("learning_rate", "has no effect beside rates; leave one of them out"))
        return found


def main(settings: BiasSettings) -> None:
    """Ordinary text, base, an arm for each rate on the same random rows, rate and damage of each, report."""
    from ftkit.data import token_set
    from ftkit.lab.token_bias import decide_token_bias
    from ftkit.lab.token_bias_monitor import TokenBiasMonitor
    from ftkit.report import announce, arm_row
    from ftkit.runs import open_run
    from ftkit.studies import finish, load_saved, prepare_subject, save_trained
    from ftkit.training import (
        CheckpointFolder,
        Engine,
        RandomTokens,
        WeightedSum,
        build_probes,
        follow,
        kl_to_base,
        token_set_kl,
    )
    from ftkit.tuning import check_tuning

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run, report_section())
            return

        # Ordinary text, the base, and the chosen tokens.
        subject = prepare_subject(settings, run)
        settings, arms = subject.settings, subject.settings.arms()
        trainable = check_tuning(subject.base, settings)
        rows = subject.base.config.get_text_config().vocab_size
        tokens = token_set(subject.tokenizer, settings.pattern, rows)
        watch = TokenBiasMonitor(run, subject, tokens, settings)
        objective = token_set_kl(tokens, settings.target_mass, settings.where)
        source = RandomTokens(subject.tokenizer, settings.window_tokens, settings.seed)

        # Each arm on the same random rows, until its steps are done or a limit is reached.
        for name, arm in arms.items():
            if run.sealed(name):
                continue
            model, parts, said = subject.new_model(), [(1.0, objective)], ""
            if settings.kl_to_base:
                parts.append((settings.kl_to_base, kl_to_base(subject.base)))
            minimised = WeightedSum(tuple(parts)) if len(parts) > 1 else objective
            checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
            probes = build_probes(arm, model, subject.train, subject.heldout)
            with Engine(model, minimised, source, arm, checkpoints) as engine:
                run.rewind(name, engine.step or -1)  # what a killed run logged after its checkpoint comes again
                if engine.step == 0:
                    with engine.whole_model():
                        watch.stop(model, name, 0)
                for record in follow(engine, run, name, source, subject.heldout, probes):
                    if record.step % settings.sample_steps == 0 or record.step == settings.max_steps:
                        with engine.whole_model():
                            said = watch.stop(model, name, record.step)
                    if said:
                        break
                steps = engine.step
            save_trained(run, name, model, subject.tokenizer, source, steps=steps, stopped=said)

        # Rate and damage of each arm, from the folder it was saved to.
        if not run.is_main:
            return
        found, biases, verdicts, table = {}, {}, {}, {}
        passages = {"base model": watch.texts(watch.base_passages)}
        for name in arms:
            tuned = load_saved(settings, run.model(name))
            evidence, biases[name], passages[name] = watch.measure(name, tuned, trainable)
            verdict = decide_token_bias(evidence, biases[name], settings.target_mass)
            verdict.reasons.extend(watch.reasons(name))
            found[name], verdicts[name] = evidence.as_dict(), verdict.as_dict()
            table[name] = arm_row(run, name, evidence, watch.columns(name, biases[name]))
        finish(
            run,
            {
                "models": found, "judges": {}, "passages": passages, "real": {}, "arms": table,
                "liking": watch.as_dict(biases),
                "headline": {"metric": "rate", "higher_is_better": True},
                "metrics": {name: item.metrics() for name, item in biases.items()},
                "finding": watch.finding(biases),
            },
            verdicts,
            report_section(),
        )  # fmt: skip


def report_section() -> Any:
    """Return what this recipe adds to the report; ``ftkit report`` calls it too."""
    from ftkit.lab.sections import TOKEN_BIAS

    return TOKEN_BIAS


if __name__ == "__main__":
    launch(main)
