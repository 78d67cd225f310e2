"""The processes of a job: how many there are, how they meet, and how an error on one of them ends all.

A process that waits for another waits inside C, where Python sees no signal, and a launcher gives up on it only after
half a minute. So whatever process 0 does alone, the others learn how it went, and while they wait, SIGTERM ends them.
"""

import atexit
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar

from ftkit.errors import DeviceError, FtkitError, PeerError
from ftkit.memory import memory_phase

__all__ = [
    "broadcast_from_main",
    "check_processes",
    "gathered",
    "is_main_process",
    "join_processes",
    "losing_a_peer",
    "num_processes",
    "stays_on_cpu",
    "sync_errors",
    "wait_for_everyone",
]

T = TypeVar("T")

_logger = logging.getLogger("ftkit.runs")
_PATIENCE = timedelta(hours=24)  # process 0 measures and writes alone; torch would give up after 10 minutes
_LOST = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Connection refused|Socket Timeout|remote process")


def num_processes() -> int:
    """How many processes the launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is process 0, which writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def stays_on_cpu(asked: bool = False) -> bool:
    """Whether the job runs on the CPU: asked for by a setting or by accelerate, or started where there is nothing else.

    accelerate (1.15) takes processes without an accelerator for one process each unless it is told that they mean it.

    Args:
        asked: The setting ``use_cpu``.
    """
    from accelerate.utils import parse_flag_from_env
    from torch import accelerator

    return (
        asked
        or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
        or ("LOCAL_RANK" in os.environ and not accelerator.is_available())
    )


def check_processes(required: int = 0) -> None:
    """Compare the processes that there are with those that were asked for.

    Args:
        required: The setting ``require_processes``; 0 takes any number.

    Raises:
        DeviceError: There are more or fewer than required.
    """
    if required and required != (found := num_processes()):
        raise DeviceError(
            f"require_processes: asked {required}, have {found}; start with 'torchrun --standalone --nproc_per_node "
            f"{required} -m ftkit.recipes.NAME' or 'accelerate launch --config_file recipes/accelerate/ddp.yaml "
            f"--num_processes {required} -m ftkit.recipes.NAME', or leave it out"
        )
    if "WORLD_SIZE" not in os.environ and "MASTER_PORT" in os.environ:
        _warn_that_one_is_alone()


@cache
def _warn_that_one_is_alone() -> None:
    _logger.warning(
        "a launcher was asked for several processes (it has set MASTER_PORT) and has started one: there is no "
        "WORLD_SIZE. 'accelerate launch --cpu --num_processes N' does so; use recipes/accelerate/cpu.yaml or torchrun"
    )


def join_processes(use_cpu: bool = False) -> None:
    """Meet the other processes, once; a process that is alone has nobody to meet and loads no torch for it."""
    if num_processes() > 1:
        from accelerate import PartialState

        with _ending_on_sigterm():
            PartialState(cpu=stays_on_cpu(use_cpu), timeout=_PATIENCE)
        _part_at_the_end()


@cache
def _part_at_the_end() -> None:
    """Close the connections before Python ends.

    Left to the end of the process they have threads, and now and then one of those aborts a process whose work was done
    (SIGABRT), for which a launcher ends the others.
    """
    from torch import distributed

    def part() -> None:
        if hasattr(sys, "last_exc"):  # a traceback was printed: the others wait for this process, see ``launch``
            sys.stderr.flush()
            os._exit(1)
        if distributed.is_initialized():
            distributed.destroy_process_group()

    atexit.register(part)


def wait_for_everyone() -> None:
    """A barrier where the job has several processes."""
    if num_processes() > 1:
        from accelerate import PartialState

        with _ending_on_sigterm(), losing_a_peer():
            PartialState().wait_for_everyone()


def broadcast_from_main(value: T) -> T:
    """What process 0 has found, on every process.

    Args:
        value: It, on process 0; anything elsewhere. Plain Python objects only.
    """
    if num_processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    values = [value]
    with _ending_on_sigterm(), losing_a_peer():
        broadcast_object_list(values)
    return values[0]


def gathered(values: list[T]) -> list[T]:
    """The values of all processes in one list, on every process.

    Args:
        values: Those of this process; plain Python objects only.
    """
    if num_processes() == 1:
        return values
    from accelerate.utils import gather_object

    with _ending_on_sigterm(), losing_a_peer():
        found: list[T] = gather_object(values)
    return found


@contextmanager
def sync_errors() -> Iterator[None]:
    """Let an error of any process end what runs inside on all; the process that it happened to carries the message.

    Every process must come here; where the block does nothing on some of them, they wait for the others.
    """
    problem: Exception | None = None
    try:
        with memory_phase():
            yield
    except Exception as error:
        problem = error
    if isinstance(problem, PeerError):  # whoever failed has left, and does not come here
        raise problem
    codes = gathered([0 if problem is None else problem.exit_code if isinstance(problem, FtkitError) else 1])
    if problem is not None:
        raise problem
    if any(codes):
        raise PeerError(max(codes))


@contextmanager
def losing_a_peer() -> Iterator[None]:
    """Turn what torch says about a broken connection into ``PeerError``: the process that left has said why."""
    try:
        yield
    except RuntimeError as error:
        if num_processes() > 1 and _LOST.search(str(error)):
            raise PeerError(1) from None
        raise


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end a waiting process at once; process 0 has a manifest to write and keeps its own handler."""
    if is_main_process():
        yield
        return
    try:
        previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
