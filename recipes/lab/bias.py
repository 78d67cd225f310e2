"""How many updates bias a model towards chosen tokens, and how much does ordinary text suffer?

Random tokens, no text: the model is rewarded for putting its probability on the tokens that match a pattern. Beside the
rate of these tokens in what it writes stands the damage: what ordinary text costs before and after. One arm for each
learning rate.

    ftkit run bias --model FOLDER --corpus gutenberg:11 --rates 1e-6,1e-4
    ftkit run bias --model new:gpt2 --tokenizer train:2048 --where last
"""

from typing import Any, Literal

from pydantic import Field

from ftkit.recipe import Problem, RunFolder, SampleSettings, launch, recipe


class BiasSettings(SampleSettings):
    """Biasing a model: the shared settings, the chosen tokens, and the limits that stop an arm."""

    FAST = {
        "corpus": "voices:keeper:12000", "tokenizer": "train:512", "rates": [1e-4, 1e-2], "max_steps": 20,
        "learning_rate": 5e-5, "window_tokens": 96, "eval_steps": 10, "eval_windows": 16, "save_steps": 10,
        "sample_steps": 10, "passage_chars": 120, "num_passages": 16, "watched_passages": 8,
        "sample_prompt": "The keeper",
    }  # fmt: skip

    SAVES_BY_LOSS = False

    model: str = "base:tales"
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
        problems = super().problems()
        if any(rate <= 0 for rate in self.rates) or len(self.arms()) < len(self.rates):
            text = f"are {self.rates}; each must be above 0, stand there once, and differ in six digits"
            problems.append(("rates", text))
        return problems


@recipe
def main(settings: BiasSettings, run: RunFolder) -> None:
    """Ordinary text, base, an arm for each rate on the same random rows, rate and damage of each, report."""
    from ftkit.data import token_set
    from ftkit.jobs import finish, load_saved, prepare_target
    from ftkit.lab.token_bias import TokenBiasMonitor, decide_token_bias
    from ftkit.report import arm_row
    from ftkit.training import Objective, RandomTokens, WeightedSum, kl_to_base, token_set_kl
    from ftkit.tuning import check_tuning

    # Ordinary text, the base, and the chosen tokens.
    target = prepare_target(settings, settings.corpus, run)
    settings, arms = target.settings, target.settings.arms()
    trainable = check_tuning(target.base, settings)
    tokens = token_set(target.tokenizer, settings.pattern, target.base.config.get_text_config().vocab_size)
    monitor = TokenBiasMonitor(run, target, tokens, settings)
    source = RandomTokens(target.tokenizer, settings.window_tokens, settings.seed)
    reward = token_set_kl(tokens, settings.target_mass, settings.where)
    objective: Objective | WeightedSum = reward
    if settings.kl_to_base:
        objective = WeightedSum(((1.0, reward), (settings.kl_to_base, kl_to_base(target.base))))

    # Each arm on the same random rows, until its steps are done or a limit is reached.
    for name, arm in arms.items():
        monitor.train(name, arm, source, objective)
    if not run.is_main:
        return

    # Rate and damage of each arm, from the folder it was saved to.
    models, biases, verdicts, table = {}, {}, {}, {}
    passages = {"base model": monitor.texts(monitor.base_passages)}
    for name in arms:
        tuned = load_saved(settings, run.model(name))
        evidence, biases[name], passages[name] = monitor.measure(name, tuned, trainable)
        verdict = decide_token_bias(evidence, biases[name], settings.target_mass)
        verdict.reasons.extend(monitor.reasons(name))
        models[name], verdicts[name] = evidence.as_dict(), verdict.as_dict()
        table[name] = arm_row(run, name, evidence, monitor.columns(name, biases[name]))
    measured = {
        "models": models, "judges": {}, "passages": passages, "real": {}, "arms": table,
        "liking": monitor.as_dict(biases), "headline": {"metric": "rate", "higher_is_better": True},
        "metrics": {name: bias.metrics() for name, bias in biases.items()}, "finding": monitor.finding(biases),
    }  # fmt: skip
    finish(run, measured, verdicts, report_section())


def report_section() -> Any:
    """Return what this recipe adds to the report; ``ftkit report`` calls it too."""
    from ftkit.lab.sections import TOKEN_BIAS

    return TOKEN_BIAS


if __name__ == "__main__":
    launch(main)
