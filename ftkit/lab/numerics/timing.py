"""Times that can be compared: side by side, warm, and only when the device has finished (lessons 04/014, 04/022).

An accelerator returns before it has computed; a clock that is read then measures the launch.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["median_seconds", "timing_device"]


def timing_device(use_cpu: bool = False) -> torch.device:
    """Where times are taken: the accelerator, where there is one and it is wanted, else the CPU."""
    found = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def median_seconds(arms: Mapping[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """The median time of a call of each arm.

    The arms take turns, each round beginning with another one, so that what else the machine does meets all of them.

    Args:
        arms: What is timed, by name.
        repeats: Rounds that count; one before them does not.
        device: Where the arms compute; it has finished before every start and before every stop.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(repeats + 1):
        place = turn % len(names)
        for name in names[place:] + names[:place]:
            _finish(device)
            start = time.perf_counter()
            arms[name]()
            _finish(device)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
