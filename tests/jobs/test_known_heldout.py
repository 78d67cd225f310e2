"""Text that is both trained on and held out is said before training."""

from pathlib import Path

import pytest

from ftkit.config import TrainingSettings
from ftkit.data import voice_text
from ftkit.jobs import load_texts
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
