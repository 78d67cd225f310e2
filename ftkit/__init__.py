"""Fine-tune small language models and learn, with evidence, whether it worked.

Importing this package loads no torch and registers nothing; ``import ftkit.models`` registers the own GPT-2.
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
