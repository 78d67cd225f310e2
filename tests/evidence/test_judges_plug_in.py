"""A judge added in one file is in every panel, gate and table; the encoder is built where its settings are given."""

import os
import subprocess
import sys
from pathlib import Path

from ftkit.evidence.judges import JudgeRequest, JudgeTexts, all_judges
from ftkit.evidence.judges.encoder import build_encoder_judge

TOY = '''
"""toy_judge.py: a judge that only counts exclamation marks."""
import numpy as np
from ftkit.evidence.judges import BuiltJudge

class ExclamationJudge:
    name, unit = "exclamations", "characters"

    def __init__(self, texts):
        self.classes, self.texts = texts.classes, texts
        self.means = np.array([np.mean([p.count("!") for p in group]) for group in texts.train.values()])

    def probabilities(self, passages):
        far = np.array([[-abs(passage.count("!") - mean) for mean in self.means] for passage in passages])
        shares = np.exp(far)
        return shares / shares.sum(1, keepdims=True)

    def lengths(self, passages):
        return np.array([len(passage) for passage in passages])

    def relearn(self, train, seed):
        return ExclamationJudge(type(self.texts)(train, {}))

def build(request):
    return BuiltJudge(ExclamationJudge(request.texts))
'''
USE = """
from ftkit.evidence import JudgeTexts, build_judges
loud, calm = ([f"{word} {number}{mark}" for number in range(60)] for word, mark in (("hey", "!!!!!!"), ("well", ".")))
texts = JudgeTexts({"loud": loud[:30], "calm": calm[:30]}, {"loud": loud[30:], "calm": calm[30:]})
panel = build_judges(texts, ["loud"], seed=0)
pairs = panel.gates["exclamations"].auc_pairs
print([judge.name for judge in panel.judges], sorted(panel.as_dict()), pairs["loud"]["calm"])
scores = panel.score("loud", calm[30:], loud[:20], loud[30:])
print([score.judge for score in scores], scores[-1].score.low > scores[-1].floor.high)
"""


def test_a_judge_in_one_file_is_in_every_panel(tmp_path: Path) -> None:
    (tmp_path / "toy_judge.py").write_text(TOY)
    (tmp_path / "toy-1.dist-info").mkdir()
    (tmp_path / "toy-1.dist-info/entry_points.txt").write_text("[ftkit.judges]\nexclamations = toy_judge:build\n")
    (tmp_path / "toy-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    variables = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", USE], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built, scored = done.stdout.splitlines()
    assert built == "['ngrams', 'exclamations'] ['exclamations', 'ngrams'] 1.0"
    assert scored == "['ngrams', 'exclamations'] True"


def test_the_encoder_comes_first_and_only_where_its_settings_are_given() -> None:
    assert [build.__name__ for build in all_judges()] == ["build_encoder_judge", "build_ngram_judge"]
    assert build_encoder_judge(JudgeRequest(JudgeTexts({}, {}), seed=0)) is None
