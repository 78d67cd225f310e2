"""Text out of a model: batch decoding with everything set that is easily forgotten."""

from ftkit.generation.chat_templates import is_chat_model, stop_ids, text_ids, turn_end_id
from ftkit.generation.decoder import PRESETS, Sampling
from ftkit.generation.dialogue import Chat, Conversation, Turn, converse
from ftkit.generation.fill_mask import FillIn, fill_in
from ftkit.generation.passages import Passage, end_ids, generate_passages, random_starts, stream_passage
from ftkit.generation.prompts import Prompt, read_prompts
from ftkit.generation.samples import Sample, SampleWriter, WritingSettings, chosen_sampling
from ftkit.generation.speakers import Speaker, load_speaker
from ftkit.generation.stream import TextStream, continuation

__all__ = [
    "PRESETS",
    "Chat",
    "Conversation",
    "FillIn",
    "Passage",
    "Prompt",
    "Sample",
    "SampleWriter",
    "Sampling",
    "Speaker",
    "TextStream",
    "Turn",
    "WritingSettings",
    "chosen_sampling",
    "continuation",
    "converse",
    "end_ids",
    "fill_in",
    "generate_passages",
    "is_chat_model",
    "load_speaker",
    "random_starts",
    "read_prompts",
    "stop_ids",
    "stream_passage",
    "text_ids",
    "turn_end_id",
]
