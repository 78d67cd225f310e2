"""``ftkit plan``, and what it shares with ``run``: from a name on the command line to a recipe's program."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.completion import complete_entry

if TYPE_CHECKING:
    from ftkit.config import Settings
    from ftkit.jobs.plan import Plan
    from ftkit.training.resource_plan import PlannedTraining

__all__ = ["find_program", "plan"]


def find_program(name: str, arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """The recipe's file and the arguments after its name.

    Args:
        name: A recipe, a configuration, or a file of either.
        arguments: What follows.

    Raises:
        ConfigError: There is no such recipe or configuration.
    """
    from ftkit.config import find_config, find_recipe
    from ftkit.config.catalogue import find_entry, recipe_of
    from ftkit.errors import ConfigError

    is_path = "/" in name or name.endswith((".yaml", ".yml", ".py"))
    if (Path(name) if is_path else find_entry(name)).suffix not in (".yaml", ".yml"):
        return find_recipe(name), list(arguments)
    if any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
        raise ConfigError(f"{name!r} is a configuration already; give --config with a recipe's name instead")
    config = find_config(name)
    return recipe_of(config), ["--config", str(config), *arguments]


def plan(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe, a configuration, or a file of either; then its settings.", autocompletion=complete_entry
        ),
    ],
    figure: Annotated[Path | None, typer.Option(help="SVG of the learning rate; its CSV is written beside it.")] = None,
    memory_gb: Annotated[
        float | None, typer.Option("--memory-gb", min=0.0, help="Plan for a device with this much free memory.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a run will need, before it runs: tokens, memory, minutes, what the model will see.

    A few real steps are measured and thrown away; no run folder is made. Exit code 3: it will not fit.
    """
    from ftkit.config.launch import configure_output, report_errors

    def start() -> None:
        from ftkit.errors import DeviceError

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise DeviceError("plan measures one process: start it without torchrun or accelerate launch")
        program, arguments = find_program(name, context.args)
        main, arms = _arms(program, arguments)
        configure_output()
        kept = _Kept()
        logger = logging.getLogger("ftkit")
        logger.setLevel(logging.WARNING)
        if as_json:
            for handler in logger.handlers:
                handler.setLevel(logging.ERROR)
            logger.addHandler(kept)
        from ftkit.jobs.plan import plan_run

        memory = None if memory_gb is None else int(memory_gb * 1e9)
        with _ended_by_signals():
            plans = {arm: (plan_run(main, settings, memory), repeats) for arm, (settings, repeats) in arms.items()}
        files = _write_figure(plans, figure) if figure else []
        if as_json:
            found = {arm: {**plan.as_dict(), "runs": repeats} for arm, (plan, repeats) in plans.items()}
            document = {"recipe": program.stem, "arms": found, "files": files, "warnings": list(kept.messages)}
            typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            for line in _lines(plans, files):
                typer.echo(line)
        if not all(plan.fits for plan, _ in plans.values()):
            raise DeviceError("it will not fit into the memory that is available; what to change stands above")

    sys.exit(report_errors(start))


class _Kept(logging.Handler):
    """Keeps what would be shown in a terminal, each message once and in order."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages[record.getMessage()] = None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the process at once: a plan has nothing to save, and Python handles no signal during a
    backward pass, which may take minutes."""
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _arms(program: Path, arguments: list[str]) -> tuple[Any, dict[str, tuple["Settings", int]]]:
    """The recipe's main, and the settings and number of runs of each arm; a run that is no study is one arm."""
    from ftkit.config import resolve
    from ftkit.config.catalogue import load_recipe
    from ftkit.config.launch import main_settings
    from ftkit.config.resolve import read_flags
    from ftkit.config.sweeps import find_study

    main = load_recipe(program).main
    settings_class = main_settings(main)
    study = find_study(settings_class, program.stem, arguments)
    if study is None:
        flags = read_flags(settings_class, arguments)
        return main, {program.stem: (resolve(settings_class, program.stem, flags).settings, 1)}
    arms: dict[str, tuple[Settings, int]] = {}
    for point in study.points:
        settings, repeats = arms.get(point.arm, (point.settings, 0))
        arms[point.arm] = settings, repeats + 1
    return main, arms


