"""The command chat: two models, a person with one, and what a terminal gets to see."""

import json
import shutil

import pytest
from chat_models import chat_tokenizer, saved_chat_model
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.cli.output import safe_text
from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

TEXT = "the keeper lit the lamp and the lamp kept the ships from the rocks all night long " * 20


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    """Two saved models of one name with tokenizers of other sizes."""
    found = []
    for place, size in enumerate((260, 300)):
        folder = tmp_path_factory.mktemp(f"side{place}") / "model"
        tokenizer = load_tokenizer(f"train:{size}", texts=[TEXT])
        small = load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2", seed=place, vocab_size=size, max_positions=64)
        save_model(small, tokenizer, folder)
        found.append(str(folder))
    return found[0], found[1]


def test_two_models_talk(models):
    shown = CliRunner().invoke(app, ["chat", *models, "--rounds", "2", "--new-tokens", "6", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert [turn["tokens"] for turn in found["turns"]] == [6] * 4
    assert found["opening"] == "Hello, my name is Alice."


def test_models_of_one_name_are_told_apart(models):
    shown = CliRunner().invoke(app, ["chat", *models, "--rounds", "1", "--new-tokens", "6"])
    assert "model 1: " in shown.output
    assert "model 2: " in shown.output
    assert shown.output.count("bits per token") == 2


def test_a_person_talks_until_the_input_ends(models):
    shown = CliRunner().invoke(app, ["chat", models[0], "--new-tokens", "6"], input="Who is there?\nAnd now?\n")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("bits per token") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--sampling", "plian"], 2, "did you mean 'plain'"),
        (["--new-tokens", "64"], 4, "63 or less"),
    ],
)
def test_what_cannot_be_is_said(models, arguments, code, said):
    shown = CliRunner().invoke(app, ["chat", *models, *arguments])
    assert shown.exit_code == code
    assert said in shown.output


def test_generated_text_cannot_steer_a_terminal():
    hostile = "a\x1b[2Jb\x07c\x9bd\u202ee\rf\x00g\ud800"
    assert safe_text(hostile) == "a[2Jbcdefg"
    assert safe_text("über\n\ttab 中文") == "über\n\ttab 中文"


@pytest.fixture(scope="module")
def adapter(models, tmp_path_factory):
    """An adapter as peft saves it: no tokenizer, a base that is named by its place."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("chat") / "adapter"
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    get_peft_model(load_model(models[0]), config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # peft 0.21 warns of names that go
def test_an_adapter_talks_with_its_base_and_the_bases_tokenizer(models, adapter):
    path = adapter / "adapter_config.json"
    for named, options in ((models[0], []), ("somebody/gone", ["--base", models[0]])):
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": named}))
        shown = [
            CliRunner().invoke(app, ["chat", str(model), *extra, "--new-tokens", "6"], input="Who is there?\n")
            for model, extra in ((adapter, options), (models[0], []))
        ]
        assert [each.exit_code for each in shown] == [0, 0], shown[0].output
        turns = [each.output.split(": ", 1)[1] for each in shown]
        assert turns[0] == turns[1]  # B is zero before training, so the adapter says what its base says


def test_an_adapter_whose_base_is_nowhere_names_the_way_out(adapter, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "somebody/gone"}))
    shown = CliRunner().invoke(app, ["chat", str(adapter)], input="x\n")
    assert shown.exit_code == 7
    assert "somebody/gone" in shown.output
    assert "--base" in shown.output


def test_a_run_talks_with_the_model_that_it_has_made(models, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(models[0], run / "models" / "tuned")
    shutil.copytree(models[1], run / "models" / "base")  # what adapters stand on
    (run / "manifest.json").write_text("{}")
    shown = CliRunner().invoke(app, ["chat", str(run), "--new-tokens", "6"], input="Who is there?\n")
    assert shown.exit_code == 0, shown.output
    assert "tuned: " in shown.output
    shutil.copytree(models[1], run / "models" / "other")
    shown = CliRunner().invoke(app, ["chat", str(run)], input="")
    assert shown.exit_code == 4
    assert "models/other" in shown.output


def test_a_chat_model_answers_by_its_template_and_stops_at_its_turn(tmp_path):
    folder = str(saved_chat_model(tmp_path / "chat"))
    options = ["--new_tokens", "30", "--sampling", "greedy"]
    shown = CliRunner().invoke(
        app, ["chat", folder, *options, "--system", "Be brief.", "--json"], input="Hi\nWho is there?\n"
    )
    assert shown.exit_code == 0, shown.output
    first, second = json.loads(shown.stdout)["turns"]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert first["context_tokens"] == len(chat_tokenizer()(text)["input_ids"])
    assert {first["stop_reason"], second["stop_reason"]} <= {"end of text", "length"}
    assert second["context_tokens"] > first["context_tokens"] + first["tokens"]
    plain = CliRunner().invoke(app, ["chat", folder, *options], input="Hi\n")
    assert plain.output.startswith("chat: ")
    assert plain.output.count("bits per token") == 1
    as_text = CliRunner().invoke(app, ["chat", folder, *options, "--no-chat", "--json"], input="Hi\n")
    assert json.loads(as_text.stdout)["turns"][0]["context_tokens"] == len("Hi\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--opening", "Hello"], "--opening: has no effect in a chat"),
        (["--no-chat", "--system", "a"], "--system: has no effect"),
    ],
)
def test_what_means_nothing_in_a_chat_is_refused(tmp_path, arguments, said):
    shown = CliRunner().invoke(app, ["chat", str(saved_chat_model(tmp_path / "chat")), *arguments], input="Hi\n")
    assert shown.exit_code == 2
    assert said in shown.output


def test_two_models_have_no_chat_template_between_them(models):
    shown = CliRunner().invoke(app, ["chat", *models, "--chat"])
    assert shown.exit_code == 2
    assert "where two models write on one text" in shown.output
