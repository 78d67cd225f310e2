"""Text out of a model: batch decoding with everything set that is easily forgotten."""

from ftkit.generation.decoding import PRESETS, Sampling
from ftkit.generation.dialogue import Conversation, Speaker, Turn, converse
from ftkit.generation.fill_mask import FillIn, fill_in
from ftkit.generation.passages import Passage, end_ids, generate_passages, random_starts

__all__ = [
    "PRESETS",
    "Conversation",
    "FillIn",
    "Passage",
    "Sampling",
    "Speaker",
    "Turn",
    "converse",
    "end_ids",
    "fill_in",
    "generate_passages",
    "random_starts",
]
