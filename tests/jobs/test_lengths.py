"""Windows, passages and judged texts are as long as model and text allow, unless somebody has set them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftkit.config import find_recipe
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import Flags, resolve
from ftkit.config.sweeps import find_study
from ftkit.data import load_tokenizer
from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.jobs import (
    fit_judge,
    fit_training,
    lengths,
    prepare_classes,
    prepare_code,
    prepare_examples,
    prepare_target,
    prepare_targets,
)
from ftkit.models import load_model, save_model
from ftkit.runs import open_run

POSITIONS = 64
BASE = """# What is this for? (a test)
recipe: pretrain
model: new:ftkit_gpt2
corpus: voices:keeper:6000
tokenizer: train:400
window_tokens: 64
max_steps: 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model with few positions, and a text of one's own."""
    path = tmp_path_factory.mktemp("lengths")
    model = load_model("new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", vocab_size=257, max_positions=POSITIONS)
    save_model(model, load_tokenizer("byte"), path / "model")
    sentence = "The keeper of light {} walks over the stones and counts {} boats before the night comes. "
    (path / "text.txt").write_text("".join(sentence.format(n, 3 * n) for n in range(450)))
    return path


def asked(recipe: str, folder: Path, out: Path, **values: Any) -> Any:
    """Settings of a recipe with one's own model and text; lengths only where a test sets them."""
    text = str(folder / "text.txt")
    sources = {"corpora": {"a": text, "b": "voices:keeper:40000"}} if recipe == "imitate" else {"corpus": text}
    given = {"model": str(folder / "model"), "output_dir": str(out), **sources, **values}
    return main_settings(load_recipe(find_recipe(recipe)).main)(**given)


def fitted(settings: Any) -> Any:
    with open_run(settings, str(find_recipe("finetune"))) as run:
        return prepare_target(settings, settings.corpus, run)


def test_lengths_follow_from_the_model_and_are_written_down(folder, tmp_path, caplog):
    with caplog.at_level("INFO"):
        subject = fitted(asked("finetune", folder, tmp_path / "run"))
    settings = subject.settings
    assert settings.window_tokens == POSITIONS
    # Bytes are tokens here: c characters take ceil(1.2 c) + 4 tokens, and 8 words before them would leave less than 40.
    assert settings.passage_chars == 40
    assert math.ceil(1.2 * 40) + 4 + subject.writer.prompt_tokens == POSITIONS
    assert subject.writer.prompt_words == 2
    assert max(map(len, subject.writer.prompts(0, range(32)))) <= subject.writer.prompt_tokens
    assert "window_tokens: 64, because the model has 64 usable positions (default 256)" in caplog.text
    for file in ("config.yaml", "manifest.json"):
        values = yaml.safe_load((tmp_path / "run" / file).read_text())  # JSON is YAML
        stored = values.get("settings", values)
        assert (stored["window_tokens"], stored["passage_chars"]) == (POSITIONS, settings.passage_chars)


def test_a_short_text_has_shorter_windows_and_enough_passages_for_a_judge(folder, tmp_path):
    (tmp_path / "short.txt").write_text((folder / "text.txt").read_text()[:20_000])
    values = {"model": "new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", "tokenizer": "byte"}
    subject = fitted(asked("finetune", folder, tmp_path / "run", corpus=str(tmp_path / "short.txt"), **values))
    assert subject.settings.window_tokens == 202
    assert subject.heldout.num_tokens // 202 == 20  # what a verdict needs
    assert len(subject.real) >= 30
    assert subject.settings.passage_chars < 400


def test_a_text_that_is_too_short_for_a_verdict_is_told_before_training(folder, tmp_path, caplog):
    (tmp_path / "short.txt").write_text((folder / "text.txt").read_text()[:20_000])
    fitted(asked("finetune", folder, tmp_path / "long", corpus=str(tmp_path / "short.txt")))
    assert "a verdict needs 20" not in caplog.text
    (tmp_path / "short.txt").write_text((folder / "text.txt").read_text()[:3_000])
    fitted(asked("finetune", folder, tmp_path / "run", corpus=str(tmp_path / "short.txt"), heldout_share=0.15))
    assert "held-out windows of 32 tokens, and a verdict needs 20: it will be unsure" in caplog.text


