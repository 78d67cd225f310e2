"""The best step by held-out loss: found, kept, restored exactly, known again after a kill; and early stopping."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_DROPOUT, settings

from ftkit.config import AdapterSettings, ClassifierSettings, TrainingSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import CheckpointError, DivergedError
from ftkit.models import load_model
from ftkit.runs import RunFolder
from ftkit.training import (
    NEXT_TOKEN,
    CheckpointFolder,
    Engine,
    HeldOutWindows,
    TokenWindows,
    held_out_loss,
    lockstep,
    train_and_log,
)
from ftkit.tuning import attach_adapter

SMALL = "new:ftkit_gpt2,num_hidden_layers=1,hidden_size=32,num_attention_heads=2"
OVERFIT = {
    "max_steps": 20, "learning_rate": 1e-2, "weight_decay": 0.0, "eval_steps": 2, "eval_windows": 8,
    "per_device_train_batch_size": 4, "save_steps": 5, "lr_scheduler_type": "constant", "load_best_model_at_end": True,
}  # fmt: skip
"""A planted overfit: 48 bytes are learned by heart, and text of another voice is held out."""


@dataclass
class Job:
    """One training in a folder that outlives it, as a run does."""

    folder: Path
    settings: TrainingSettings
    cache: Path

    def __post_init__(self) -> None:
        tokenizer = load_tokenizer("byte")
        learned, unseen = voice_text("keeper", 600)[:48], voice_text("almanac", 400)[:1500]
        self.source = TokenWindows(tokenize_texts([learned], tokenizer, cache=self.cache), 32, 3)
        self.heldout = HeldOutWindows(tokenize_texts([unseen], tokenizer, cache=self.cache), 32)
        self.folder.mkdir(exist_ok=True)
        self.model = self.start()
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def start(self) -> Any:
        adapted = isinstance(self.settings, AdapterSettings) and self.settings.peft != "none"
        model = load_model(f"{SMALL},{NO_DROPOUT['ftkit_gpt2']}", seed=0, vocab_size=257, max_positions=64)
        return attach_adapter(model, self.settings, base="m") if adapted else model

    def train(self, until: int = 0) -> dict[str, Any]:
        """Train, or train until a step and leave everything as a kill would; returns the manifest."""
        stored = self.folder / "manifest.json"
        manifest = json.loads(stored.read_text()) if stored.exists() else {"phases": {}}
        run = RunFolder(self.folder, "test", manifest, is_main=True)
        checkpoints = CheckpointFolder(run.checkpoints("model"), self.settings.save_total_limit)
        with Engine(self.model, NEXT_TOKEN, self.source, self.settings, checkpoints) as engine:
            run.truncate_logs("model", engine.step or -1)
            for record in train_and_log(engine, run, "model", self.source, self.heldout):
                self.seen[record.step] = self.weights()
                if record.step == until:
                    break
        return run.manifest

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def records(self, split: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in r.items() if k != "seconds"} for r in lines if r["split"] == split]

    def losses(self) -> dict[int, float]:
        return {record["step"]: record["loss"] for record in self.records("heldout")}


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> tuple[Job, dict[str, Any]]:
    """The planted overfit, uninterrupted."""
    job = Job(tmp_path_factory.mktemp("whole"), settings(**OVERFIT), texts)
    return job, job.train()


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_model_gets_exactly_the_weights_of_its_best_evaluation(whole):
    job, manifest = whole
    losses = {step: loss for step, loss in job.losses().items() if step}
    best = min(losses, key=losses.__getitem__)
    assert 0 < best < 20
    assert losses[20] > losses[best] + 0.5  # the overfit is real
    assert manifest["best"]["model"] == {
        "step": best, "loss": losses[best], "last_step": 20, "last_loss": losses[20], "saved_step": best,
        "max_steps": 20,
    }  # fmt: skip
    assert_equal(job.weights(), job.seen[best])
    assert held_out_loss(job.model, job.heldout, 8).nats_per_target == losses[best]
    assert sorted(losses) == list(range(2, 21, 2))  # the metrics show all evaluations


def test_looking_for_the_best_changes_no_step(whole, tmp_path, texts):
    plain = Job(tmp_path / "plain", settings(**{**OVERFIT, "load_best_model_at_end": False}), texts)
    manifest = plain.train()
    assert "best" not in manifest
    assert not (tmp_path / "plain" / "checkpoints" / "model" / "best").exists()
    assert_equal(plain.weights(), whole[0].seen[20])
    for split in ("train", "heldout"):
        assert plain.records(split) == whole[0].records(split)


@pytest.mark.parametrize(("step", "limit"), [(1, 1), (5, 1), (7, 2), (9, 1), (11, 2), (14, 1), (16, 1), (20, 2)])
def test_killed_after_any_step_it_ends_as_the_uninterrupted_run(whole, tmp_path, texts, step, limit):
    job, manifest = whole
    run = settings(**OVERFIT, save_total_limit=limit)
    Job(tmp_path / "run", run, texts).train(until=step)
    resumed = Job(tmp_path / "run", run, texts)
    assert resumed.train()["best"] == manifest["best"]
    assert_equal(resumed.weights(), job.weights())
    assert resumed.records("heldout") == job.records("heldout")


def test_the_best_weights_stay_whatever_checkpoints_go(whole, tmp_path, texts):
    """Of every checkpoint that a resume may take, the best step before it is there, and the best of all."""
    run = settings(**{**OVERFIT, "save_steps": 3})
    job = Job(tmp_path / "run", run, texts)
    place = job.folder / "checkpoints" / "model"
    for until in range(1, 21, 3):
        job.model = job.start()
        job.train(until=until)
        losses = {step: loss for step, loss in job.losses().items() if step}
        best = {min(losses, key=losses.__getitem__)} if losses else set()
        for checkpoint in place.glob("step-*"):
            earlier = {step: loss for step, loss in losses.items() if step <= int(checkpoint.name[5:])}
            best |= {min(earlier, key=earlier.__getitem__)} if earlier else set()
        kept = {int(path.name[5:]) for path in (place / "best").glob("step-*")}
        assert best <= kept
        assert len(kept) <= 3


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_run_whose_best_weights_are_lost_does_not_go_on_without_them(whole, tmp_path, texts, damage):
    run = settings(**OVERFIT)
    Job(tmp_path / "run", run, texts).train(until=18)
    place = tmp_path / "run" / "checkpoints" / "model" / "best" / f"step-{whole[1]['best']['model']['step']:06d}"
    if damage == "gone":
        shutil.rmtree(place)
    else:
        (place / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"best before the interruption, so the run cannot go on without it"):
        Job(tmp_path / "run", run, texts).train()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "model")
    again = Job(tmp_path / "run", run, texts)  # as the message advises
    assert again.train()["best"] == whole[1]["best"]


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_after_so_many_evaluations_that_are_not_better(whole, tmp_path, texts, patience):
    losses = [whole[0].losses()[step] for step in range(2, 21, 2)]
    not_better, stop = 0, 20
    for place, loss in enumerate(losses):
        not_better = not_better + 1 if loss >= min(losses[:place], default=math.inf) else 0
        if not_better == patience:
            stop = 2 * (place + 1)
            break
    assert stop < 20
    job = Job(tmp_path / "run", settings(**OVERFIT, early_stopping_patience=patience), texts)
    found = job.train()["best"]["model"]
    best = min(range(len(losses[: stop // 2])), key=losses.__getitem__)
    assert (found["step"], found["last_step"], found["saved_step"]) == (2 * best + 2, stop, 2 * best + 2)
    assert_equal(job.weights(), whole[0].seen[2 * best + 2])
    assert max(job.losses()) == stop
    for until in (stop - 1, stop):  # killed just before it stops, and before the model is saved
        Job(tmp_path / f"{until}", job.settings, texts).train(until=until)
        resumed = Job(tmp_path / f"{until}", job.settings, texts)
        assert resumed.train()["best"]["model"] == found
        assert_equal(resumed.weights(), job.weights())


def test_early_stopping_alone_saves_the_last_step(whole, tmp_path, texts):
    run = settings(**{**OVERFIT, "load_best_model_at_end": False}, early_stopping_patience=2)
    job = Job(tmp_path / "run", run, texts)
    found = job.train()["best"]["model"]
    assert found["step"] < found["last_step"] == found["saved_step"] < 20
    assert_equal(job.weights(), job.seen[found["last_step"]])


def test_a_threshold_counts_small_gains_as_none_and_still_finds_the_best(whole, tmp_path, texts):
    losses = whole[0].losses()
    run = settings(**OVERFIT, early_stopping_patience=1, early_stopping_threshold=losses[2] - losses[4] + 1e-9)
    found = Job(tmp_path / "run", run, texts).train()["best"]["model"]
    assert losses[4] < losses[2]
    assert (found["step"], found["last_step"]) == (4, 4)


def test_without_checkpoints_the_best_is_found_too(whole, tmp_path, texts):
    job = Job(tmp_path / "run", settings(**{**OVERFIT, "save_steps": 0}), texts)
    assert job.train()["best"] == whole[1]["best"]
    assert_equal(job.weights(), whole[0].weights())
    assert len(list((job.folder / "checkpoints" / "model" / "best").iterdir())) == 1


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_get_their_best_weights(tmp_path, texts, method):
    values = settings(**{**OVERFIT, "learning_rate": 5e-2}).model_dump()
    run = AdapterSettings(**{**values, "peft": method, "max_steps": 16})
    job = Job(tmp_path / "run", run, texts)
    found = job.train()["best"]["model"]
    assert 0 < found["saved_step"] < 16
    assert_equal(job.weights(), job.seen[found["saved_step"]])
    for place in (job.folder / "checkpoints" / "model" / "best").glob("step-*"):
        assert (place / "model.safetensors").stat().st_size < 30_000  # the adapter, not the base
    Job(tmp_path / "killed", run, texts).train(until=13)
    resumed = Job(tmp_path / "killed", run, texts)
    assert resumed.train()["best"]["model"] == found
    assert_equal(resumed.weights(), job.weights())


def test_arms_in_lock_step_stop_and_save_each_by_its_own_loss(whole, tmp_path, texts):
    runs = {
        "fast": settings(**OVERFIT, early_stopping_patience=2),
        "slow": settings(**{**OVERFIT, "learning_rate": 1e-4}, early_stopping_patience=2),
    }
    alone = {name: Job(tmp_path / name, run, texts) for name, run in runs.items()}
    expected = {name: job.train()["best"]["model"] for name, job in alone.items()}
    assert expected["fast"]["last_step"] < expected["slow"]["last_step"]
    together = {name: Job(tmp_path / "both", run, texts) for name, run in runs.items()}
    run = RunFolder(tmp_path / "both", "test", {"phases": {}}, is_main=True)
    engines = {
        name: Engine(job.model, NEXT_TOKEN, job.source, job.settings, CheckpointFolder(run.checkpoints(name)))
        for name, job in together.items()
    }
    streams = {
        name: train_and_log(engine, run, name, together[name].source, together[name].heldout)
        for name, engine in engines.items()
    }
    for _ in lockstep(engines, streams):
        pass
    assert run.manifest["best"] == expected
    for name, job in together.items():
        assert_equal(job.weights(), alone[name].weights())


def test_a_held_out_loss_that_is_not_finite_chooses_no_step(tmp_path, texts, monkeypatch):
    from ftkit.training import logs

    monkeypatch.setattr(logs.Scores, "heldout_loss", math.nan)
    with pytest.raises(DivergedError, match="step 2: the held-out loss is nan, so no best step can be found"):
        Job(tmp_path / "run", settings(**OVERFIT), texts).train()


@pytest.mark.parametrize(
    ("settings_class", "values", "named"),
    [
        (TrainingSettings, {"load_best_model_at_end": True, "eval_steps": 500}, ["load_best_model_at_end"]),
        (TrainingSettings, {"early_stopping_patience": 2, "eval_steps": 600}, ["early_stopping_patience"]),
        (TrainingSettings, {"load_best_model_at_end": True, "eval_steps": 499}, []),
        (AdapterSettings, {"load_best_model_at_end": True, "eval_steps": 900, "num_train_epochs": 2.0}, []),
        (TrainingSettings, {"early_stopping_threshold": 0.1}, ["early_stopping_threshold"]),
        (
            ClassifierSettings,
            {"labelled": "x.csv", "load_best_model_at_end": True, "early_stopping_patience": 1},
            ["early_stopping_patience", "load_best_model_at_end"],
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_choose_a_step_are_refused(settings_class, values, named):
    assert sorted(name for name, _ in settings_class(**{"model": "m", **values}).problems()) == named
