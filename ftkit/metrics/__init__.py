"""ftkit's measures as modules of the ``evaluate`` library, each in a folder that loads without the network.

import evaluate
from ftkit.metrics import metric_path
evaluate.load(metric_path("fluency")).compute(predictions=[...], known_texts=[...])
"""

from pathlib import Path

from ftkit.errors import ConfigError

__all__ = ["NAMES", "metric_path"]

NAMES = ("bits_per_byte", "code_validity", "copying", "fluency", "token_usage")
"""The measures that there are."""


def metric_path(name: str) -> str:
    """The folder that ``evaluate.load`` takes.

    Args:
        name: One of ``NAMES``.

    Raises:
        ConfigError: There is no such measure.
    """
    if name not in NAMES:
        raise ConfigError(f"metric {name!r} is none of ftkit's; these are: {', '.join(NAMES)}")
    return str(Path(__file__).parent / name)
