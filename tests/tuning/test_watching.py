"""What is watched, against explicit slices."""

import torch

from ftkit.models import load_model
from ftkit.tuning import ParameterGroups, Watch, select


def test_change_is_the_frobenius_norm_of_the_slice_and_starts_anew_at_every_call():
    model = load_model("new:gpt2")
    watch = Watch(model, select(ParameterGroups(model), "attention.k@1"))
    weight = model.transformer.h[1].attn.c_attn.weight
    assert watch.change() == 0.0
    with torch.no_grad():
        weight[:, 64:128] += 0.5  # keys
        weight[:, :64] += 7.0  # queries, which are not watched
    assert abs(watch.change() - 0.5 * 64) < 1e-3
    assert watch.change() == 0.0
