"""``ftkit.verdict`` gives what the command gives; the callback judges what Trainer and SFTTrainer have trained."""

import copy
import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

import ftkit
from ftkit.data import load_tokenizer, voice_text
from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.models import load_model, save_model
from ftkit.runs.models import shipped_base

OLD_NAME = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # of trl 1.16 and peft 0.21
QUICK: dict[str, Any] = {"window_tokens": 48, "passage_chars": 100, "num_passages": 30, "eval_windows": 40}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and beside it the texts of a training."""
    folder = tmp_path_factory.mktemp("callback")
    for name, voice, seed in (("text", "keeper", 1), ("heldout", "keeper", 2), ("general", "letters", 3)):
        (folder / f"{name}.txt").write_text(voice_text(voice, 2000, seed=seed), encoding="utf-8")
    tokenizer = load_tokenizer("train:384", texts=[(folder / "text.txt").read_text(), voice_text("market", 2000)])
    model = load_model("new:gpt2,n_layer=1,n_embd=32,n_head=2", seed=0, vocab_size=len(tokenizer), max_positions=96)
    save_model(model, tokenizer, folder / "base")
    return folder


def sources(folder: Path) -> dict[str, Any]:
    """The texts as every way of asking takes them."""
    return {name: str(folder / f"{name}.txt") for name in ("text", "heldout", "general")}


def rows(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The training text in windows."""
    ids = tokenizer((folder / "text.txt").read_text())["input_ids"]
    return Dataset.from_list([{"input_ids": ids[at : at + 48]} for at in range(0, len(ids) - 48, 48)])


def trained(folder: Path, out: Path, *callbacks: Any) -> Trainer:
    """A whole model trained by transformers' Trainer."""
    tokenizer, model = load_tokenizer(str(folder / "base")), load_model(str(folder / "base"))
    tokenizer.pad_token = tokenizer.eos_token
    arguments = TrainingArguments(
        str(out), max_steps=25, per_device_train_batch_size=16, learning_rate=1e-2, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True, logging_steps=5, seed=0,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=rows(folder, tokenizer), processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False), callbacks=list(callbacks),
    )  # fmt: skip
    trainer.train()
    return trainer


def test_trainers_model_is_judged_at_the_end_and_trains_as_without(base: Path, tmp_path: Path, capsys) -> None:
    callback = ftkit.VerdictCallback(**sources(base), report=tmp_path / "verdict.html", **QUICK)
    judged = trained(base, tmp_path / "with", callback)
    alone = trained(base, tmp_path / "without")
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (judged, alone)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 5
    assert all(
        torch.equal(a, b)
        for a, b in zip(judged.model.state_dict().values(), alone.model.state_dict().values(), strict=True)
    )
    result = callback.result
    assert result is not None
    assert result.evidence.heldout.gain.low > 0.3
    assert judged.state.log_history[-1]["verdict_gain"] == result.evidence.heldout.gain.value
    assert result.verdict.verdict.upper() in capsys.readouterr().out
    assert "ftkit report" in (tmp_path / "verdict.html").read_text(encoding="utf-8")
    # The same two models by the function and by the command.
    judged.save_model(str(tmp_path / "tuned"))
    again = ftkit.verdict(str(base / "base"), str(tmp_path / "tuned"), **sources(base), **QUICK)
    assert again.as_dict() == result.as_dict()
    flags = [part for name, value in (sources(base) | QUICK).items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "ftkit", "verdict", "--base", base / "base", "--tuned", tmp_path / "tuned", *flags]
    done = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True)
    same = json.loads(json.dumps(again.as_dict()), parse_constant=lambda _: None)  # NaN, which JSON does not have
    assert json.loads(done.stdout) == same


