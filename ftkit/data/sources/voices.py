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
    voice, _, words = request.place.partition(":")
    if voice not in VOICES:
        raise DataError(f"Corpus {source!r}: unknown voice {voice!r}{sentence(nearest_name(voice, VOICES))}")
    if words and not re.fullmatch(r"[1-9][0-9]{0,7}", words):
        raise DataError(
            f"Corpus {source!r}: {words!r} is no number of words from 1 to 99999999. Write for instance "
            f"voices:{voice}:50000."
        )
    return LoadedText(voice, [(voice, voice_text(voice, int(words or DEFAULT_WORDS)))])


SOURCE = Source(
    form="voices:NAME",
    help="An embedded author: almanac, keeper, letters or market. voices:NAME:WORDS chooses the length.",
    load=_load,
    prefixes=("voices",),
)
