"""Several models on one stream of batches, one step each in turn."""

from collections.abc import Iterator, Mapping

from ftkit.errors import DeviceError
from ftkit.training.engine import Engine, StepRecord

__all__ = ["lockstep"]


def lockstep(
    arms: Mapping[str, Engine], streams: Mapping[str, Iterator[StepRecord]]
) -> Iterator[tuple[str, StepRecord]]:
    """Take one step of each arm, then the next of each; a pair trains exactly as its arms would alone.

    Every step seeds the random generators from (seed, step, process) and rows are a pure function of their number, so
    arms with one seed and one source see the same batches, masks of dropout included, whatever else runs between. An
    arm that an interruption left behind catches up first.

    Args:
        arms: Engines by name, over sources with one fingerprint.
        streams: What to iterate for each: the engine itself, or ``follow`` around it.

    Returns:
        Names of arms and their records, in the order of the arms.

    Raises:
        ValueError: Arms over different batches.
        DeviceError: Sharded arms; several processes with DDP are fine.
    """
    if len({engine.source.fingerprint for engine in arms.values()}) > 1:
        raise ValueError("arms in lock-step need one source: their fingerprints differ")
    for engine in arms.values():  # here, not when the first step is asked for
        if str(engine.accelerator.distributed_type).rpartition(".")[2] == "FSDP":
            raise DeviceError(
                f"lock-step runs in one process or with DDP, not with {engine.accelerator.distributed_type}: run the "
                "arms one after the other"
            )
    return _turns(arms, streams)


def _turns(arms: Mapping[str, Engine], streams: Mapping[str, Iterator[StepRecord]]) -> Iterator[tuple[str, StepRecord]]:
    """One step of each arm after the other."""
    last = max(engine.settings.max_steps for engine in arms.values())
    for step in range(min(engine.step for engine in arms.values()) + 1, last + 1):
        for name, engine in arms.items():
            if engine.step < step and (record := next(streams[name], None)) is not None:
                yield name, record
    for stream in streams.values():
        next(stream, None)  # lets an engine write the checkpoint that was due after its last step