def test_a_resumed_run_takes_the_lengths_that_were_written(folder, tmp_path):
    settings = asked("finetune", folder, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), open_run(settings, str(find_recipe("finetune"))) as run:
        prepare_target(settings, settings.corpus, run)
        raise KeyboardInterrupt
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["settings"]["window_tokens"] = 48  # as another version might have chosen
    file.write_text(json.dumps(manifest))
    assert fitted(settings.model_copy(update={"resume": True})).settings.window_tokens == 48
    with pytest.raises(ConfigError, match="window_tokens: was 48, is 32"):
        fitted(asked("finetune", folder, tmp_path / "run", resume=True, window_tokens=32))


def test_a_run_that_was_killed_before_its_lengths_were_settled_still_fits_them(folder, tmp_path):
    settings = asked("finetune", folder, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), open_run(settings, str(find_recipe("finetune"))):
        raise KeyboardInterrupt
    config = tmp_path / "run" / "config.yaml"  # gives every length, none of which anybody has set
    again = resolve(type(settings), "finetune", Flags(config=str(config), values={"resume": True})).settings
    assert fitted(again).settings.window_tokens == POSITIONS


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        (
            {"window_tokens": 65},
            ModelError,
            "window_tokens is 65, but the model has 64 usable positions; set window_tokens to",
        ),
        ({"passage_chars": 200}, ConfigError, "passage_chars is 200, but the model has 64 positions"),
        ({"sample_prompt": "x" * 64}, ConfigError, "sample_prompt: has 64 tokens"),
        ({"corpus": "tiny.txt"}, DataError, "held-out tokens, and at least 8 are needed"),
    ],
)
def test_what_cannot_work_is_refused_before_the_base_is_made(folder, tmp_path, monkeypatch, values, error, said):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text("Here a text of six words.\n")
    Path("my_base.yaml").write_text(BASE.replace("train:400", "byte"))
    with pytest.raises(error, match=said):
        fitted(asked("finetune", folder, tmp_path / "run", **{"model": "base:./my_base.yaml", **values}))
    assert not (tmp_path / "cache" / "bases").exists()


def test_virtual_tokens_are_taken_from_the_window(folder, tmp_path):
    settings = asked("finetune", folder, tmp_path / "run", peft="prompt", virtual_tokens=10)
    assert fitted(settings).settings.window_tokens == POSITIONS - 10


def test_a_judge_with_few_positions_reads_shorter_texts(folder, tmp_path):
    judge = load_model("new:bert", task="sequence-classification", vocab_size=300, max_positions=40)
    save_model(judge, load_tokenizer("byte", with_mask=True), tmp_path / "judge")
    settings = asked("imitate", folder, tmp_path / "run", judge_model=str(tmp_path / "judge"))
    with open_run(settings, str(find_recipe("imitate"))) as run:
        start, _, _ = prepare_targets(fit_judge(settings, run), settings.corpora, run)
    assert (start.settings.judge_tokens, start.settings.window_tokens) == (40, POSITIONS)


def test_a_classifier_reads_what_its_model_can(folder, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n} is {n % 2},{n % 2}\n" for n in range(80)))
    labelled = str(tmp_path / "rows.csv")
    values = {"model": str(folder / "model"), "labelled": labelled, "output_dir": str(tmp_path / "run")}
    settings: Any = main_settings(load_recipe(find_recipe("classify")).main)(**values)
    with open_run(settings, str(find_recipe("classify"))) as run:
        assert prepare_classes(settings, run).settings.window_tokens == POSITIONS


def test_the_configuration_of_a_study_leaves_lengths_to_its_points(folder):
    flags = ["--corpus", str(folder / "text.txt"), "--sweep", "learning_rate=1e-3,1e-4"]
    study = find_study(main_settings(load_recipe(find_recipe("finetune")).main), "finetune", flags)
    assert study is not None
    values = study.settings.model_dump()
    assert "eval_steps" in values
    assert not {"window_tokens", "passage_chars", "max_steps"} & values.keys()


