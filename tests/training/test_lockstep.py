"""Two arms in turn train as they would alone."""

import pytest
import torch
from conftest import settings, tiny

from ftkit.training import NEXT_TOKEN, CheckpointFolder, Engine, TokenWindows, lockstep

ARMS = {"all": settings(max_steps=5), "norms": settings(max_steps=5, train="norm", weight_decay=0.1)}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in model.parameters()])


def test_a_pair_equals_its_two_solo_runs_bit_for_bit(store):
    source = TokenWindows(store, 32, 5)
    solo, solo_losses = {}, {}
    for name, run in ARMS.items():
        model = tiny("gpt2", dropout=True)
        with Engine(model, NEXT_TOKEN, source, run) as engine:
            solo_losses[name] = [record.loss for record in engine]
        solo[name] = weights(model)
    models = {name: tiny("gpt2", dropout=True) for name in ARMS}
    engines = {name: Engine(models[name], NEXT_TOKEN, source, run) for name, run in ARMS.items()}
    records = list(lockstep(engines, {name: iter(engine) for name, engine in engines.items()}))
    assert [name for name, _ in records] == ["all", "norms"] * 5
    for name in ARMS:
        assert [record.loss for arm, record in records if arm == name] == solo_losses[name]
        assert torch.equal(weights(models[name]), solo[name])
    assert not torch.equal(solo["all"], solo["norms"])


def test_an_arm_that_was_left_behind_catches_up(store, tmp_path):
    source = TokenWindows(store, 32, 5)
    whole = {name: tiny() for name in ARMS}
    for name, run in ARMS.items():
        with Engine(whole[name], NEXT_TOKEN, source, run) as engine:
            list(engine)
    with Engine(
        tiny(), NEXT_TOKEN, source, ARMS["all"].model_copy(update={"save_steps": 3}), CheckpointFolder(tmp_path)
    ) as e:
        for record in e:
            if record.step == 4:
                break
    models = {name: tiny() for name in ARMS}
    engines = {
        "all": Engine(models["all"], NEXT_TOKEN, source, ARMS["all"], CheckpointFolder(tmp_path)),
        "norms": Engine(models["norms"], NEXT_TOKEN, source, ARMS["norms"]),
    }
    assert engines["all"].step == 3
    order = [(name, r.step) for name, r in lockstep(engines, {name: iter(e) for name, e in engines.items()})]
    assert order == [("norms", s) for s in (1, 2, 3)] + [(n, s) for s in (4, 5) for n in ("all", "norms")]
    assert all(torch.equal(weights(models[name]), weights(whole[name])) for name in ARMS)


def test_arms_over_different_batches_are_refused(store):
    engines = {str(seed): Engine(tiny(), NEXT_TOKEN, TokenWindows(store, 32, seed), ARMS["all"]) for seed in (1, 2)}
    with pytest.raises(ValueError, match="one source"):
        next(lockstep(engines, {name: iter(engine) for name, engine in engines.items()}))
