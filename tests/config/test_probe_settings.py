"""Probes in settings: wrong ones are refused before anything is loaded, and every name has a probe."""

import pytest

from ftkit.config import TrainingSettings
from ftkit.config.probes import PROBES, probe_problems


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        (["weigth_change"], "unknown probe 'weigth_change'; did you mean 'weight_change'?"),
        (["xyz"], "there is: activations, token_groups, update_ratio, weight_change, weights"),
        (["activations:3"], "activations takes no argument"),
        (["token_groups:many"], "the size of a group"),
        (["token_groups:0"], "the size of a group"),
        (["weights", "update_ratio", "weights"], "duplicate probe 'weights'"),
    ],
)
def test_a_wrong_probe_is_explained(probes, said):
    problems = TrainingSettings(model="m", probes=probes).problems()
    assert [name for name, _ in problems] == ["probes"]
    assert said in problems[0][1]


def test_sound_probes_and_steps_without_probes():
    assert probe_problems([*PROBES, "weights:attention.q@1", "token_groups:5", "weight_change:name:h.1:x"]) == []
    assert [name for name, _ in TrainingSettings(model="m", probe_steps=7).problems()] == ["probe_steps"]


def test_every_name_makes_a_probe():
    from ftkit.data import load_tokenizer, tokenize_texts, voice_text
    from ftkit.models import load_model
    from ftkit.training import HeldOutWindows, build_probes

    store = tokenize_texts([voice_text("keeper", 300)], load_tokenizer("byte"))
    settings = TrainingSettings(model="m", probes=list(PROBES), probe_steps=7, window_tokens=16)
    model = load_model("new:gpt2", vocab_size=257)
    made = build_probes(settings, model, store.ids, HeldOutWindows(store, 16))
    assert [(probe.name, probe.every) for probe in made] == [(name, 7) for name in PROBES]