def test_samples_of_code_are_as_long_as_enough_places_in_it(folder, tmp_path):
    code = "".join(f"def step_{n}(value):\n    return value + {n}\n\n\n" for n in range(400))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "steps.py").write_text(code)
    model = {"model": "new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", "tokenizer": "byte", "window_tokens": 512}
    settings = asked("code_completion", folder, tmp_path / "run", corpus=f"code:{tmp_path / 'code'}", **model)
    with open_run(settings, str(find_recipe("code_completion"))) as run:
        study = prepare_code(settings, run)
    assert 40 <= study.settings.passage_chars < 320
    assert len(study.target.real) >= 30


def test_code_with_too_few_places_is_refused_with_their_number(folder, tmp_path):
    code = "".join(f"def step_{n}(value):\n    return value + {n}\n\n\n" for n in range(40))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "steps.py").write_text(code)
    for values in ({}, {"passage_chars": 40}):
        run_folder = tmp_path / f"run{len(values)}"
        settings = asked("code_completion", folder, run_folder, corpus=f"code:{tmp_path / 'code'}", **values)
        refused = pytest.raises(
            DataError, match=r"has \d places where .* 40 characters follow; needed are 30.*share\.$"
        )
        with refused, open_run(settings, str(find_recipe("code_completion"))) as run:
            prepare_code(settings, run)


def trained(settings: Any) -> Any:
    with open_run(settings, str(find_recipe("finetune"))) as run:
        return fit_training(prepare_target(settings, settings.corpus, run), run)


def test_batch_rate_and_steps_follow_from_text_and_model_and_are_written_down(folder, tmp_path, caplog):
    text = tmp_path / "short.txt"
    text.write_text((folder / "text.txt").read_text()[:20_000])
    with caplog.at_level("INFO"):
        settings = trained(asked("finetune", folder, tmp_path / "run", corpus=str(text)))
    # 80 % of 20,000 bytes are 250 windows of 64: 12 a batch give 20 updates an epoch, and 20 epochs are 416.
    assert settings.per_device_train_batch_size == 12
    assert settings.max_steps == 416
    assert settings.learning_rate == 3e-3  # of a model with 12,000 parameters
    assert "max_steps: 416, because they are 20 epochs (default 500)" in caplog.text
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (stored["per_device_train_batch_size"], stored["max_steps"], stored["learning_rate"]) == (12, 416, 3e-3)
    assert (stored["load_best_model_at_end"], stored["early_stopping_patience"]) == (True, 3)
    assert "load_best_model_at_end: true, because 20 epochs are too many for some texts (default false)" in caplog.text


@pytest.mark.parametrize(
    ("parameters", "epochs"), [(260_032, 20), (871_920, 20), (10**7, 10), (10**8, 5), (134_515_008, 5)]
)
def test_small_models_read_a_text_more_often(parameters, epochs):
    made: Any = main_settings(load_recipe(find_recipe("finetune")).main)
    settings = made(corpus="text.txt")
    found, reason = lengths._steps(settings, lengths._Epoch(160.0, "many tokens", parameters, True))
    assert (found, reason) == (epochs * 10, f"they are {epochs} epochs")


def test_several_texts_are_trained_alike_by_their_mean_length(folder, tmp_path, caplog):
    settings = asked("imitate", folder, tmp_path / "run", passage_chars=40)
    with caplog.at_level("INFO"), open_run(settings, str(find_recipe("imitate"))) as run:
        start, targets, _ = prepare_targets(settings, settings.corpora, run)
    found = start.settings
    tokens = [target.train.num_tokens for target in targets.values()]
    assert tokens[1] > 2 * tokens[0]
    rows = sum(tokens) / 2 / POSITIONS
    batch = min(int(rows / 20), 16)
    assert (found.per_device_train_batch_size, found.learning_rate) == (batch, 3e-3)
    assert found.max_steps == min(round(20 * rows / batch), 500)
    assert f"{sum(tokens) / 2:,.0f} tokens (the mean of 2 texts)" in caplog.text or batch == 16


