"""Fine-tune small language models and learn, with evidence, whether it worked.

    import ftkit

    judged = ftkit.verdict(base="base-model", tuned="tuned-model", text="corpus.txt")
    judged.print()
    judged.save_report("verdict.html")

Importing this package loads no torch. The Auto classes of transformers know ftkit's own models as soon as both are
imported, in either order: then ``AutoModelForCausalLM.from_pretrained(FOLDER)`` needs no ``trust_remote_code``.
"""

from typing import TYPE_CHECKING

from ftkit.lazy import import_after, load_names_lazily

if TYPE_CHECKING:
    from ftkit.jobs.callback import VerdictCallback
    from ftkit.jobs.verdicts import verdict

__all__ = ["VerdictCallback", "__version__", "verdict"]

__version__ = "0.2.0"

load_names_lazily(__name__)
import_after("transformers.models.auto.modeling_auto", "ftkit.models")  # which registers the own models
