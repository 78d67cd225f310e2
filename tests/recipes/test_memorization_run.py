"""What a model knows by heart: a piece repeated in the text that a pretrained model is trained on."""

import json

import numpy as np

from ftkit.jobs.verdicts import VerdictRequest, judge_models

REPEATED = (
    "The analytical power should not be confounded with simple ingenuity, for while the analyst is necessarily "
    "ingenious, the ingenious man is often remarkably incapable of analysis. "
)


def test_a_repeated_text_is_named_and_its_sentence_is_a_known_canary(stories260k, tmp_path):
    from batteries.texts import shuffled_words
    from batteries.tuning import Loop, make_folder
    from ftkit.data import voice_text

    text = voice_text("letters", 6000)
    paragraphs = text.split("\n\n")
    for place in range(0, len(paragraphs), max(len(paragraphs) // 24, 1)):
        paragraphs[place] += "\n\n" + REPEATED
    source = tmp_path / "trained.txt"
    source.write_text("\n\n".join(paragraphs))
    canaries = tmp_path / "canaries.txt"
    lines = [REPEATED, *(shuffled_words(REPEATED, seed) for seed in range(150))]  # more than windows are evaluated
    canaries.write_text("\n\n".join(lines) + "\n")
    heldout = tmp_path / "heldout.txt"
    heldout.write_text(voice_text("letters", 4000, seed=9))
    make_folder(str(stories260k), source.read_text(), Loop(120, 4e-3, 8, 64, 0), tmp_path / "tuned")
    request = VerdictRequest(
        str(stories260k), str(tmp_path / "tuned"), str(source), str(heldout), num_passages=30, passage_chars=120,
        window_tokens=64, eval_windows=150, train_windows=100_000, canaries=str(canaries),
    )  # fmt: skip
    judged = judge_models(request, tmp_path / "verdict")
    found = judged.evidence.measures["memorization"]
    assert found.chance < 0.025
    assert sum("ingen" in passage.text for passage in found.known) >= 5
    known, *shuffled = found.canaries.each
    assert len(shuffled) == 150
    assert known.gain > found.canaries.limit > np.median([each.gain for each in shuffled])
    assert any(reason.startswith("canaries: ") and " of 151 " in reason for reason in judged.verdict.reasons)
    written = json.loads((tmp_path / "verdict/evidence.json").read_text())
    assert written["models"]["tuned"]["measures"]["memorization"]["canaries"]["each"][0]["text"].startswith("The anal")