def test_examples_are_counted_in_the_place_of_windows(folder, tmp_path, caplog):
    file = tmp_path / "chats.jsonl"
    rows = [{"prompt": f"What is {n} and {n + 1}?", "completion": f"It is {2 * n + 1}."} for n in range(150)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: Any = main_settings(load_recipe(find_recipe("sft")).main)
    settings = made(model=str(folder / "model"), examples=str(file), output_dir=str(tmp_path / "run"))
    with caplog.at_level("INFO"), open_run(settings, str(find_recipe("sft"))) as run:
        target = prepare_examples(settings, run)
    rows_trained = len(target.train.rows)
    found, batch = target.settings, rows_trained // 20
    assert (found.per_device_train_batch_size, found.learning_rate) == (batch, 3e-3)
    assert found.max_steps == round(20 * rows_trained / batch)
    assert f"because an epoch of {rows_trained} examples is then 20 updates (default 16)" in caplog.text
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (stored["per_device_train_batch_size"], stored["max_steps"]) == (batch, found.max_steps)


def test_what_somebody_has_set_stays(folder, tmp_path):
    given = {"learning_rate": 1e-4, "max_steps": 7, "per_device_train_batch_size": 3}
    settings = trained(asked("finetune", folder, tmp_path / "set", **given))
    assert {name: getattr(settings, name) for name in given} == given
    by_epochs = trained(asked("finetune", folder, tmp_path / "epochs", num_train_epochs=2))
    assert (by_epochs.max_steps, by_epochs.num_train_epochs) == (500, 2)
    assert not settings.load_best_model_at_end
    assert not by_epochs.load_best_model_at_end
    warm = trained(asked("finetune", folder, tmp_path / "warm", warmup_steps=400))
    assert warm.max_steps == 500  # fewer would end in the warm-up
    assert trained(asked("finetune", folder, tmp_path / "sgd", optimizer="sgd")).learning_rate == 5e-5


def test_a_larger_model_has_a_lower_rate_and_an_adapter_a_higher_one(folder, tmp_path):
    larger = {"model": "new:ftkit_gpt2,n_embd=256,n_layer=4,n_head=4", "tokenizer": "byte"}  # 3.3 million parameters
    whole = trained(asked("finetune", folder, tmp_path / "whole", **larger))
    adapter = trained(asked("finetune", folder, tmp_path / "adapter", peft="lora", **larger))
    assert (whole.learning_rate, adapter.learning_rate) == (1e-3, 3e-3)


def test_a_large_model_gets_an_adapter_unless_somebody_chose_otherwise(folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("ftkit.jobs.lengths._WHOLE_SIZE", 8_000)  # below the 8,448 of this model
    with caplog.at_level("INFO"):
        chosen = trained(asked("finetune", folder, tmp_path / "chosen"))
    assert (chosen.peft, chosen.learning_rate) == ("lora", 3e-3)
    assert "peft: lora, because tuning all 8,448 parameters takes much memory" in caplog.text
    assert yaml.safe_load((tmp_path / "chosen" / "config.yaml").read_text())["peft"] == "lora"
    for name, given in {
        "whole": {"peft": "none"}, "rate": {"learning_rate": 1e-4}, "frozen": {"freeze": "norm"},
        "muon": {"optimizer": "muon"},
    }.items():  # fmt: skip
        assert trained(asked("finetune", folder, tmp_path / name, **given)).peft == "none", name


def test_a_resumed_run_takes_the_steps_that_were_written(folder, tmp_path):
    settings = asked("finetune", folder, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), open_run(settings, str(find_recipe("finetune"))) as run:
        fit_training(prepare_target(settings, settings.corpus, run), run)
        raise KeyboardInterrupt
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["settings"]["max_steps"] = 33  # as another version might have chosen
    file.write_text(json.dumps(manifest))
    assert trained(settings.model_copy(update={"resume": True})).max_steps == 33
