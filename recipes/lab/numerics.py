"""What do the numbers inside a language model do? A dozen small experiments, each with a figure and a finding.

Norms, normalisation, attention, initialisation, softmax, activations, optimizers, clipping and schedules, on random
numbers and small random models. Nothing is trained or downloaded. Every finding is made of what was measured and held
against theory.

    ftkit run numerics
    ftkit run numerics --experiments softmax,attention --model FOLDER
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import Field

from ftkit.recipe import Problem, RunFolder, Settings, launch, recipe

EXPERIMENTS = (
    "norm_drift", "layer_norm", "attention_scale", "initialisation", "softmax", "gelu", "attention", "logits",
    "optimizer_race", "loss_shapes", "gradient_clipping", "schedules",
)  # fmt: skip


class NumericsSettings(Settings):
    """Which experiments, and how large."""

    FAST = {
        "model": "new:ftkit_gpt2", "drawn_model": "new:ftkit_gpt2,vocab_size=1024,hidden_size=128", "draws": 2000,
        "timing_repeats": 3, "attention_tokens": [8, 64], "try_compile": False,
    }  # fmt: skip

    experiments: list[str] = []
    """Names of experiments; without any all of them are run."""
    model: str = "new:ftkit_gpt2,num_hidden_layers=6,hidden_size=192,num_attention_heads=6,vocab_size=2048"
    """Model whose attention scores are looked at: a folder, a Hub id, or new:FAMILY,... for random weights."""
    drawn_model: str = "new:ftkit_gpt2,num_hidden_layers=6,hidden_size=192,num_attention_heads=6,vocab_size=8192"
    """Shape of ftkit's own GPT-2 that is drawn by every policy: new:ftkit_gpt2,..."""
    draws: int = Field(default=10_000, ge=100)
    """Draws whose frequencies are counted."""
    timing_repeats: int = Field(default=30, ge=1)
    """Rounds of each timing; the median counts."""
    attention_tokens: list[int] = [8, 64, 256, 512]
    """Numbers of tokens at which attention is compared."""
    try_compile: bool = True
    """Whether attention is compiled too, which needs a C++ compiler and half a minute."""
    use_cpu: bool = False
    """Take times on the CPU even where there is an accelerator."""

    def problems(self) -> list[Problem]:
        """Experiments that do not exist, and shapes that cannot be used."""
        from ftkit.errors import nearest_name

        found = super().problems()
        unknown = [name for name in self.experiments if name not in EXPERIMENTS]
        found += [("experiments", f"unknown experiment {name!r}{nearest_name(name, EXPERIMENTS)}") for name in unknown]
        if not self.drawn_model.startswith("new:ftkit_gpt2"):
            text = f"is {self.drawn_model!r}; weights are drawn for ftkit's own GPT-2 only: new:ftkit_gpt2,..."
            found.append(("drawn_model", text))
        tokens = self.attention_tokens
        if min(tokens, default=0) < 2 or len(set(tokens)) < len(tokens):
            found.append(("attention_tokens", f"are {tokens}; give one number or more, each once and at least 2"))
        return found


@recipe
def main(settings: NumericsSettings, run: RunFolder) -> None:
    """Every experiment that was chosen, then the report."""
    from ftkit.errors import ConfigError
    from ftkit.jobs import prepare_base
    from ftkit.lab import numerics
    from ftkit.report import announce, write_report
    from ftkit.runs import progress, read_evidence, write_evidence
    from ftkit.runs.planner import planner

    if planner():
        raise ConfigError("numerics trains nothing, so there is nothing to plan; run it: it takes a minute or two")
    if not run.is_main:
        return
    device = numerics.timing_device(settings.use_cpu)
    compiled = {} if settings.try_compile else {"compiler": None}
    seed, repeats = settings.seed, settings.timing_repeats
    experiments: dict[str, Callable[[], numerics.Outcome]] = {
        "norm_drift": partial(numerics.measure_norm_drift, seed=seed),
        "layer_norm": partial(numerics.measure_layer_norm, seed=seed),
        "attention_scale": lambda: numerics.measure_attention_scale(
            seed=seed, model=prepare_base(settings.model).model
        ),
        "initialisation": partial(numerics.measure_initialisation, settings.drawn_model, seed=seed),
        "softmax": partial(numerics.measure_softmax, draws=settings.draws, seed=seed),
        "gelu": partial(numerics.measure_gelu, repeats=repeats, seed=seed, device=device),
        "attention": partial(numerics.measure_attention, settings.attention_tokens, repeats, seed, device, **compiled),
        "logits": partial(numerics.measure_logits, seed=seed),
        "optimizer_race": numerics.measure_optimizer_race,
        "loss_shapes": numerics.measure_loss_shapes,
        "gradient_clipping": partial(numerics.measure_gradient_clipping, seed=seed),
        "schedules": numerics.measure_schedules,
    }
    chosen = [name for name in EXPERIMENTS if name in (settings.experiments or EXPERIMENTS)]
    evidence = read_evidence(run.path).get("numerics", {})
    with progress("experiments", len(chosen), 0) as bar:
        for name in chosen:
            if run.done_results(name) is None:
                evidence[name] = numerics.as_evidence(experiments[name]())
                write_evidence(run, {"finding": numerics.summary(evidence), "numerics": evidence})
                run.mark_done(name)
            bar.advance(name)
    write_report(run, report_section())
    announce(run, report_section())


def report_section() -> Any:
    """Return what this recipe adds to the report; ``ftkit report`` calls it too."""
    from ftkit.lab.sections import NUMERICS

    return NUMERICS


if __name__ == "__main__":
    launch(main)
