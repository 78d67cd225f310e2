"""A base is made once by its own recipe, found again, and gone on with when its making was interrupted."""

import json
from pathlib import Path

import pytest
import torch
from processes import Running

from ftkit.config import find_recipe
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.data import VOICES, load_tokenizer, voice_text
from ftkit.data.words import words_of
from ftkit.errors import ConfigError, DataError
from ftkit.generation import generate_passages
from ftkit.jobs import prepare_base
from ftkit.jobs.bases import base_on_disk
from ftkit.models import load_model
from ftkit.training.checkpoints import CheckpointFolder

CONFIG = """# What is this for? (a test)
recipe: pretrain
model: new:ftkit_gpt2
corpus: voices:keeper:10000
tokenizer: train:400
window_tokens: 64
per_device_train_batch_size: 4
max_steps: 6
save_steps: 2
eval_steps: 6
sample_steps: 6
passage_chars: 60
num_passages: 8
use_cpu: true
"""


def test_a_base_is_made_once_and_its_text_is_divided_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "my_base.yaml"
    path.write_text(CONFIG)

    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        save = CheckpointFolder.save
        patch.setattr(
            CheckpointFolder, "save", lambda self, step, *rest: save(self, step, *rest) if step < 4 else kill()
        )
        prepare_base(f"base:{path}")
    base = prepare_base(f"base:{path}")  # goes on from step 2
    run = Path(base.model).parents[1]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], len(manifest["resumed"])) == ("done", 1)
    assert manifest["data"]["corpus"]["sha256"] == base.texts["corpus"].corpus.sha256
    assert len(base.texts["corpus"].heldout) == 1
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert prepare_base(f"base:{path}").model == base.model
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    path.write_text(CONFIG.replace("max_steps: 6", "max_steps: 7"))
    assert prepare_base(f"base:{path}").model != base.model


def test_two_runs_at_once_make_a_base_once(tmp_path):
    (tmp_path / "my_base.yaml").write_text(CONFIG)
    program = tmp_path / "program.py"
    program.write_text(
        f"from ftkit.jobs import prepare_base\nprint(prepare_base('base:{tmp_path / 'my_base.yaml'}').model)\n"
    )
    started = [Running(program, FTKIT_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    ended = [process.wait() for process in started]
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert ended[0].stdout.splitlines()[-1] == ended[1].stdout.splitlines()[-1]
    manifest = json.loads(next((tmp_path / "cache" / "bases").glob("*/manifest.json")).read_text())
    assert (manifest["status"], manifest.get("resumed", [])) == ("done", [])


def test_a_base_that_is_no_config_is_named():
    with pytest.raises(ConfigError, match=r"unknown configuration 'tale'.*bases that ship with ftkit: base:tales"):
        prepare_base("base:tale")
    assert prepare_base("some/folder").model == "some/folder"


@pytest.mark.parametrize(
    ("recipe", "missing"),
    [("finetune", {"corpus": "nove.txt"}), ("imitate", {"corpora": {"a": "nove.txt", "b": "voices:keeper"}})],
)
def test_a_text_that_is_missing_is_told_before_a_base_is_made(recipe, missing, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    module = load_recipe(find_recipe(recipe))
    settings = main_settings(module.main)(model="base:code_base_small", output_dir=str(tmp_path / "run"), **missing)
    with pytest.raises(DataError, match=r"nove\.txt.*no such file"):
        module.main(settings)
    assert not (tmp_path / "cache" / "bases").exists()


def test_the_shipped_base_is_small_and_is_there_without_making_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    base = prepare_base("base:tales")
    assert base.model == base_on_disk("base:tales")
    assert not (tmp_path / "cache").exists()
    assert sum(file.stat().st_size for file in Path(base.model).iterdir()) < 2_000_000
    assert not {"keeper", "almanac"} & set(base.texts)  # what the demo learns
    assert {parameter.dtype for parameter in load_model(base.model).parameters()} == {torch.float32}


def test_the_shipped_base_reads_any_text_and_the_words_of_the_voices_whole():
    tokenizer = load_tokenizer(base_on_disk("base:tales"))
    for text in ("Naïve “quotes”, 北京 and \x00 bytes\n\n\tend", voice_text("keeper", 300)):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for voice in VOICES:
        text = voice_text(voice, 5_000, seed=7)
        words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
        assert len(words) <= len(tokenizer(text)["input_ids"]) <= 1.02 * len(words), voice


def test_the_shipped_base_writes_known_words():
    place = base_on_disk("base:tales")
    tokenizer = load_tokenizer(place)
    passages = generate_passages(load_model(place), tokenizer, ["\n\n"] * 32, new_tokens=80, seed=1)
    known = {word for voice in ("tales", "letters", "market") for word in words_of(voice_text(voice, 100_000, seed=1))}
    written = [word for passage in passages for word in words_of(passage.text)[:-1]]  # the last may be cut
    assert len(written) > 1_500
    assert sum(word not in known for word in written) / len(written) <= 0.03
