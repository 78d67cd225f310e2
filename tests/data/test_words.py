"""Words of every script, against the Unicode database, and English as it always was."""

import os
import random
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftkit.data import VOICES, load_corpus, voice_text
from ftkit.data.words import (
    begins_inside_word,
    character_share,
    count_words,
    join_words,
    plain_words,
    shuffled_words,
    word_spans,
    words_of,
    written_pieces,
)

ENGLISH_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")  # of ftkit 0.1
BOOKS = os.environ.get("FTKIT_BOOKS", "")  # read here, since tests run without it


def assert_as_before(text: str) -> None:
    assert words_of(text) == [word.lower() for word in ENGLISH_WORD.findall(text.replace("’", "'"))]
    assert word_spans(text) == [match.span() for match in ENGLISH_WORD.finditer(text)]
    assert plain_words(text) == re.findall(r"(?u)\b\w+\b", text)
    assert count_words(text) == len(text.split())
    words = text.split()
    random.Random(3).shuffle(words)
    assert shuffled_words(text, random.Random(3)) == " ".join(words)
    assert [piece for piece, _ in written_pieces(text, 40)] == [
        word[first : first + 40] for word in text.split() for first in range(0, len(word), 40)
    ]


@pytest.mark.parametrize("voice", VOICES)
def test_english_voices_have_the_words_that_they_always_had(voice):
    text = voice_text(voice, 4000)
    assert_as_before(text)
    assert character_share(text) == 0


@pytest.mark.skipif(not BOOKS, reason="FTKIT_BOOKS names no folder of books")
def test_english_books_have_the_words_that_they_always_had():
    books = sorted(Path(BOOKS).glob("*.txt"))
    assert books
    for book in books:
        assert_as_before(load_corpus(str(book)).text[:200_000])


def test_combining_marks_stay_in_their_words():
    assert words_of("हिन्दी में किताब पढ़ना अच्छा है") == ["हिन्दी", "में", "किताब", "पढ़ना", "अच्छा", "है"]
    assert words_of("وَلَدٌ می‌خواهم") == ["وَلَدٌ", "می‌خواهم"]
    composed = "café déjà élève Ångström"
    assert words_of(unicodedata.normalize("NFD", composed)) == words_of(composed) == composed.lower().split()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我爱北京，天安门。", ["我", "爱", "北", "京", "天", "安", "门"]),
        ("カタカナーと ひらがな", [*"カタカナーと", *"ひらがな"]),
        ("ภาษาไทยดี ๑๒", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย", "ดี", "๑๒"]),
        ("ພາສາລາວ", [*"ພາສາລາວ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("use Python 3 写代码", ["use", "python", "3", "写", "代", "码"]),
        ("한국어는 쉽다", ["한국어는", "쉽다"]),
    ],
)
def test_scripts_without_spaces_are_cut_into_characters_with_their_marks(text, words):
    assert words_of(text) == words
    assert [text[a:b].lower() for a, b in word_spans(text)] == words
    assert count_words(text) == len(words)


@given(st.text(alphabet=st.sampled_from("aé \n\u3000我က"), max_size=60))
def test_words_are_counted_alike_in_parts(text):
    expected = count_words(text)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("ftkit.data.words._COUNTED", 3)
        assert count_words(text) == expected


@given(st.text(alphabet=st.sampled_from("aé e\u0301’'_1½我。「」カหิน်မनि\u200d\n-"), max_size=60))
def test_no_letter_is_lost_and_none_counted_twice(text):
    letters = [char for char in text if unicodedata.category(char)[0] == "L"]
    found = [char for start, end in word_spans(text) for char in text[start:end]]
    assert [char for char in found if unicodedata.category(char)[0] == "L"] == letters
    assert sorted(shuffled_words(text, random.Random(1)).replace(" ", "")) == sorted("".join(text.split()))
    pieces = list(written_pieces(text, 3))
    assert "".join(f" {piece}" if spaced else piece for piece, spaced in pieces).split() == text.split()


def test_words_are_written_as_they_are_read():
    assert join_words(["我", "爱", "new", "york", "北", "京"]) == "我爱 new york 北京"
    assert join_words(["one", "two"]) == "one two"


def test_what_begins_inside_a_word_is_told_by_a_letter_but_not_where_words_have_no_spaces():
    assert [begins_inside_word(t) for t in ("rest of", "िन", " a", "1", "。", "我", "ไทย")] == [
        True,
        True,
        *[False] * 5,
    ]


def test_the_share_of_words_that_are_characters():
    assert character_share("我爱 two words") == pytest.approx(0.5)
    assert character_share("") == 0
