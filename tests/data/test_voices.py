import calendar
import datetime
import hashlib
import itertools
import re
import subprocess
import sys

import pytest

from ftkit.data import VOICES, load_corpus, voice_text
from ftkit.errors import DataError

ALL = sorted(VOICES)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def test_there_are_five_voices_and_each_has_a_description() -> None:
    assert ALL == ["almanac", "keeper", "letters", "market", "tales"]
    assert all(len(description) > 20 for description in VOICES.values())


@pytest.mark.parametrize("name", ALL)
def test_text_is_at_least_as_long_as_asked_and_ends_with_a_line_end(name: str) -> None:
    for num_words in (1, 100, 3_000):
        text = voice_text(name, num_words)
        assert num_words <= len(text.split()) < num_words + 600
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "\n\n\n" not in text


@pytest.mark.parametrize("name", ALL)
def test_a_longer_text_begins_with_the_shorter_one(name: str) -> None:
    assert voice_text(name, 2_000).startswith(voice_text(name, 500).rstrip())


@pytest.mark.parametrize("name", ALL)
def test_seeds_give_different_texts_and_processes_the_same(name: str) -> None:
    assert voice_text(name, 500, seed=0) != voice_text(name, 500, seed=1)
    program = f"from ftkit.data import voice_text; print(voice_text({name!r}, 500, 3), end='')"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert other == voice_text(name, 500, 3)


@pytest.mark.parametrize("name", ALL)
def test_few_runs_of_twelve_words_come_again(name: str) -> None:
    words = voice_text(name, 40_000).split()
    border = len(words) * 9 // 10
    before = {tuple(words[at : at + 12]) for at in range(border - 11)}
    after = [tuple(words[at : at + 12]) for at in range(border, len(words) - 11)]
    assert len(after) > 3_900
    assert sum(run in before for run in after) / len(after) < 0.05


@pytest.mark.parametrize("name", ALL)
def test_vocabulary_is_small_and_not_tiny(name: str) -> None:
    assert 400 <= len(set(words_of(voice_text(name, 40_000)))) <= 1200


def test_voices_share_function_words_and_differ_in_the_rest() -> None:
    vocabularies = {name: set(words_of(voice_text(name, 10_000))) for name in ALL}
    shared = set.intersection(*vocabularies.values())
    assert {"the", "a", "an", "of", "and", "to", "in", "it", "is", "not", "for", "on", "with"} <= shared
    for name in ALL:
        others = set().union(*(vocabularies[other] for other in ALL if other != name))
        assert len(vocabularies[name] - others) > 150


@pytest.mark.parametrize("name", ALL)
def test_articles_capitals_and_signs_are_right(name: str) -> None:
    text = voice_text(name, 40_000)
    assert re.findall(r"[{}<>|\[\]^_~@&%\u00b6\u21b5]|  | [,.;:!?]|,,|\.\.|;\.", text) == []
    wrong = set(re.findall(r"\b[Aa] [aeio]\w*|\b[Aa]n [^aeiouAEIOU\s]\w*", text))
    assert {phrase for phrase in wrong if not re.match(r"a one|an (hour|honest)", phrase, re.IGNORECASE)} == set()
    assert re.findall(r"(?:[.!?] |\n\n)[a-z]\w*", text) == []
    doubled = re.findall(r"\b(?!had\b|that\b)(\w+) \1\b", text.lower())
    assert doubled == []
    assert text.count('"') % 2 == 0


def test_known_texts_stay_as_they_were_published() -> None:
    digests = {name: hashlib.sha256(voice_text(name, 30_000).encode()).hexdigest()[:16] for name in ALL}
    assert digests == PUBLISHED


PUBLISHED = {
    "almanac": "8c97839d1a45270b",
    "keeper": "5b0e10350dd2f552",
    "letters": "863dff75a58a6d7e",
    "market": "a0e7a59935f6fb41",
    "tales": "53493b7e7535f7ec",
}


def test_dates_of_the_log_go_on_day_by_day_with_their_weekdays() -> None:
    months, weekdays = list(calendar.month_name)[1:], list(calendar.day_name)
    text = voice_text("keeper", 5_000)
    days, offsets = [], set()
    for found in re.finditer(r"(?:^|\n\n)(?:(\w+day), )?(\d+) (\w+)(?:, (\w+day))?\.", text):
        if found[3] not in months:
            continue  # "5 in the afternoon."
        day = (datetime.date(2001, months.index(found[3]) + 1, int(found[2])) - datetime.date(2001, 1, 1)).days
        days.append(day if not days or day >= days[-1] else day + 365)
        if found[1] or found[4]:
            offsets.add((weekdays.index(found[1] or found[4]) - days[-1]) % 7)
    assert len(days) > 30
    assert all(0 < later - earlier < 20 for earlier, later in itertools.pairwise(days))
    assert len(offsets) == 1


def test_voices_as_corpora() -> None:
    assert load_corpus("voices:keeper").num_words >= 30_000
    corpus = load_corpus("voices:market:12000")
    assert (corpus.name, corpus.source) == ("market", "voices:market:12000")
    assert corpus.text == voice_text("market", 12_000)


def test_unknown_voices_and_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'keeper'"):
        load_corpus("voices:keper")
    with pytest.raises(DataError, match="almanac, keeper, letters, market, tales"):
        voice_text("shakespeare", 10)
    with pytest.raises(DataError, match="at least 1"):
        voice_text("keeper", 0)
    for words in ("0", "-5", "many", "1e4"):
        with pytest.raises(DataError, match="number of words"):
            load_corpus(f"voices:keeper:{words}")
