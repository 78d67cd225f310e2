"""Trackers see what the diary gets, and nothing else."""

import json
from importlib.util import find_spec
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class

from ftkit.config import Settings, TrainingSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import DeviceError
from ftkit.models import load_model
from ftkit.runs import open_run
from ftkit.runs.trackers import check_trackers
from ftkit.training import NEXT_TOKEN, Engine, HeldOutWindows, TokenWindows, train_and_log

CANARY = "hf_canaryCanary0123456789"


class Lines(GeneralTracker):
    """A tracker of accelerate's kind that writes JSON lines where trackers write."""

    name = "lines"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: str, **kwargs: Any) -> None:
        super().__init__()
        self.folder = logging_dir
        self.seen: list[Any] = [{"start": run_name}]

    @property
    def tracker(self) -> list[Any]:
        return self.seen

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.seen.append({"settings": values})

    def log(self, values: dict[str, Any], step: int | None, **kwargs: Any) -> None:
        self.seen.append({"step": step, **values})

    def finish(self) -> None:
        from pathlib import Path

        Path(self.folder).mkdir()
        (Path(self.folder) / "lines.json").write_text(json.dumps(self.seen))


@pytest.fixture
def lines():
    register_tracker_class(Lines)
    yield
    del LOGGER_TYPE_TO_CLASS["lines"]


def seen(folder) -> list[Any]:
    found: list[Any] = json.loads((folder / "trackers" / "lines.json").read_text())
    return found


def test_a_tracker_sees_the_losses_rates_and_norms_of_the_diary(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    run_settings = TrainingSettings(
        output_dir=str(tmp_path / "run"), tokenizer="byte", report_to="lines", max_steps=2, window_tokens=24,
        per_device_train_batch_size=2, eval_steps=1, eval_windows=2, save_steps=0, use_cpu=True,
        learning_rates={"mlp": 1e-4},
    )  # fmt: skip
    store = tokenize_texts([voice_text("keeper", 500)], load_tokenizer("byte"), cache=tmp_path / "tokens")
    source = TokenWindows(store, 24, 3)
    with open_run(run_settings, __file__) as run:
        with Engine(load_model("new:gpt2", seed=0, vocab_size=257), NEXT_TOKEN, source, run_settings) as engine:
            list(train_and_log(engine, run, "tiny", source, HeldOutWindows(store, 24)))
    start, given, *logged = seen(tmp_path / "run")
    assert start == {"start": "ftkit"}
    assert given["settings"]["max_steps"] == 2
    assert json.loads(given["settings"]["learning_rates"]) == {"mlp": 1e-4}
    assert all(isinstance(value, str | int | float) for value in given["settings"].values())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged] == [record["step"] for record in records] == [0, 1, 1, 2, 2]
    for entry, record in zip(logged, records, strict=True):
        keys = ("loss", "learning_rate", "grad_norm") if record["split"] == "train" else ("loss", "bits_per_byte")
        assert {key: entry[f"tiny/{record['split']}/{key}"] for key in keys} == {key: record[key] for key in keys}
        for group, norm in record.get("group_norms", {}).items():
            assert entry[f"tiny/train/group_norms/{group}"] == norm
    assert CANARY not in json.dumps(seen(tmp_path / "run"))


@pytest.mark.filterwarnings("ignore")  # those of tensorboard's own packages
def test_the_event_files_of_tensorboard_hold_the_diary(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; it is in the extra 'dev'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = [{"model": "tiny", "step": n, "split": "train", "loss": 5.0 / n, "grad_norm": 1.5} for n in range(1, 6)]
    records.append({"model": "tiny", "step": 5, "split": "heldout", "loss": 1.25, "bits_per_byte": 0.75})
    settings = Settings(output_dir=str(tmp_path / "run"), report_to="tensorboard", seed=7)
    with open_run(settings, __file__) as run:
        run.log("metrics.jsonl", *records)
    (file,) = (tmp_path / "run" / "trackers" / "ftkit").glob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    for record in records:
        for key in record.keys() - {"model", "step", "split"}:
            scalars = {event.step: event.value for event in events.Scalars(f"tiny/{record['split']}/{key}")}
            assert scalars[record["step"]] == pytest.approx(record[key])
    assert len(events.Scalars("tiny/train/loss")) == 5


def test_a_tracker_ends_with_a_run_that_fails_and_is_not_told_what_no_tracker_can_hold(lines, tmp_path):
    with pytest.raises(KeyError), open_run(Settings(output_dir=str(tmp_path), report_to=["lines"]), __file__) as run:
        run.log("metrics.jsonl", {"model": "a", "step": 1, "split": "train", "loss": float("nan"), "text": "words"})
        run.log("samples.jsonl", {"model": "a", "step": 1, "text": "never"})
        raise KeyError
    assert seen(tmp_path)[2:] == [{"step": 1, "a/train/step": 1}]


def test_without_report_to_there_is_no_tracker(tmp_path):
    with open_run(Settings(output_dir=str(tmp_path)), __file__) as run:
        run.log("metrics.jsonl", {"model": "a", "step": 1, "loss": 1.0})
    assert not (tmp_path / "trackers").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused_with_its_package(name, tmp_path):
    if find_spec(name):
        check_trackers([name])
        return
    with pytest.raises(DeviceError, match=f"{name} is not installed: pip install {name}"):
        with open_run(Settings(output_dir=str(tmp_path / "run"), report_to=name), __file__):
            raise AssertionError
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_and_a_token_are_problems_of_the_settings():
    assert Settings(report_to="tensorbord").problems() == [
        ("report_to", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?")
    ]
    assert Settings(report_to=["wandb", "trackio"]).problems() == Settings(report_to="none").problems() == []
    assert Settings(report_to="wandb,mlflow").trackers == ["wandb", "mlflow"]
    assert TrainingSettings(tokenizer="byte", output_dir=f"runs/{CANARY}").problems()[0][0] == "output_dir"
