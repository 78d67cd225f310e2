"""The measures, one file each. A file here that sets ``MEASURE`` is a measure; so is an entry point ``ftkit.measures``.

No main job names a measure: without its file it is in no output, and all else runs. Of the laboratory, token bias reads
``general`` and ``integrity``.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from ftkit.evidence.measure import Measure

__all__ = ["all_measures"]


@cache
def all_measures() -> tuple[Measure[Any], ...]:
    """Every measure that is installed, in the order of its place."""
    own = [import_module(f"{__name__}.{module.name}").MEASURE for module in iter_modules(__path__)]
    others = [point.load() for point in entry_points(group="ftkit.measures")]
    return tuple(sorted((*own, *others), key=lambda measure: measure.place))
