"""The command generate: JSON lines, a terminal, runs, adapters, bases, and what is refused."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chat_models import saved_chat_model
from typer.testing import CliRunner

from ftkit.cli import app, samples
from ftkit.data import load_tokenizer
from ftkit.generation import Prompt, Sample
from ftkit.models import load_model, save_model


def generate(*arguments, given=None):
    return CliRunner().invoke(app, ["generate", *map(str, arguments)], input=given)


def lines(shown):
    assert shown.exit_code == 0, shown.output
    return [json.loads(line) for line in shown.stdout.splitlines()]


def tiny(folder, seed=0):
    model = load_model("new:ftkit_gpt2,initializer_range=0.4", seed=seed, vocab_size=257, max_positions=64)
    save_model(model, load_tokenizer("byte"), folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("generate") / "tiny")


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return saved_chat_model(tmp_path_factory.mktemp("generate") / "chat")


@pytest.fixture
def run(model, tmp_path):
    """The folder of a run that made one model of text."""
    folder = tmp_path / "run"
    shutil.copytree(tiny(tmp_path / "other", seed=1), folder / "models" / "tuned")
    (folder / "manifest.json").write_text("{}")
    (folder / "config.yaml").write_text(f"recipe: finetune\nmodel: {model}\ncorpus: novel.txt\n")
    return folder


def test_a_pipe_gets_a_line_of_json_for_each_sample(model):
    found = lines(generate(model, "--prompt", "the sea", "--num", 2, "--max-new-tokens", 8))
    assert [line["sample"] for line in found] == [1, 2]
    assert [line["seed"] for line in found] == [42, 43]
    assert {line["prompt"] for line in found} == {"the sea"}
    assert {line["model"] for line in found} == {str(model)}
    assert all(line["tokens"] == 8 and line["stop_reason"] == "length" for line in found)


def test_standard_input_is_one_prompt_and_a_dash_reads_its_lines(model):
    [whole] = lines(generate(model, "--max_new_tokens", 4, given="the sea\nand me\n"))
    assert whole["prompt"] == "the sea\nand me"
    found = lines(generate(model, "--max_new_tokens", 4, "--prompts", "-", given="the sea\n\nand me\n"))
    assert [line["prompt"] for line in found] == ["the sea", "and me"]


def test_options_are_taken_with_dashes_and_with_underscores(model):
    dashes = generate(model, "--prompt", "a", "--max-new-tokens", 4, "--top-p", 0.5, "--repetition-penalty", 1.5)
    underscores = generate(model, "--prompt", "a", "--max_new_tokens", 4, "--top_p", 0.5, "--repetition_penalty", 1.5)
    assert lines(dashes) == lines(underscores)
    assert "top_p 0.5, repetition_penalty 1.5" in dashes.stderr


def test_a_chat_model_answers_and_says_so_unless_it_is_told_otherwise(chat, tmp_path):
    shown = generate(chat, "--prompt", "Hi", "--max-new-tokens", 6, "--system", "Be brief.")
    assert "answers by its chat template (--no-chat continues the text)" in shown.stderr
    lines(shown)
    text = generate(chat, "--prompt", "Hi", "--max-new-tokens", 6, "--no-chat")
    assert "continues the text (--chat answers it)" in text.stderr
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    [line] = lines(generate(chat, "--prompts", rows, "--max-new-tokens", 6))
    assert line["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_run_of_text_made_a_model_that_continues_text(chat, run):
    shutil.rmtree(run / "models" / "tuned")
    shutil.copytree(chat, run / "models" / "tuned")
    shown = generate(run, "--prompt", "Hi", "--max-new-tokens", 4)
    assert f"model of the run: {run / 'models' / 'tuned'}" in shown.stderr
    assert "continues the text (--chat answers it)" in shown.stderr
    (run / "config.yaml").write_text("recipe: finetune\nexamples: rows.jsonl\n")
    assert "answers by its chat template" in generate(run, "--prompt", "Hi", "--max-new-tokens", 4).stderr


def test_a_run_is_compared_with_the_base_that_it_began_with(run, model):
    options = ("--prompt", "the sea", "--num", 2, "--max-new-tokens", 8)
    found = lines(generate(run, *options, "--compare_with_base"))
    tuned, base = lines(generate(run / "models" / "tuned", *options)), lines(generate(model, *options))
    assert [line["text"] for line in found] == [line["text"] for line in tuned]
    assert [line["base"]["text"] for line in found] == [line["text"] for line in base]
    assert {line["base"]["model"] for line in found} == {str(model)}
    assert found[0]["text"] != found[0]["base"]["text"]


@pytest.mark.filterwarnings("ignore")  # peft 0.21 warns of names that go
def test_an_adapter_is_compared_with_the_base_inside_it(model, tmp_path, monkeypatch):
    import torch

    from ftkit.config import AdapterSettings
    from ftkit.generation import speakers
    from ftkit.tuning import attach_adapter

    settings = AdapterSettings(model=str(model), tokenizer="byte", peft="lora")
    torch.manual_seed(0)  # of eight bytes few are shown as text, so that some adapters seem to write what the base does
    adapted = attach_adapter(load_model(str(model)), settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save_model(adapted, load_tokenizer("byte"), tmp_path / "adapter")
    loads: list[str] = []

    def loading(spec: str, **options: Any) -> Any:
        loads.append(spec)
        return load_model(spec, **options)

    monkeypatch.setattr(speakers, "load_model", loading)
    options = ("--prompt", "the sea", "--max-new-tokens", 8)
    [found] = lines(generate(tmp_path / "adapter", *options, "--compare-with-base"))
    assert loads == [str(tmp_path / "adapter")], "one model in memory"
    [alone] = lines(generate(model, *options))
    assert found["base"]["text"] == alone["text"] != found["text"]


REFUSED = [
    (("--prompt", "a", "--prompts", "b"), 2, "both given"),
    (("--prompts", "empty.txt"), 4, "empty.txt: has no prompt"),
    (("--prompts", "gone.txt"), 4, "no such file"),
    (("--prompt", "a" * 70), 4, "has 70 tokens; the model reads 64"),
    (("--prompt", "a", "--max-new-tokens", "64"), 4, "set max_new_tokens to 63 or less"),
    (("--prompt", "a", "--chat"), 2, "has no chat template"),
    (("--prompt", "a", "--system", "b"), 2, "--system: has no effect"),
    (("--prompt", "a", "--base", "b"), 2, "is no adapter"),
    (("--prompt", "a", "--compare-with-base"), 2, "name its base with --base"),
    (("--prompt", "a", "--num", "2", "--temperature", "0"), 2, "all samples are the same"),
    (("--prompt", "a", "--tempratur", "1"), 2, "--temperature"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSED, ids=[" ".join(case[0])[:40] for case in REFUSED])
def test_what_cannot_be_is_said_in_one_message(model, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n \n")
    shown = generate(model, *arguments)
    assert shown.exit_code == code, shown.output
    assert said in shown.output
    assert "Traceback" not in shown.output


def test_a_classifier_and_a_run_of_several_models_are_refused_by_name(run, tmp_path):
    head = load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2", task="sequence-classification", vocab_size=257)
    save_model(head, load_tokenizer("byte"), tmp_path / "classifier")
    shown = generate(tmp_path / "classifier", "--prompt", "a")
    assert shown.exit_code == 4
    assert "is a classifier, which cannot write; 'ftkit predict' asks it" in shown.output
    shutil.copytree(run / "models" / "tuned", run / "models" / "other")
    shown = generate(run, "--prompt", "a")
    assert shown.exit_code == 4
    assert str(run / "models" / "other") in shown.output
    assert str(run / "models" / "tuned") in shown.output


def in_terminal(*arguments):
    """What a real terminal gets from a real process, and in how many pieces."""
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "ftkit", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=writer, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    pieces = []
    while select.select([reader], [], [], 120)[0]:
        try:
            piece = os.read(reader, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(reader)
    assert process.wait(120) == 0, b"".join(pieces)
    return pieces


def test_a_terminal_shows_the_prompt_and_then_the_text_as_it_is_written(stories260k):
    options = ("--prompt", "Once upon a time", "--max-new-tokens", 40)
    pieces = in_terminal("generate", stories260k, *options)
    whole = b"".join(pieces).decode().replace("\r\n", "\n")
    [line] = lines(generate(stories260k, *options))
    assert f"\x1b[1mOnce upon a time\x1b[0m{line['text']}\n" in whole
    assert "[40 tokens, cut off at the limit]" in whole
    assert whole.startswith(f"loading {stories260k}\ncontinues the text; temperature 0.7, top_p 0.9, seed 42\n")
    assert len(pieces) > 5


def test_generated_text_cannot_steer_the_terminal(capsys):
    hostile = ["a\x1b[2J", "b\x9bc", "\u202ed\n"]

    class Hostile:
        settings = SimpleNamespace(chat=False, seed=1)

        def stream(self, row, seed, on_text):
            for piece in hostile:
                on_text(piece)
            return Sample("".join(hostile), 3, "end of text", seed)

    samples.show_stream(Hostile(), Prompt("x", "p\x1b[31m"), [1], 1)
    assert capsys.readouterr().out == "p[31ma[2Jbcd\n"
    pair = [Sample("".join(hostile), 3, "length", 1)]
    samples.show_both([(Prompt("x", "p"), pair, pair)], ("b\x1b", "t"), True)
    assert "\x1b[2J" not in capsys.readouterr().out
    samples.show_samples([(Prompt("x", "p\x9b"), pair)], "m", False)
    shown = capsys.readouterr().out
    assert not any(ord(c) in (0x1B, 0x9B, 0x202E) for c in shown)
    assert json.loads(shown)["text"] == "".join(hostile)


@pytest.mark.parametrize(("columns", "rows"), [(120, 1), (60, 2)], ids=["beside each other", "one below the other"])
def test_base_and_tuned_are_shown_side_by_side_where_there_is_room(monkeypatch, capsys, columns, rows):
    monkeypatch.setenv("COLUMNS", str(columns))
    base, tuned = ([Sample(text, 2, "end of text", 1)] for text in ("the sea", "the rabbit"))
    samples.show_both([(Prompt("x", "Who?"), base, tuned)], ("stories", "runs/a/models/tuned"), True)
    shown = capsys.readouterr().out.splitlines()
    assert sum("base: stories" in line or "tuned: runs/a/models/tuned" in line for line in shown) == rows
    assert sum("the sea" in line or "the rabbit" in line for line in shown) == rows
