"""Fine-tune small language models and learn, with evidence, whether it worked.

    import ftkit

    judged = ftkit.verdict(base="base-model", tuned="tuned-model", text="corpus.txt")
    judged.print()
    judged.save_report("verdict.html")

Importing this package loads no torch and registers nothing; ``import ftkit.models`` registers the own GPT-2.
"""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.jobs.callback import VerdictCallback
    from ftkit.jobs.verdicts import verdict

__all__ = ["VerdictCallback", "__version__", "verdict"]

__version__ = "0.2.0"

load_names_lazily(__name__)
