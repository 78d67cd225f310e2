"""What the laboratory's recipes add to the report."""

from ftkit.lab.sections.dialogue import DIALOGUE
from ftkit.lab.sections.numerics import NUMERICS
from ftkit.lab.sections.token_bias import TOKEN_BIAS

__all__ = ["DIALOGUE", "NUMERICS", "TOKEN_BIAS"]
