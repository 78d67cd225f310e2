"""Classes cut from running text: passages of one length, the end of each text held out."""

from pathlib import Path

import pytest

from ftkit.config import ClassifierSettings, resolve
from ftkit.config.resolve import read_flags
from ftkit.errors import ConfigError, DataError
from ftkit.jobs import load_classes


def settings_of(*flags: str) -> ClassifierSettings:
    given = ("--tokenizer", "byte", *flags)
    return resolve(ClassifierSettings, "classify", read_flags(ClassifierSettings, list(given))).settings


def written(folder: Path, name: str, sentences: int) -> str:
    """A text whose sentences are numbered, so that their order can be seen."""
    path = folder / f"{name}.txt"
    path.write_text(" ".join(f"Here {name} says the sentence {n:05d}." for n in range(sentences)), encoding="utf-8")
    return f"--classes={name}={path}"


def numbers(texts) -> list[int]:
    return [int(word[:5]) for text in texts for word in text.split() if word[:5].isdigit() and len(word) > 5]


def test_every_test_passage_stands_behind_every_passage_to_learn_from(tmp_path):
    sources = written(tmp_path, "anna", 900), written(tmp_path, "bert", 600)
    split = load_classes(settings_of(*sources, "--passage_chars", "300", "--heldout_share", "0.25"))
    assert split.train.classes == ("anna", "bert")
    for number, (name, sentences) in enumerate((("anna", 900), ("bert", 600))):
        sides = [
            [text for text, label in zip(side.texts, side.labels, strict=True) if label == number]
            for side in (split.train, split.test)
        ]
        assert all(name in text for side in sides for text in side)
        assert max(numbers(sides[0])) < min(numbers(sides[1]))
        assert len(sides[1]) / (len(sides[0]) + len(sides[1])) == pytest.approx(0.25, abs=0.02)
        assert max(numbers(sides[1])) > 0.97 * sentences
        assert all(200 < len(text) <= 420 for side in sides for text in side)


def test_a_text_that_is_too_short_and_settings_without_effect_are_refused(tmp_path):
    sources = written(tmp_path, "anna", 60), written(tmp_path, "bert", 20)
    with pytest.raises(DataError, match=r"held-out part has no passage of 300 characters"):
        load_classes(settings_of(*sources, "--passage_chars", "300"))
    with pytest.raises(ConfigError, match="passage_chars: has no effect on labelled texts"):
        settings_of("--labelled", "reviews.csv", "--passage_chars", "300")
    with pytest.raises(ConfigError, match="no effect beside passage_chars"):
        settings_of(*sources, "--passage_chars", "300", "--labelled_test", "more.csv")
