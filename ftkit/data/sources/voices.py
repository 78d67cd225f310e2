"""An embedded author: original English from a seeded grammar, of any length, without a download."""

import re

from ftkit.data.sources import LoadedText, Source, SourceRequest
from ftkit.data.text_files import sentence
from ftkit.data.voices import VOICES, voice_text
from ftkit.errors import DataError, nearest_name

__all__ = ["SOURCE"]

DEFAULT_WORDS = 30_000  # enough for a held-out tenth of 3,000 words


def _load(request: SourceRequest) -> LoadedText:
    source = request.source
    voice, _, length = request.place.partition(":")
    words, _, seed = length.partition(":")
    if voice not in VOICES:
        raise DataError(f"Corpus {source!r}: unknown voice {voice!r}{sentence(nearest_name(voice, VOICES))}")
    if words and not re.fullmatch(r"[1-9][0-9]{0,7}", words):
        raise DataError(
            f"Corpus {source!r}: {words!r} is no number of words from 1 to 99999999. Write for instance "
            f"voices:{voice}:50000."
        )
    if not re.fullmatch(r"[0-9]{0,9}", seed):
        raise DataError(
            f"Corpus {source!r}: {seed!r} is no seed. Write a whole number, for instance voices:{voice}:50000:1."
        )
    return LoadedText(voice, [(voice, voice_text(voice, int(words or DEFAULT_WORDS), int(seed or 0)))])


SOURCE = Source(
    form="voices:NAME",
    help="An embedded author: almanac, keeper, letters, market or tales. voices:NAME:WORDS chooses the length, "
    "voices:NAME:WORDS:SEED another text in the same style.",
    load=_load,
    prefixes=("voices",),
)