@OLD_NAME
def test_an_adapter_of_sfttrainer_is_judged_against_its_own_base(base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(base / "base"))
    tokenizer.pad_token = tokenizer.eos_token
    texts = [piece for piece in (base / "text.txt").read_text().split("\n\n") if piece]
    callback = ftkit.VerdictCallback(
        texts, heldout=[(base / "heldout.txt").read_text()], general=[(base / "general.txt").read_text()], **QUICK
    )
    arguments = SFTConfig(
        str(tmp_path), max_steps=12, per_device_train_batch_size=8, learning_rate=3e-2, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True, max_length=64, seed=0, gradient_checkpointing=None,
    )  # fmt: skip
    lora = LoraConfig(r=8, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        str(base / "base"), arguments, train_dataset=Dataset.from_dict({"text": texts}), processing_class=tokenizer,
        peft_config=lora, callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    assert callback.result is not None
    evidence = callback.result.evidence
    assert evidence.heldout.gain.low > 0
    assert 0 < evidence.weights.changed <= evidence.weights.tensors
    assert callback.base is None, "it was found in the adapter's configuration"


def test_loaded_models_and_lists_of_texts_are_taken(base: Path) -> None:
    model, tokenizer = load_model(str(base / "base")), load_tokenizer(str(base / "base"))
    texts = {name: [Path(source).read_text()] for name, source in sources(base).items()}
    result = ftkit.verdict(model, model, **texts, tokenizer=tokenizer, **QUICK)
    assert result.verdict.verdict == "nothing"
    assert "none of" in str(result)
    assert "<table>" in result._repr_html_()
    with pytest.raises(DataError, match="item 1 is int, not text"):
        ftkit.verdict(model, model, ["a", 3], tokenizer=tokenizer)  # type: ignore[list-item]
    with pytest.raises(DataError, match="has no text in 2 items"):
        ftkit.verdict(model, model, ["", "\n"], tokenizer=tokenizer)


def test_a_sharded_model_is_refused_before_training(base: Path) -> None:
    arguments = TrainingArguments("unused", use_cpu=True, report_to="none")
    arguments.deepspeed = {"zero_optimization": {"stage": 3}}
    with pytest.raises(ConfigError, match="sharded"):
        ftkit.VerdictCallback("text").on_train_begin(arguments, None, None)  # type: ignore[arg-type]


def test_nothing_heavy_is_loaded_before_a_verdict() -> None:
    code = (
        "import sys, ftkit; print(ftkit.__version__, sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ftkit.__version__} []\n"


def test_a_callback_is_used_twice_and_leaves_nothing_behind(base: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    callback = ftkit.VerdictCallback(**sources(base), **QUICK)
    trainer = trained(base, tmp_path / "out", callback)
    first = callback.result
    trainer.args.max_steps = 30
    trainer.train()
    second = callback.result
    assert first is not None
    assert second is not None
    assert second is not first
    assert second.evidence.heldout.base.value == pytest.approx(first.evidence.heldout.tuned.value)
    copied = copy.copy(second)
    callback.result = first = second = None
    gc.collect()
    assert copied.save_report(tmp_path / "kept.html").stat().st_size > 10_000
    del copied
    gc.collect()
    assert list(tmp_path.glob("ftkit-*")) == []


@OLD_NAME
def test_the_callback_refuses_before_training_what_could_not_be_judged(base: Path) -> None:
    arguments = TrainingArguments("unused", use_cpu=True, report_to="none")
    model, tokenizer = load_model(str(base / "base")), load_tokenizer(str(base / "base"))

    def begin(step: int = 0, model: Any = model, **options: Any) -> None:
        callback = ftkit.VerdictCallback(**(sources(base) | options))
        state = TrainerState(global_step=step, is_world_process_zero=True)
        callback.on_train_begin(arguments, state, TrainerControl(), model=model, processing_class=tokenizer)

    with pytest.raises(DataError, match=r"typo\.txt"):
        begin(text="typo.txt")
    with pytest.raises(ConfigError, match="unknown sampling 'nonsense'"):
        begin(sampling="nonsense")
    with pytest.raises(ConfigError, match="unknown threshold 'worked_gian'; did you mean 'worked_gain'"):
        begin(thresholds={"worked_gian": 1.0})
    with pytest.raises(ConfigError, match="unknown option 'num_pasages'"):
        begin(num_pasages=30)
    with pytest.raises(ConfigError, match="continues at step 10"):
        begin(step=10)
    begin(step=10, base=str(base / "base"))
    made = load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2", vocab_size=len(tokenizer), max_positions=64)
    made.config.name_or_path = ""
    adapter = get_peft_model(made, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    adapter.active_peft_config.base_model_name_or_path = None
    with pytest.raises(ConfigError, match="names no base"):
        begin(model=adapter)


@OLD_NAME
def test_a_verdict_that_fails_leaves_no_models_behind(base: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model, tokenizer = load_model(str(base / "base")), load_tokenizer(str(base / "base"))
    with pytest.raises(DataError, match="has no text in 0 items"):
        ftkit.verdict(model, model, ["a text"], heldout=[], tokenizer=tokenizer)
    get_peft_model(model, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    with pytest.raises(ModelError, match="an adapter was put into this model object"):
        ftkit.verdict(model, model, ["a text"], tokenizer=tokenizer)
    gc.collect()
    assert list(tmp_path.glob("ftkit-*")) == []


def test_paths_and_values_that_are_not_finite_are_taken(base: Path) -> None:
    model, tokenizer = load_model(str(base / "base")), load_tokenizer(str(base / "base"))
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    texts = {name: Path(source) for name, source in sources(base).items()}
    result = ftkit.verdict(base / "base", model, **texts, tokenizer=tokenizer, **QUICK)
    assert result.verdict.verdict == "broken"
    assert "not finite" in str(result)
    assert "(it was" not in " ".join(result.next), "a verdict knows no learning rate"


def test_a_shipped_base_and_the_folder_of_a_run_are_named_as_on_the_command_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(str(shipped_base("base:tales")), run / "models" / "tuned")
    (run / "manifest.json").write_text("{}", encoding="utf-8")
    texts = {name: [voice_text("keeper", 3000, seed=seed)] for seed, name in enumerate(("text", "heldout"))}
    result = ftkit.verdict("base:tales", run, **texts, **QUICK)
    assert result.verdict.verdict == "nothing"