def _write_figure(plans: dict[str, tuple["Plan", int]], figure: Path) -> list[str]:
    from ftkit.report.schedule import write_schedules

    several = len(plans) > 1
    schedules = {
        f"{arm}: {training.name}" if several else training.name: training.schedule
        for arm, (plan, _) in plans.items()
        for training in plan.trainings
    }
    return [str(path) for path in write_schedules(schedules, figure)]


def _lines(plans: dict[str, tuple["Plan", int]], files: list[str]) -> Iterator[str]:
    """A plan for people."""
    total = 0.0
    for arm, (plan, repeats) in plans.items():
        if len(plans) > 1 or repeats > 1:
            yield f"== {arm}" + (f", {repeats} runs" if repeats > 1 else "")
        for base in plan.bases:
            yield f"{base} is not made yet; it is made once, before the run, and planned here too"
        for training in plan.trainings:
            yield from _training_lines(training)
        if plan.num_passages:
            yield f"passages     {plan.num_passages} are written before training, about {plan.passage_seconds:.0f} s"
        yield from _memory_lines(plan)
        total += (plan.seconds or 0.0) * repeats
        yield ""
    if all(plan.fits for plan, _ in plans.values()):
        yield f"in all about {_duration(total)}, with evaluations; samples, judgements and the report come on top"
    yield from files


def _memory_lines(plan: "Plan") -> Iterator[str]:
    """What the process will take, phase by phase."""
    from ftkit.errors import size

    for name, phase in plan.phases.items():
        number = size(phase.rss_growth_bytes) if phase.rss_growth_bytes else f"{size(phase.tensor_bytes)} in tensors"
        yield f"memory       {name:9}{number:>9} ({phase.how})"
    if plan.phases:
        needed = size(plan.peak_rss_growth_bytes or plan.peak_tensor_bytes)
        verdict = "fits" if plan.fits else "WILL NOT FIT"
        yield f"memory       {needed} in all, {size(plan.available_bytes)} available: {verdict}"


def _training_lines(training: "PlannedTraining") -> Iterator[str]:
    from ftkit.errors import size
    from ftkit.report.schedule import sparkline
    from ftkit.training.logs import described_groups, described_plan

    yield f"{training.name}: " + (described_plan(training.plan) if training.plan else f"{training.steps} steps")
    for line in described_groups(training.plan) if training.plan else ():
        yield f"  {line}"
    rates = training.schedule
    yield f"schedule     {sparkline(rates)}  peak {max(rates):g}, at the last of {len(rates)} updates {rates[-1]:.3g}"
    tried = ", ".join(map(str, training.tried_rows)) or "no"
    yield (
        f"tensors      {size(training.peak_bytes)} at the worst moment of a step: {size(training.fixed_bytes)} "
        f"without rows, {size(training.row_bytes)} a row for {training.rows} rows, {size(training.update_bytes)} "
        f"in the update; measured on {tried} row{'' if tried == '1' else 's'}"
    )
    if training.disk_bytes:
        parts = ", ".join(f"{size(num_bytes)} {name}" for name, num_bytes in training.disk_bytes.items())
        yield f"disk         {size(sum(training.disk_bytes.values()))} at most: {parts}"
    for advice in training.advice:
        yield f"  - {advice}"
    if training.seconds_per_step is not None and training.seconds is not None:
        yield (
            f"time         {training.seconds_per_step:.3g} s a step, {training.steps} steps, evaluations "
            f"{training.evaluation_seconds:.0f} s: about {_duration(training.seconds)}"
        )
    yield from (f"warning: {warning}" for warning in training.warnings)
    yield "first rows of the first batch:"
    yield from (f"  {row}" for row in training.first_rows)


def _duration(seconds: float) -> str:
    if seconds >= 3 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
