"""Text that is both trained on and held out is said before training, and a text that is too short to learn from."""

from pathlib import Path

import pytest

from ftkit.config import TrainingSettings
from ftkit.data import voice_text
from ftkit.jobs import load_texts
from ftkit.jobs.verdict_requests import VerdictRequest, read_texts
from ftkit.runs import RunFolder


@pytest.mark.parametrize(("copies", "trained", "said"), [(2, True, True), (1, True, False), (2, False, False)])
def test_a_heldout_part_that_is_trained_on_too_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, copies: int, trained: bool, said: bool
) -> None:
    for number in range(copies):
        (tmp_path / "shelf").mkdir(exist_ok=True)
        (tmp_path / "shelf" / f"{number}.txt").write_text(voice_text("keeper", 4000))
    run = RunFolder(tmp_path, "test", {"data": {}}, is_main=True)
    with caplog.at_level("WARNING", "ftkit.jobs"):
        load_texts({"mine": str(tmp_path / "shelf")}, TrainingSettings(), run, trained=trained)
    line = "mine: 100% of the held-out text's word 12-grams occur in the training text too"
    assert (line in caplog.text) == ("12-grams" in caplog.text) == said


def test_only_a_text_that_is_learned_is_too_short_to_learn_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("learned", "heldout", "general"):
        (tmp_path / f"{name}.txt").write_text(voice_text("keeper", 900))
    texts = [str(tmp_path / f"{name}.txt") for name in ("learned", "heldout", "general")]
    with caplog.at_level("WARNING", "ftkit.data"):
        read_texts(VerdictRequest("base", "tuned", *texts))
    assert [record.getMessage().split(" has ")[0] for record in caplog.records] == texts[:1]
    caplog.clear()
    with caplog.at_level("WARNING", "ftkit.data"):
        load_texts({"general": texts[2]}, TrainingSettings(), trained=False)
    assert not caplog.records
